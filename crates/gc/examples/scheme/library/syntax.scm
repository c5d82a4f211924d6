; Forms that are macros.

(define-syntax case-lambda
  (syntax-rules ()
    ((_ (formals body ...) ...) (%case-lambda (list (lambda formals body ...) ...)))))

(define-syntax let*-values
  (syntax-rules ()
    ((_ () body ...) (let () body ...))
    ((_ ((formals producer) more ...) body ...)
     (call-with-values (lambda () producer)
       (lambda formals (let*-values (more ...) body ...))))))

; All producers run outside of all names: each formal gets a temporary one first.
(define-syntax let-values
  (syntax-rules ()
    ((_ (binding ...) body ...) (%let-values (binding ...) () () body ...))))
(define-syntax %let-values
  (syntax-rules ()
    ((_ () ((temporary producer) ...) ((name value) ...) body ...)
     (let*-values ((temporary producer) ...) (let ((name value) ...) body ...)))
    ((_ ((formals producer) more ...) done names body ...)
     (%let-formals formals () producer (more ...) done names body ...))))
(define-syntax %let-formals
  (syntax-rules ()
    ((_ () temporaries producer more (done ...) names body ...)
     (%let-values more (done ... (temporaries producer)) names body ...))
    ((_ (name . formals) (temporary ...) producer more done (names ...) body ...)
     (%let-formals formals (temporary ... t) producer more done (names ... (name t)) body ...))
    ((_ name (temporary ...) producer more (done ...) (names ...) body ...)
     (%let-values more (done ... ((temporary ... . t) producer)) (names ... (name t)) body ...))))

(define-syntax define-values
  (syntax-rules ()
    ((_ formals producer)
     (begin
       (define values-left (call-with-values (lambda () producer) list))
       (%define-formals values-left formals)))))
(define-syntax %define-formals
  (syntax-rules ()
    ((_ values ()) (begin))
    ((_ values (name . more))
     (begin
       (define name (let ((first (car values))) (set! values (cdr values)) first))
       (%define-formals values more)))
    ((_ values name) (define name values))))

(define-syntax define-record-type
  (syntax-rules ()
    ((_ type #f test field ...)
     (begin (define type (%record-type 'type (%field-names field ...)))
            (define test (%record-test type))
            (%define-field type field) ...))
    ((_ type (maker name ...) test field ...)
     (begin (define type (%record-type 'type (%field-names field ...)))
            (define maker (%record-maker type '(name ...)))
            (define test (%record-test type))
            (%define-field type field) ...))
    ((_ type maker test field ...)
     (begin (define type (%record-type 'type (%field-names field ...)))
            (define maker (%record-maker type (%field-names field ...)))
            (define test (%record-test type))
            (%define-field type field) ...))))
(define-syntax %field-names
  (syntax-rules () ((_ (name . more) ...) '(name ...))))
(define-syntax %define-field
  (syntax-rules ()
    ((_ type (name)) (begin))
    ((_ type (name getter)) (define getter (%record-getter type (%field-index type 'name))))
    ((_ type (name getter setter))
     (begin (define getter (%record-getter type (%field-index type 'name)))
            (define setter (%record-setter type (%field-index type 'name)))))))

(define-syntax parameterize
  (syntax-rules ()
    ((_ ((parameter value) ...) body ...)
     (%parameterize (list (cons parameter value) ...) (lambda () body ...)))))

(define-syntax delay-force
  (syntax-rules () ((_ expression) (%promise #f (lambda () expression)))))
(define-syntax delay
  (syntax-rules () ((_ expression) (delay-force (%promise #t expression)))))

(define-syntax guard
  (syntax-rules ()
    ((_ (name clause ...) body ...)
     (%guard (lambda (name again) (%guard-clauses again clause ...)) (lambda () body ...)))))
(define-syntax %guard-clauses
  (syntax-rules (else)
    ((_ again clause ... (else . consequence)) (cond clause ... (else . consequence)))
    ((_ again clause ...) (cond clause ... (else (again))))))

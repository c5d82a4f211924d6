//! Programs and their answers: what the report asks beyond the expressions of `scheme.rs`.

/// Macros and libraries.
pub const MACROS: &[(&str, &str)] = &[
    (
        "(define-syntax swap! (syntax-rules () ((_ a b) (let ((tmp a)) (set! a b) (set! b tmp)))))
         (let ((tmp 1) (other 2)) (swap! tmp other) (list tmp other))",
        "(2 1)",
    ),
    (
        "(define-syntax my-or (syntax-rules () ((_) #f) ((_ e) e)
           ((_ e r ...) (let ((t e)) (if t t (my-or r ...))))))
         (let ((t 5) (if list)) (my-or #f t))",
        "5",
    ),
    ("(let ((x 'outer)) (let-syntax ((m (syntax-rules () ((_) x)))) (let ((x 'inner)) (m))))", "outer"),
    (
        "(define-syntax my-let* (syntax-rules () ((_ () body ...) (let () body ...))
           ((_ ((n v) more ...) body ...) (let ((n v)) (my-let* (more ...) body ...)))))
         (my-let* ((a 1) (b (+ a 1)) (c (* b 3))) (list a b c))",
        "(1 2 6)",
    ),
    (
        "(define-syntax rows (syntax-rules () ((_ (k v ...) ...) '((k ...) ((v ...) ...) #(v ... ...)))))
         (rows (a 1 2) (b) (c 3))",
        "((a b c) ((1 2) () (3)) #(1 2 3))",
    ),
    ("(define-syntax ends (syntax-rules () ((_ a ... z) '(z a ...)) ((_ . r) 'none))) (list (ends 1 2 3) (ends))", "((3 1 2) none)"),
    ("(define-syntax vec (syntax-rules () ((_ #(a (b ...)) ...) '((b ... a) ...)))) (vec #(1 (2 3)) #(4 ()))", "((2 3 1) (4))"),
    (
        "(define-syntax arrow (syntax-rules (=>) ((_ a => b) '(to a b)) ((_ a b c) '(three a b c))))
         (list (arrow 1 => 2) (let ((=> 0)) (arrow 1 => 2)))",
        "((to 1 2) (three 1 => 2))",
    ),
    (
        "(define-syntax make-getter (syntax-rules () ((_ name value) (define-syntax name
           (syntax-rules () ((_ x (... ...)) (list value x (... ...))))))))
         (make-getter tagged 'tag) (tagged 1 2)",
        "(tag 1 2)",
    ),
    ("(define-syntax under (syntax-rules dots (_) ((x _ a dots) '(a dots _)) ((x a dots) 'no))) (list (under _ 1 2) (under 0 1))", "((1 2 _) no)"),
    (
        "(let () (define-syntax later (syntax-rules () ((_) (helper)))) (define (use) (later))
           (define (helper) 'found) (use))",
        "found",
    ),
    ("(guard (e ((read-error? e) (error-object-message e))) (eval '(syntax-error \"no\" x) (interaction-environment)))", "\"no x\""),
    (
        "(define-library (test stack) (import (scheme base)) (export make push! (rename size stack-size))
           (begin (define-record-type stack (%make items) stack? (items items set-items!))
                  (define (make) (%make '()))
                  (define (push! s x) (set-items! s (cons x (items s))))
                  (define (size s) (length (items s)))))
         (import (prefix (only (test stack) make push!) st:) (rename (test stack) (stack-size count-of)))
         (let ((s (st:make))) (st:push! s 1) (st:push! s 2) (count-of s))",
        "2",
    ),
    ("(cond-expand ((and r7rs (library (scheme base)) (not nowhere)) 'yes) (else 'no))", "yes"),
    ("(list (eval '(let ((x 2)) (* x 3)) (environment '(scheme base))) (guard (e (#t 'unbound)) (eval 'x (environment '(only (scheme base) car)))))", "(6 unbound)"),
    ("(let-values (((a b) (values 1 2)) ((c . d) (values 3 4 5)) (e (values))) (list a b c d e))", "(1 2 3 (4 5) ())"),
    ("(let ((a 1) (b 2)) (let-values (((a b) (values b a)) ((c) (values a))) (list a b c)))", "(2 1 1)"),
    ("(define-values (p q . r) (values 1 2 3 4)) (let () (define-values (x) (values 'in)) (list p q r x))", "(1 2 (3 4) in)"),
    ("(define area (case-lambda ((r) (* r r)) ((w h) (* w h)) ((a b . c) (list a b c)))) (list (area 3) (area 2 5) (area 1 2 3))", "(9 10 (1 2 (3)))"),
    ("`(1 `(2 ,(3 ,(+ 1 3) ,@(list 5 6))) ,@'(7) . ,(+ 4 4))", "(1 (quasiquote (2 (unquote (3 4 5 6)))) 7 . 8)"),
    ("(case 5 ((1 2) 'low) ((5) => (lambda (x) (* x x))) (else => list))", "25"),
];

/// Numbers.
pub const NUMBERS: &[(&str, &str)] = &[
    (
        "(let loop ((n 30) (p 1)) (if (= n 0) p (loop (- n 1) (* p n))))",
        "265252859812191058636308480000000",
    ),
    (
        "(let* ((a (expt 3 200)) (b (expt 7 90)) (q (quotient a b)) (r (remainder a b))) (list (= a (+ (* q b) r)) (< -1 r b)))",
        "(#t #t)",
    ),
    (
        "(list (- (expt 2 62)) (* 4611686018427387904 -2) (+ 4611686018427387903 1) (- -4611686018427387904 1))",
        "(-4611686018427387904 -9223372036854775808 4611686018427387904 -4611686018427387905)",
    ),
    (
        "(list (quotient (expt 10 40) (- (expt 10 20) 1)) (modulo (- (expt 10 30)) 7) (gcd (expt 6 50) (expt 10 40)))",
        "(100000000000000000001 6 1099511627776)",
    ),
    (
        "(list (number->string (expt 2 100) 16) (string->number \"-ffffffffffffffffffff\" 16) (exact->inexact (expt 10 25)))",
        "(\"10000000000000000000000000\" -1208925819614629174706175 1.0e+25)",
    ),
    (
        "(list (/ 6 4) (+ 1/3 1/6) (* 2/3 3/2) (- 1/2 1/2) (exact 0.125) (inexact 1/3) (numerator 6/4) (floor -7/2) (round 5/2))",
        "(3/2 1/2 1 0 1/8 0.3333333333333333 3 -4 2)",
    ),
    (
        "(list (< 1/3 0.3333 1/2) (= 1/2 0.5) (eqv? 1/2 1/2) (eqv? (expt 2 70) (expt 2 70)) (equal? 1.0 1) (max 1/2 0.25))",
        "(#f #t #t #t #f 0.5)",
    ),
    ("(call-with-values (lambda () (floor/ -7 2)) list)", "(-4 1)"),
    ("(call-with-values (lambda () (truncate/ -7 2)) list)", "(-3 -1)"),
    (
        "(call-with-values (lambda () (exact-integer-sqrt (+ (expt 10 40) 5))) list)",
        "(100000000000000000000 5)",
    ),
    (
        "(list (sqrt 16) (sqrt 1/4) (sqrt 2) (sqrt -4) (expt 2 -3) (expt 2.0 0.5) (exact (floor 2.7)))",
        "(4 1/2 1.4142135623730951 +2i 1/8 1.4142135623730951 2)",
    ),
    (
        "(list #xff #b-101 #e1.5 #i1/2 1e3 -0.0 +inf.0 1.5e-7 6.02e23)",
        "(255 -5 3/2 0.5 1000.0 -0.0 +inf.0 1.5e-7 6.02e+23)",
    ),
    (
        "(list (+ 1+2i 3-2i) (* 1+i 1-i) (/ 1+2i 3+4i) (magnitude 3+4i) (real-part 1.5+2i) (sqrt -1) (sqrt -4.0-0.0i))",
        "(4 2 11/25+2/25i 5 1.5 +i 0.0+2.0i)",
    ),
    ("(rationalize (exact .3) 1/10)", "1/3"),
    (
        "(list (number->string 255 2) (string->number \"1/3\") (string->number \"abc\") (string->number \"#b102\"))",
        "(\"11111111\" 1/3 #f #f)",
    ),
    ("(guard (e (#t (error-object-message e))) (/ 5 0))", "\"arithmetic: division by zero\""),
    (
        "(let ((a (- (expt 2 1000) 1)) (b (inexact (expt 2 1000))) (c (+ (expt 2 1000) 1))) (list (= a b) (< a b) (< b c)))",
        "(#f #t #t)",
    ),
];

/// Strings, vectors, bytes, ports, reading and writing.
pub const DATA: &[(&str, &str)] = &[
    (
        "(let ((s (make-string 3 #\\a))) (string-set! s 1 #\\λ) (string-copy! s 2 \"xyz\" 1 2) (list s (string-length s)))",
        "(\"aλy\" 3)",
    ),
    (
        "(list (string-upcase \"straße\") (string-ci=? \"ΣΑΣ\" \"σας\") (string-map char-upcase \"ab\") (string->vector \"abc\" 1))",
        "(\"STRASSE\" #t \"AB\" #(#\\b #\\c))",
    ),
    (
        "(let ((l '())) (string-for-each (lambda (a b) (set! l (cons (list a b) l))) \"ab\" \"xyz\") l)",
        "((#\\b #\\y) (#\\a #\\x))",
    ),
    (
        "(list '|a b| (string->symbol \"\") 'abc '|x\\|y| (symbol->string '|A\\x42;|))",
        "(|a b| || abc |x\\|y| \"AB\")",
    ),
    (
        "(list #\\x41 #\\tab #\\nul #\\x7f (char-upcase #\\ß) (digit-value #\\٣))",
        "(#\\A #\\tab #\\null #\\delete #\\ß 3)",
    ),
    (
        "(let ((v (vector 1 2 3 4 5))) (vector-copy! v 1 v 0 3) (vector-fill! v 'x 4) (list v (vector-append v #(6)) (vector->list v 2 4)))",
        "(#(1 1 2 3 x) #(1 1 2 3 x 6) (2 3))",
    ),
    (
        "(let ((b (bytevector 1 2 3))) (bytevector-u8-set! b 0 255) (list b (bytevector-append b #u8(9)) (utf8->string #u8(206 187)) (string->utf8 \"λ\")))",
        "(#u8(255 2 3) #u8(255 2 3 9) \"λ\" #u8(206 187))",
    ),
    (
        "(let ((in (open-input-string \"(a . b) \\\"s\\\" 12 x\"))) (let* ((a (read in)) (b (read in)) (c (read-char in)) (d (peek-char in)) (e (read in)) (f (read in))) (list a b c d e f (eof-object? (read in)))))",
        "((a . b) \"s\" #\\space #\\1 12 x #t)",
    ),
    (
        "(let ((out (open-output-string))) (write '(a \"b\" #\\c 1.5) out) (newline out) (display '(\"b\" #\\c) out) (get-output-string out))",
        "\"(a \\\"b\\\" #\\\\c 1.5)\\n(b c)\"",
    ),
    (
        "(let ((in (open-input-string \"one\\ntwo\"))) (let* ((a (read-line in)) (b (read-string 2 in)) (c (read-line in))) (list a b c (eof-object? (read-line in)))))",
        "(\"one\" \"tw\" \"o\" #t)",
    ),
    (
        "(let ((out (open-output-bytevector))) (write-u8 1 out) (write-bytevector #u8(2 3 4) out 1) (let ((in (open-input-bytevector (get-output-bytevector out)))) (let* ((a (read-u8 in)) (b (read-bytevector 9 in))) (list a b))))",
        "(1 #u8(3 4))",
    ),
    (
        "(let ((x (list 1 2))) (set-cdr! (cdr x) x) (let ((out (open-output-string))) (write x out) (get-output-string out)))",
        "\"#0=(1 2 . #0#)\"",
    ),
    (
        "(let* ((x (list 'a)) (y (list x x)) (out (open-output-string))) (write y out) (write-shared y out) (get-output-string out))",
        "\"((a) (a))(#0=(a) #0#)\"",
    ),
    (
        "(let ((x (read (open-input-string \"#1=(a #2=#(b #1#) #2#)\")))) (list (eq? x (vector-ref (cadr x) 1)) (eq? (cadr x) (caddr x))))",
        "(#t #t)",
    ),
    (
        "(list (equal? (read (open-input-string \"#0=(a . #0#)\")) (read (open-input-string \"#0=(a a . #0#)\"))) (list? (read (open-input-string \"#0=(a . #0#)\"))))",
        "(#t #f)",
    ),
    ("(read (open-input-string \"#;(no) #| #| deep |# |# (1 ; line\\n #;2 3)\"))", "(1 3)"),
    ("(guard (e ((read-error? e) 'read-error)) (read (open-input-string \"(1 2\")))", "read-error"),
    (
        "(guard (e ((file-error? e) 'file-error)) (open-input-file \"/nowhere/at/all\"))",
        "file-error",
    ),
    (
        "(guard (e (#t (error-object-message e))) (let ((in (open-input-string \"x\"))) (close-port in) (read-char in)))",
        "\"read-char: the port is closed\"",
    ),
    (
        "(let ((port (open-output-string))) (parameterize ((current-output-port port)) (display \"in\") (write 'side)) (get-output-string port))",
        "\"inside\"",
    ),
];

/// Control.
pub const CONTROL: &[(&str, &str)] = &[
    (
        "(define radix (make-parameter 10 (lambda (x) (if (integer? x) x (error \"no radix\" x))))) (list (radix) (parameterize ((radix 2)) (radix)) (radix))",
        "(10 2 10)",
    ),
    (
        "(let* ((p (make-parameter 1)) (k #f) (seen '())) (parameterize ((p 2)) (call/cc (lambda (c) (set! k c))) (set! seen (cons (p) seen))) (set! seen (cons (p) seen)) (if (< (length seen) 4) (k #f)) seen)",
        "(1 2 1 2)",
    ),
    (
        "(define s (let next ((n 0)) (delay (cons n (next (+ n 1)))))) (car (force (cdr (force (cdr (force s))))))",
        "2",
    ),
    (
        "(define (loop n) (if (= n 0) (delay 'done) (delay-force (loop (- n 1))))) (force (loop 500))",
        "done",
    ),
    (
        "(let* ((n 0) (p (delay (begin (set! n (+ n 1)) n)))) (list (force p) (force p) (force (make-promise 7)) (force 8)))",
        "(1 1 7 8)",
    ),
    ("(with-exception-handler (lambda (e) 10) (lambda () (+ 1 (raise-continuable 'c))))", "11"),
    (
        "(guard (e (#t (list 'second e))) (with-exception-handler (lambda (e) 'ignored) (lambda () (raise 'first))))",
        "(second #<condition \"a handler returned\" (first) 0>)",
    ),
    (
        "(let ((path '())) (define (add x) (set! path (cons x path))) (guard (e ((symbol? e) (add e))) (dynamic-wind (lambda () (add 'in)) (lambda () (raise 'oops)) (lambda () (add 'out)))) (reverse path))",
        "(in out oops)",
    ),
    (
        "(let ((path '())) (guard (e (#t (set! path (cons 'outer path)))) (guard (e ((number? e) 'no)) (dynamic-wind (lambda () (set! path (cons 'in path))) (lambda () (raise 'x)) (lambda () (set! path (cons 'out path)))))) (reverse path))",
        "(in out in out outer)",
    ),
    ("(call-with-values (lambda () (guard (e (#f 0)) (values 1 2))) list)", "(1 2)"),
    (
        "(list (call-with-port (open-input-string \"abc\") read) (procedure? current-output-port) (call/cc procedure?))",
        "(abc #t #t)",
    ),
    (
        "(let ((k #f) (n 0)) (call-with-values (lambda () (call/cc (lambda (c) (set! k c) (values 1 2)))) (lambda all (set! n (+ n 1)) (if (< n 3) (k n n n) (list n all)))))",
        "(3 (2 2 2))",
    ),
    (
        "(define-record-type <point> (point x y) point? (x px set-px!) (y py)) (define-record-type <other> (other x) other? (x ox)) (let ((p (point 1 2))) (set-px! p 9) (list (px p) (py p) (point? (other 1)) (guard (e (#t 'wrong)) (ox p)) p))",
        "(9 2 #f wrong #<<point> 9 2>)",
    ),
    (
        "(guard (e ((string? e) e)) (vector-map (lambda (x) (if (= x 2) (raise \"two\") x)) #(1 2 3)))",
        "\"two\"",
    ),
    (
        "(guard (e (#t (error-object-message e))) (let loop () (loop 1)))",
        "\"a procedure of 0 arguments was given 1\"",
    ),
    ("(let ((x 1)) (eval '(define from-eval 5) (interaction-environment)) (+ x from-eval))", "6"),
    ("(guard (e (#t 'deep)) (let down ((n 0)) (+ 1 (down n))))", "deep"),
];

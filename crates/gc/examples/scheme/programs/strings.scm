; Text in and out: words through ports, symbols, string building, an association by symbol.
(define (word n) (string-append "w" (number->string (modulo (* n 7919) 997))))
(define text
  (let ((out (open-output-string)))
    (do ((i 0 (+ i 1))) ((= i 6000) (get-output-string out))
      (write-string (word i) out)
      (write-char #\space out))))
(define (count-words text)
  (let ((in (open-input-string text)) (counts (make-vector 1024 '())))
    (let next ((symbol (read in)))
      (if (eof-object? symbol)
          counts
          (let* ((name (symbol->string symbol))
                 (at (modulo (string->number (substring name 1 (string-length name))) 1024))
                 (found (assq symbol (vector-ref counts at))))
            (if found
                (set-cdr! found (+ (cdr found) 1))
                (vector-set! counts at (cons (cons symbol 1) (vector-ref counts at))))
            (next (read in)))))))
(define (total counts) (apply + (map cdr (apply append (vector->list counts)))))
(do ((i 0 (+ i 1)) (sum 0 (+ sum (total (count-words (string-upcase text))))))
    ((= i 150) (write sum) (newline)))

; Digits of pi by a spigot: integers of growing size, each a new object.
(define (digits count)
  (let loop ((q 1) (r 0) (t 1) (k 1) (n 3) (l 3) (left count) (out '()))
    (cond ((= left 0) (reverse out))
          ((< (- (+ (* 4 q) r) t) (* n t))
           (loop (* q 10) (* 10 (- r (* n t))) t k
                 (- (quotient (* 10 (+ (* 3 q) r)) t) (* 10 n)) l (- left 1) (cons n out)))
          (else
           (loop (* q k) (* (+ (* 2 q) r) l) (* t l) (+ k 1)
                 (quotient (+ (* q (+ (* 7 k) 2)) (* r l)) (* t l)) (+ l 2) left out)))))
(write (apply + (digits 3000)))
(newline)

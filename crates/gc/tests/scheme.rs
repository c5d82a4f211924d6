//! A runtime on the layer for virtual machines: the Scheme of `examples/scheme` gives the same
//! answers under every collector, with collections at every safepoint too.

#[path = "../examples/scheme/interpreter.rs"]
mod interpreter;

/// Where the interpreter's objects lie; `scheme_malloc` has another.
mod store {
    pub use heapwright_gc::vm::VmHeap as Store;
}
#[path = "scheme_suite/language.rs"]
mod language;
#[path = "scheme_suite/settings.rs"]
mod settings;

use heapwright_gc::{Collector, Config};
use interpreter::machine::Machine;
use language::{CONTROL, DATA, MACROS, NUMBERS};

/// Expressions and what they print: the language by its report's sections.
const ANSWERS: &[(&str, &str)] = &[
    // Primitive expressions.
    ("(quote a)", "a"),
    ("'#(a b c)", "#(a b c)"),
    ("'(quote a)", "(quote a)"),
    ("'\"abc\"", "\"abc\""),
    ("145932", "145932"),
    ("#t", "#t"),
    ("((lambda (x) (+ x x)) 4)", "8"),
    ("(define reverse-subtract (lambda (x y) (- y x))) (reverse-subtract 7 10)", "3"),
    ("(define add4 (let ((x 4)) (lambda (y) (+ x y)))) (add4 6)", "10"),
    ("((lambda x x) 3 4 5 6)", "(3 4 5 6)"),
    ("((lambda (x y . z) z) 3 4 5 6)", "(5 6)"),
    ("(if (> 3 2) 'yes 'no)", "yes"),
    ("(if #f #f)", "#<unspecified>"),
    ("(define x 2) (+ x 1)", "3"),
    ("(set! x 4) (+ x 1)", "5"),
    // Derived expressions.
    ("(cond ((> 3 2) 'greater) ((< 3 2) 'less))", "greater"),
    ("(cond ((assv 'b '((a 1) (b 2))) => cadr) (else #f))", "2"),
    ("(cond (#f 1) (7))", "7"),
    ("(case (* 2 3) ((2 3 5 7) 'prime) ((1 4 6 8 9) 'composite))", "composite"),
    ("(case (car '(c d)) ((a e i o u) 'vowel) ((w y) 'semivowel) (else 'consonant))", "consonant"),
    ("(list (and) (and 1 2 'c '(f g)) (and 1 #f 2))", "(#t (f g) #f)"),
    ("(list (or) (or #f #f) (or #f 3) (or (memq 'b '(a b c)) (/ 3 0)))", "(#f #f 3 (b c))"),
    ("(when (> 1 0) 'a 'b)", "b"),
    ("(unless (> 1 0) 'a 'b)", "#<unspecified>"),
    ("(let ((x 2) (y 3)) (let ((x 7) (z (+ x y))) (* z x)))", "35"),
    ("(let ((x 2) (y 3)) (let* ((x 7) (z (+ x y))) (* z x)))", "70"),
    (
        "(letrec ((even? (lambda (n) (if (= 0 n) #t (odd? (- n 1)))))
                  (odd? (lambda (n) (if (= 0 n) #f (even? (- n 1)))))) (even? 88))",
        "#t",
    ),
    ("(let () (define x 28) (define (f y) (* x y)) (f 2))", "56"),
    ("(do ((vec (make-vector 5)) (i 0 (+ i 1))) ((= i 5) vec) (vector-set! vec i i))", "#(0 1 2 3 4)"),
    ("(let ((x '(1 3 5 7 9))) (do ((x x (cdr x)) (sum 0 (+ sum (car x)))) ((null? x) sum)))", "25"),
    (
        "(let loop ((numbers '(3 -2 1 6 -5)) (nonneg '()) (neg '()))
           (cond ((null? numbers) (list nonneg neg))
                 ((>= (car numbers) 0) (loop (cdr numbers) (cons (car numbers) nonneg) neg))
                 (else (loop (cdr numbers) nonneg (cons (car numbers) neg)))))",
        "((6 1 3) (-5 -2))",
    ),
    ("`(list ,(+ 1 2) 4)", "(list 3 4)"),
    ("(let ((name 'a)) `(list ,name ',name))", "(list a (quote a))"),
    ("`(a ,(+ 1 2) ,@(map abs '(4 -5 6)) b)", "(a 3 4 5 6 b)"),
    ("`((foo ,(- 10 3)) ,@(cdr '(c)) . ,(car '(cons)))", "((foo 7) . cons)"),
    ("`#(10 5 ,(sqrt 4) ,@(map sqrt '(16 9)) 8)", "#(10 5 2 4 3 8)"),
    ("`(a `(b ,(c ,(+ 1 2))))", "(a (quasiquote (b (unquote (c 3)))))"),
    // Equivalence.
    ("(list (eqv? 'a 'a) (eqv? '() '()) (eqv? 1.5 1.5) (eqv? (cons 1 2) (cons 1 2)))", "(#t #t #t #f)"),
    ("(let ((p (lambda (x) x))) (eqv? p p))", "#t"),
    ("(list (equal? '(a (b) c) '(a (b) c)) (equal? \"abc\" \"abc\") (equal? #(1 2) #(1 3)))", "(#t #t #f)"),
    // Numbers.
    ("(list (+ 3 4) (+) (* 4) (*) (- 3 4 5) (- 3))", "(7 0 4 1 -6 -3)"),
    ("(list (/ 8 2) (/ 1 2) (/ 0.5))", "(4 1/2 2.0)"),
    ("(list (modulo 13 4) (modulo -13 4) (remainder -13 4) (modulo 13 -4) (quotient -7 2))", "(1 3 -1 -3 -3)"),
    ("(list (gcd 32 -36) (expt 2 10) (abs -7) (max 1 3 2) (min 4 2 3))", "(4 1024 7 3 2)"),
    ("(list (floor -4.3) (round 3.5) (round 2.5) (truncate -4.3) (exact (floor 2.5)))", "(-5.0 4.0 2.0 -4.0 2)"),
    ("(list (< 1 2 3) (< 1 3 2) (>= 3 3 2) (= 1 1.0))", "(#t #f #t #t)"),
    ("(list (number->string 42) (string->number \"100\") (string->number \"1e2\") (string->number \"x\"))", "(\"42\" 100 100.0 #f)"),
    ("(> (expt 10 30) 1e29)", "#t"),
    // Lists.
    ("(list (cons 'a 3) (car '((a) b)) (cdr '(1 . 2)) (list? '(a . b)) (length '(a (b) (c d))))", "((a . 3) (a) 2 #f 3)"),
    ("(list (append '(x) '(y)) (append '(a) '(b c) '(d . e)) (append) (append '() 'a))", "((x y) (a b c d . e) () a)"),
    ("(list (reverse '(a (b c) d)) (list-tail '(a b c d) 2) (list-ref '(a b c d) 2))", "((d (b c) a) (c d) c)"),
    ("(list (memq 'c '(a b c d)) (member (list 'a) '(b (a) c)) (assoc 2.0 '((1 1) (2.0 4))))", "((c d) ((a) c) (2.0 4))"),
    ("(let ((x (list 'a 'b))) (set-cdr! x 4) (list x (pair? x)))", "((a . 4) #t)"),
    ("(let ((x (list 1 2 3))) (set-cdr! (cddr x) x) (list? x))", "#f"),
    // Symbols, characters, strings, vectors.
    ("(list (symbol->string 'flying-fish) (string->symbol \"mISS\") (eq? 'bitBlt (string->symbol \"bitBlt\")))", "(\"flying-fish\" mISS #t)"),
    ("(list #\\a #\\space (char->integer #\\A) (integer->char 955) (char<? #\\a #\\b))", "(#\\a #\\space 65 #\\λ #t)"),
    ("(list (string-append \"foo\" \"bar\") (substring \"abcde\" 1 3) (string-length \"λx\") (string-ref \"abc\" 1))", "(\"foobar\" \"bc\" 2 #\\b)"),
    ("(list (string=? \"a\" \"a\") (string<? \"a\" \"b\") (list->string (string->list \"abc\")))", "(#t #t \"abc\")"),
    ("(vector-map (lambda (x) (* x x)) #(1 2 3))", "#(1 4 9)"),
    ("(let ((v (make-vector 3 'x))) (vector-fill! v 7) (vector->list v))", "(7 7 7)"),
    // Control.
    ("(apply + 1 2 '(3 4))", "10"),
    ("(map + '(1 2 3) '(10 20 30))", "(11 22 33)"),
    ("(let ((v (make-vector 5))) (for-each (lambda (i) (vector-set! v i (* i i))) '(0 1 2 3 4)) v)", "#(0 1 4 9 16)"),
    ("(call/cc (lambda (exit) (for-each (lambda (x) (if (negative? x) (exit x))) '(54 0 37 -3 245)) #t))", "-3"),
    ("(call-with-values (lambda () (values 4 5)) (lambda (a b) (list a b)))", "(4 5)"),
    ("(call-with-values * -)", "-1"),
    (
        "(let ((path '()) (c #f))
           (let ((add (lambda (s) (set! path (cons s path)))))
             (dynamic-wind (lambda () (add 'connect))
                           (lambda () (add (call/cc (lambda (c0) (set! c c0) 'talk1))))
                           (lambda () (add 'disconnect)))
             (if (< (length path) 4) (c 'talk2) (reverse path))))",
        "(connect talk1 disconnect connect talk2 disconnect)",
    ),
    (
        "(define (generate list)
           (define return #f)
           (define (next)
             (call/cc (lambda (r)
               (set! return r)
               (for-each (lambda (x) (call/cc (lambda (k) (set! next (lambda () (k #f))) (return x)))) list)
               (return 'done))))
           (lambda () (call/cc (lambda (r) (set! return r) (next)))))
         (let ((g (generate '(1 2 3)))) (let* ((a (g)) (b (g)) (c (g)) (d (g))) (list a b c d)))",
        "(1 2 3 done)",
    ),
    // Conditions.
    ("(call/cc (lambda (k) (with-exception-handler (lambda (e) (k (list 'caught e))) (lambda () (+ 1 (raise 'oops))))))", "(caught oops)"),
    ("(with-exception-handler (lambda (c) 42) (lambda () (+ (raise-continuable 'x) 23)))", "65"),
    ("(guard (e ((assq 'a e) => cdr) ((assq 'b e))) (raise (list (cons 'a 42))))", "42"),
    ("(guard (e ((assq 'a e) => cdr) ((assq 'b e))) (raise (list (cons 'b 23))))", "(b . 23)"),
    ("(guard (e (#t (error-object-irritants e))) (error \"bad\" 1 2))", "(1 2)"),
    ("(guard (e ((string? (error-object-message e)) 'fault)) (car 5))", "fault"),
    ("(guard (e (#t 'outer)) (guard (e ((number? e) 'number)) (raise 'symbol)))", "outer"),
    // Records.
    (
        "(define-record-type pare (kons x y) pare? (x kar set-kar!) (y kdr))
         (list (pare? (kons 1 2)) (pare? (cons 1 2)) (let ((k (kons 1 2))) (set-kar! k 3) (list (kar k) (kdr k))))",
        "(#t #f (3 2))",
    ),
    ("(guard (e (#t 'other)) (kar (cons 1 2)))", "other"),
    // Assigned variables shared by closures.
    ("(define (counter) (let ((n 0)) (lambda () (set! n (+ n 1)) n))) (define a (counter)) (define b (counter)) (a) (a) (list (a) (b))", "(3 1)"),
];

/// Programs that allocate, with their answers.
const PROGRAMS: &[(&str, &str)] = &[
    ("(define (tak x y z) (if (not (< y x)) z (tak (tak (- x 1) y z) (tak (- y 1) z x) (tak (- z 1) x y)))) (tak 12 8 4)", "5"),
    (
        "(define (queens board)
           (define (ok? row dist placed)
             (or (null? placed)
                 (and (not (= (car placed) (+ row dist))) (not (= (car placed) (- row dist)))
                      (ok? row (+ dist 1) (cdr placed)))))
           (define (try x y z)
             (if (null? x) (if (null? y) 1 0)
                 (+ (if (ok? (car x) 1 z) (try (append (cdr x) y) '() (cons (car x) z)) 0)
                    (try (cdr x) (cons (car x) y) z))))
           (try (let loop ((i board) (l '())) (if (= i 0) l (loop (- i 1) (cons i l)))) '() '()))
         (queens 6)",
        "4",
    ),
    (
        "(define (sort list less?)
           (if (or (null? list) (null? (cdr list))) list
               (let split ((rest (cdr list)) (low '()) (high '()))
                 (cond ((null? rest) (append (sort low less?) (cons (car list) (sort high less?))))
                       ((less? (car rest) (car list)) (split (cdr rest) (cons (car rest) low) high))
                       (else (split (cdr rest) low (cons (car rest) high)))))))
         (let fill ((i 0) (x 7) (l '()))
           (if (< i 300) (fill (+ i 1) (modulo (+ (* x 1103) 12345) 65536) (cons x l))
               (let ((sorted (sort l <))) (list (length sorted) (apply <= sorted)))))",
        "(300 #t)",
    ),
    (
        "(define tree (lambda (n) (if (= n 0) '() (list (tree (- n 1)) (make-vector 3 n) (tree (- n 1))))))
         (define (size t) (if (null? t) 0 (+ 1 (size (car t)) (size (caddr t)))))
         (let ((kept (tree 8)))
           (do ((i 0 (+ i 1))) ((= i 6)) (set-car! (cdr kept) (tree 6)))
           (list (size kept) (size (cadr kept))))",
        "(255 63)",
    ),
    (
        "(define (evaluate x env)
           (cond ((symbol? x) (cdr (assq x env)))
                 ((not (pair? x)) x)
                 ((eq? (car x) 'quote) (cadr x))
                 ((eq? (car x) 'if) (if (evaluate (cadr x) env) (evaluate (caddr x) env) (evaluate (cadddr x) env)))
                 ((eq? (car x) 'lambda) (lambda args (evaluate (caddr x) (append (map cons (cadr x) args) env))))
                 (else (apply (evaluate (car x) env) (map (lambda (y) (evaluate y env)) (cdr x))))))
         (evaluate '(((lambda (f) (lambda (n) ((f f) n)))
                     (lambda (f) (lambda (n) (if (< n 2) n (+ ((f f) (- n 1)) ((f f) (- n 2)))))))
                    11)
                   (list (cons '< <) (cons '+ +) (cons '- -)))",
        "89",
    ),
    (
        "(define (mandelbrot x y)
           (let loop ((a 0.0) (b 0.0) (n 0))
             (if (or (= n 30) (> (+ (* a a) (* b b)) 4.0)) n
                 (loop (+ x (- (* a a) (* b b))) (+ y (* 2.0 a b)) (+ n 1)))))
         (let rows ((y -1.0) (sum 0))
           (if (> y 1.0) sum
               (rows (+ y 0.25) (let columns ((x -2.0) (sum sum))
                 (if (> x 0.5) sum (columns (+ x 0.25) (+ sum (mandelbrot x y))))))))",
        "1255",
    ),
    (
        "(define big (make-vector 1000 '()))
         (do ((i 0 (+ i 1))) ((= i 3000))
           (let ((at (modulo (* i 7919) 1000))) (vector-set! big at (cons i (vector-ref big (modulo (* i 31) 1000))))))
         (let count ((i 0) (n 0)) (if (= i 1000) (> n 1000) (count (+ i 1) (+ n (length (vector-ref big i))))))",
        "#t",
    ),
    ("(let build ((n 4000) (l '())) (if (= n 0) (length l) (build (- n 1) (cons (number->string n) l))))", "4000"),
    ("(define (deep n) (if (= n 0) 0 (+ 1 (deep (- n 1))))) (deep 3000)", "3000"),
];

fn check(config: &Config, cases: &[(&str, &str)]) -> Machine {
    let name = config.collector.name();
    let mut machine = Machine::new(config.clone()).expect("the library runs");
    for (program, answer) in cases {
        let found = machine.eval(program).unwrap_or_else(|error| format!("error: {error}"));
        assert_eq!(found, *answer, "{name}: {program}");
    }
    machine
}

#[test]
fn every_collector_gives_the_same_answers() {
    for collector in Collector::ALL {
        let config = settings::busy(collector);
        // A walk of the heap at each slice of this one takes too long.
        let verify = collector != Collector::Incremental;
        check(&Config { verify, ..config.clone() }, ANSWERS);
        // Walking the whole heap at each slice of these would take minutes.
        let mut machine = check(&config, PROGRAMS);
        machine.memory.collect();
        let (objects, _) = machine.memory.verify();
        assert!(objects > 500, "{collector:?}: the library is still there");
        let statistics = machine.memory.heap().statistics();
        assert!(collector == Collector::Null || statistics.full_collections > 0, "{collector:?}");
    }
}

#[test]
fn the_rest_of_the_language_gives_the_same_answers() {
    for collector in Collector::ALL {
        let config = settings::busy(collector);
        for group in [MACROS, NUMBERS, DATA, CONTROL] {
            let mut machine = check(&config, group);
            machine.memory.collect();
            machine.memory.verify();
        }
    }
}

#[test]
fn what_is_written_to_a_file_is_read_back_and_lost_ports_are_closed() {
    let directory = std::env::temp_dir().join(format!("heapwright-scheme-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory for files");
    for collector in Collector::ALL {
        let file = directory.join(collector.name());
        let name = file.to_str().expect("a path in characters");
        let mut machine = Machine::new(Config::with(collector)).expect("the library runs");
        let program = format!(
            "(call-with-output-file \"{name}\" (lambda (out) (write '(define loaded (* 6 7)) out)))
             (load \"{name}\")
             (list loaded (file-exists? \"{name}\") (call-with-input-file \"{name}\" read))"
        );
        let found = machine.eval(&program).map_err(|error| error.to_string());
        let wanted = "(42 #t (define loaded (* 6 7)))".to_owned();
        assert_eq!(found, Ok(wanted), "{collector:?}");
        // Nobody closes this one; what was written is there when the collector has found it.
        let program = format!("(write-string \"kept\" (open-output-file \"{name}\")) 'on");
        machine.eval(&program).expect("runs");
        if collector != Collector::Null {
            machine.eval("'forgotten").expect("runs");
            machine.memory.collect();
            assert_eq!(std::fs::read_to_string(&file).expect("is there"), "kept", "{collector:?}");
        }
    }
    std::fs::remove_dir_all(&directory).expect("only our files are there");
}

#[test]
fn a_collection_at_every_call_changes_no_answer() {
    for collector in Collector::ALL {
        let config = settings::at_each_call(collector, 128 << 20);
        check(&config, &ANSWERS[..ANSWERS.len() / 2]);
    }
}

#[test]
fn symbols_that_nobody_uses_are_forgotten_and_the_others_stay_themselves() {
    for collector in Collector::ALL {
        if collector == Collector::Null {
            continue;
        }
        let mut machine = Machine::new(Config::with(collector)).expect("the library runs");
        machine.eval("(define kept (string->symbol \"kept-symbol\"))").expect("runs");
        machine.memory.collect();
        let before = machine.memory.symbol_count();
        let make = "(do ((i 0 (+ i 1))) ((= i 500)) (string->symbol (number->string i)))";
        machine.eval(make).expect("runs");
        assert!(machine.memory.symbol_count() >= before + 500, "{collector:?}");
        machine.eval("(collect)").expect("runs");
        machine.memory.collect();
        assert!(machine.memory.symbol_count() < before + 50, "{collector:?}");
        let same = machine.eval("(eq? kept (string->symbol \"kept-symbol\"))");
        assert_eq!(same.as_deref().ok(), Some("#t"), "{collector:?}");
    }
}

#[test]
fn a_full_heap_is_a_condition_that_the_program_handles() {
    for collector in Collector::ALL {
        if collector == Collector::Null {
            continue;
        }
        let config = Config { limit_bytes: 2 << 20, verify: false, ..Config::with(collector) };
        let mut machine = Machine::new(config).expect("the library runs");
        let fill = "(guard (e (#t (error-object-message e)))
                      (let loop ((l '())) (loop (cons (make-vector 50 l) l))))";
        for _ in 0..2 {
            let found = machine.eval(fill).map_err(|error| error.to_string());
            assert_eq!(found, Ok("\"out of memory\"".to_owned()), "{collector:?}");
        }
        let sum = machine.eval("(apply + (map (lambda (x) (* x x)) '(1 2 3)))");
        assert_eq!(sum.ok().as_deref(), Some("14"), "{collector:?} goes on");
    }
}

#[test]
fn wrong_programs_are_errors_with_a_reason() {
    let mut machine = Machine::new(Config::default()).expect("the library runs");
    for (program, reason) in [
        ("(car 5)", "car: 5"),
        ("(undefined-name)", "undefined-name: is not defined"),
        ("(1 2)", "1: is no procedure"),
        ("((lambda (x) x))", "a procedure of 1 arguments was given 0"),
        ("(vector-ref (vector 1) 1)", "vector-ref: index 1"),
        ("(", "expected ), found `the end`"),
        ("(letrec ((a b) (b 1)) a)", "a variable is used before its definition"),
        ("(raise 'unheard)", "unheard"),
    ] {
        let error = machine.eval(program).expect_err(program).to_string();
        assert_eq!(error, reason, "{program}");
    }
    let deep = "(guard (e (#t 'deep)) (let loop ((n 0)) (+ 1 (loop (+ n 1.5)))))";
    assert_eq!(machine.eval(deep).ok().as_deref(), Some("deep"));
    assert_eq!(machine.eval("(display \"on\") 'and").ok().as_deref(), Some("and"));
    assert_eq!(machine.output, "on");
}

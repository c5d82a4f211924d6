//! Scopes: what a name means where.
//!
//! A name is a symbol, or an identifier that a macro inserted. An identifier that nothing binds as
//! itself means what its name meant where the macro was defined; that is all of hygiene here.
//! Source: Clinger and Rees, "Macros That Work", POPL 1991; the identifiers are the renamings.
//!
//! # Invariants
//! - S1: scopes with bindings hold words, and live as long as one form is compiled: no safepoint.
//!   Macros that live longer were defined in a library's scope, which has no bindings of its own.

use super::rules::Macro;
use crate::interpreter::roots::Memory;
use crate::interpreter::value::{Kind, NIL, Word, get, kind, len};
use heapwright_gc::LimitReached;
use std::cell::RefCell;
use std::rc::Rc;

/// What a name may mean.
#[derive(Clone)]
pub enum Binding {
    Special(Form),
    Macro(Rc<Macro>),
    Global(u32),
    Local(usize),
    /// Nothing yet: a symbol in a library, where it may be defined later.
    Free(usize, Word),
}

impl PartialEq for Binding {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Special(a), Self::Special(b)) => a == b,
            (Self::Macro(a), Self::Macro(b)) => Rc::ptr_eq(a, b),
            (Self::Global(a), Self::Global(b)) => a == b,
            (Self::Local(a), Self::Local(b)) => a == b,
            // Libraries agree on what none of them defines.
            (Self::Free(_, a), Self::Free(_, b)) => a == b,
            _ => false,
        }
    }
}

macro_rules! forms {
    ($($form:ident $name:literal),* $(,)?) => {
        /// Names that the expander knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Form { $($form),* }

        impl Form {
            pub const ALL: &[(Form, &str)] = &[$((Form::$form, $name)),*];
        }
    };
}

forms! {
    Quote "quote", Quasiquote "quasiquote", Unquote "unquote",
    UnquoteSplicing "unquote-splicing", If "if", Define "define", DefineSyntax "define-syntax",
    Set "set!", Lambda "lambda", Begin "begin", Let "let",
    LetStar "let*", Letrec "letrec", LetrecStar "letrec*", LetSyntax "let-syntax",
    LetrecSyntax "letrec-syntax", And "and", Or "or", When "when", Unless "unless", Cond "cond",
    Case "case", Do "do", CondExpand "cond-expand", Include "include", Import "import",
    DefineLibrary "define-library", SyntaxError "syntax-error", SyntaxRules "syntax-rules",
    Else "else", Arrow "=>", Ellipsis "...", Underscore "_",
}

/// A place in a program.
#[derive(Clone)]
pub struct Scope(Rc<Frame>);

struct Frame {
    bindings: RefCell<Vec<(Word, Binding)>>,
    outer: Outer,
}

enum Outer {
    Scope(Scope),
    Library(usize),
}

impl Scope {
    /// The top level of a library.
    pub fn library(number: usize) -> Self {
        Self(Rc::new(Frame { bindings: RefCell::default(), outer: Outer::Library(number) }))
    }

    pub fn inner(&self) -> Self {
        let outer = Outer::Scope(self.clone());
        Self(Rc::new(Frame { bindings: RefCell::default(), outer }))
    }

    pub fn bind(&self, name: Word, binding: Binding) {
        self.0.bindings.borrow_mut().push((name, binding));
    }

    /// Forgets what is bound here, when the form that the scope belongs to is compiled (S1).
    pub fn forget(&self) {
        self.0.bindings.borrow_mut().clear();
    }

    /// The library, if this is its top level.
    pub fn top_level(&self) -> Option<usize> {
        match self.0.outer {
            Outer::Library(number) => Some(number),
            Outer::Scope(_) => None,
        }
    }

    /// What binds `name` as it is; else the library at the end of the way out.
    pub fn find(&self, name: Word) -> Result<Binding, usize> {
        let mut scope = self;
        loop {
            let bindings = scope.0.bindings.borrow();
            if let Some((_, binding)) = bindings.iter().rev().find(|(one, _)| *one == name) {
                return Ok(binding.clone());
            }
            match &scope.0.outer {
                Outer::Scope(outer) => scope = outer,
                Outer::Library(number) => return Err(*number),
            }
        }
    }
}

pub fn is_name(word: Word) -> bool {
    matches!(kind(word), Some(Kind::Symbol | Kind::Identifier))
}

/// The symbol that `name` began as.
pub fn symbol_of(mut name: Word) -> Word {
    while kind(name) == Some(Kind::Identifier) {
        name = get(name, 0);
    }
    name
}

/// `datum` with symbols for the identifiers in it; itself if there are none.
pub fn strip(memory: &Memory, datum: Word) -> Result<Word, LimitReached> {
    match kind(datum) {
        Some(Kind::Identifier) => Ok(symbol_of(datum)),
        Some(Kind::Vector) => {
            let items = (0..len(datum)).map(|index| strip(memory, get(datum, index)));
            let items = items.collect::<Result<Vec<_>, _>>()?;
            if (0..len(datum)).all(|index| get(datum, index) == items[index]) {
                return Ok(datum);
            }
            memory.words(Kind::Vector, items.len(), |index| items[index])
        }
        Some(Kind::Pair) if has_identifiers(datum, &mut 0) => {
            let (mut items, mut rest) = (Vec::new(), datum);
            while kind(rest) == Some(Kind::Pair) {
                items.push(strip(memory, get(rest, 0))?);
                rest = get(rest, 1);
            }
            let rest = if rest == NIL { NIL } else { strip(memory, rest)? };
            memory.list_with(&items, rest)
        }
        _ => Ok(datum),
    }
}

/// Items after which data is taken to be a cycle: those come from the reader, not from macros.
const ITEMS_MAX: usize = 1 << 20;

fn has_identifiers(mut datum: Word, seen: &mut usize) -> bool {
    loop {
        *seen += 1;
        match kind(datum) {
            Some(Kind::Identifier) => return true,
            Some(Kind::Pair) if *seen < ITEMS_MAX => {
                if has_identifiers(get(datum, 0), seen) {
                    return true;
                }
                datum = get(datum, 1);
            }
            Some(Kind::Vector) => {
                return (0..len(datum)).any(|index| has_identifiers(get(datum, index), seen));
            }
            _ => return false,
        }
    }
}

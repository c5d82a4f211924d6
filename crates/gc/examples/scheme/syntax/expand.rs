//! Expander: data to a tree of the few forms that the emitter knows; every variable resolved.
//!
//! Words are kept in the tree and in scopes: no safepoint comes before the code is emitted.

use super::library::Libraries;
use super::rules::{Macro, Rules, transform};
use super::scope::{Binding, Form, Scope, is_name, strip, symbol_of};
use crate::interpreter::error::Error;
use crate::interpreter::roots::Memory;
use crate::interpreter::text::print::print;
use crate::interpreter::value::{
    Kind, NIL, UNSPECIFIED, Word, as_small, count, get, is_kind, kind, list, text,
};
use heapwright_gc::LimitReached;
use std::rc::Rc;

/// Forms in forms at most: what recursion in the expander and the emitter may use of
/// the two megabytes that a thread has, in debug builds.
const DEPTH_MAX: usize = 120;

/// Expansions of one form in a row; a macro that always gives a use of itself ends here.
const EXPANSIONS_MAX: usize = 100_000;

/// A program as the emitter takes it. Variables are numbers, unique in one form of the top level.
pub enum Tree {
    Constant(Word),
    Local(usize),
    Global(u32),
    SetLocal(usize, Box<Tree>),
    SetGlobal(u32, Box<Tree>),
    Define(u32, Box<Tree>),
    If(Box<[Tree; 3]>),
    Sequence(Vec<Tree>),
    Lambda(Box<Lambda>),
    Let(Vec<(usize, Tree)>, Box<Tree>),
    Call(Box<Tree>, Vec<Tree>),
}

pub struct Lambda {
    pub parameters: Vec<usize>,
    /// Whether the last parameter takes the rest of the arguments.
    pub has_rest: bool,
    pub body: Tree,
}

pub type Expanded = Result<Tree, Error>;

pub struct Expander<'a> {
    pub memory: &'a mut Memory,
    pub libraries: &'a mut Libraries,
    /// For each variable whether it is assigned.
    pub assigned: Vec<bool>,
    /// Scopes inside this form that identifiers stand for.
    scopes: Vec<Scope>,
    /// Scopes inside this form that bind macros, which hold a scope themselves: often the same.
    with_macros: Vec<Scope>,
    /// Identifiers that this form defines at the top level, where macros of other libraries put
    /// them.
    defined: Vec<(Word, u32)>,
    depth: usize,
    /// The heap was full where no error could tell it.
    pub is_full: bool,
}

impl Drop for Expander<'_> {
    /// The form is compiled: a scope and the macros that it binds no longer hold each other.
    fn drop(&mut self) {
        self.with_macros.iter().for_each(Scope::forget);
    }
}

pub fn wrong(form: Word) -> Error {
    Error::syntax("another form", &print(form, false))
}

impl<'a> Expander<'a> {
    pub fn new(memory: &'a mut Memory, libraries: &'a mut Libraries) -> Self {
        Self {
            memory,
            libraries,
            assigned: Vec::new(),
            scopes: Vec::new(),
            with_macros: Vec::new(),
            defined: Vec::new(),
            depth: 0,
            is_full: false,
        }
    }

    /// `form` at the top level of a library.
    pub fn program(&mut self, form: Word, library: usize) -> Expanded {
        let tree = self.expand(form, &Scope::library(library));
        if self.is_full { Err(Error::Full) } else { tree }
    }

    /// What `name` means in `scope`.
    pub fn resolve(&self, scope: &Scope, mut name: Word) -> Binding {
        let mut scope = scope.clone();
        loop {
            match scope.find(name) {
                Ok(binding) => return binding,
                Err(library) if is_kind(name, Kind::Symbol) => {
                    return self.libraries.find(library, name);
                }
                Err(_) => {
                    if let Some((_, number)) = self.defined.iter().find(|(one, _)| *one == name) {
                        return Binding::Global(*number);
                    }
                    let number = as_small(get(name, 1)).expect("an identifier has one") as usize;
                    // The same numbers as in `scope_number`.
                    scope = match number % 2 {
                        0 => Scope::library(number / 2),
                        _ => self.scopes[number / 2].clone(),
                    };
                    name = get(name, 0);
                }
            }
        }
    }

    pub fn is_form(&self, scope: &Scope, word: Word, form: Form) -> bool {
        is_name(word) && self.resolve(scope, word) == Binding::Special(form)
    }

    /// The number by which identifiers name `scope`.
    pub fn scope_number(&mut self, scope: &Scope) -> usize {
        match scope.top_level() {
            Some(library) => 2 * library,
            None => {
                self.scopes.push(scope.clone());
                2 * self.scopes.len() - 1
            }
        }
    }

    pub fn identifier(&self, name: Word, scope_number: usize) -> Result<Word, LimitReached> {
        let words = [name, count(scope_number)];
        self.memory.words(Kind::Identifier, 2, |index| words[index])
    }

    pub fn variable(&mut self) -> usize {
        self.assigned.push(false);
        self.assigned.len() - 1
    }

    /// A new variable that `name` means in `scope`.
    pub fn bind(&mut self, scope: &Scope, name: Word) -> Result<usize, Error> {
        if !is_name(name) {
            return Err(Error::syntax("a name", &print(name, false)));
        }
        let variable = self.variable();
        scope.bind(name, Binding::Local(variable));
        Ok(variable)
    }

    /// `name` means the macro `one` in `scope`, which lies inside the form.
    pub fn bind_macro(&mut self, scope: &Scope, name: Word, one: Rc<Macro>) {
        scope.bind(name, Binding::Macro(one));
        self.with_macros.push(scope.clone());
    }

    /// A call of a procedure of the system's library.
    pub fn call(&mut self, name: &str, arguments: Vec<Tree>) -> Tree {
        let number = self.libraries.system(self.memory, name);
        Tree::Call(Box::new(Tree::Global(number)), arguments)
    }

    pub fn expand(&mut self, form: Word, scope: &Scope) -> Expanded {
        self.depth += 1;
        let tree = if self.depth > DEPTH_MAX {
            Err(Error::Syntax("the forms are nested too deep".into()))
        } else {
            self.expand_form(form, scope)
        };
        self.depth -= 1;
        tree
    }

    fn expand_form(&mut self, form: Word, scope: &Scope) -> Expanded {
        let (form, binding) = self.without_macros(form, scope)?;
        if let Some(Binding::Special(special)) = binding {
            return self.special(special, form, scope);
        }
        if is_name(form) {
            return self.reference(form, scope);
        }
        if !is_kind(form, Kind::Pair) {
            let is_wrong = form == NIL;
            return if is_wrong { Err(wrong(form)) } else { self.constant(form) };
        }
        let items = list(form).ok_or_else(|| wrong(form))?;
        let callee = self.expand(items[0], scope)?;
        Ok(Tree::Call(Box::new(callee), self.expand_all(&items[1..], scope)?))
    }

    pub fn expand_all(&mut self, forms: &[Word], scope: &Scope) -> Result<Vec<Tree>, Error> {
        forms.iter().map(|form| self.expand(*form, scope)).collect()
    }

    /// `form` with a use of a macro at its head replaced, until it has none; and what the name at
    /// its head means, if there is one.
    pub fn without_macros(
        &mut self,
        mut form: Word,
        scope: &Scope,
    ) -> Result<(Word, Option<Binding>), Error> {
        for _ in 0..EXPANSIONS_MAX {
            if !is_kind(form, Kind::Pair) || !is_name(get(form, 0)) {
                return Ok((form, None));
            }
            match self.resolve(scope, get(form, 0)) {
                Binding::Macro(one) => form = transform(self, &one, form, scope)?,
                binding => return Ok((form, Some(binding))),
            }
        }
        Err(Error::Syntax("a macro's expansion does not end".into()))
    }

    pub fn constant(&mut self, datum: Word) -> Expanded {
        Ok(Tree::Constant(strip(self.memory, datum)?))
    }

    fn reference(&mut self, name: Word, scope: &Scope) -> Expanded {
        match self.resolve(scope, name) {
            Binding::Local(variable) => Ok(Tree::Local(variable)),
            Binding::Global(number) => Ok(Tree::Global(number)),
            Binding::Free(library, symbol) => {
                Ok(Tree::Global(self.libraries.define(self.memory, library, symbol)))
            }
            Binding::Special(_) | Binding::Macro(_) => {
                Err(Error::syntax("a variable", &print(symbol_of(name), false)))
            }
        }
    }

    fn special(&mut self, special: Form, form: Word, scope: &Scope) -> Expanded {
        let items = list(form).ok_or_else(|| wrong(form))?;
        match (special, &items[1..]) {
            (Form::Quote, [datum]) => self.constant(*datum),
            (Form::Quasiquote, [datum]) => self.quasi(*datum, 1, scope),
            (Form::If, [test, then]) => {
                let [test, then] = [self.expand(*test, scope)?, self.expand(*then, scope)?];
                Ok(Tree::If(Box::new([test, then, Tree::Constant(UNSPECIFIED)])))
            }
            (Form::If, [test, then, other]) => {
                let [test, then] = [self.expand(*test, scope)?, self.expand(*then, scope)?];
                Ok(Tree::If(Box::new([test, then, self.expand(*other, scope)?])))
            }
            (Form::Define, [target, value @ ..]) => self.define(*target, value, scope),
            (Form::Set, [name, value]) => self.assign(*name, *value, scope),
            (Form::Lambda, [parameters, body @ ..]) => self.lambda(*parameters, body, scope),
            (Form::Begin, forms) => self.sequence(forms, scope),
            (Form::DefineSyntax, [name, spec]) => self.define_syntax(*name, *spec, scope),
            (Form::LetSyntax | Form::LetrecSyntax, [bindings, body @ ..]) => {
                let inner = scope.inner();
                let around = if special == Form::LetSyntax { scope } else { &inner };
                for (name, spec) in self.bindings(*bindings)? {
                    let one = self.macro_of(spec, around)?;
                    self.bind_macro(&inner, name, one);
                }
                self.body(body, &inner)
            }
            (Form::CondExpand, clauses) => {
                let forms = self.choose_clause(clauses)?;
                self.sequence(&forms, scope)
            }
            (Form::Include, files) => {
                let forms = self.included(files)?;
                self.sequence(&forms, scope)
            }
            (Form::Import, sets) => {
                let library = scope.top_level().ok_or_else(|| wrong(form))?;
                self.import(sets, library)?;
                Ok(Tree::Constant(UNSPECIFIED))
            }
            (Form::DefineLibrary, [name, declarations @ ..]) => self.library(*name, declarations),
            (Form::SyntaxError, [message, rest @ ..]) => {
                let mut all = if kind(*message) == Some(Kind::String) {
                    text(*message)
                } else {
                    print(*message, false)
                };
                for word in rest {
                    all = format!("{all} {}", print(strip(self.memory, *word)?, false));
                }
                Err(Error::Syntax(all))
            }
            (_, rest) => match self.derived(special, rest, scope)? {
                Some(tree) => Ok(tree),
                None => Err(wrong(form)),
            },
        }
    }

    pub fn sequence(&mut self, forms: &[Word], scope: &Scope) -> Expanded {
        match forms {
            [] => Ok(Tree::Constant(UNSPECIFIED)),
            [only] => self.expand(*only, scope),
            _ => Ok(Tree::Sequence(self.expand_all(forms, scope)?)),
        }
    }

    /// A definition where no body has taken it: at the top level.
    fn define(&mut self, target: Word, value: &[Word], scope: &Scope) -> Expanded {
        let library = scope.top_level();
        let Some(library) = library else {
            return Err(Error::syntax("no definition here", &print(target, false)));
        };
        if is_kind(target, Kind::Pair) {
            let (name, parameters) = (get(target, 0), get(target, 1));
            if !is_name(name) {
                return Err(wrong(target));
            }
            let number = self.global(library, name);
            return Ok(Tree::Define(number, Box::new(self.lambda(parameters, value, scope)?)));
        }
        if !is_name(target) {
            return Err(wrong(target));
        }
        let value = match value {
            [] => Tree::Constant(UNSPECIFIED),
            [value] => self.expand(*value, scope)?,
            _ => return Err(wrong(target)),
        };
        let number = self.global(library, target);
        Ok(Tree::Define(number, Box::new(value)))
    }

    /// The variable that a definition of `name` is about.
    fn global(&mut self, library: usize, name: Word) -> u32 {
        let number = self.libraries.define(self.memory, library, symbol_of(name));
        if is_kind(name, Kind::Identifier) {
            self.defined.push((name, number));
        }
        number
    }

    fn define_syntax(&mut self, name: Word, spec: Word, scope: &Scope) -> Expanded {
        let (Some(library), true) = (scope.top_level(), is_name(name)) else {
            return Err(wrong(name));
        };
        let one = self.macro_of(spec, scope)?;
        self.libraries.bind(library, symbol_of(name), Binding::Macro(one));
        Ok(Tree::Constant(UNSPECIFIED))
    }

    /// The macro that `spec`, a `syntax-rules` form or another macro's name, tells of.
    pub fn macro_of(&mut self, spec: Word, scope: &Scope) -> Result<Rc<Macro>, Error> {
        if is_name(spec)
            && let Binding::Macro(one) = self.resolve(scope, spec)
        {
            return Ok(one);
        }
        let (spec, binding) = self.without_macros(spec, scope)?;
        if binding != Some(Binding::Special(Form::SyntaxRules)) {
            return Err(Error::syntax("syntax-rules", &print(spec, false)));
        }
        let rules = match scope.top_level() {
            Some(_) => Rules::Constant(self.memory.constant(spec)),
            None => Rules::Here(spec),
        };
        Ok(Rc::new(Macro { rules, scope: scope.clone() }))
    }

    fn assign(&mut self, name: Word, value: Word, scope: &Scope) -> Expanded {
        if !is_name(name) {
            return Err(wrong(name));
        }
        let value = Box::new(self.expand(value, scope)?);
        match self.resolve(scope, name) {
            Binding::Local(variable) => {
                self.assigned[variable] = true;
                Ok(Tree::SetLocal(variable, value))
            }
            Binding::Global(number) if !self.is_imported(scope, name) => {
                Ok(Tree::SetGlobal(number, value))
            }
            Binding::Free(library, symbol) => {
                Ok(Tree::SetGlobal(self.libraries.define(self.memory, library, symbol), value))
            }
            _ => Err(Error::syntax("a variable of the program", &print(symbol_of(name), false))),
        }
    }

    fn is_imported(&self, scope: &Scope, name: Word) -> bool {
        let is_defined = self.defined.iter().any(|(one, _)| *one == name);
        !is_defined && self.libraries.is_imported(scope, name)
    }

    pub fn lambda(&mut self, mut parameters: Word, body: &[Word], scope: &Scope) -> Expanded {
        let inner = scope.inner();
        let mut variables = Vec::new();
        while is_kind(parameters, Kind::Pair) {
            variables.push(self.bind(&inner, get(parameters, 0))?);
            parameters = get(parameters, 1);
        }
        let has_rest = parameters != NIL;
        if has_rest {
            variables.push(self.bind(&inner, parameters)?);
        }
        let body = self.body(body, &inner)?;
        Ok(Tree::Lambda(Box::new(Lambda { parameters: variables, has_rest, body })))
    }
}

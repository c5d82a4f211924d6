//! Expander: data to a tree of the few forms that the emitter knows; every variable resolved.
//!
//! Words are kept in the tree: no safepoint comes before the code is emitted.

use super::error::Error;
use super::machine::Globals;
use super::roots::Memory;
use super::value::{
    FALSE, Kind, NIL, UNDEFINED, UNSPECIFIED, Word, count, get, is_kind, len, list, text,
};

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

pub struct Expander<'a> {
    memory: &'a mut Memory,
    globals: &'a mut Globals,
    /// What is visible, innermost last: symbols and their variables.
    scope: Vec<(Word, usize)>,
    /// For each variable whether it is assigned.
    pub assigned: Vec<bool>,
}

type Expanded = Result<Tree, Error>;

fn wrong(form: Word) -> Error {
    Error::syntax("another form", &super::print::print(form, false))
}

impl<'a> Expander<'a> {
    pub fn new(memory: &'a mut Memory, globals: &'a mut Globals) -> Self {
        Self { memory, globals, scope: Vec::new(), assigned: Vec::new() }
    }

    fn variable(&mut self, symbol: Word) -> usize {
        self.assigned.push(false);
        self.scope.push((symbol, self.assigned.len() - 1));
        self.assigned.len() - 1
    }

    fn find(&self, symbol: Word) -> Option<usize> {
        self.scope.iter().rev().find(|(name, _)| *name == symbol).map(|(_, variable)| *variable)
    }

    fn global(&mut self, name: &str) -> u32 {
        self.globals.number(self.memory, name)
    }

    fn call(&mut self, name: &str, arguments: Vec<Tree>) -> Tree {
        Tree::Call(Box::new(Tree::Global(self.global(name))), arguments)
    }

    pub fn expand(&mut self, form: Word) -> Expanded {
        if is_kind(form, Kind::Symbol) {
            return Ok(match self.find(form) {
                Some(variable) => Tree::Local(variable),
                None => Tree::Global(self.global(&text(form))),
            });
        }
        if !is_kind(form, Kind::Pair) {
            return if form == NIL { Err(wrong(form)) } else { Ok(Tree::Constant(form)) };
        }
        let items = list(form).ok_or_else(|| wrong(form))?;
        let head = items[0];
        if is_kind(head, Kind::Symbol)
            && self.find(head).is_none()
            && let Some(tree) = self.special(form, &text(head), &items[1..])?
        {
            return Ok(tree);
        }
        let callee = self.expand(head)?;
        let arguments = items[1..].iter().map(|item| self.expand(*item));
        Ok(Tree::Call(Box::new(callee), arguments.collect::<Result<_, _>>()?))
    }

    fn special(&mut self, form: Word, name: &str, rest: &[Word]) -> Result<Option<Tree>, Error> {
        let tree = match (name, rest) {
            ("quote", [datum]) => Tree::Constant(*datum),
            ("quasiquote", [datum]) => self.quasi(*datum, 1)?,
            ("if", [test, then]) => self.choose(*test, *then, None)?,
            ("if", [test, then, other]) => self.choose(*test, *then, Some(*other))?,
            ("define", [target, value @ ..]) => {
                let (name, value) = self.definition(*target, value)?;
                let number = self.global(&text(name));
                Tree::Define(number, Box::new(value))
            }
            ("set!", [name, value]) => {
                let value = Box::new(self.expand(*value)?);
                match self.find(*name) {
                    Some(variable) => {
                        self.assigned[variable] = true;
                        Tree::SetLocal(variable, value)
                    }
                    None => Tree::SetGlobal(self.global(&text(*name)), value),
                }
            }
            ("lambda", [parameters, body @ ..]) => self.lambda(*parameters, body)?,
            ("begin", forms) => self.sequence(forms)?,
            ("let", [name, bindings, body @ ..]) if is_kind(*name, Kind::Symbol) => {
                self.named_let(*name, *bindings, body)?
            }
            ("let", [bindings, body @ ..]) => self.let_all(*bindings, body)?,
            ("let*", [bindings, body @ ..]) => {
                let depth = self.scope.len();
                let mut bound = Vec::new();
                for (name, value) in self.bindings(*bindings)? {
                    let value = self.expand(value)?;
                    bound.push((self.variable(name), value));
                }
                let body = self.body(body)?;
                self.scope.truncate(depth);
                Tree::Let(bound, Box::new(body))
            }
            ("letrec" | "letrec*", [bindings, body @ ..]) => {
                let bindings = self.bindings(*bindings)?;
                self.recursive(&bindings, body)?
            }
            ("and", []) => Tree::Constant(super::value::TRUE),
            ("and" | "or", [last]) => self.expand(*last)?,
            ("and", [first, more @ ..]) => {
                let first = self.expand(*first)?;
                let more = self.special(form, "and", more)?.ok_or_else(|| wrong(form))?;
                Tree::If(Box::new([first, more, Tree::Constant(FALSE)]))
            }
            ("or", []) => Tree::Constant(FALSE),
            ("or", [first, more @ ..]) => {
                let first = self.expand(*first)?;
                let hidden = self.variable(UNDEFINED);
                let more = self.special(form, "or", more)?.ok_or_else(|| wrong(form))?;
                self.scope.pop();
                let test = Tree::If(Box::new([Tree::Local(hidden), Tree::Local(hidden), more]));
                Tree::Let(vec![(hidden, first)], Box::new(test))
            }
            ("when" | "unless", [test, body @ ..]) => {
                let test = self.expand(*test)?;
                let body = self.sequence(body)?;
                let other = Tree::Constant(UNSPECIFIED);
                let [then, other] = if name == "when" { [body, other] } else { [other, body] };
                Tree::If(Box::new([test, then, other]))
            }
            ("cond", clauses) => self.cond(clauses)?,
            ("case", [key, clauses @ ..]) => self.case(*key, clauses)?,
            ("do", [bindings, end, body @ ..]) => self.do_loop(*bindings, *end, body)?,
            ("guard", [clause, body @ ..]) => self.guard(*clause, body)?,
            ("define-record-type", [kind, maker, test, fields @ ..]) => {
                self.record(*kind, *maker, *test, fields)?
            }
            _ => return Ok(None),
        };
        Ok(Some(tree))
    }

    fn choose(&mut self, test: Word, then: Word, other: Option<Word>) -> Expanded {
        let test = self.expand(test)?;
        let then = self.expand(then)?;
        let other = other.map_or(Ok(Tree::Constant(UNSPECIFIED)), |other| self.expand(other))?;
        Ok(Tree::If(Box::new([test, then, other])))
    }

    fn sequence(&mut self, forms: &[Word]) -> Expanded {
        match forms {
            [] => Ok(Tree::Constant(UNSPECIFIED)),
            [only] => self.expand(*only),
            _ => {
                let trees = forms.iter().map(|form| self.expand(*form));
                Ok(Tree::Sequence(trees.collect::<Result<_, _>>()?))
            }
        }
    }

    /// The name and the value of a definition.
    fn definition(&mut self, target: Word, value: &[Word]) -> Result<(Word, Tree), Error> {
        if is_kind(target, Kind::Pair) {
            return Ok((get(target, 0), self.lambda(get(target, 1), value)?));
        }
        match value {
            [] => Ok((target, Tree::Constant(UNSPECIFIED))),
            [value] => Ok((target, self.expand(*value)?)),
            _ => Err(wrong(target)),
        }
    }

    fn lambda(&mut self, mut parameters: Word, body: &[Word]) -> Expanded {
        let depth = self.scope.len();
        let mut variables = Vec::new();
        while is_kind(parameters, Kind::Pair) {
            variables.push(self.variable(get(parameters, 0)));
            parameters = get(parameters, 1);
        }
        let has_rest = is_kind(parameters, Kind::Symbol);
        if has_rest {
            variables.push(self.variable(parameters));
        }
        let body = self.body(body)?;
        self.scope.truncate(depth);
        Ok(Tree::Lambda(Box::new(Lambda { parameters: variables, has_rest, body })))
    }

    /// A body: definitions at its beginning are variables of it.
    fn body(&mut self, forms: &[Word]) -> Expanded {
        let is_definition = |form: &&Word| {
            let head = if is_kind(**form, Kind::Pair) { get(**form, 0) } else { NIL };
            is_kind(head, Kind::Symbol) && text(head) == "define"
        };
        let defined = forms.iter().take_while(is_definition).count();
        if defined == 0 {
            return self.sequence(forms);
        }
        let mut bindings = Vec::new();
        for form in &forms[..defined] {
            let items = list(*form).filter(|items| items.len() >= 2).ok_or_else(|| wrong(*form))?;
            let target = items[1];
            if is_kind(target, Kind::Pair) {
                // (define (name . parameters) body ...) is (define name (lambda ...)).
                let lambda = self.memory.symbol("lambda")?;
                let body = self.memory.list(&items[2..])?;
                let value = self.memory.list_with(&[lambda, get(target, 1)], body)?;
                bindings.push((get(target, 0), value));
            } else {
                bindings.push((target, items.get(2).copied().unwrap_or(UNSPECIFIED)));
            }
        }
        self.recursive(&bindings, &forms[defined..])
    }

    fn bindings(&self, bindings: Word) -> Result<Vec<(Word, Word)>, Error> {
        let pair = |binding: &Word| match list(*binding).as_deref() {
            Some([name, value]) => Ok((*name, *value)),
            _ => Err(wrong(*binding)),
        };
        list(bindings).ok_or_else(|| wrong(bindings))?.iter().map(pair).collect()
    }

    fn let_all(&mut self, bindings: Word, body: &[Word]) -> Expanded {
        let bindings = self.bindings(bindings)?;
        let values = bindings.iter().map(|(_, value)| self.expand(*value));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let depth = self.scope.len();
        let names: Vec<_> = bindings.iter().map(|(name, _)| self.variable(*name)).collect();
        let body = self.body(body)?;
        self.scope.truncate(depth);
        Ok(Tree::Let(names.into_iter().zip(values).collect(), Box::new(body)))
    }

    /// All names are visible in all values.
    fn recursive(&mut self, bindings: &[(Word, Word)], body: &[Word]) -> Expanded {
        let depth = self.scope.len();
        let names: Vec<_> = bindings.iter().map(|(name, _)| self.variable(*name)).collect();
        let mut trees = Vec::new();
        for (variable, (_, value)) in names.iter().zip(bindings) {
            self.assigned[*variable] = true;
            trees.push(Tree::SetLocal(*variable, Box::new(self.expand(*value)?)));
        }
        trees.push(self.body(body)?);
        self.scope.truncate(depth);
        let empty = names.into_iter().map(|name| (name, Tree::Constant(UNDEFINED))).collect();
        Ok(Tree::Let(empty, Box::new(Tree::Sequence(trees))))
    }

    fn named_let(&mut self, name: Word, bindings: Word, body: &[Word]) -> Expanded {
        let bindings = self.bindings(bindings)?;
        let values = bindings.iter().map(|(_, value)| self.expand(*value));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let depth = self.scope.len();
        let this = self.variable(name);
        self.assigned[this] = true;
        let names: Vec<Word> = bindings.iter().map(|(name, _)| *name).collect();
        let parameters = self.memory.list(&names)?;
        let lambda = Box::new(self.lambda(parameters, body)?);
        self.scope.truncate(depth);
        let call = Tree::Call(Box::new(Tree::Local(this)), values);
        let steps = Tree::Sequence(vec![Tree::SetLocal(this, lambda), call]);
        Ok(Tree::Let(vec![(this, Tree::Constant(UNDEFINED))], Box::new(steps)))
    }

    fn cond(&mut self, clauses: &[Word]) -> Expanded {
        let Some((first, more)) = clauses.split_first() else {
            return Ok(Tree::Constant(UNSPECIFIED));
        };
        let items = list(*first).filter(|items| !items.is_empty()).ok_or_else(|| wrong(*first))?;
        let is_word = |word: Word, name: &str| is_kind(word, Kind::Symbol) && text(word) == name;
        if is_word(items[0], "else") {
            return self.sequence(&items[1..]);
        }
        let test = self.expand(items[0])?;
        if items.len() > 1 && !is_word(items[1], "=>") {
            let then = self.sequence(&items[1..])?;
            return Ok(Tree::If(Box::new([test, then, self.cond(more)?])));
        }
        // The test's value is the result, or what a procedure makes of it.
        let hidden = self.variable(UNDEFINED);
        let then = match items.get(2) {
            Some(procedure) => {
                Tree::Call(Box::new(self.expand(*procedure)?), vec![Tree::Local(hidden)])
            }
            None => Tree::Local(hidden),
        };
        let other = self.cond(more)?;
        self.scope.pop();
        let choice = Tree::If(Box::new([Tree::Local(hidden), then, other]));
        Ok(Tree::Let(vec![(hidden, test)], Box::new(choice)))
    }

    fn case(&mut self, key: Word, clauses: &[Word]) -> Expanded {
        let key = self.expand(key)?;
        let hidden = self.variable(UNDEFINED);
        let mut tree = Tree::Constant(UNSPECIFIED);
        for clause in clauses.iter().rev() {
            let items =
                list(*clause).filter(|items| !items.is_empty()).ok_or_else(|| wrong(*clause))?;
            let body = self.sequence(&items[1..])?;
            tree = if is_kind(items[0], Kind::Symbol) {
                body
            } else {
                let arguments = vec![Tree::Local(hidden), Tree::Constant(items[0])];
                let test = self.call("memv", arguments);
                Tree::If(Box::new([test, body, tree]))
            };
        }
        self.scope.pop();
        Ok(Tree::Let(vec![(hidden, key)], Box::new(tree)))
    }

    /// `(do ((name first step) ...) (test result ...) body ...)` as a named let.
    fn do_loop(&mut self, bindings: Word, end: Word, body: &[Word]) -> Expanded {
        let [next, begin, choose] =
            [self.memory.symbol(" next")?, self.memory.symbol("begin")?, self.memory.symbol("if")?];
        let (mut firsts, mut again) = (Vec::new(), vec![next]);
        for binding in list(bindings).ok_or_else(|| wrong(bindings))? {
            let items = list(binding).ok_or_else(|| wrong(binding))?;
            let [name, first, ..] = items[..] else { return Err(wrong(binding)) };
            firsts.push(self.memory.list(&[name, first])?);
            again.push(items.get(2).copied().unwrap_or(name));
        }
        let end = list(end).filter(|end| !end.is_empty()).ok_or_else(|| wrong(end))?;
        let result = self.memory.list(&end[1..])?;
        let result = self.memory.cons(begin, result)?;
        let again = self.memory.list(&again)?;
        let again = self.memory.list(&[again])?;
        let steps = self.memory.list_with(body, again)?;
        let steps = self.memory.cons(begin, steps)?;
        let choice = self.memory.list(&[choose, end[0], result, steps])?;
        let firsts = self.memory.list(&firsts)?;
        self.named_let(next, firsts, &[choice])
    }

    /// `(guard (name clause ...) body ...)` by the prelude's `%guard`.
    fn guard(&mut self, clause: Word, body: &[Word]) -> Expanded {
        if !is_kind(clause, Kind::Pair) {
            return Err(wrong(clause));
        }
        let (name, clauses) = (get(clause, 0), list(get(clause, 1)).unwrap_or_default());
        let body = self.lambda(NIL, body)?;
        let [cond, otherwise, raise] =
            ["cond", "else", "raise"].map(|name| self.memory.symbol(name));
        let raise = self.memory.list(&[raise?, name])?;
        let last = self.memory.list(&[otherwise?, raise])?;
        let last = self.memory.list(&[last])?;
        let clauses = self.memory.list_with(&clauses, last)?;
        let clauses = self.memory.cons(cond?, clauses)?;
        let parameters = self.memory.list(&[name])?;
        let handler = self.lambda(parameters, &[clauses])?;
        Ok(self.call("%guard", vec![handler, body]))
    }

    /// `(define-record-type name (maker field ...) test (field getter [setter]) ...)`.
    fn record(&mut self, kind: Word, maker: Word, test: Word, fields: &[Word]) -> Expanded {
        let maker = list(maker).filter(|maker| !maker.is_empty()).ok_or_else(|| wrong(maker))?;
        let mut defines = Vec::new();
        let mut define = |this: &mut Self, name: Word, value: Tree| {
            let number = this.global(&text(name));
            defines.push(Tree::Define(number, Box::new(value)));
        };
        let mut order = vec![Tree::Constant(kind)];
        for (index, field) in fields.iter().enumerate() {
            let items =
                list(*field).filter(|items| items.len() > 1).ok_or_else(|| wrong(*field))?;
            let at = maker[1..].iter().position(|name| *name == items[0]);
            order.push(Tree::Constant(at.map_or(FALSE, count)));
            let which = || vec![Tree::Constant(kind), Tree::Constant(count(index + 1))];
            let getter = self.call("%record-getter", which());
            define(self, items[1], getter);
            if let Some(setter) = items.get(2) {
                let value = self.call("%record-setter", which());
                define(self, *setter, value);
            }
        }
        let value = self.call("%record-maker", order);
        define(self, maker[0], value);
        let value = self.call("%record-test", vec![Tree::Constant(kind)]);
        define(self, test, value);
        Ok(Tree::Sequence(defines))
    }

    fn quasi(&mut self, datum: Word, depth: usize) -> Expanded {
        if is_kind(datum, Kind::Vector) {
            let items: Vec<Word> = (0..len(datum)).map(|index| get(datum, index)).collect();
            let items = self.memory.list(&items)?;
            let items = self.quasi(items, depth)?;
            return Ok(self.call("list->vector", vec![items]));
        }
        if !is_kind(datum, Kind::Pair) {
            return Ok(Tree::Constant(datum));
        }
        let (first, rest) = (get(datum, 0), get(datum, 1));
        let name = if is_kind(first, Kind::Symbol) { text(first) } else { String::new() };
        match (name.as_str(), depth) {
            ("unquote", 1) => return self.expand(get(rest, 0)),
            ("unquote", _) => return self.quasi_pair(first, rest, depth - 1),
            ("quasiquote", _) => return self.quasi_pair(first, rest, depth + 1),
            _ => {}
        }
        let splices = is_kind(first, Kind::Pair) && {
            let head = get(first, 0);
            depth == 1 && is_kind(head, Kind::Symbol) && text(head) == "unquote-splicing"
        };
        if splices {
            let items = self.expand(get(get(first, 1), 0))?;
            let rest = self.quasi(rest, depth)?;
            return Ok(self.call("append", vec![items, rest]));
        }
        self.quasi_pair(first, rest, depth)
    }

    fn quasi_pair(&mut self, first: Word, rest: Word, depth: usize) -> Expanded {
        let first = self.quasi(first, depth)?;
        let rest = self.quasi(rest, depth)?;
        Ok(self.call("cons", vec![first, rest]))
    }
}

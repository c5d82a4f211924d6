//! Forms that are trees of other forms, made here because they are in every program. The rest of
//! the derived forms are macros of the library (`library/syntax.scm`).

use super::expand::{Expanded, Expander, Lambda, Tree, wrong};
use super::scope::{Form, Scope, is_name};
use crate::interpreter::error::Error;
use crate::interpreter::value::{FALSE, NIL, TRUE, UNDEFINED, UNSPECIFIED, Word, list};

impl Expander<'_> {
    /// None if the form's parts are not as they have to be.
    pub fn derived(
        &mut self,
        special: Form,
        rest: &[Word],
        scope: &Scope,
    ) -> Result<Option<Tree>, Error> {
        let tree = match (special, rest) {
            (Form::Let, [name, bindings, body @ ..]) if is_name(*name) => {
                self.named_let(*name, *bindings, body, scope)?
            }
            (Form::Let, [bindings, body @ ..]) => {
                let bindings = self.bindings(*bindings)?;
                let inner = scope.inner();
                let mut bound = Vec::new();
                for (name, value) in bindings {
                    let value = self.expand(value, scope)?;
                    bound.push((self.bind(&inner, name)?, value));
                }
                Tree::Let(bound, Box::new(self.body(body, &inner)?))
            }
            (Form::LetStar, [bindings, body @ ..]) => {
                let mut inner = scope.inner();
                let mut bound = Vec::new();
                for (name, value) in self.bindings(*bindings)? {
                    let value = self.expand(value, &inner)?;
                    inner = inner.inner();
                    bound.push((self.bind(&inner, name)?, value));
                }
                Tree::Let(bound, Box::new(self.body(body, &inner)?))
            }
            (Form::Letrec | Form::LetrecStar, [bindings, body @ ..]) => {
                self.recursive(*bindings, body, scope)?
            }
            (Form::And, []) => Tree::Constant(TRUE),
            (Form::Or, []) => Tree::Constant(FALSE),
            (Form::And | Form::Or, forms) => {
                let mut trees = self.expand_all(forms, scope)?.into_iter().rev();
                let last = trees.next().expect("there is one");
                trees.fold(last, |more, first| match special {
                    Form::And => Tree::If(Box::new([first, more, Tree::Constant(FALSE)])),
                    _ => self.or(first, more),
                })
            }
            (Form::When | Form::Unless, [test, body @ ..]) => {
                let test = self.expand(*test, scope)?;
                let body = self.sequence(body, scope)?;
                let other = Tree::Constant(UNSPECIFIED);
                let [then, other] =
                    if special == Form::When { [body, other] } else { [other, body] };
                Tree::If(Box::new([test, then, other]))
            }
            (Form::Cond, clauses) => self.cond(clauses, scope)?,
            (Form::Case, [key, clauses @ ..]) => self.case(*key, clauses, scope)?,
            (Form::Do, [bindings, end, body @ ..]) => self.do_loop(*bindings, *end, body, scope)?,
            _ => return Ok(None),
        };
        Ok(Some(tree))
    }

    /// Names and forms of `((name form) ...)`.
    pub fn bindings(&self, bindings: Word) -> Result<Vec<(Word, Word)>, Error> {
        let pair = |binding: &Word| match list(*binding).as_deref() {
            Some([name, value]) => Ok((*name, *value)),
            _ => Err(wrong(*binding)),
        };
        list(bindings).ok_or_else(|| wrong(bindings))?.iter().map(pair).collect()
    }

    fn or(&mut self, first: Tree, more: Tree) -> Tree {
        let hidden = self.variable();
        let test = Tree::If(Box::new([Tree::Local(hidden), Tree::Local(hidden), more]));
        Tree::Let(vec![(hidden, first)], Box::new(test))
    }

    fn recursive(&mut self, bindings: Word, body: &[Word], scope: &Scope) -> Expanded {
        let inner = scope.inner();
        let bindings = self.bindings(bindings)?;
        let mut places = Vec::new();
        for (name, _) in &bindings {
            let variable = self.bind(&inner, *name)?;
            self.assigned[variable] = true;
            places.push((variable, Tree::Constant(UNDEFINED)));
        }
        let mut steps = Vec::new();
        for (index, (_, value)) in bindings.iter().enumerate() {
            let value = self.expand(*value, &inner)?;
            steps.push(Tree::SetLocal(places[index].0, Box::new(value)));
        }
        steps.push(self.body(body, &inner)?);
        Ok(Tree::Let(places, Box::new(Tree::Sequence(steps))))
    }

    fn named_let(&mut self, name: Word, bindings: Word, body: &[Word], scope: &Scope) -> Expanded {
        let bindings = self.bindings(bindings)?;
        let mut values = Vec::new();
        for (_, value) in &bindings {
            values.push(self.expand(*value, scope)?);
        }
        let inner = scope.inner();
        let this = self.bind(&inner, name)?;
        let names: Vec<Word> = bindings.iter().map(|(name, _)| *name).collect();
        let parameters = self.memory.list(&names)?;
        let lambda = self.lambda(parameters, body, &inner)?;
        Ok(self.looping(this, lambda, values))
    }

    /// A procedure that knows itself as `this`, called with `values`.
    fn looping(&mut self, this: usize, lambda: Tree, values: Vec<Tree>) -> Tree {
        self.assigned[this] = true;
        let call = Tree::Call(Box::new(Tree::Local(this)), values);
        let steps = Tree::Sequence(vec![Tree::SetLocal(this, Box::new(lambda)), call]);
        Tree::Let(vec![(this, Tree::Constant(UNDEFINED))], Box::new(steps))
    }

    fn cond(&mut self, clauses: &[Word], scope: &Scope) -> Expanded {
        let mut tree = Tree::Constant(UNSPECIFIED);
        for clause in clauses.iter().rev() {
            let items =
                list(*clause).filter(|items| !items.is_empty()).ok_or_else(|| wrong(*clause))?;
            if self.is_form(scope, items[0], Form::Else) {
                tree = self.consequence(None, &items[1..], scope)?;
                continue;
            }
            let test = self.expand(items[0], scope)?;
            tree = if items.len() == 1 {
                self.or(test, tree)
            } else if self.is_form(scope, items[1], Form::Arrow) {
                let hidden = self.variable();
                let then = self.consequence(Some(hidden), &items[1..], scope)?;
                let choice = Tree::If(Box::new([Tree::Local(hidden), then, tree]));
                Tree::Let(vec![(hidden, test)], Box::new(choice))
            } else {
                Tree::If(Box::new([test, self.sequence(&items[1..], scope)?, tree]))
            };
        }
        Ok(tree)
    }

    /// What a clause does: forms, or a call of a procedure with the value of a variable.
    fn consequence(&mut self, value: Option<usize>, forms: &[Word], scope: &Scope) -> Expanded {
        if let (Some(variable), [arrow, procedure]) = (value, forms)
            && self.is_form(scope, *arrow, Form::Arrow)
        {
            let procedure = self.expand(*procedure, scope)?;
            return Ok(Tree::Call(Box::new(procedure), vec![Tree::Local(variable)]));
        }
        self.sequence(forms, scope)
    }

    fn case(&mut self, key: Word, clauses: &[Word], scope: &Scope) -> Expanded {
        let key = self.expand(key, scope)?;
        let hidden = self.variable();
        let mut tree = Tree::Constant(UNSPECIFIED);
        for clause in clauses.iter().rev() {
            let items =
                list(*clause).filter(|items| !items.is_empty()).ok_or_else(|| wrong(*clause))?;
            let body = self.consequence(Some(hidden), &items[1..], scope)?;
            tree = if self.is_form(scope, items[0], Form::Else) {
                body
            } else {
                let arguments = vec![Tree::Local(hidden), self.constant(items[0])?];
                let test = self.call("memv", arguments);
                Tree::If(Box::new([test, body, tree]))
            };
        }
        Ok(Tree::Let(vec![(hidden, key)], Box::new(tree)))
    }

    /// `(do ((name first step) ...) (test result ...) body ...)`.
    fn do_loop(&mut self, bindings: Word, end: Word, body: &[Word], scope: &Scope) -> Expanded {
        let bindings = list(bindings).ok_or_else(|| wrong(bindings))?;
        let end = list(end).filter(|end| !end.is_empty()).ok_or_else(|| wrong(end))?;
        let inner = scope.inner();
        let (mut firsts, mut parameters, mut steps) = (Vec::new(), Vec::new(), Vec::new());
        for binding in &bindings {
            let items = list(*binding).ok_or_else(|| wrong(*binding))?;
            let ([name, first] | [name, first, _]) = items[..] else { return Err(wrong(*binding)) };
            firsts.push(self.expand(first, scope)?);
            parameters.push(self.bind(&inner, name)?);
            steps.push(items.get(2).copied().unwrap_or(name));
        }
        let this = self.variable();
        let test = self.expand(end[0], &inner)?;
        let result = self.sequence(&end[1..], &inner)?;
        let mut again = self.expand_all(body, &inner)?;
        let steps = self.expand_all(&steps, &inner)?;
        again.push(Tree::Call(Box::new(Tree::Local(this)), steps));
        let body = Tree::If(Box::new([test, result, Tree::Sequence(again)]));
        let lambda = Tree::Lambda(Box::new(Lambda { parameters, has_rest: false, body }));
        Ok(self.looping(this, lambda, firsts))
    }

    /// The items of a list as a tree that makes the list of their values, `rest` after them.
    pub fn list_tree(&mut self, mut items: Vec<Tree>, rest: Tree) -> Tree {
        if items.is_empty() {
            return rest;
        }
        if matches!(rest, Tree::Constant(word) if word == NIL) {
            return self.call("list", items);
        }
        items.push(rest);
        self.call("%list*", items)
    }
}

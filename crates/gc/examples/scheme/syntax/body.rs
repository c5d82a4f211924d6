//! Bodies: definitions and expressions in a scope of their own.

use super::expand::{Expanded, Expander, Tree, wrong};
use super::scope::{Binding, Form, Scope, is_name};
use crate::interpreter::error::Error;
use crate::interpreter::value::{Kind, UNDEFINED, UNSPECIFIED, Word, get, is_kind, list};

/// A form of a body, after its macros at the head.
enum Item {
    Expression(Word),
    /// A variable and the form of its value.
    Value(usize, Option<Word>),
    /// A variable, and parameters and body of its procedure.
    Procedure(usize, Word, Vec<Word>),
}

impl Expander<'_> {
    /// The forms of a body. All names that they define are visible in all of them.
    pub fn body(&mut self, forms: &[Word], scope: &Scope) -> Expanded {
        let scope = scope.inner();
        let mut items = Vec::new();
        self.gather(forms, &scope, &mut items)?;
        let mut variables = Vec::new();
        let mut trees = Vec::new();
        for item in &items {
            let (variable, value) = match item {
                Item::Expression(form) => {
                    trees.push(self.expand(*form, &scope)?);
                    continue;
                }
                Item::Value(variable, None) => (*variable, Tree::Constant(UNSPECIFIED)),
                Item::Value(variable, Some(form)) => (*variable, self.expand(*form, &scope)?),
                Item::Procedure(variable, parameters, body) => {
                    (*variable, self.lambda(*parameters, body, &scope)?)
                }
            };
            variables.push((variable, Tree::Constant(UNDEFINED)));
            trees.push(Tree::SetLocal(variable, Box::new(value)));
        }
        if !matches!(items.last(), Some(Item::Expression(_))) {
            trees.push(Tree::Constant(UNSPECIFIED));
        }
        let body = match trees.len() {
            1 => trees.pop().expect("there is one"),
            _ => Tree::Sequence(trees),
        };
        if variables.is_empty() {
            return Ok(body);
        }
        Ok(Tree::Let(variables, Box::new(body)))
    }

    fn gather(
        &mut self,
        forms: &[Word],
        scope: &Scope,
        items: &mut Vec<Item>,
    ) -> Result<(), Error> {
        for form in forms {
            let (form, binding) = self.without_macros(*form, scope)?;
            let Some(Binding::Special(special)) = binding else {
                items.push(Item::Expression(form));
                continue;
            };
            let parts = list(form).ok_or_else(|| wrong(form))?;
            match (special, &parts[1..]) {
                (Form::Begin, inner) => self.gather(inner, scope, items)?,
                (Form::CondExpand, clauses) => {
                    let inner = self.choose_clause(clauses)?;
                    self.gather(&inner, scope, items)?;
                }
                (Form::Include, files) => {
                    let inner = self.included(files)?;
                    self.gather(&inner, scope, items)?;
                }
                (Form::Define, [target, body @ ..]) if is_kind(*target, Kind::Pair) => {
                    let variable = self.defined(scope, get(*target, 0))?;
                    items.push(Item::Procedure(variable, get(*target, 1), body.to_vec()));
                }
                (Form::Define, [name, value @ ..]) if value.len() < 2 => {
                    let variable = self.defined(scope, *name)?;
                    items.push(Item::Value(variable, value.first().copied()));
                }
                (Form::DefineSyntax, [name, spec]) if is_name(*name) => {
                    let one = self.macro_of(*spec, scope)?;
                    self.bind_macro(scope, *name, one);
                }
                _ => items.push(Item::Expression(form)),
            }
        }
        Ok(())
    }

    fn defined(&mut self, scope: &Scope, name: Word) -> Result<usize, Error> {
        let variable = self.bind(scope, name)?;
        // Its value comes after its place.
        self.assigned[variable] = true;
        Ok(variable)
    }
}

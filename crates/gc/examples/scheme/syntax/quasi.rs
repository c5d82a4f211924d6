//! Quasiquotation: data with values in it, nested.

use super::expand::{Expanded, Expander, Tree};
use super::scope::{Form, Scope};
use crate::interpreter::value::{Kind, NIL, Word, get, is_kind, len};

impl Expander<'_> {
    /// A tree that makes `datum`, `depth` quasiquotations deep.
    pub fn quasi(&mut self, datum: Word, depth: usize, scope: &Scope) -> Expanded {
        if is_kind(datum, Kind::Vector) {
            let items: Vec<Word> = (0..len(datum)).map(|index| get(datum, index)).collect();
            let items = self.memory.list(&items)?;
            return Ok(match self.quasi(items, depth, scope)? {
                Tree::Constant(_) => self.constant(datum)?,
                items => self.call("list->vector", vec![items]),
            });
        }
        if !is_kind(datum, Kind::Pair) {
            return self.constant(datum);
        }
        // Runs of items, each of them one list; a splice is a run of its own.
        let mut runs: Vec<Tree> = Vec::new();
        let mut items: Vec<Tree> = Vec::new();
        let mut is_constant = true;
        let mut rest = datum;
        let last = loop {
            if !is_kind(rest, Kind::Pair) {
                break self.constant(rest)?;
            }
            if let Some((form, inner)) = self.one_operand(rest, scope) {
                match form {
                    Form::Unquote if depth == 1 => {
                        is_constant = false;
                        break self.expand(inner, scope)?;
                    }
                    Form::Unquote | Form::UnquoteSplicing | Form::Quasiquote => {
                        let depth = if form == Form::Quasiquote { depth + 1 } else { depth - 1 };
                        let operands = self.quasi(get(rest, 1), depth, scope)?;
                        is_constant &= matches!(operands, Tree::Constant(_));
                        items.push(self.constant(get(rest, 0))?);
                        break operands;
                    }
                    _ => {}
                }
            }
            let item = get(rest, 0);
            rest = get(rest, 1);
            match self.one_operand(item, scope) {
                Some((Form::UnquoteSplicing, inner)) if depth == 1 => {
                    is_constant = false;
                    if !items.is_empty() {
                        let run = std::mem::take(&mut items);
                        runs.push(self.list_tree(run, Tree::Constant(NIL)));
                    }
                    runs.push(self.expand(inner, scope)?);
                }
                _ => {
                    let item = self.quasi(item, depth, scope)?;
                    is_constant &= matches!(item, Tree::Constant(_));
                    items.push(item);
                }
            }
        };
        if is_constant {
            return self.constant(datum);
        }
        let tail = self.list_tree(items, last);
        if runs.is_empty() {
            return Ok(tail);
        }
        runs.push(tail);
        Ok(self.call("append", runs))
    }

    /// The form and the operand of `(form operand)`.
    fn one_operand(&self, datum: Word, scope: &Scope) -> Option<(Form, Word)> {
        if !is_kind(datum, Kind::Pair) || !is_kind(get(datum, 1), Kind::Pair) {
            return None;
        }
        let (head, operands) = (get(datum, 0), get(datum, 1));
        let forms = [Form::Unquote, Form::UnquoteSplicing, Form::Quasiquote];
        let form = forms.into_iter().find(|form| self.is_form(scope, head, *form))?;
        (get(operands, 1) == NIL).then(|| (form, get(operands, 0)))
    }
}

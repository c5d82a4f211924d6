//! `syntax-rules`: matching a form against patterns, and making another of a template.

use super::expand::Expander;
use super::scope::{Scope, is_name, symbol_of};
use crate::interpreter::error::Error;
use crate::interpreter::primitives::equal;
use crate::interpreter::value::{Kind, NIL, Word, bytes, get, is_kind, len, list};

/// A macro, and where it was defined.
pub struct Macro {
    pub rules: Rules,
    pub scope: Scope,
}

/// Where the `syntax-rules` form of a macro is.
pub enum Rules {
    /// Among the constants: a macro of a library.
    Constant(u32),
    /// In the form that is being compiled (S1).
    Here(Word),
}

/// What a variable of a pattern stands for.
#[derive(Clone)]
enum Match {
    One(Word),
    Many(Vec<Matches>),
}

type Matches = Vec<(Word, Match)>;

/// One macro at work.
struct Expansion<'e, 'm> {
    expander: &'e mut Expander<'m>,
    definition: &'e Scope,
    use_scope: &'e Scope,
    /// None while `(... template)` is copied as it stands.
    ellipsis: Option<Word>,
    has_own_ellipsis: bool,
    literals: Vec<Word>,
    /// What inserted symbols are called this time.
    renamed: Vec<(Word, Word)>,
    scope_number: usize,
}

/// What `form`, a use of the macro, stands for.
pub fn transform(
    expander: &mut Expander<'_>,
    one: &Macro,
    form: Word,
    use_scope: &Scope,
) -> Result<Word, Error> {
    let rules = match one.rules {
        Rules::Constant(number) => expander.memory.roots.constants[number as usize],
        Rules::Here(word) => word,
    };
    let wrong = || Error::syntax("syntax-rules", &expander_text(rules));
    let parts = list(rules).filter(|parts| parts.len() > 1).ok_or_else(wrong)?;
    let has_own_ellipsis = is_name(parts[1]);
    let ellipsis = if has_own_ellipsis { Some(parts[1]) } else { None };
    let after = usize::from(has_own_ellipsis) + 1;
    let literals = parts.get(after).and_then(|literals| list(*literals)).ok_or_else(wrong)?;
    let scope_number = expander.scope_number(&one.scope);
    let mut expansion = Expansion {
        expander,
        definition: &one.scope,
        use_scope,
        ellipsis,
        has_own_ellipsis,
        literals,
        renamed: Vec::new(),
        scope_number,
    };
    for rule in &parts[after + 1..] {
        let rule = list(*rule).filter(|rule| rule.len() == 2).ok_or_else(wrong)?;
        let mut matches = Matches::new();
        // The first place of a pattern is the macro's name.
        if is_kind(rule[0], Kind::Pair)
            && expansion.matches(get(rule[0], 1), get(form, 1), &mut matches)
        {
            return expansion.instance(rule[1], &matches);
        }
    }
    Err(Error::syntax("a form that the macro takes", &expander_text(form)))
}

fn expander_text(word: Word) -> String {
    crate::interpreter::text::print::print(word, false)
}

impl Expansion<'_, '_> {
    fn is_literal(&self, name: Word) -> bool {
        self.literals.contains(&name)
    }

    fn is_ellipsis(&self, word: Word) -> bool {
        if self.has_own_ellipsis {
            return self.ellipsis == Some(word) && !self.is_literal(word);
        }
        is_name(word) && bytes(symbol_of(word)) == b"..." && !self.is_literal(word)
    }

    fn matches(&mut self, pattern: Word, form: Word, found: &mut Matches) -> bool {
        if is_name(pattern) {
            if self.is_literal(pattern) {
                let wanted = self.expander.resolve(self.definition, pattern);
                return is_name(form) && self.expander.resolve(self.use_scope, form) == wanted;
            }
            if bytes(symbol_of(pattern)) != b"_" {
                found.push((pattern, Match::One(form)));
            }
            return true;
        }
        if is_kind(pattern, Kind::Vector) {
            let items = |vector| (0..len(vector)).map(|at| get(vector, at)).collect::<Vec<_>>();
            return is_kind(form, Kind::Vector)
                && self.matches_run(&items(pattern), NIL, &items(form), NIL, found);
        }
        if !is_kind(pattern, Kind::Pair) {
            return equal(pattern, form);
        }
        let (patterns, last) = run(pattern);
        let (forms, rest) = run(form);
        self.matches_run(&patterns, last, &forms, rest, found)
    }

    /// Patterns and what comes after their dot, against forms and what comes after theirs.
    fn matches_run(
        &mut self,
        patterns: &[Word],
        last: Word,
        forms: &[Word],
        rest: Word,
        found: &mut Matches,
    ) -> bool {
        let repeated = patterns.iter().skip(1).position(|pattern| self.is_ellipsis(*pattern));
        let (before, after) = match repeated {
            Some(at) => (&patterns[..at], &patterns[at + 2..]),
            None => (patterns, &[][..]),
        };
        if forms.len() < before.len() + after.len() {
            return false;
        }
        for (pattern, form) in before.iter().zip(forms) {
            if !self.matches(*pattern, *form, found) {
                return false;
            }
        }
        let forms = &forms[before.len()..];
        let Some(at) = repeated else {
            // What is left is the value of the pattern after the dot.
            return match self.expander.memory.list_with(forms, rest) {
                _ if forms.is_empty() => self.matches(last, rest, found),
                _ if last == NIL => false,
                Ok(left) => self.matches(last, left, found),
                Err(_) => {
                    self.expander.is_full = true;
                    false
                }
            };
        };
        let (many, forms) = forms.split_at(forms.len() - after.len());
        let mut all = Vec::new();
        for form in many {
            let mut each = Matches::new();
            if !self.matches(patterns[at], *form, &mut each) {
                return false;
            }
            all.push(each);
        }
        let mut names = Vec::new();
        self.variables(patterns[at], &mut names);
        for name in names {
            let pick =
                |each: &Matches| each.iter().filter(|(one, _)| *one == name).cloned().collect();
            found.push((name, Match::Many(all.iter().map(pick).collect())));
        }
        after.iter().zip(forms).all(|(pattern, form)| self.matches(*pattern, *form, found))
            && self.matches(last, rest, found)
    }

    /// The variables of a pattern.
    fn variables(&self, pattern: Word, names: &mut Vec<Word>) {
        if is_name(pattern) {
            if !self.is_literal(pattern) && !self.is_ellipsis(pattern) {
                names.push(pattern);
            }
        } else if is_kind(pattern, Kind::Vector) {
            (0..len(pattern)).for_each(|at| self.variables(get(pattern, at), names));
        } else if is_kind(pattern, Kind::Pair) {
            self.variables(get(pattern, 0), names);
            self.variables(get(pattern, 1), names);
        }
    }

    fn instance(&mut self, template: Word, matches: &Matches) -> Result<Word, Error> {
        self.copy(template, matches, true)
    }

    fn copy(&mut self, template: Word, matches: &Matches, repeats: bool) -> Result<Word, Error> {
        if is_name(template) {
            let found = matches.iter().rev().find(|(name, _)| *name == template);
            return match found {
                Some((_, Match::One(word))) => Ok(*word),
                Some(_) => Err(Error::syntax("an ellipsis after", &expander_text(template))),
                None => self.rename(template),
            };
        }
        if is_kind(template, Kind::Vector) {
            let items: Vec<Word> = (0..len(template)).map(|at| get(template, at)).collect();
            let items = self.copy_run(&items, matches, repeats)?;
            return Ok(self.expander.memory.words(Kind::Vector, items.len(), |at| items[at])?);
        }
        if !is_kind(template, Kind::Pair) {
            return Ok(template);
        }
        if repeats && self.is_ellipsis(get(template, 0)) && is_kind(get(template, 1), Kind::Pair) {
            return self.copy(get(get(template, 1), 0), matches, false);
        }
        let (items, last) = run(template);
        let items = self.copy_run(&items, matches, repeats)?;
        let last = self.copy(last, matches, repeats)?;
        Ok(self.expander.memory.list_with(&items, last)?)
    }

    fn copy_run(
        &mut self,
        templates: &[Word],
        matches: &Matches,
        repeats: bool,
    ) -> Result<Vec<Word>, Error> {
        let mut items = Vec::new();
        let mut at = 0;
        while at < templates.len() {
            let template = templates[at];
            let is_ellipsis = |word: &&Word| repeats && self.is_ellipsis(**word);
            let depth = templates[at + 1..].iter().take_while(is_ellipsis).count();
            at += 1 + depth;
            if depth == 0 {
                items.push(self.copy(template, matches, repeats)?);
            } else {
                self.repeat(template, matches, depth, &mut items)?;
            }
        }
        Ok(items)
    }

    /// The template once for each match of its variables, `depth` levels deep.
    fn repeat(
        &mut self,
        template: Word,
        matches: &Matches,
        depth: usize,
        items: &mut Vec<Word>,
    ) -> Result<(), Error> {
        if depth == 0 {
            items.push(self.copy(template, matches, true)?);
            return Ok(());
        }
        let mut names = Vec::new();
        self.variables(template, &mut names);
        let innermost = |name: &Word| matches.iter().rev().find(|(one, _)| one == name);
        let repeated: Vec<_> = names
            .iter()
            .filter_map(innermost)
            .filter_map(|(_, one)| if let Match::Many(all) = one { Some(all) } else { None })
            .collect();
        let Some(count) = repeated.iter().map(|all| all.len()).max() else {
            return Err(Error::syntax("a variable with an ellipsis", &expander_text(template)));
        };
        if repeated.iter().any(|all| all.len() != count) {
            return Err(Error::syntax("variables of one length", &expander_text(template)));
        }
        for at in 0..count {
            // What varies here hides the whole.
            let mut inner = matches.clone();
            inner.extend(repeated.iter().flat_map(|all| all[at].iter().cloned()));
            self.repeat(template, &inner, depth - 1, items)?;
        }
        Ok(())
    }

    /// The identifier that stands for an inserted symbol in this expansion.
    fn rename(&mut self, name: Word) -> Result<Word, Error> {
        if let Some((_, identifier)) = self.renamed.iter().find(|(one, _)| *one == name) {
            return Ok(*identifier);
        }
        let identifier = self.expander.identifier(name, self.scope_number)?;
        self.renamed.push((name, identifier));
        Ok(identifier)
    }
}

/// The items of a list, and what comes after its last pair.
fn run(mut word: Word) -> (Vec<Word>, Word) {
    let mut items = Vec::new();
    while is_kind(word, Kind::Pair) {
        items.push(get(word, 0));
        word = get(word, 1);
    }
    (items, word)
}

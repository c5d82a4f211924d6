//! Reader: text to data, with labels for what is shared or circular.

use super::names::character_of;
use crate::interpreter::error::Error;
use crate::interpreter::numbers;
use crate::interpreter::roots::Memory;
use crate::interpreter::value::{
    FALSE, Kind, NIL, TRUE, UNDEFINED, Word, character, get, kind, len,
};
use std::collections::{HashMap, HashSet};

/// Data in data at most; what recurses here and later has to fit the stack.
const DEPTH_MAX: usize = 500;

/// Reads one datum after the other.
#[derive(Clone)]
pub struct Reader<'a> {
    rest: &'a str,
    folds_case: bool,
    depth: usize,
    labels: HashMap<u64, Word>,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { rest: text, folds_case: false, depth: 0, labels: HashMap::new() }
    }

    /// The next datum; none at the end.
    pub fn next(&mut self, memory: &mut Memory) -> Result<Option<Word>, Error> {
        self.depth = 0;
        self.labels.clear();
        self.skip(memory)?;
        if self.rest.is_empty() { Ok(None) } else { self.datum(memory).map(Some) }
    }

    /// Bytes that are not read yet.
    pub fn rest_bytes(&self) -> usize {
        self.rest.len()
    }

    /// Space and comments, those of data among them.
    fn skip(&mut self, memory: &mut Memory) -> Result<(), Error> {
        loop {
            self.rest = self.rest.trim_start();
            if let Some(comment) = self.rest.strip_prefix(';') {
                self.rest = comment.find('\n').map_or("", |end| &comment[end..]);
            } else if self.accept("#|") {
                self.skip_block()?;
            } else if self.accept("#;") {
                self.datum(memory)?;
            } else if self.accept("#!fold-case") {
                self.folds_case = true;
            } else if self.accept("#!no-fold-case") {
                self.folds_case = false;
            } else {
                return Ok(());
            }
        }
    }

    fn skip_block(&mut self) -> Result<(), Error> {
        let mut open = 1;
        while open > 0 {
            if self.accept("|#") {
                open -= 1;
            } else if self.accept("#|") {
                open += 1;
            } else {
                let next =
                    self.rest.chars().next().ok_or_else(|| Error::syntax("|#", "the end"))?;
                self.rest = &self.rest[next.len_utf8()..];
            }
        }
        Ok(())
    }

    fn accept(&mut self, prefix: &str) -> bool {
        let rest = self.rest.strip_prefix(prefix);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn datum(&mut self, memory: &mut Memory) -> Result<Word, Error> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Error::Syntax("the data is nested too deep".into()));
        }
        self.skip(memory)?;
        let datum = self.one(memory)?;
        self.depth -= 1;
        Ok(datum)
    }

    fn one(&mut self, memory: &mut Memory) -> Result<Word, Error> {
        for (prefix, name) in
            [("'", "quote"), ("`", "quasiquote"), (",@", "unquote-splicing"), (",", "unquote")]
        {
            if self.accept(prefix) {
                let inner = self.datum(memory)?;
                let name = memory.symbol(name)?;
                return Ok(memory.list(&[name, inner])?);
            }
        }
        if self.accept("#(") {
            let (items, last) = self.items(memory)?;
            if last != NIL {
                return Err(Error::syntax("no dot in a vector", "."));
            }
            return Ok(memory.words(Kind::Vector, items.len(), |index| items[index])?);
        }
        if self.accept("#u8(") {
            return self.bytevector(memory);
        }
        if self.accept("(") {
            let (items, rest) = self.items(memory)?;
            return Ok(memory.list_with(&items, rest)?);
        }
        if self.accept("\"") {
            let text = self.quoted('"')?;
            return Ok(memory.string(&text)?);
        }
        if self.accept("#\\") {
            return self.character();
        }
        if let Some(label) = self.label() {
            return self.labelled(label, memory);
        }
        self.atom(memory)
    }

    /// Items up to the closing parenthesis, and what comes after a dot.
    fn items(&mut self, memory: &mut Memory) -> Result<(Vec<Word>, Word), Error> {
        let mut items = Vec::new();
        loop {
            self.skip(memory)?;
            if self.accept(")") {
                return Ok((items, NIL));
            }
            if self.rest.is_empty() {
                return Err(Error::syntax(")", "the end"));
            }
            if self.rest.starts_with('.') && self.rest[1..].starts_with(is_end) && !items.is_empty()
            {
                self.rest = &self.rest[1..];
                let rest = self.datum(memory)?;
                self.skip(memory)?;
                if !self.accept(")") {
                    return Err(Error::syntax(")", self.rest));
                }
                return Ok((items, rest));
            }
            items.push(self.datum(memory)?);
        }
    }

    fn bytevector(&mut self, memory: &mut Memory) -> Result<Word, Error> {
        let (items, _) = self.items(memory)?;
        let byte = |word: &Word| {
            crate::interpreter::value::as_small(*word).and_then(|number| u8::try_from(number).ok())
        };
        let bytes: Option<Vec<u8>> = items.iter().map(byte).collect();
        let bytes = bytes.ok_or_else(|| Error::syntax("bytes", "other data"))?;
        Ok(memory.bytes(Kind::Bytevector, &bytes)?)
    }

    fn character(&mut self) -> Result<Word, Error> {
        let first = self.rest.chars().next().map_or(0, char::len_utf8);
        let more = self.rest[first..].find(is_end).unwrap_or(self.rest.len() - first);
        let (name, rest) = self.rest.split_at(first + more);
        self.rest = rest;
        let folded =
            if self.folds_case && name.len() > 1 { name.to_lowercase() } else { name.into() };
        character_of(&folded).map(character).ok_or_else(|| Error::syntax("a character", name))
    }

    /// The number of a label, up to and without the `=` or `#` after it.
    fn label(&mut self) -> Option<u64> {
        let after = self.rest.strip_prefix('#')?;
        let digits = after.find(|one: char| !one.is_ascii_digit())?;
        let number = after[..digits].parse().ok()?;
        after[digits..].starts_with(['=', '#']).then(|| self.rest = &after[digits..])?;
        Some(number)
    }

    fn labelled(&mut self, label: u64, memory: &mut Memory) -> Result<Word, Error> {
        if self.accept("#") {
            let known = self.labels.get(&label).copied();
            return known.ok_or_else(|| Error::syntax("a label's datum", &format!("#{label}#")));
        }
        self.rest = &self.rest[1..];
        // A box stands for the datum inside of it.
        let place = memory.words(Kind::Box, 1, |_| UNDEFINED)?;
        self.labels.insert(label, place);
        let datum = self.datum(memory)?;
        if datum == place {
            return Err(Error::syntax("a datum", &format!("#{label}#")));
        }
        self.labels.insert(label, datum);
        replace(memory, datum, place, datum);
        Ok(datum)
    }

    /// A number, a symbol or a constant.
    fn atom(&mut self, memory: &mut Memory) -> Result<Word, Error> {
        let mut text = String::new();
        let mut has_bars = false;
        while let Some(next) = self.rest.chars().next() {
            if next == '|' {
                self.rest = &self.rest[1..];
                text.push_str(&self.quoted('|')?);
                has_bars = true;
            } else if is_end(next) {
                break;
            } else {
                self.rest = &self.rest[next.len_utf8()..];
                match self.folds_case {
                    true => text.extend(next.to_lowercase()),
                    false => text.push(next),
                }
            }
        }
        if has_bars {
            return Ok(memory.symbol(&text)?);
        }
        match text.as_str() {
            "" | "." => Err(Error::syntax("a datum", self.rest)),
            "#t" | "#true" => Ok(TRUE),
            "#f" | "#false" => Ok(FALSE),
            _ => match numbers::parse(&text, 10) {
                Some(number) => Ok(number.word(memory)?),
                None if text.starts_with('#') => Err(Error::syntax("a datum", &text)),
                None => Ok(memory.symbol(&text)?),
            },
        }
    }

    /// Text up to the closing `quote`.
    fn quoted(&mut self, quote: char) -> Result<String, Error> {
        let end = || Error::syntax(&quote.to_string(), "the end");
        let mut text = String::new();
        loop {
            let next = self.rest.chars().next().ok_or_else(end)?;
            self.rest = &self.rest[next.len_utf8()..];
            if next == quote {
                return Ok(text);
            }
            if next != '\\' {
                text.push(next);
                continue;
            }
            let escaped = self.rest.chars().next().ok_or_else(end)?;
            if escaped.is_whitespace() {
                self.skip_line_end()?;
                continue;
            }
            self.rest = &self.rest[escaped.len_utf8()..];
            text.push(match escaped {
                'a' => '\x07',
                'b' => '\x08',
                't' => '\t',
                'n' => '\n',
                'r' => '\r',
                'x' | 'X' => {
                    let (hex, rest) = self.rest.split_once(';').ok_or_else(end)?;
                    let number = u32::from_str_radix(hex, 16).ok().and_then(char::from_u32);
                    self.rest = rest;
                    number.ok_or_else(|| Error::syntax("a character's number", hex))?
                }
                other => other,
            });
        }
    }

    /// After a backslash: space, the end of the line, and the space of the next line.
    fn skip_line_end(&mut self) -> Result<(), Error> {
        let is_space = |one: char| one.is_whitespace() && one != '\n';
        let after = self.rest.trim_start_matches(is_space).strip_prefix('\n');
        let after = after.ok_or_else(|| Error::syntax("the end of the line", self.rest))?;
        self.rest = after.trim_start_matches(is_space);
        Ok(())
    }
}

fn is_end(next: char) -> bool {
    next.is_whitespace() || "()\";|".contains(next)
}

/// Puts `new` wherever `old` is in `datum`.
fn replace(memory: &Memory, datum: Word, old: Word, new: Word) {
    let mut seen = HashSet::new();
    let mut left = vec![datum];
    while let Some(word) = left.pop() {
        let has_words = matches!(kind(word), Some(Kind::Pair | Kind::Vector));
        if !has_words || !seen.insert(word) {
            continue;
        }
        for index in 0..len(word) {
            let inner = get(word, index);
            if inner == old {
                memory.set(word, index, new);
            } else {
                left.push(inner);
            }
        }
    }
}

//! Reader: text to data.

use super::error::Error;
use super::roots::Memory;
use super::value::{FALSE, Kind, NIL, TRUE, Word, character, small};

/// Reads one datum after the other.
#[derive(Clone)]
pub struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// The next datum; none at the end.
    pub fn next(&mut self, memory: &mut Memory) -> Result<Option<Word>, Error> {
        self.skip();
        if self.rest.is_empty() { Ok(None) } else { self.datum(memory).map(Some) }
    }

    fn skip(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.strip_prefix(';') {
                Some(comment) => {
                    self.rest = comment.find('\n').map_or("", |end| &comment[end..]);
                }
                None => return,
            }
        }
    }

    fn accept(&mut self, prefix: &str) -> bool {
        let rest = self.rest.strip_prefix(prefix);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn datum(&mut self, memory: &mut Memory) -> Result<Word, Error> {
        self.skip();
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
            let (items, _) = self.items(memory)?;
            return Ok(memory.words(Kind::Vector, items.len(), |index| items[index])?);
        }
        if self.accept("(") {
            let (items, rest) = self.items(memory)?;
            return Ok(memory.list_with(&items, rest)?);
        }
        if self.accept("\"") {
            return self.string(memory);
        }
        if self.accept("#\\") {
            let first = self.rest.chars().next().map_or(0, char::len_utf8);
            let more = self.rest[first..].find(is_end).unwrap_or(self.rest.len() - first);
            let (name, rest) = self.rest.split_at(first + more);
            self.rest = rest;
            return match name {
                "space" => Ok(character(' ')),
                "newline" => Ok(character('\n')),
                "tab" => Ok(character('\t')),
                "nul" | "null" => Ok(character('\0')),
                _ => one_char(name).map(character).ok_or(Error::syntax("a character", name)),
            };
        }
        let end = self.rest.find(is_end).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word {
            "" => Err(Error::syntax("a datum", self.rest)),
            "#t" | "#true" => Ok(TRUE),
            "#f" | "#false" => Ok(FALSE),
            _ => match number(word, memory)? {
                Some(number) => Ok(number),
                None => Ok(memory.symbol(word)?),
            },
        }
    }

    /// Items up to the closing parenthesis, and what comes after a dot.
    fn items(&mut self, memory: &mut Memory) -> Result<(Vec<Word>, Word), Error> {
        let mut items = Vec::new();
        loop {
            self.skip();
            if self.accept(")") {
                return Ok((items, NIL));
            }
            if self.rest.is_empty() {
                return Err(Error::syntax(")", "the end"));
            }
            if self.rest.starts_with('.') && self.rest[1..].starts_with(is_end) {
                self.rest = &self.rest[1..];
                let rest = self.datum(memory)?;
                self.skip();
                if !self.accept(")") {
                    return Err(Error::syntax(")", self.rest));
                }
                return Ok((items, rest));
            }
            items.push(self.datum(memory)?);
        }
    }

    fn string(&mut self, memory: &Memory) -> Result<Word, Error> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, next)) = chars.next() {
            match next {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(memory.string(&text)?);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, other)) => text.push(other),
                    None => break,
                },
                _ => text.push(next),
            }
        }
        Err(Error::syntax("\"", "the end"))
    }
}

fn is_end(next: char) -> bool {
    next.is_whitespace() || "()\";'".contains(next)
}

fn one_char(text: &str) -> Option<char> {
    let mut chars = text.chars();
    chars.next().filter(|_| chars.next().is_none())
}

/// The number that `word` is, if it is one.
pub fn number(word: &str, memory: &Memory) -> Result<Option<Word>, Error> {
    if let Some(number) = word.parse().ok().and_then(small) {
        return Ok(Some(number));
    }
    let looks_like = word
        .starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first))
        && word.contains(|one: char| one.is_ascii_digit());
    match word.parse() {
        Ok(number) if looks_like => Ok(Some(memory.flonum(number)?)),
        _ => Ok(None),
    }
}

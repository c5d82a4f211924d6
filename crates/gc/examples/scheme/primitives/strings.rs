//! Strings.

use super::{ANY, Primitive, arg, chain, char_arg, index, of, range, test, value};
use crate::interpreter::error::{Error, Outcome};
use crate::interpreter::machine::Machine;
use crate::interpreter::value::{
    CHAR_BYTES, Kind, UNSPECIFIED, Word, as_character, bytes, char_at, char_count, character,
    chars, count, list, set_bytes, text,
};
use std::cmp::Ordering;

pub static ALL: &[Primitive] = &[
    value("string?", 1, 1, |m, at, _| test(m, at, Kind::String)),
    value("make-string", 1, 2, |m, at, count| {
        let len = index(m, at, usize::MAX >> 16, "make-string")?;
        let fill = if count == 2 { char_arg(m, at + 1, "make-string")? } else { ' ' };
        Ok(m.memory.string_of(std::iter::repeat_n(fill, len))?)
    }),
    value("string", 0, ANY, |m, at, count| {
        let all: Result<String, Error> =
            (0..count).map(|index| char_arg(m, at + index, "string")).collect();
        Ok(m.memory.string(&all?)?)
    }),
    value("string-length", 1, 1, |m, at, _| Ok(count(char_count(string(m, at, "string-length")?)))),
    value("string-ref", 2, 2, |m, at, _| {
        let string = string(m, at, "string-ref")?;
        Ok(character(char_at(string, index(m, at + 1, char_count(string), "string-ref")?)))
    }),
    value("string-set!", 3, 3, |m, at, _| {
        let string = string(m, at, "string-set!")?;
        let place = index(m, at + 1, char_count(string), "string-set!")?;
        let new = char_arg(m, at + 2, "string-set!")?;
        set_bytes(string, place * CHAR_BYTES, &(new as u32).to_ne_bytes());
        Ok(UNSPECIFIED)
    }),
    value("substring", 3, 3, |m, at, count| copy(m, at, count, "substring")),
    value("string-copy", 1, 3, |m, at, count| copy(m, at, count, "string-copy")),
    value("string-append", 0, ANY, |m, at, count| {
        let mut all = Vec::new();
        for index in 0..count {
            all.extend_from_slice(bytes(string(m, at + index, "string-append")?));
        }
        Ok(m.memory.bytes(Kind::String, &all)?)
    }),
    value("string-copy!", 3, 5, |m, at, count| {
        let (to, from) = (string(m, at, "string-copy!")?, string(m, at + 2, "string-copy!")?);
        let (first, last) = range(m, at + 3, at + count, char_count(from), "string-copy!")?;
        let place = index(m, at + 1, char_count(to) + 1, "string-copy!")?;
        if last - first > char_count(to) - place {
            return Err(Error::fault("does not fit", "string-copy!"));
        }
        set_bytes(to, place * CHAR_BYTES, &bytes(from)[first * CHAR_BYTES..last * CHAR_BYTES]);
        Ok(UNSPECIFIED)
    }),
    value("string-fill!", 2, 4, |m, at, count| {
        let string = string(m, at, "string-fill!")?;
        let new = char_arg(m, at + 1, "string-fill!")? as u32;
        let (from, to) = range(m, at + 2, at + count, char_count(string), "string-fill!")?;
        set_bytes(string, from * CHAR_BYTES, &new.to_ne_bytes().repeat(to - from));
        Ok(UNSPECIFIED)
    }),
    value("string->list", 1, 3, |m, at, count| {
        let all: Vec<Word> = part(m, at, count, "string->list")?.map(character).collect();
        Ok(m.memory.list(&all)?)
    }),
    value("string->vector", 1, 3, |m, at, count| {
        let all: Vec<Word> = part(m, at, count, "string->vector")?.map(character).collect();
        Ok(m.memory.words(Kind::Vector, all.len(), |index| all[index])?)
    }),
    value("string->utf8", 1, 3, |m, at, count| {
        let all: String = part(m, at, count, "string->utf8")?.collect();
        Ok(m.memory.bytes(Kind::Bytevector, all.as_bytes())?)
    }),
    value("list->string", 1, 1, |m, at, _| {
        let items = list(arg(m, at)).ok_or_else(|| Error::fault("is no list", "list->string"))?;
        let all: Option<String> = items.into_iter().map(as_character).collect();
        Ok(m.memory.string(&all.ok_or_else(|| Error::fault("no characters", "list->string"))?)?)
    }),
    value("string=?", 1, ANY, |m, at, n| compare(m, at, n, Ordering::is_eq)),
    value("string<?", 1, ANY, |m, at, n| compare(m, at, n, Ordering::is_lt)),
    value("string>?", 1, ANY, |m, at, n| compare(m, at, n, Ordering::is_gt)),
    value("string<=?", 1, ANY, |m, at, n| compare(m, at, n, Ordering::is_le)),
    value("string>=?", 1, ANY, |m, at, n| compare(m, at, n, Ordering::is_ge)),
    value("string-upcase", 1, 1, |m, at, _| {
        let upper = text(string(m, at, "string-upcase")?).to_uppercase();
        Ok(m.memory.string(&upper)?)
    }),
    value("string-downcase", 1, 1, |m, at, _| {
        let lower = text(string(m, at, "string-downcase")?).to_lowercase();
        Ok(m.memory.string(&lower)?)
    }),
];

fn string(m: &Machine, at: usize, name: &str) -> Outcome {
    of(m, at, Kind::String, name)
}

fn part(
    m: &Machine,
    at: usize,
    count: usize,
    name: &str,
) -> Result<impl Iterator<Item = char>, Error> {
    let string = string(m, at, name)?;
    let (from, to) = range(m, at + 1, at + count, char_count(string), name)?;
    Ok(chars(string).skip(from).take(to - from))
}

fn copy(m: &Machine, at: usize, count: usize, name: &str) -> Outcome {
    let string = string(m, at, name)?;
    let (from, to) = range(m, at + 1, at + count, char_count(string), name)?;
    Ok(m.memory.bytes(Kind::String, &bytes(string)[from * CHAR_BYTES..to * CHAR_BYTES])?)
}

fn compare(m: &Machine, at: usize, count: usize, holds: fn(Ordering) -> bool) -> Outcome {
    let item = |m: &Machine, at| string(m, at, "a comparison of strings");
    chain(m, at, count, item, |a, b| holds(chars(*a).cmp(chars(*b))))
}

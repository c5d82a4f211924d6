//! Pairs, lists and symbols.

use super::{ANY, Primitive, arg, of, store, test, value};
use crate::interpreter::error::Error;
use crate::interpreter::text::print::print;
use crate::interpreter::value::{
    FALSE, Kind, NIL, TRUE, Word, boolean, count, get, is_kind, list, text,
};

pub static ALL: &[Primitive] = &[
    value("cons", 2, 2, |m, at, _| Ok(m.memory.cons(arg(m, at), arg(m, at + 1))?)),
    value("car", 1, 1, |m, at, _| Ok(get(of(m, at, Kind::Pair, "car")?, 0))),
    value("cdr", 1, 1, |m, at, _| Ok(get(of(m, at, Kind::Pair, "cdr")?, 1))),
    value("caar", 1, 1, |m, at, _| path(arg(m, at), &[0, 0], "caar")),
    value("cadr", 1, 1, |m, at, _| path(arg(m, at), &[1, 0], "cadr")),
    value("cdar", 1, 1, |m, at, _| path(arg(m, at), &[0, 1], "cdar")),
    value("cddr", 1, 1, |m, at, _| path(arg(m, at), &[1, 1], "cddr")),
    value("caddr", 1, 1, |m, at, _| path(arg(m, at), &[1, 1, 0], "caddr")),
    value("cdddr", 1, 1, |m, at, _| path(arg(m, at), &[1, 1, 1], "cdddr")),
    value("cadddr", 1, 1, |m, at, _| path(arg(m, at), &[1, 1, 1, 0], "cadddr")),
    value("set-car!", 2, 2, |m, at, _| store(m, of(m, at, Kind::Pair, "set-car!")?, 0, at + 1)),
    value("set-cdr!", 2, 2, |m, at, _| store(m, of(m, at, Kind::Pair, "set-cdr!")?, 1, at + 1)),
    value("null?", 1, 1, |m, at, _| Ok(boolean(arg(m, at) == NIL))),
    value("pair?", 1, 1, |m, at, _| test(m, at, Kind::Pair)),
    value("list?", 1, 1, |m, at, _| Ok(boolean(list(arg(m, at)).is_some()))),
    value("not", 1, 1, |m, at, _| Ok(boolean(arg(m, at) == FALSE))),
    value("boolean?", 1, 1, |m, at, _| Ok(boolean([TRUE, FALSE].contains(&arg(m, at))))),
    value("list", 0, ANY, |m, at, count| {
        Ok(m.memory.list(&m.memory.roots.stack[at..at + count])?)
    }),
    // The last argument is what comes after the others.
    value("%list*", 1, ANY, |m, at, count| {
        let stack = &m.memory.roots.stack[at..at + count];
        Ok(m.memory.list_with(&stack[..count - 1], stack[count - 1])?)
    }),
    value("length", 1, 1, |m, at, _| Ok(count(items(arg(m, at), "length")?.len()))),
    value("append", 0, ANY, |m, at, count| {
        let mut result = if count == 0 { NIL } else { arg(m, at + count - 1) };
        for index in (0..count.saturating_sub(1)).rev() {
            result = m.memory.list_with(&items(arg(m, at + index), "append")?, result)?;
        }
        Ok(result)
    }),
    value("reverse", 1, 1, |m, at, _| {
        let mut all = items(arg(m, at), "reverse")?;
        all.reverse();
        Ok(m.memory.list(&all)?)
    }),
    value("list-tail", 2, 2, |m, at, _| {
        let steps = super::index(m, at + 1, usize::MAX, "list-tail")?;
        path_of((0..steps).map(|_| 1), arg(m, at), "list-tail")
    }),
    value("list-ref", 2, 2, |m, at, _| {
        let steps = super::index(m, at + 1, usize::MAX, "list-ref")?;
        path_of((0..steps).map(|_| 1).chain([0]), arg(m, at), "list-ref")
    }),
    value("memq", 2, 2, |m, at, _| member(arg(m, at + 1), |item| item == arg(m, at))),
    value("memv", 2, 2, |m, at, _| member(arg(m, at + 1), |item| super::eqv(item, arg(m, at)))),
    value("%member", 2, 2, |m, at, _| {
        member(arg(m, at + 1), |item| super::equal(item, arg(m, at)))
    }),
    value("assq", 2, 2, |m, at, _| associated(arg(m, at + 1), |key| key == arg(m, at))),
    value("assv", 2, 2, |m, at, _| associated(arg(m, at + 1), |key| super::eqv(key, arg(m, at)))),
    value("%assoc", 2, 2, |m, at, _| {
        associated(arg(m, at + 1), |key| super::equal(key, arg(m, at)))
    }),
    value("symbol?", 1, 1, |m, at, _| test(m, at, Kind::Symbol)),
    value("string->symbol", 1, 1, |m, at, _| {
        let name = text(of(m, at, Kind::String, "string->symbol")?);
        Ok(m.memory.symbol(&name)?)
    }),
    value("symbol->string", 1, 1, |m, at, _| {
        let name = text(of(m, at, Kind::Symbol, "symbol->string")?);
        Ok(m.memory.string(&name)?)
    }),
];

fn items(word: Word, name: &str) -> Result<Vec<Word>, Error> {
    list(word).ok_or_else(|| Error::fault("is no list", name))
}

fn path(word: Word, steps: &[usize], name: &str) -> Result<Word, Error> {
    path_of(steps.iter().copied(), word, name)
}

/// Follows words of pairs.
fn path_of(steps: impl Iterator<Item = usize>, word: Word, name: &str) -> Result<Word, Error> {
    let mut place = word;
    for step in steps {
        if !is_kind(place, Kind::Pair) {
            return Err(Error::fault(&print(word, false), name));
        }
        place = get(place, step);
    }
    Ok(place)
}

fn member(mut word: Word, is_it: impl Fn(Word) -> bool) -> Result<Word, Error> {
    while is_kind(word, Kind::Pair) {
        if is_it(get(word, 0)) {
            return Ok(word);
        }
        word = get(word, 1);
    }
    Ok(FALSE)
}

fn associated(mut word: Word, is_it: impl Fn(Word) -> bool) -> Result<Word, Error> {
    while is_kind(word, Kind::Pair) {
        let pair = get(word, 0);
        if !is_kind(pair, Kind::Pair) {
            return Err(Error::fault(&print(pair, false), "a list of pairs"));
        }
        if is_it(get(pair, 0)) {
            return Ok(pair);
        }
        word = get(word, 1);
    }
    Ok(FALSE)
}

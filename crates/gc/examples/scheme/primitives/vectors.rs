//! Vectors.

use super::{ANY, Primitive, arg, index, of, range, store, test, value};
use crate::interpreter::error::{Error, Outcome};
use crate::interpreter::machine::Machine;
use crate::interpreter::value::{
    FALSE, Kind, UNSPECIFIED, Word, as_character, count, get, len, list,
};

pub static ALL: &[Primitive] = &[
    value("vector?", 1, 1, |m, at, _| test(m, at, Kind::Vector)),
    value("make-vector", 1, 2, |m, at, count| {
        let len = index(m, at, usize::MAX >> 16, "make-vector")?;
        let fill = if count == 2 { arg(m, at + 1) } else { FALSE };
        Ok(m.memory.words(Kind::Vector, len, |_| fill)?)
    }),
    value("vector", 0, ANY, |m, at, count| {
        Ok(m.memory.words(Kind::Vector, count, |index| arg(m, at + index))?)
    }),
    value("vector-length", 1, 1, |m, at, _| Ok(count(len(vector(m, at, "vector-length")?)))),
    value("vector-ref", 2, 2, |m, at, _| {
        let vector = vector(m, at, "vector-ref")?;
        Ok(get(vector, index(m, at + 1, len(vector), "vector-ref")?))
    }),
    value("vector-set!", 3, 3, |m, at, _| {
        let vector = vector(m, at, "vector-set!")?;
        store(m, vector, index(m, at + 1, len(vector), "vector-set!")?, at + 2)
    }),
    value("list->vector", 1, 1, |m, at, _| {
        let items = list(arg(m, at)).ok_or_else(|| Error::fault("is no list", "list->vector"))?;
        Ok(m.memory.words(Kind::Vector, items.len(), |index| items[index])?)
    }),
    value("vector->list", 1, 3, |m, at, count| {
        Ok(m.memory.list(&part(m, at, count, "vector->list")?)?)
    }),
    value("vector-copy", 1, 3, |m, at, count| {
        let items = part(m, at, count, "vector-copy")?;
        Ok(m.memory.words(Kind::Vector, items.len(), |index| items[index])?)
    }),
    value("vector->string", 1, 3, |m, at, count| {
        let items = part(m, at, count, "vector->string")?;
        let all: Option<String> = items.into_iter().map(as_character).collect();
        Ok(m.memory.string(&all.ok_or_else(|| Error::fault("no characters", "vector->string"))?)?)
    }),
    value("vector-append", 0, ANY, |m, at, count| {
        let mut all = Vec::new();
        for index in 0..count {
            all.extend(part(m, at + index, 1, "vector-append")?);
        }
        Ok(m.memory.words(Kind::Vector, all.len(), |index| all[index])?)
    }),
    value("vector-fill!", 2, 4, |m, at, count| {
        let vector = vector(m, at, "vector-fill!")?;
        let (from, to) = range(m, at + 2, at + count, len(vector), "vector-fill!")?;
        (from..to).for_each(|index| m.memory.set(vector, index, arg(m, at + 1)));
        Ok(UNSPECIFIED)
    }),
    value("vector-copy!", 3, 5, |m, at, count| {
        let to = vector(m, at, "vector-copy!")?;
        let items = part(m, at + 2, count - 2, "vector-copy!")?;
        let place = index(m, at + 1, len(to) + 1, "vector-copy!")?;
        if items.len() > len(to) - place {
            return Err(Error::fault("does not fit", "vector-copy!"));
        }
        for (index, item) in items.into_iter().enumerate() {
            m.memory.set(to, place + index, item);
        }
        Ok(UNSPECIFIED)
    }),
];

fn vector(m: &Machine, at: usize, name: &str) -> Outcome {
    of(m, at, Kind::Vector, name)
}

/// The items of the vector at `at` in the range that the arguments after it tell.
fn part(m: &Machine, at: usize, count: usize, name: &str) -> Result<Vec<Word>, Error> {
    let vector = vector(m, at, name)?;
    let (from, to) = range(m, at + 1, at + count, len(vector), name)?;
    Ok((from..to).map(|index| get(vector, index)).collect())
}

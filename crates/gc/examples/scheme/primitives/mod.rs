//! Procedures of the machine: what the library cannot say in the language itself.

mod bytevectors;
mod characters;
mod control;
mod equality;
mod lists;
mod numbers;
mod ports;
mod real;
mod strings;
mod vectors;

pub use equality::{equal, eqv};

use super::error::{Error, Outcome};
use super::machine::Machine;
use super::text::print::print;
use super::value::{Kind, UNSPECIFIED, Word, as_character, as_small, boolean, is_kind};

/// How a procedure is run.
pub enum Body {
    /// Makes a value of the arguments: the place of the first on the stack, and their number. It
    /// is run again after a collection if the heap is full, so that it makes its objects before it
    /// changes anything.
    Value(fn(&mut Machine, usize, usize) -> Outcome),
    /// Changes what the machine does next: the place of the callee, and the arguments.
    Control(fn(&mut Machine, usize, usize) -> Result<(), Error>),
}

pub struct Primitive {
    pub name: &'static str,
    pub least: usize,
    pub most: usize,
    pub body: Body,
}

/// All of them; a word of the tag for procedures of the machine is an index.
pub fn all() -> Vec<&'static Primitive> {
    let groups = [
        control::ALL,
        equality::ALL,
        lists::ALL,
        numbers::ALL,
        real::ALL,
        characters::ALL,
        strings::ALL,
        vectors::ALL,
        bytevectors::ALL,
        ports::ALL,
    ];
    groups.into_iter().flatten().collect()
}

const ANY: usize = usize::MAX;

const fn value(
    name: &'static str,
    least: usize,
    most: usize,
    body: fn(&mut Machine, usize, usize) -> Outcome,
) -> Primitive {
    Primitive { name, least, most, body: Body::Value(body) }
}

const fn control(
    name: &'static str,
    least: usize,
    most: usize,
    body: fn(&mut Machine, usize, usize) -> Result<(), Error>,
) -> Primitive {
    Primitive { name, least, most, body: Body::Control(body) }
}

#[inline]
fn arg(m: &Machine, at: usize) -> Word {
    m.memory.roots.stack[at]
}

/// The argument at `at`, which has to be of `kind`.
#[inline]
fn of(m: &Machine, at: usize, wanted: Kind, name: &str) -> Outcome {
    let word = arg(m, at);
    if is_kind(word, wanted) { Ok(word) } else { Err(Error::fault(&print(word, false), name)) }
}

fn test(m: &Machine, at: usize, wanted: Kind) -> Outcome {
    Ok(boolean(is_kind(arg(m, at), wanted)))
}

fn store(m: &Machine, object: Word, index: usize, at: usize) -> Outcome {
    m.memory.set(object, index, arg(m, at));
    Ok(UNSPECIFIED)
}

/// The argument at `at` as an index below `end`.
#[inline]
fn index(m: &Machine, at: usize, end: usize, name: &str) -> Result<usize, Error> {
    let number = as_small(arg(m, at)).and_then(|number| usize::try_from(number).ok());
    let number = number.filter(|number| *number < end);
    number.ok_or_else(|| Error::fault(&format!("index {}", print(arg(m, at), false)), name))
}

/// The arguments from `at` to `end`, where there are any: a first index and one after the last, of
/// something with `len` places.
fn range(
    m: &Machine,
    at: usize,
    end: usize,
    len: usize,
    name: &str,
) -> Result<(usize, usize), Error> {
    let to = if at + 1 < end { index(m, at + 1, len + 1, name)? } else { len };
    let from = if at < end { index(m, at, to + 1, name)? } else { 0 };
    Ok((from, to))
}

fn char_arg(m: &Machine, at: usize, name: &str) -> Result<char, Error> {
    let word = arg(m, at);
    as_character(word).ok_or_else(|| Error::fault(&print(word, false), name))
}

/// Whether each of the arguments holds against the next.
fn chain<T>(
    m: &Machine,
    at: usize,
    count: usize,
    item: impl Fn(&Machine, usize) -> Result<T, Error>,
    holds: impl Fn(&T, &T) -> bool,
) -> Outcome {
    let mut before = item(m, at)?;
    let mut all = true;
    for index in 1..count {
        let next = item(m, at + index)?;
        all &= holds(&before, &next);
        before = next;
    }
    Ok(boolean(all))
}

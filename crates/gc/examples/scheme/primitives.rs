//! Procedures of the machine: what the library cannot say in the language itself.

use super::error::{Error, Outcome};
use super::machine::Machine;
use super::print::print;
use super::read::number;
use super::value::{
    FALSE, Kind, NIL, UNSPECIFIED, Word, as_character, as_flonum, as_primitive, as_small, boolean,
    bytes, character, get, is_kind, kind, len, list, small, text,
};

/// How a procedure is run.
pub enum Body {
    /// Makes a value of the arguments: the place of the first on the stack, and their number.
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

pub const PRIMITIVES: &[Primitive] = &[
    control("apply", 2, ANY, |m, from, count| m.apply(from, count)),
    control("%call/cc", 1, 1, |m, from, _| m.call_with_continuation(from)),
    control("%call-with-values", 2, 2, |m, from, _| m.spread(from)),
    value("values", 0, ANY, |m, at, count| match count {
        1 => Ok(arg(m, at)),
        _ => Ok(m.memory.words(Kind::Values, count, |index| arg(m, at + index))?),
    }),
    value("%unhandled", 1, 1, |m, at, _| Err(Error::Unhandled(print(arg(m, at), true)))),
    value("cons", 2, 2, |m, at, _| Ok(m.memory.cons(arg(m, at), arg(m, at + 1))?)),
    value("car", 1, 1, |m, at, _| Ok(get(of(m, at, Kind::Pair, "car")?, 0))),
    value("cdr", 1, 1, |m, at, _| Ok(get(of(m, at, Kind::Pair, "cdr")?, 1))),
    value("set-car!", 2, 2, |m, at, _| store(m, of(m, at, Kind::Pair, "set-car!")?, 0, at + 1)),
    value("set-cdr!", 2, 2, |m, at, _| store(m, of(m, at, Kind::Pair, "set-cdr!")?, 1, at + 1)),
    value("list", 0, ANY, |m, at, count| {
        Ok(m.memory.list(&m.memory.roots.stack[at..at + count])?)
    }),
    value("length", 1, 1, |m, at, _| {
        let items = list(arg(m, at)).ok_or_else(|| Error::fault("is no list", "length"))?;
        Ok(super::value::count(items.len()))
    }),
    value("append", 0, ANY, |m, at, count| {
        let mut result = if count == 0 { NIL } else { arg(m, at + count - 1) };
        for index in (0..count.saturating_sub(1)).rev() {
            let items = list(arg(m, at + index));
            let items = items.ok_or_else(|| Error::fault("is no list", "append"))?;
            result = m.memory.list_with(&items, result)?;
        }
        Ok(result)
    }),
    value("eq?", 2, 2, |m, at, _| Ok(boolean(arg(m, at) == arg(m, at + 1)))),
    value("eqv?", 2, 2, |m, at, _| Ok(boolean(eqv(arg(m, at), arg(m, at + 1))))),
    value("equal?", 2, 2, |m, at, _| Ok(boolean(equal(arg(m, at), arg(m, at + 1))))),
    value("null?", 1, 1, |m, at, _| Ok(boolean(arg(m, at) == NIL))),
    value("pair?", 1, 1, |m, at, _| test(m, at, Kind::Pair)),
    value("symbol?", 1, 1, |m, at, _| test(m, at, Kind::Symbol)),
    value("string?", 1, 1, |m, at, _| test(m, at, Kind::String)),
    value("vector?", 1, 1, |m, at, _| test(m, at, Kind::Vector)),
    value("char?", 1, 1, |m, at, _| Ok(boolean(as_character(arg(m, at)).is_some()))),
    value("integer?", 1, 1, |m, at, _| {
        let whole = as_flonum(arg(m, at)).is_some_and(|number| number.fract() == 0.0);
        Ok(boolean(whole || as_small(arg(m, at)).is_some()))
    }),
    value("number?", 1, 1, |m, at, _| Ok(boolean(Number::of(arg(m, at)).is_some()))),
    value("exact?", 1, 1, |m, at, _| Ok(boolean(as_small(arg(m, at)).is_some()))),
    value("procedure?", 1, 1, |m, at, _| {
        let is_made = matches!(kind(arg(m, at)), Some(Kind::Closure | Kind::Continuation));
        Ok(boolean(is_made || as_primitive(arg(m, at)).is_some()))
    }),
    value("+", 0, ANY, |m, at, count| fold(m, at, count, 0, i64::checked_add, |a, b| a + b)),
    value("*", 0, ANY, |m, at, count| fold(m, at, count, 1, i64::checked_mul, |a, b| a * b)),
    value("-", 1, ANY, |m, at, count| match count {
        1 => combine(m, Number::Exact(0), num(m, at, "-")?, i64::checked_sub, |a, b| a - b),
        _ => chain(m, at, count, i64::checked_sub, |a, b| a - b),
    }),
    value("/", 1, ANY, |m, at, count| {
        let first = if count == 1 { 1.0 } else { num(m, at, "/")?.float() };
        let mut result = first;
        for index in usize::from(count > 1)..count {
            result /= num(m, at + index, "/")?.float();
        }
        let is_whole = result.fract() == 0.0 && result.abs() < 1e15;
        let all_exact = (0..count).all(|index| as_small(arg(m, at + index)).is_some());
        match small(result as i64).filter(|_| is_whole && all_exact) {
            Some(exact) => Ok(exact),
            None => Ok(m.memory.flonum(result)?),
        }
    }),
    value("quotient", 2, 2, |m, at, _| whole(m, at, "quotient", i64::checked_div)),
    value("remainder", 2, 2, |m, at, _| whole(m, at, "remainder", i64::checked_rem)),
    value("modulo", 2, 2, |m, at, _| {
        whole(m, at, "modulo", |a, b| {
            let rest = a.checked_rem(b)?;
            Some(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
        })
    }),
    value("=", 2, ANY, |m, at, count| compare(m, at, count, "=", |a, b| a == b)),
    value("<", 2, ANY, |m, at, count| compare(m, at, count, "<", |a, b| a < b)),
    value(">", 2, ANY, |m, at, count| compare(m, at, count, ">", |a, b| a > b)),
    value("<=", 2, ANY, |m, at, count| compare(m, at, count, "<=", |a, b| a <= b)),
    value(">=", 2, ANY, |m, at, count| compare(m, at, count, ">=", |a, b| a >= b)),
    value("exact->inexact", 1, 1, |m, at, _| {
        Ok(m.memory.flonum(num(m, at, "exact->inexact")?.float())?)
    }),
    value("exact", 1, 1, |m, at, _| {
        let number = num(m, at, "exact")?.float();
        small(number as i64).ok_or_else(|| Error::fault("is too large", "exact"))
    }),
    value("floor", 1, 1, |m, at, _| round(m, at, f64::floor)),
    value("round", 1, 1, |m, at, _| round(m, at, f64::round_ties_even)),
    value("truncate", 1, 1, |m, at, _| round(m, at, f64::trunc)),
    value("sqrt", 1, 1, |m, at, _| {
        let root = num(m, at, "sqrt")?.float().sqrt();
        let exact = as_small(arg(m, at)).is_some() && root.fract() == 0.0;
        match small(root as i64).filter(|_| exact) {
            Some(root) => Ok(root),
            None => Ok(m.memory.flonum(root)?),
        }
    }),
    value("number->string", 1, 1, |m, at, _| Ok(m.memory.string(&print(arg(m, at), true))?)),
    value("string->number", 1, 1, |m, at, _| {
        let text = text(of(m, at, Kind::String, "string->number")?);
        Ok(number(&text, &m.memory)?.unwrap_or(FALSE))
    }),
    value("string-length", 1, 1, |m, at, _| {
        Ok(super::value::count(chars(m, at, "string-length")?.len()))
    }),
    value("string-ref", 2, 2, |m, at, _| {
        let all = chars(m, at, "string-ref")?;
        Ok(character(all[index(m, at + 1, all.len(), "string-ref")?]))
    }),
    value("substring", 3, 3, |m, at, _| {
        let all = chars(m, at, "substring")?;
        let to = index(m, at + 2, all.len() + 1, "substring")?;
        let from = index(m, at + 1, to + 1, "substring")?;
        Ok(m.memory.string(&all[from..to].iter().collect::<String>())?)
    }),
    value("string-append", 0, ANY, |m, at, count| {
        let mut all = Vec::new();
        for index in 0..count {
            all.extend_from_slice(bytes(of(m, at + index, Kind::String, "string-append")?));
        }
        Ok(m.memory.bytes(Kind::String, &all)?)
    }),
    value("string=?", 2, 2, |m, at, _| {
        let [a, b] = [at, at + 1].map(|at| of(m, at, Kind::String, "string=?"));
        Ok(boolean(bytes(a?) == bytes(b?)))
    }),
    value("string<?", 2, 2, |m, at, _| {
        let [a, b] = [at, at + 1].map(|at| of(m, at, Kind::String, "string<?"));
        Ok(boolean(bytes(a?) < bytes(b?)))
    }),
    value("string->symbol", 1, 1, |m, at, _| {
        let name = text(of(m, at, Kind::String, "string->symbol")?);
        Ok(m.memory.symbol(&name)?)
    }),
    value("symbol->string", 1, 1, |m, at, _| {
        let name = text(of(m, at, Kind::Symbol, "symbol->string")?);
        Ok(m.memory.string(&name)?)
    }),
    value("string->list", 1, 1, |m, at, _| {
        let all: Vec<Word> = chars(m, at, "string->list")?.into_iter().map(character).collect();
        Ok(m.memory.list(&all)?)
    }),
    value("list->string", 1, 1, |m, at, _| {
        let items = list(arg(m, at)).unwrap_or_default();
        let all: Option<String> = items.into_iter().map(as_character).collect();
        Ok(m.memory.string(&all.ok_or_else(|| Error::fault("no characters", "list->string"))?)?)
    }),
    value("char->integer", 1, 1, |m, at, _| {
        let one = as_character(arg(m, at));
        let one = one.ok_or_else(|| Error::fault("is no character", "char->integer"))?;
        Ok(super::value::count(one as usize))
    }),
    value("integer->char", 1, 1, |m, at, _| {
        let one = as_small(arg(m, at)).and_then(|number| char::from_u32(number as u32));
        one.map(character).ok_or_else(|| Error::fault("is no character", "integer->char"))
    }),
    value("make-vector", 1, 2, |m, at, count| {
        let len = index(m, at, usize::MAX >> 12, "make-vector")?;
        let fill = if count == 2 { arg(m, at + 1) } else { FALSE };
        Ok(m.memory.words(Kind::Vector, len, |_| fill)?)
    }),
    value("vector", 0, ANY, |m, at, count| {
        Ok(m.memory.words(Kind::Vector, count, |index| arg(m, at + index))?)
    }),
    value("vector-length", 1, 1, |m, at, _| {
        Ok(super::value::count(len(of(m, at, Kind::Vector, "vector-length")?)))
    }),
    value("vector-ref", 2, 2, |m, at, _| {
        let vector = of(m, at, Kind::Vector, "vector-ref")?;
        Ok(get(vector, index(m, at + 1, len(vector), "vector-ref")?))
    }),
    value("vector-set!", 3, 3, |m, at, _| {
        let vector = of(m, at, Kind::Vector, "vector-set!")?;
        store(m, vector, index(m, at + 1, len(vector), "vector-set!")?, at + 2)
    }),
    value("list->vector", 1, 1, |m, at, _| {
        let items = list(arg(m, at)).ok_or_else(|| Error::fault("is no list", "list->vector"))?;
        Ok(m.memory.words(Kind::Vector, items.len(), |index| items[index])?)
    }),
    value("vector->list", 1, 1, |m, at, _| {
        let vector = of(m, at, Kind::Vector, "vector->list")?;
        let items: Vec<Word> = (0..len(vector)).map(|index| get(vector, index)).collect();
        Ok(m.memory.list(&items)?)
    }),
    value("%record", 1, ANY, |m, at, count| {
        Ok(m.memory.words(Kind::Record, count, |index| arg(m, at + index))?)
    }),
    value("%record?", 2, 2, |m, at, _| {
        let is_record = is_kind(arg(m, at), Kind::Record);
        Ok(boolean(is_record && get(arg(m, at), 0) == arg(m, at + 1)))
    }),
    value("%record-ref", 3, 3, |m, at, _| {
        Ok(get(record(m, at)?, index(m, at + 2, len(arg(m, at)), "a field")?))
    }),
    value("%record-set!", 4, 4, |m, at, _| {
        let record = record(m, at)?;
        store(m, record, index(m, at + 2, len(record), "a field")?, at + 3)
    }),
    value("display", 1, 1, |m, at, _| {
        let text = print(arg(m, at), true);
        m.output.push_str(&text);
        Ok(UNSPECIFIED)
    }),
    value("write", 1, 1, |m, at, _| {
        let text = print(arg(m, at), false);
        m.output.push_str(&text);
        Ok(UNSPECIFIED)
    }),
    value("newline", 0, 0, |m, _, _| {
        m.output.push('\n');
        Ok(UNSPECIFIED)
    }),
    value("collect", 0, 0, |m, _, _| {
        m.wants_collection = true;
        Ok(UNSPECIFIED)
    }),
];

fn arg(m: &Machine, at: usize) -> Word {
    m.memory.roots.stack[at]
}

/// The argument at `at`, which has to be of `kind`.
fn of(m: &Machine, at: usize, wanted: Kind, name: &str) -> Outcome {
    let word = arg(m, at);
    if is_kind(word, wanted) { Ok(word) } else { Err(Error::fault(&print(word, false), name)) }
}

fn record(m: &Machine, at: usize) -> Outcome {
    let word = of(m, at, Kind::Record, "a field")?;
    let is_it = get(word, 0) == arg(m, at + 1);
    if is_it { Ok(word) } else { Err(Error::fault("is another record", "a field")) }
}

fn test(m: &Machine, at: usize, wanted: Kind) -> Outcome {
    Ok(boolean(is_kind(arg(m, at), wanted)))
}

fn store(m: &Machine, object: Word, index: usize, at: usize) -> Outcome {
    m.memory.set(object, index, arg(m, at));
    Ok(UNSPECIFIED)
}

/// The argument at `at` as an index below `end`.
fn index(m: &Machine, at: usize, end: usize, name: &str) -> Result<usize, Error> {
    let number = as_small(arg(m, at)).and_then(|number| usize::try_from(number).ok());
    let number = number.filter(|number| *number < end);
    number.ok_or_else(|| Error::fault(&format!("index {}", print(arg(m, at), false)), name))
}

fn chars(m: &Machine, at: usize, name: &str) -> Result<Vec<char>, Error> {
    Ok(text(of(m, at, Kind::String, name)?).chars().collect())
}

/// A number: exact ones that grow too large become inexact.
#[derive(Clone, Copy)]
enum Number {
    Exact(i64),
    Inexact(f64),
}

impl Number {
    fn of(word: Word) -> Option<Self> {
        as_small(word).map(Self::Exact).or_else(|| as_flonum(word).map(Self::Inexact))
    }

    fn float(self) -> f64 {
        match self {
            Self::Exact(number) => number as f64,
            Self::Inexact(number) => number,
        }
    }
}

fn num(m: &Machine, at: usize, name: &str) -> Result<Number, Error> {
    Number::of(arg(m, at)).ok_or_else(|| Error::fault(&print(arg(m, at), false), name))
}

fn combine(
    m: &Machine,
    a: Number,
    b: Number,
    exact: fn(i64, i64) -> Option<i64>,
    inexact: fn(f64, f64) -> f64,
) -> Outcome {
    if let (Number::Exact(a), Number::Exact(b)) = (a, b)
        && let Some(word) = exact(a, b).and_then(small)
    {
        return Ok(word);
    }
    Ok(m.memory.flonum(inexact(a.float(), b.float()))?)
}

fn fold(
    m: &Machine,
    at: usize,
    count: usize,
    unit: i64,
    exact: fn(i64, i64) -> Option<i64>,
    inexact: fn(f64, f64) -> f64,
) -> Outcome {
    match count {
        0 => small(unit).ok_or(Error::OutOfMemory),
        1 => combine(m, Number::Exact(unit), num(m, at, "arithmetic")?, exact, inexact),
        _ => chain(m, at, count, exact, inexact),
    }
}

fn chain(
    m: &Machine,
    at: usize,
    count: usize,
    exact: fn(i64, i64) -> Option<i64>,
    inexact: fn(f64, f64) -> f64,
) -> Outcome {
    let mut result = arg(m, at);
    for index in 1..count {
        let a = Number::of(result).ok_or_else(|| Error::fault(&print(result, false), "+"))?;
        result = combine(m, a, num(m, at + index, "arithmetic")?, exact, inexact)?;
    }
    Ok(result)
}

fn whole(m: &Machine, at: usize, name: &str, f: fn(i64, i64) -> Option<i64>) -> Outcome {
    let integer = |at| as_small(arg(m, at)).ok_or_else(|| Error::fault("no integer", name));
    let (a, b) = (integer(at)?, integer(at + 1)?);
    f(a, b).and_then(small).ok_or_else(|| Error::fault("division by zero", name))
}

fn compare(
    m: &Machine,
    at: usize,
    count: usize,
    name: &str,
    holds: fn(f64, f64) -> bool,
) -> Outcome {
    for index in 1..count {
        let (a, b) = (num(m, at + index - 1, name)?, num(m, at + index, name)?);
        // Small integers beyond 2^53 are compared as differences.
        let holds = match (a, b) {
            (Number::Exact(a), Number::Exact(b)) => holds(0.0, b.saturating_sub(a) as f64),
            _ => holds(a.float(), b.float()),
        };
        if !holds {
            return Ok(FALSE);
        }
    }
    Ok(boolean(true))
}

fn round(m: &Machine, at: usize, f: fn(f64) -> f64) -> Outcome {
    match num(m, at, "rounding")? {
        Number::Exact(_) => Ok(arg(m, at)),
        Number::Inexact(number) => Ok(m.memory.flonum(f(number))?),
    }
}

fn eqv(a: Word, b: Word) -> bool {
    a == b || as_flonum(a).is_some_and(|a| as_flonum(b) == Some(a))
}

/// Whether both look the same; iterative along lists.
fn equal(mut a: Word, mut b: Word) -> bool {
    while is_kind(a, Kind::Pair) && is_kind(b, Kind::Pair) {
        if !equal(get(a, 0), get(b, 0)) {
            return false;
        }
        (a, b) = (get(a, 1), get(b, 1));
    }
    match (kind(a), kind(b)) {
        (Some(Kind::String), Some(Kind::String)) => bytes(a) == bytes(b),
        (Some(Kind::Vector), Some(Kind::Vector)) => {
            len(a) == len(b) && (0..len(a)).all(|index| equal(get(a, index), get(b, index)))
        }
        _ => eqv(a, b),
    }
}

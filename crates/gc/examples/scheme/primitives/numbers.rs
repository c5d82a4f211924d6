//! Exact and general arithmetic. Small integers and floats take the short way.

use super::{ANY, Primitive, arg, index, value};
use crate::interpreter::error::{Error, Outcome};
use crate::interpreter::machine::Machine;
use crate::interpreter::numbers::{self, Integer, Number};
use crate::interpreter::text::print::print;
use crate::interpreter::value::{
    FALSE, Kind, Word, as_flonum, as_small, boolean, of_small, small, text,
};
use std::cmp::Ordering;

pub static ALL: &[Primitive] = &[
    value("+", 0, ANY, |m, at, n| fold(m, at, n, 0, add)),
    value("*", 0, ANY, |m, at, n| fold(m, at, n, 1, multiply)),
    value("-", 1, ANY, |m, at, n| match n {
        1 => number(m, at, "-")?.negated().word(&m.memory).map_err(Error::from),
        _ => fold(m, at, n, 0, subtract),
    }),
    value("/", 1, ANY, |m, at, n| match n {
        1 => divide(m, of_small(1), arg(m, at)),
        _ => fold(m, at, n, 1, divide),
    }),
    value("=", 1, ANY, |m, at, n| {
        compare(m, at, n, "=", |order| order.is_eq(), |a, b| a == b, |a, b| a.equals(b))
    }),
    value("<", 1, ANY, |m, at, n| {
        compare(m, at, n, "<", |o| o.is_lt(), |a, b| a < b, |a, b| ordered(a, b, Ordering::is_lt))
    }),
    value(">", 1, ANY, |m, at, n| {
        compare(m, at, n, ">", |o| o.is_gt(), |a, b| a > b, |a, b| ordered(a, b, Ordering::is_gt))
    }),
    value("<=", 1, ANY, |m, at, n| {
        compare(m, at, n, "<=", |o| o.is_le(), |a, b| a <= b, |a, b| ordered(a, b, Ordering::is_le))
    }),
    value(">=", 1, ANY, |m, at, n| {
        compare(m, at, n, ">=", |o| o.is_ge(), |a, b| a >= b, |a, b| ordered(a, b, Ordering::is_ge))
    }),
    value("number?", 1, 1, |m, at, _| Ok(boolean(Number::of(arg(m, at)).is_some()))),
    value("real?", 1, 1, |m, at, _| is(m, at, Number::is_real)),
    value("rational?", 1, 1, |m, at, _| is(m, at, |one| one.is_real() && one.exact().is_some())),
    value("integer?", 1, 1, |m, at, _| is(m, at, Number::is_whole)),
    value("exact?", 1, 1, |m, at, _| Ok(boolean(number(m, at, "exact?")?.is_exact()))),
    value("zero?", 1, 1, |m, at, _| Ok(boolean(number(m, at, "zero?")?.is_zero()))),
    value("quotient", 2, 2, |m, at, _| whole(m, at, "quotient", i64::checked_div, |q, _, _| q)),
    value("remainder", 2, 2, |m, at, _| whole(m, at, "remainder", i64::checked_rem, |_, r, _| r)),
    value("floor-quotient", 2, 2, |m, at, _| {
        let exact = |a: i64, b: i64| {
            let quotient = a.checked_div(b)?;
            Some(if quotient * b != a && (a < 0) != (b < 0) { quotient - 1 } else { quotient })
        };
        whole(m, at, "floor-quotient", exact, |quotient, rest, by| {
            match !rest.is_zero() && rest.is_negative() != by.is_negative() {
                true => quotient.minus(&Integer::one()),
                false => quotient,
            }
        })
    }),
    value("modulo", 2, 2, |m, at, _| {
        let exact = |a: i64, b: i64| {
            let rest = a.checked_rem(b)?;
            Some(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
        };
        whole(m, at, "modulo", exact, |_, rest, by| {
            match !rest.is_zero() && rest.is_negative() != by.is_negative() {
                true => rest.plus(by),
                false => rest,
            }
        })
    }),
    value("%gcd", 2, 2, |m, at, _| {
        let [a, b] = [at, at + 1].map(|at| number(m, at, "gcd"));
        let (a, b) = (a?, b?);
        let both = integer(&a).zip(integer(&b));
        let (x, y) = both.ok_or_else(|| Error::fault("no integers", "gcd"))?;
        in_kind(m, x.gcd(&y), a.is_exact() && b.is_exact())
    }),
    value("numerator", 1, 1, |m, at, _| part_of_fraction(m, at, "numerator", |over, _| over)),
    value("denominator", 1, 1, |m, at, _| part_of_fraction(m, at, "denominator", |_, under| under)),
    value("exact", 1, 1, |m, at, _| {
        let exact = number(m, at, "exact")?.exact();
        let exact = exact.ok_or_else(|| Error::fault("has no exact value", "exact"))?;
        Ok(exact.word(&m.memory)?)
    }),
    value("inexact", 1, 1, |m, at, _| Ok(number(m, at, "inexact")?.inexact().word(&m.memory)?)),
    value("%integer-sqrt", 1, 1, |m, at, _| {
        let found = number(m, at, "exact-integer-sqrt")?;
        match found {
            Number::Integer(one) if !one.is_negative() => {
                Ok(Number::Integer(one.square_root()).word(&m.memory)?)
            }
            _ => Err(Error::fault("wants an integer not below 0", "exact-integer-sqrt")),
        }
    }),
    // An exact base and an exponent not below 0.
    value("%expt", 2, 2, |m, at, _| {
        let exponent = index(m, at + 1, 1 << 32, "expt")? as u64;
        let base = number(m, at, "expt")?;
        let result = match base.fraction() {
            Some((over, under)) => Number::ratio(&over.power(exponent), &under.power(exponent)),
            None => match &base {
                Number::Float(one) => Number::Float(one.powf(exponent as f64)),
                _ => (0..exponent).fold(Number::from(1), |product, _| product.times(&base)),
            },
        };
        Ok(result.word(&m.memory)?)
    }),
    value("number->string", 1, 2, |m, at, n| {
        let radix = if n == 2 { index(m, at + 1, 37, "number->string")?.max(2) } else { 10 };
        let shown = numbers::show(&number(m, at, "number->string")?, radix as u32);
        Ok(m.memory.string(&shown)?)
    }),
    value("string->number", 1, 2, |m, at, n| {
        let radix = if n == 2 { index(m, at + 1, 37, "string->number")?.max(2) } else { 10 };
        let text = text(super::of(m, at, Kind::String, "string->number")?);
        match numbers::parse(&text, radix as u32) {
            Some(number) => Ok(number.word(&m.memory)?),
            None => Ok(FALSE),
        }
    }),
];

pub fn number(m: &Machine, at: usize, name: &str) -> Result<Number, Error> {
    number_of(arg(m, at), name)
}

fn number_of(word: Word, name: &str) -> Result<Number, Error> {
    Number::of(word).ok_or_else(|| Error::fault(&print(word, false), name))
}

fn is(m: &Machine, at: usize, holds: fn(&Number) -> bool) -> Outcome {
    Ok(boolean(Number::of(arg(m, at)).is_some_and(|one| holds(&one))))
}

fn ordered(a: &Number, b: &Number, holds: fn(Ordering) -> bool) -> bool {
    a.compare(b).is_some_and(holds)
}

type Operation = fn(&Machine, Word, Word) -> Outcome;

#[inline]
fn fold(m: &Machine, at: usize, count: usize, unit: i64, operation: Operation) -> Outcome {
    if count < 2 {
        let first = if count == 0 { of_small(unit) } else { arg(m, at) };
        number_of(first, "arithmetic")?;
        return Ok(first);
    }
    let mut result = operation(m, arg(m, at), arg(m, at + 1))?;
    for index in 2..count {
        result = operation(m, result, arg(m, at + index))?;
    }
    Ok(result)
}

fn add(m: &Machine, a: Word, b: Word) -> Outcome {
    combine(m, a, b, i64::checked_add, |a, b| a + b, |a, b| Some(a.plus(b)))
}

fn subtract(m: &Machine, a: Word, b: Word) -> Outcome {
    combine(m, a, b, i64::checked_sub, |a, b| a - b, |a, b| Some(a.minus(b)))
}

fn multiply(m: &Machine, a: Word, b: Word) -> Outcome {
    combine(m, a, b, i64::checked_mul, |a, b| a * b, |a, b| Some(a.times(b)))
}

fn divide(m: &Machine, a: Word, b: Word) -> Outcome {
    let exact = |a: i64, b: i64| if a.checked_rem(b)? == 0 { Some(a / b) } else { None };
    combine(m, a, b, exact, |a, b| a / b, Number::over)
}

#[inline]
fn combine(
    m: &Machine,
    a: Word,
    b: Word,
    exact: fn(i64, i64) -> Option<i64>,
    inexact: fn(f64, f64) -> f64,
    general: fn(&Number, &Number) -> Option<Number>,
) -> Outcome {
    if let (Some(a), Some(b)) = (as_small(a), as_small(b)) {
        if let Some(word) = exact(a, b).and_then(small) {
            return Ok(word);
        }
    } else if let (Some(a), Some(b)) = (as_flonum(a), as_flonum(b)) {
        return Ok(m.memory.flonum(inexact(a, b))?);
    }
    let (a, b) = (number_of(a, "arithmetic")?, number_of(b, "arithmetic")?);
    let result = general(&a, &b).ok_or_else(|| Error::fault("division by zero", "arithmetic"))?;
    Ok(result.word(&m.memory)?)
}

#[inline]
fn compare(
    m: &Machine,
    at: usize,
    count: usize,
    name: &str,
    exact: fn(Ordering) -> bool,
    inexact: fn(f64, f64) -> bool,
    general: fn(&Number, &Number) -> bool,
) -> Outcome {
    let mut all = true;
    for index in 1..count.max(2) {
        let [a, b] = [arg(m, at + index - 1), arg(m, at + (index).min(count - 1))];
        all &= match (as_small(a), as_small(b)) {
            (Some(a), Some(b)) => exact(a.cmp(&b)),
            _ => match (as_flonum(a), as_flonum(b)) {
                (Some(a), Some(b)) => inexact(a, b),
                _ => general(&number_of(a, name)?, &number_of(b, name)?),
            },
        };
    }
    Ok(boolean(all || count < 2))
}

/// The whole number that `number` is.
fn integer(number: &Number) -> Option<Integer> {
    match number {
        Number::Integer(one) => Some(one.clone()),
        Number::Float(one) => Integer::from_float(*one),
        _ => None,
    }
}

fn in_kind(m: &Machine, result: Integer, is_exact: bool) -> Outcome {
    let result = Number::Integer(result);
    Ok(if is_exact { result } else { result.inexact() }.word(&m.memory)?)
}

/// A division of integers: `pick` chooses from quotient and rest, given the divisor.
fn whole(
    m: &Machine,
    at: usize,
    name: &str,
    exact: fn(i64, i64) -> Option<i64>,
    pick: fn(Integer, Integer, &Integer) -> Integer,
) -> Outcome {
    let [a, b] = [arg(m, at), arg(m, at + 1)];
    if let (Some(a), Some(b)) = (as_small(a), as_small(b))
        && let Some(word) = exact(a, b).and_then(small)
    {
        return Ok(word);
    }
    let (a, b) = (number_of(a, name)?, number_of(b, name)?);
    let both = integer(&a).zip(integer(&b));
    let (over, under) = both.ok_or_else(|| Error::fault("no integers", name))?;
    let (quotient, rest) =
        over.divided(&under).ok_or_else(|| Error::fault("division by zero", name))?;
    in_kind(m, pick(quotient, rest, &under), a.is_exact() && b.is_exact())
}

fn part_of_fraction(
    m: &Machine,
    at: usize,
    name: &str,
    pick: fn(Integer, Integer) -> Integer,
) -> Outcome {
    let given = number(m, at, name)?;
    let fraction = given.exact().and_then(|exact| exact.fraction());
    let (over, under) = fraction.ok_or_else(|| Error::fault("no fraction", name))?;
    in_kind(m, pick(over, under), given.is_exact())
}

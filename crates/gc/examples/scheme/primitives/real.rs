//! Rounding and transcendental functions, complex ones too.

use super::numbers::number;
use super::{Primitive, arg, value};
use crate::interpreter::error::{Error, Outcome};
use crate::interpreter::machine::Machine;
use crate::interpreter::numbers::{Integer, Number};
use crate::interpreter::value::boolean;
use std::cmp::Ordering;

pub static ALL: &[Primitive] =
    &[
        value("floor", 1, 1, |m, at, _| round(m, at, f64::floor, |_, whole, _| whole)),
        value("ceiling", 1, 1, |m, at, _| {
            round(m, at, f64::ceil, |_, whole, _| whole.plus(&Integer::one()))
        }),
        value("truncate", 1, 1, |m, at, _| {
            round(m, at, f64::trunc, |one, whole, _| match one.is_negative() {
                true => whole.plus(&Integer::one()),
                false => whole,
            })
        }),
        value("round", 1, 1, |m, at, _| {
            round(m, at, f64::round_ties_even, |_, whole, half| match half {
                Ordering::Less => whole,
                Ordering::Equal if !whole.is_odd() => whole,
                _ => whole.plus(&Integer::one()),
            })
        }),
        value("finite?", 1, 1, |m, at, _| {
            let parts = number(m, at, "finite?")?.parts();
            Ok(boolean(parts.iter().all(|part| part.is_exact() || part.float().is_finite())))
        }),
        value("infinite?", 1, 1, |m, at, _| {
            let parts = number(m, at, "infinite?")?.parts();
            Ok(boolean(parts.iter().any(|part| !part.is_exact() && part.float().is_infinite())))
        }),
        value("nan?", 1, 1, |m, at, _| {
            let parts = number(m, at, "nan?")?.parts();
            Ok(boolean(parts.iter().any(|part| part.float().is_nan())))
        }),
        value("exp", 1, 1, |m, at, _| {
            let [real, imaginary] = number(m, at, "exp")?.parts();
            let size = real.float().exp();
            polar(m, size, &imaginary)
        }),
        value("%log", 1, 1, |m, at, _| {
            let given = number(m, at, "log")?;
            if given.is_real() && !given.is_negative() {
                return Ok(m.memory.flonum(logarithm(&given))?);
            }
            let (size, angle) = size_and_angle(&given);
            let result = Number::complex(Number::Float(size.ln()), Number::Float(angle));
            Ok(result.word(&m.memory)?)
        }),
        value("sin", 1, 1, |m, at, _| function(m, at, "sin", f64::sin)),
        value("cos", 1, 1, |m, at, _| function(m, at, "cos", f64::cos)),
        value("tan", 1, 1, |m, at, _| function(m, at, "tan", f64::tan)),
        value("asin", 1, 1, |m, at, _| function(m, at, "asin", f64::asin)),
        value("acos", 1, 1, |m, at, _| function(m, at, "acos", f64::acos)),
        value("atan", 1, 2, |m, at, count| match count {
            1 => function(m, at, "atan", f64::atan),
            _ => {
                let [y, x] = [at, at + 1].map(|at| number(m, at, "atan"));
                let (y, x) = (y?, x?);
                if y.is_exact() && y.is_zero() && x.is_exact() && !x.is_negative() && !x.is_zero() {
                    return Ok(arg(m, at));
                }
                Ok(m.memory.flonum(y.float().atan2(x.float()))?)
            }
        }),
        value("sqrt", 1, 1, |m, at, _| {
            let given = number(m, at, "sqrt")?;
            if !given.is_real() {
                // The root with a real part not below zero; on the imaginary axis, the one above.
                let [real, imaginary] = given.parts().map(|part| part.float());
                let size = real.hypot(imaginary);
                let [x, y] = [size + real, size - real].map(|double| (double / 2.0).sqrt());
                let y = if imaginary < 0.0 { -y } else { y };
                return Ok(Number::complex(Number::Float(x), Number::Float(y)).word(&m.memory)?);
            }
            let is_negative = given.is_negative() && !given.is_zero();
            let positive = if is_negative { given.negated() } else { given };
            let root =
                exact_root(&positive).unwrap_or_else(|| Number::Float(positive.float().sqrt()));
            let result = if is_negative { Number::complex(Number::from(0), root) } else { root };
            Ok(result.word(&m.memory)?)
        }),
        // Any base and exponent, by logarithms.
        value("%power", 2, 2, |m, at, _| {
            let [base, exponent] = [at, at + 1].map(|at| number(m, at, "expt"));
            let (base, exponent) = (base?, exponent?);
            if base.is_real() && exponent.is_real() && (!base.is_negative() || base.is_zero()) {
                return Ok(m.memory.flonum(base.float().powf(exponent.float()))?);
            }
            let (size, angle) = size_and_angle(&base);
            let log = Number::complex(Number::Float(size.ln()), Number::Float(angle));
            let [real, imaginary] = log.times(&exponent).parts();
            polar(m, real.float().exp(), &imaginary)
        }),
        value("make-rectangular", 2, 2, |m, at, _| {
            let [real, imaginary] = [at, at + 1].map(|at| number(m, at, "make-rectangular"));
            let (real, imaginary) = (real?, imaginary?);
            if !real.is_real() || !imaginary.is_real() {
                return Err(Error::fault("wants real numbers", "make-rectangular"));
            }
            Ok(Number::complex(real, imaginary).word(&m.memory)?)
        }),
        value("make-polar", 2, 2, |m, at, _| {
            let size = number(m, at, "make-polar")?.float();
            polar(m, size, &number(m, at + 1, "make-polar")?)
        }),
        value("real-part", 1, 1, |m, at, _| {
            Ok(number(m, at, "real-part")?.parts()[0].word(&m.memory)?)
        }),
        value("imag-part", 1, 1, |m, at, _| {
            Ok(number(m, at, "imag-part")?.parts()[1].word(&m.memory)?)
        }),
        value("magnitude", 1, 1, |m, at, _| {
            let given = number(m, at, "magnitude")?;
            if given.is_real() {
                let size = if given.is_negative() { given.negated() } else { given };
                return Ok(size.word(&m.memory)?);
            }
            let [real, imaginary] = given.parts();
            let square = real.times(&real).plus(&imaginary.times(&imaginary));
            let root = exact_root(&square);
            Ok(root.unwrap_or_else(|| Number::Float(size_and_angle(&given).0)).word(&m.memory)?)
        }),
        value("angle", 1, 1, |m, at, _| {
            let given = number(m, at, "angle")?;
            match given.is_real() && given.is_exact() && !given.is_negative() {
                true => Ok(crate::interpreter::value::of_small(0)),
                false => Ok(m.memory.flonum(size_and_angle(&given).1)?),
            }
        }),
    ];

/// The root of an exact number that is a square.
fn exact_root(square: &Number) -> Option<Number> {
    let (over, under) = square.fraction()?;
    let [x, y] = [&over, &under].map(Integer::square_root);
    (x.times(&x) == over && y.times(&y) == under).then(|| Number::ratio(&x, &y))
}

/// The natural logarithm of a real number not below zero, larger than floats may be.
fn logarithm(given: &Number) -> f64 {
    match given {
        Number::Integer(one) if one.bit_len() > 1000 => {
            let shift = one.bit_len() - 64;
            let high = Number::Integer(one.shift_right(shift)).float();
            high.ln() + shift as f64 * std::f64::consts::LN_2
        }
        _ => given.float().ln(),
    }
}

fn size_and_angle(given: &Number) -> (f64, f64) {
    let [real, imaginary] = given.parts().map(|part| part.float());
    (real.hypot(imaginary), imaginary.atan2(real))
}

/// The number of a size at an angle; real if the angle is an exact zero.
fn polar(m: &Machine, size: f64, angle: &Number) -> Outcome {
    if angle.is_exact() && angle.is_zero() {
        return Ok(m.memory.flonum(size)?);
    }
    let (sin, cos) = angle.float().sin_cos();
    Ok(Number::complex(Number::Float(size * cos), Number::Float(size * sin)).word(&m.memory)?)
}

fn function(m: &Machine, at: usize, name: &str, f: fn(f64) -> f64) -> Outcome {
    let given = number(m, at, name)?;
    if !given.is_real() {
        return Err(Error::fault("is not there for complex numbers", name));
    }
    Ok(m.memory.flonum(f(given.float()))?)
}

/// Rounds: floats by `inexact`; ratios by `exact`, given the ratio, the whole number below it and
/// how what is left compares with a half.
fn round(
    m: &Machine,
    at: usize,
    inexact: fn(f64) -> f64,
    exact: fn(&Integer, Integer, Ordering) -> Integer,
) -> Outcome {
    match number(m, at, "rounding")? {
        Number::Integer(_) => Ok(arg(m, at)),
        Number::Float(one) => Ok(m.memory.flonum(inexact(one))?),
        Number::Ratio(over, under) => {
            let (quotient, rest) = over.divided(&under).expect("the divisor is above 1");
            let (below, rest) = match rest.is_negative() {
                true => (quotient.minus(&Integer::one()), rest.plus(&under)),
                false => (quotient, rest),
            };
            let half = rest.shift_left(1).cmp(&under);
            Ok(Number::Integer(exact(&over, below, half)).word(&m.memory)?)
        }
        Number::Complex(_) => Err(Error::fault("is not there for complex numbers", "rounding")),
    }
}

//! The tower: a number of any kind, taken out of its word; arithmetic over all kinds.
//!
//! The machine's fast paths do small integers and floats without coming here.

use super::Integer;
use crate::interpreter::roots::Memory;
use crate::interpreter::value::{self, Kind, Word, as_flonum, as_small, get, kind, small};
use heapwright_gc::LimitReached;
use std::cmp::Ordering;

#[derive(Clone, Debug)]
pub enum Number {
    Integer(Integer),
    /// In lowest terms, over a positive number above 1.
    Ratio(Integer, Integer),
    Float(f64),
    /// Real and imaginary part, both real.
    Complex(Box<[Number; 2]>),
}

impl Number {
    pub fn of(word: Word) -> Option<Self> {
        if let Some(number) = as_small(word) {
            return Some(Self::from(number));
        }
        match kind(word)? {
            Kind::Flonum => as_flonum(word).map(Self::Float),
            Kind::Bignum => Some(Self::Integer(value::bignum(word))),
            Kind::Ratio => match [0, 1].map(|part| Self::of(get(word, part))) {
                [Some(Self::Integer(over)), Some(Self::Integer(under))] => {
                    Some(Self::Ratio(over, under))
                }
                _ => None,
            },
            Kind::Complex => {
                let [real, imaginary] = [0, 1].map(|part| Self::of(get(word, part)));
                Some(Self::Complex(Box::new([real?, imaginary?])))
            }
            _ => None,
        }
    }

    /// The number as a word, in the smallest form that holds it.
    pub fn word(&self, memory: &Memory) -> Result<Word, LimitReached> {
        match self {
            Self::Integer(number) => match number.to_i64().and_then(small) {
                Some(word) => Ok(word),
                None => memory.bignum(number),
            },
            Self::Float(number) => memory.flonum(*number),
            Self::Ratio(over, under) => {
                let [over, under] = [over, under].map(|part| Self::Integer(part.clone()));
                memory.numbers(Kind::Ratio, [over.word(memory)?, under.word(memory)?])
            }
            Self::Complex(parts) => {
                memory.numbers(Kind::Complex, [parts[0].word(memory)?, parts[1].word(memory)?])
            }
        }
    }

    /// `over / under`, which is not zero.
    pub fn ratio(over: &Integer, under: &Integer) -> Self {
        let common = over.gcd(under);
        let [over, under] = [over, under]
            .map(|part| part.divided(&common).expect("a divisor of a number that is not 0").0);
        let (over, under) =
            if under.is_negative() { (over.negated(), under.negated()) } else { (over, under) };
        if under == Integer::one() { Self::Integer(over) } else { Self::Ratio(over, under) }
    }

    /// A complex number, or a real one if the imaginary part is an exact zero.
    pub fn complex(real: Self, imaginary: Self) -> Self {
        match imaginary {
            Self::Integer(ref part) if part.is_zero() => real,
            _ => Self::Complex(Box::new([real, imaginary])),
        }
    }

    pub fn is_exact(&self) -> bool {
        match self {
            Self::Integer(_) | Self::Ratio(..) => true,
            Self::Float(_) => false,
            Self::Complex(parts) => parts.iter().all(Self::is_exact),
        }
    }

    pub fn is_real(&self) -> bool {
        !matches!(self, Self::Complex(_))
    }

    /// Whether it is a whole number, exact or not.
    pub fn is_whole(&self) -> bool {
        match self {
            Self::Integer(_) => true,
            Self::Float(number) => number.fract() == 0.0,
            _ => false,
        }
    }

    pub fn is_zero(&self) -> bool {
        match self {
            Self::Integer(number) => number.is_zero(),
            Self::Ratio(..) => false,
            Self::Float(number) => *number == 0.0,
            Self::Complex(parts) => parts.iter().all(Self::is_zero),
        }
    }

    /// Below zero; a negative zero is, too.
    pub fn is_negative(&self) -> bool {
        match self {
            Self::Integer(number) | Self::Ratio(number, _) => number.is_negative(),
            Self::Float(number) => number.is_sign_negative() && !number.is_nan(),
            Self::Complex(_) => false,
        }
    }

    /// The nearest float; the real part of a complex number.
    pub fn float(&self) -> f64 {
        match self {
            Self::Integer(number) => number.ratio_to_float(&Integer::one()),
            Self::Ratio(over, under) => over.ratio_to_float(under),
            Self::Float(number) => *number,
            Self::Complex(parts) => parts[0].float(),
        }
    }

    pub fn parts(&self) -> [Self; 2] {
        match self {
            Self::Complex(parts) => (**parts).clone(),
            _ => [self.clone(), Self::from(0)],
        }
    }

    /// The exact number that is closest; none for infinities and what is no number.
    pub fn exact(&self) -> Option<Self> {
        match self {
            Self::Integer(_) | Self::Ratio(..) => Some(self.clone()),
            Self::Complex(parts) => Some(Self::complex(parts[0].exact()?, parts[1].exact()?)),
            Self::Float(number) if !number.is_finite() => None,
            Self::Float(number) => {
                if let Some(whole) = Integer::from_float(*number) {
                    return Some(Self::Integer(whole));
                }
                // Every fraction of a float ends after 1074 binary places.
                let mut shift = 0;
                let mut scaled = *number;
                while scaled.fract() != 0.0 {
                    scaled *= 2.0;
                    shift += 1;
                }
                let under = Integer::one().shift_left(shift);
                Some(Self::ratio(&Integer::from_float(scaled)?, &under))
            }
        }
    }

    pub fn inexact(&self) -> Self {
        match self {
            Self::Complex(parts) => {
                Self::Complex(Box::new([parts[0].inexact(), parts[1].inexact()]))
            }
            _ => Self::Float(self.float()),
        }
    }

    pub fn negated(&self) -> Self {
        match self {
            Self::Integer(number) => Self::Integer(number.negated()),
            Self::Ratio(over, under) => Self::Ratio(over.negated(), under.clone()),
            Self::Float(number) => Self::Float(-number),
            Self::Complex(parts) => {
                Self::Complex(Box::new([parts[0].negated(), parts[1].negated()]))
            }
        }
    }

    /// Over and under of an exact real number.
    pub fn fraction(&self) -> Option<(Integer, Integer)> {
        match self {
            Self::Integer(number) => Some((number.clone(), Integer::one())),
            Self::Ratio(over, under) => Some((over.clone(), under.clone())),
            _ => None,
        }
    }

    pub fn plus(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => Self::Integer(a.plus(b)),
            (Self::Complex(_), _) | (_, Self::Complex(_)) => {
                let ([a, b], [c, d]) = (self.parts(), other.parts());
                Self::complex(a.plus(&c), b.plus(&d))
            }
            (Self::Float(_), _) | (_, Self::Float(_)) => Self::Float(self.float() + other.float()),
            _ => self.exactly(other, |a, b, c, d| (a.times(d).plus(&c.times(b)), b.times(d))),
        }
    }

    pub fn minus(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Float(_), _) | (_, Self::Float(_)) if self.is_real() && other.is_real() => {
                Self::Float(self.float() - other.float())
            }
            _ => self.plus(&other.negated()),
        }
    }

    pub fn times(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => Self::Integer(a.times(b)),
            (Self::Complex(_), _) | (_, Self::Complex(_)) => {
                let ([a, b], [c, d]) = (self.parts(), other.parts());
                let real = a.times(&c).minus(&b.times(&d));
                Self::complex(real, a.times(&d).plus(&b.times(&c)))
            }
            (Self::Float(_), _) | (_, Self::Float(_)) => Self::Float(self.float() * other.float()),
            _ => self.exactly(other, |a, b, c, d| (a.times(c), b.times(d))),
        }
    }

    /// None if both are exact and the divisor is zero.
    pub fn over(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (_, Self::Complex(parts)) => {
                let [c, d] = &**parts;
                let size = c.times(c).plus(&d.times(d));
                let conjugate = Self::complex(c.clone(), d.negated());
                let [a, b] = self.times(&conjugate).parts();
                Some(Self::complex(a.over(&size)?, b.over(&size)?))
            }
            (Self::Complex(parts), _) => {
                Some(Self::complex(parts[0].over(other)?, parts[1].over(other)?))
            }
            _ if other.is_exact() && other.is_zero() => None,
            (Self::Float(_), _) | (_, Self::Float(_)) => {
                Some(Self::Float(self.float() / other.float()))
            }
            _ => Some(self.exactly(other, |a, b, c, d| (a.times(d), b.times(c)))),
        }
    }

    fn exactly(
        &self,
        other: &Self,
        f: fn(&Integer, &Integer, &Integer, &Integer) -> (Integer, Integer),
    ) -> Self {
        let (a, b) = self.fraction().expect("the kinds with floats are done");
        let (c, d) = other.fraction().expect("the kinds with floats are done");
        let (over, under) = f(&a, &b, &c, &d);
        Self::ratio(&over, &under)
    }

    /// None if one is no number or they are complex. Floats compare as the exact numbers they are.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => Some(a.cmp(b)),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(b),
            (Self::Complex(_), _) | (_, Self::Complex(_)) => None,
            (Self::Float(a), _) if !a.is_finite() => a.partial_cmp(&0.0),
            (_, Self::Float(b)) if !b.is_finite() => 0.0.partial_cmp(b),
            _ => {
                let (a, b) = self.exact()?.fraction()?;
                let (c, d) = other.exact()?.fraction()?;
                Some(a.times(&d).cmp(&c.times(&b)))
            }
        }
    }

    /// Whether both are the same number, of whatever kinds.
    pub fn equals(&self, other: &Self) -> bool {
        if self.is_real() && other.is_real() {
            return self.compare(other) == Some(Ordering::Equal);
        }
        let ([a, b], [c, d]) = (self.parts(), other.parts());
        a.equals(&c) && b.equals(&d)
    }

    /// Whether nothing tells one from the other: the same number, exactness and sign of zero.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Ratio(a, b), Self::Ratio(c, d)) => a == c && b == d,
            (Self::Float(a), Self::Float(b)) => {
                a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
            }
            (Self::Complex(a), Self::Complex(b)) => a[0].is_same(&b[0]) && a[1].is_same(&b[1]),
            _ => false,
        }
    }
}

impl From<i64> for Number {
    fn from(number: i64) -> Self {
        Self::Integer(Integer::from(number))
    }
}

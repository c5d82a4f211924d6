//! Integers of any size: a sign and digits of 32 bits, the least first.
//!
//! Schoolbook algorithms: the point is objects of every length in the heap, not records.
//! Source of the division: Knuth, The Art of Computer Programming, volume 2, 4.3.1, algorithm D.
//!
//! # Invariants
//! - I1: the last digit is not 0; zero has no digits and is not negative.

use std::cmp::Ordering;

const DIGIT_BITS: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Integer {
    is_negative: bool,
    digits: Vec<u32>,
}

impl Integer {
    pub fn new(is_negative: bool, mut digits: Vec<u32>) -> Self {
        while digits.last() == Some(&0) {
            digits.pop();
        }
        Self { is_negative: is_negative && !digits.is_empty(), digits }
    }

    pub fn zero() -> Self {
        Self::new(false, Vec::new())
    }

    pub fn one() -> Self {
        Self::from(1)
    }

    /// The whole number that `value` is; none if it has a fraction or is not finite.
    pub fn from_float(value: f64) -> Option<Self> {
        if !value.is_finite() || value.fract() != 0.0 {
            return None;
        }
        let bits = value.abs().to_bits();
        let (mantissa, exponent) = (bits & ((1 << 52) - 1), (bits >> 52) as i32);
        let mantissa = if exponent == 0 { mantissa } else { mantissa | 1 << 52 };
        let digits = Self::new(false, vec![mantissa as u32, (mantissa >> 32) as u32]);
        let shift = exponent.max(1) - 1075;
        let whole = if shift >= 0 {
            digits.shift_left(shift as usize)
        } else {
            digits.shift_right(-shift as usize)
        };
        Some(Self::new(value < 0.0, whole.digits))
    }

    pub fn to_i64(&self) -> Option<i64> {
        if self.digits.len() > 2 {
            return None;
        }
        let size = self.digits.iter().rev().fold(0, |sum, digit| sum << 32 | i128::from(*digit));
        i64::try_from(if self.is_negative { -size } else { size }).ok()
    }

    pub fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    pub fn is_negative(&self) -> bool {
        self.is_negative
    }

    pub fn is_odd(&self) -> bool {
        self.digits.first().is_some_and(|digit| digit % 2 == 1)
    }

    pub fn digits(&self) -> &[u32] {
        &self.digits
    }

    pub fn bit_len(&self) -> usize {
        let last = self.digits.last().map_or(0, |digit| digit.leading_zeros() as usize);
        self.digits.len() * DIGIT_BITS - last
    }

    pub fn negated(&self) -> Self {
        Self::new(!self.is_negative, self.digits.clone())
    }

    pub fn abs(&self) -> Self {
        Self::new(false, self.digits.clone())
    }

    pub fn plus(&self, other: &Self) -> Self {
        if self.is_negative == other.is_negative {
            return Self::new(self.is_negative, add(&self.digits, &other.digits));
        }
        match compare(&self.digits, &other.digits) {
            Ordering::Less => Self::new(other.is_negative, subtract(&other.digits, &self.digits)),
            _ => Self::new(self.is_negative, subtract(&self.digits, &other.digits)),
        }
    }

    pub fn minus(&self, other: &Self) -> Self {
        self.plus(&other.negated())
    }

    pub fn times(&self, other: &Self) -> Self {
        let mut product = vec![0; self.digits.len() + other.digits.len()];
        for (at, a) in self.digits.iter().enumerate() {
            let mut carry = 0;
            for (place, b) in product[at..].iter_mut().zip(&other.digits) {
                let sum = u64::from(*a) * u64::from(*b) + u64::from(*place) + carry;
                *place = sum as u32;
                carry = sum >> DIGIT_BITS;
            }
            product[at + other.digits.len()] = carry as u32;
        }
        Self::new(self.is_negative != other.is_negative, product)
    }

    /// Quotient towards zero, and a remainder with this number's sign; none for a divisor of 0.
    pub fn divided(&self, by: &Self) -> Option<(Self, Self)> {
        if by.is_zero() {
            return None;
        }
        let (quotient, rest) = divide(&self.digits, &by.digits);
        let is_negative = self.is_negative != by.is_negative;
        Some((Self::new(is_negative, quotient), Self::new(self.is_negative, rest)))
    }

    pub fn shift_left(&self, bits: usize) -> Self {
        let (whole, part) = (bits / DIGIT_BITS, bits % DIGIT_BITS);
        let mut digits = vec![0; whole];
        let mut carry = 0;
        for digit in &self.digits {
            let wide = u64::from(*digit) << part | carry;
            digits.push(wide as u32);
            carry = wide >> DIGIT_BITS;
        }
        digits.push(carry as u32);
        Self::new(self.is_negative, digits)
    }

    /// Without the lowest bits of the magnitude.
    pub fn shift_right(&self, bits: usize) -> Self {
        let (whole, part) = (bits / DIGIT_BITS, bits % DIGIT_BITS);
        let kept = self.digits.get(whole..).unwrap_or_default();
        let digits = (0..kept.len()).map(|at| {
            let high = u64::from(kept.get(at + 1).copied().unwrap_or(0)) << DIGIT_BITS;
            ((high | u64::from(kept[at])) >> part) as u32
        });
        Self::new(self.is_negative, digits.collect())
    }

    pub fn power(&self, mut exponent: u64) -> Self {
        let (mut result, mut base) = (Self::one(), self.clone());
        while exponent > 0 {
            if exponent % 2 == 1 {
                result = result.times(&base);
            }
            exponent /= 2;
            if exponent > 0 {
                base = base.times(&base);
            }
        }
        result
    }

    pub fn gcd(&self, other: &Self) -> Self {
        let (mut a, mut b) = (self.abs(), other.abs());
        while !b.is_zero() {
            let (_, rest) = divide(&a.digits, &b.digits);
            (a, b) = (b, Self::new(false, rest));
        }
        a
    }

    /// The largest whole number whose square is not above this one, which is not negative.
    pub fn square_root(&self) -> Self {
        if self.is_zero() {
            return Self::zero();
        }
        // Newton's method from above falls until it is there.
        let mut root = Self::one().shift_left(self.bit_len().div_ceil(2));
        loop {
            let (quotient, _) = self.divided(&root).expect("a root is not 0");
            let next = root.plus(&quotient).shift_right(1);
            if next >= root {
                return root;
            }
            root = next;
        }
    }

    /// The nearest float of this number divided by a positive one.
    pub fn ratio_to_float(&self, by: &Self) -> f64 {
        if self.is_zero() {
            return 0.0;
        }
        // A quotient of at least 66 bits and a bit for the rest round as the exact value does.
        let shift = 66 + by.bit_len() as i64 - self.bit_len() as i64;
        let (over, under) = match usize::try_from(shift) {
            Ok(shift) => (self.abs().shift_left(shift), by.clone()),
            Err(_) => (self.abs(), by.shift_left(-shift as usize)),
        };
        let (quotient, rest) = over.divided(&under).expect("the divisor is positive");
        let wide =
            quotient.digits.iter().rev().fold(0, |sum, digit| sum << 32 | u128::from(*digit));
        let mut float = (wide | u128::from(!rest.is_zero())) as f64;
        // In two steps, since the power alone may leave the range.
        for half in [-shift / 2, -shift + shift / 2] {
            float *= 2f64.powi(half.clamp(-2000, 2000) as i32);
        }
        if self.is_negative { -float } else { float }
    }

    /// The number that `text` spells with digits of `radix`, a sign before them if there is one.
    pub fn parse(text: &str, radix: u32) -> Option<Self> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        if unsigned.is_empty() {
            return None;
        }
        let mut digits = Vec::new();
        for digit in unsigned.chars() {
            let mut carry = u64::from(digit.to_digit(radix)?);
            for place in &mut digits {
                let sum = u64::from(*place) * u64::from(radix) + carry;
                *place = sum as u32;
                carry = sum >> DIGIT_BITS;
            }
            if carry > 0 {
                digits.push(carry as u32);
            }
        }
        Some(Self::new(text.starts_with('-'), digits))
    }

    pub fn to_text(&self, radix: u32) -> String {
        let mut text = Vec::new();
        let mut digits = self.digits.clone();
        while !digits.is_empty() {
            let rest = divide_by_digit(&mut digits, radix);
            text.push(char::from_digit(rest, radix).expect("a rest is a digit"));
        }
        if text.is_empty() {
            text.push('0');
        }
        if self.is_negative {
            text.push('-');
        }
        text.into_iter().rev().collect()
    }
}

impl From<i64> for Integer {
    fn from(value: i64) -> Self {
        let size = value.unsigned_abs();
        Self::new(value < 0, vec![size as u32, (size >> DIGIT_BITS) as u32])
    }
}

impl Ord for Integer {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.is_negative, other.is_negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => compare(&self.digits, &other.digits),
            (true, true) => compare(&other.digits, &self.digits),
        }
    }
}

impl PartialOrd for Integer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn compare(a: &[u32], b: &[u32]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.iter().rev().cmp(b.iter().rev()))
}

fn add(a: &[u32], b: &[u32]) -> Vec<u32> {
    let (long, short) = if a.len() < b.len() { (b, a) } else { (a, b) };
    let mut carry = 0;
    let mut sum: Vec<u32> = Vec::with_capacity(long.len() + 1);
    for (at, digit) in long.iter().enumerate() {
        let wide = u64::from(*digit) + u64::from(short.get(at).copied().unwrap_or(0)) + carry;
        sum.push(wide as u32);
        carry = wide >> DIGIT_BITS;
    }
    sum.push(carry as u32);
    sum
}

/// `a - b`, of which `a` is not the smaller.
fn subtract(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut borrow = 0;
    let difference = a.iter().enumerate().map(|(at, digit)| {
        let wide = i64::from(*digit) - i64::from(b.get(at).copied().unwrap_or(0)) - borrow;
        borrow = i64::from(wide < 0);
        wide as u32
    });
    difference.collect()
}

/// Divides `digits` by a digit in place; returns the rest.
fn divide_by_digit(digits: &mut Vec<u32>, by: u32) -> u32 {
    let mut rest = 0;
    for digit in digits.iter_mut().rev() {
        let wide = rest << DIGIT_BITS | u64::from(*digit);
        *digit = (wide / u64::from(by)) as u32;
        rest = wide % u64::from(by);
    }
    while digits.last() == Some(&0) {
        digits.pop();
    }
    rest as u32
}

/// Quotient and rest of magnitudes; `by` is not zero.
fn divide(a: &[u32], by: &[u32]) -> (Vec<u32>, Vec<u32>) {
    if compare(a, by) == Ordering::Less {
        return (Vec::new(), a.to_vec());
    }
    if let [digit] = by {
        let mut quotient = a.to_vec();
        let rest = divide_by_digit(&mut quotient, *digit);
        return (quotient, vec![rest]);
    }
    // The divisor's highest bit is set, so that a guess of a digit is at most 2 too large.
    let shift = by.last().map_or(0, |digit| digit.leading_zeros() as usize);
    let by = Integer::new(false, by.to_vec()).shift_left(shift).digits;
    let mut rest = Integer::new(false, a.to_vec()).shift_left(shift).digits;
    rest.resize(a.len() + 1, 0);
    let len = by.len();
    let mut quotient = vec![0; rest.len() - len];
    for at in (0..quotient.len()).rev() {
        let high = u64::from(rest[at + len]) << DIGIT_BITS | u64::from(rest[at + len - 1]);
        let mut guess = high / u64::from(by[len - 1]);
        let mut left = high % u64::from(by[len - 1]);
        while guess >> DIGIT_BITS > 0
            || guess * u64::from(by[len - 2]) > (left << DIGIT_BITS | u64::from(rest[at + len - 2]))
        {
            guess -= 1;
            left += u64::from(by[len - 1]);
            if left >> DIGIT_BITS > 0 {
                break;
            }
        }
        if !take(&mut rest[at..=at + len], &by, guess) {
            guess -= 1;
            give_back(&mut rest[at..=at + len], &by);
        }
        quotient[at] = guess as u32;
    }
    (quotient, Integer::new(false, rest).shift_right(shift).digits)
}

/// Subtracts `by` times `guess` from `rest`; false if it was too much, and `rest` wrapped.
fn take(rest: &mut [u32], by: &[u32], guess: u64) -> bool {
    let (mut carry, mut borrow) = (0, 0);
    for (at, place) in rest.iter_mut().enumerate() {
        let product = guess * u64::from(by.get(at).copied().unwrap_or(0)) + carry;
        carry = product >> DIGIT_BITS;
        let wide = i64::from(*place) - i64::from(product as u32) - borrow;
        borrow = i64::from(wide < 0);
        *place = wide as u32;
    }
    borrow == 0
}

/// Adds `by` to a `rest` that wrapped.
fn give_back(rest: &mut [u32], by: &[u32]) {
    let mut carry = 0;
    for (at, place) in rest.iter_mut().enumerate() {
        let wide = u64::from(*place) + u64::from(by.get(at).copied().unwrap_or(0)) + carry;
        *place = wide as u32;
        carry = wide >> DIGIT_BITS;
    }
}

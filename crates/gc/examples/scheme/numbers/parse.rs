//! Text to numbers: every notation of the report, with prefixes for radix and exactness.

use super::{Integer, Number};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Exactness {
    Exact,
    Inexact,
    AsWritten,
}

/// The number that `text` spells, if it does; `radix` is for one without a prefix.
pub fn parse(text: &str, radix: u32) -> Option<Number> {
    let (mut rest, mut radix, mut exactness) = (text, radix, Exactness::AsWritten);
    while let Some(prefixed) = rest.strip_prefix('#') {
        match prefixed.chars().next()?.to_ascii_lowercase() {
            'x' => radix = 16,
            'd' => radix = 10,
            'o' => radix = 8,
            'b' => radix = 2,
            'e' => exactness = Exactness::Exact,
            'i' => exactness = Exactness::Inexact,
            _ => return None,
        }
        rest = &prefixed[1..];
    }
    // Most symbols are told by their first character.
    let first = rest.chars().next()?;
    if !first.is_digit(radix) && !"+-.".contains(first) {
        return None;
    }
    let number = complex(rest, radix, exactness == Exactness::Exact)?;
    match exactness {
        Exactness::Exact => number.exact(),
        Exactness::Inexact => Some(number.inexact()),
        Exactness::AsWritten => Some(number),
    }
}

fn complex(text: &str, radix: u32, exactly: bool) -> Option<Number> {
    if let Some(number) = real(text, radix, exactly) {
        return Some(number);
    }
    if let Some((size, angle)) = text.split_once('@') {
        let (size, angle) = (real(size, radix, exactly)?, real(angle, radix, exactly)?.float());
        let [a, b] = [angle.cos(), angle.sin()].map(|part| size.times(&Number::Float(part)));
        return Some(Number::complex(a, b));
    }
    let body = text.strip_suffix(['i', 'I'])?;
    // The sign of the imaginary part is the last one that belongs to no exponent.
    let signs = body.char_indices().rev().filter(|(_, one)| "+-".contains(*one));
    for (at, sign) in signs {
        let (before, part) = body.split_at(at);
        let imaginary = match &part[1..] {
            "" => Some(Number::from(if sign == '-' { -1 } else { 1 })),
            _ => real(part, radix, exactly),
        };
        let before =
            if before.is_empty() { Some(Number::from(0)) } else { real(before, radix, exactly) };
        if let (Some(before), Some(imaginary)) = (before, imaginary) {
            return Some(Number::complex(before, imaginary));
        }
    }
    None
}

fn real(text: &str, radix: u32, exactly: bool) -> Option<Number> {
    match text.to_ascii_lowercase().as_str() {
        "+inf.0" => return Some(Number::Float(f64::INFINITY)),
        "-inf.0" => return Some(Number::Float(f64::NEG_INFINITY)),
        "+nan.0" | "-nan.0" => return Some(Number::Float(f64::NAN)),
        _ => {}
    }
    if let Some(number) = Integer::parse(text, radix) {
        return Some(Number::Integer(number));
    }
    if let Some((over, under)) = text.split_once('/') {
        if under.starts_with(['+', '-']) {
            return None;
        }
        let (over, under) = (Integer::parse(over, radix)?, Integer::parse(under, radix)?);
        return (!under.is_zero()).then(|| Number::ratio(&over, &under));
    }
    if radix == 10 { decimal(text, exactly) } else { None }
}

/// A decimal with a point or an exponent.
fn decimal(text: &str, exactly: bool) -> Option<Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !unsigned.starts_with(|one: char| one.is_ascii_digit() || one == '.') {
        return None;
    }
    let marker = unsigned.find(|one: char| "eEsSfFdDlL".contains(one));
    let (mantissa, exponent) = match marker {
        Some(at) => (&unsigned[..at], unsigned[at + 1..].parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|one| one.is_ascii_digit()) {
        return None;
    }
    let sign = if text.starts_with('-') { "-" } else { "" };
    if !exactly {
        return format!("{sign}{mantissa}e{exponent}").parse().ok().map(Number::Float);
    }
    let digits = Integer::parse(&format!("{sign}{digits}"), 10)?;
    let places = i64::from(exponent) - fraction.len() as i64;
    // More digits than that are a slip or an attack.
    if places.abs() > 100_000 {
        return None;
    }
    let power = Integer::from(10).power(places.unsigned_abs());
    Some(if places < 0 {
        Number::ratio(&digits, &power)
    } else {
        Number::Integer(digits.times(&power))
    })
}

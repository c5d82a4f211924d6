//! Numbers to text.

use super::Number;

/// `number` with digits of `radix`; floats that are not whole numbers are decimal.
pub fn show(number: &Number, radix: u32) -> String {
    match number {
        Number::Integer(number) => number.to_text(radix),
        Number::Ratio(over, under) => format!("{}/{}", over.to_text(radix), under.to_text(radix)),
        Number::Float(number) => float(*number, radix),
        Number::Complex(parts) => {
            let real = match &parts[0] {
                Number::Integer(part) if part.is_zero() => String::new(),
                part => show(part, radix),
            };
            let imaginary = match show(&parts[1], radix) {
                one if one == "1" => "+".to_owned(),
                one if one == "-1" => "-".to_owned(),
                part if part.starts_with(['+', '-']) => part,
                part => format!("+{part}"),
            };
            format!("{real}{imaginary}i")
        }
    }
}

fn float(number: f64, radix: u32) -> String {
    if number.is_nan() {
        return "+nan.0".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+inf.0" } else { "-inf.0" }.into();
    }
    if radix != 10
        && let Some(whole) = super::Integer::from_float(number)
    {
        return format!("{}.0", whole.to_text(radix));
    }
    // The shortest digits that read back as the same number.
    let text = format!("{number:?}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let point = if digits.contains('.') { "" } else { ".0" };
    let sign = if exponent.starts_with('-') { "" } else { "+" };
    format!("{digits}{point}e{sign}{exponent}")
}

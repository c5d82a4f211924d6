//! Figures that alarm: `resident/live>3`, `largest-free<64M`, `growth>10M`.

use std::fmt;
use std::str::FromStr;

use crate::look::Look;

/// What a threshold is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Resident bytes of the allocator over live bytes.
    ResidentOverLive,
    /// Live bytes.
    Live,
    /// Resident bytes of the process.
    Resident,
    /// Resident and free bytes.
    Retained,
    /// The longest allocation that fits without more memory than the limit allows.
    LargestFree,
    /// What the limit leaves; without a limit it never alarms.
    Headroom,
    /// Growth of live bytes per second.
    Growth,
    /// External fragmentation.
    Fragmentation,
}

const NAMES: [(&str, Quantity); 8] = [
    ("resident/live", Quantity::ResidentOverLive),
    ("live", Quantity::Live),
    ("resident", Quantity::Resident),
    ("retained", Quantity::Retained),
    ("largest-free", Quantity::LargestFree),
    ("headroom", Quantity::Headroom),
    ("growth", Quantity::Growth),
    ("fragmentation", Quantity::Fragmentation),
];

/// A figure and the bound that it must not cross.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// The figure.
    pub quantity: Quantity,
    /// Whether above the bound is bad; else below.
    pub is_above: bool,
    /// The bound: bytes, bytes per second, or a ratio.
    pub bound: f64,
}

/// Why a text is no threshold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThresholdError(String);

impl fmt::Display for ThresholdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        write!(
            f,
            "`{}` is no threshold: write one of {}, then > or <, then a number with K, M or G",
            self.0,
            names.join(", ")
        )
    }
}

impl std::error::Error for ThresholdError {}

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let wrong = || ThresholdError(text.to_owned());
        let at = text.find(['>', '<']).ok_or_else(wrong)?;
        let name = text[..at].trim();
        let quantity = NAMES.iter().find(|(known, _)| *known == name).ok_or_else(wrong)?.1;
        let bound = parse_number(text[at + 1..].trim()).ok_or_else(wrong)?;
        Ok(Self { quantity, is_above: text[at..].starts_with('>'), bound })
    }
}

fn parse_number(text: &str) -> Option<f64> {
    let text = text.strip_suffix("/s").unwrap_or(text);
    let (digits, factor) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 1024.0),
        b'M' | b'm' => (&text[..text.len() - 1], 1024.0 * 1024.0),
        b'G' | b'g' => (&text[..text.len() - 1], 1024.0 * 1024.0 * 1024.0),
        b'%' => (&text[..text.len() - 1], 0.01),
        _ => (text, 1.0),
    };
    let number: f64 = digits.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number * factor)
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, quantity)| *quantity == self.quantity);
        let sign = if self.is_above { '>' } else { '<' };
        write!(f, "{}{sign}{}", name.map_or("", |(name, _)| name), self.bound)
    }
}

impl Threshold {
    /// The figure in `look`; none when it has none now.
    pub fn value(&self, look: &Look) -> Option<f64> {
        Some(match self.quantity {
            Quantity::ResidentOverLive => look.resident_over_live,
            Quantity::Live => look.live as f64,
            Quantity::Resident => look.resident as f64,
            Quantity::Retained => look.retained as f64,
            Quantity::LargestFree => look.largest_free as f64,
            Quantity::Headroom => look.headroom? as f64,
            Quantity::Growth => look.rates.live_growth_bytes,
            Quantity::Fragmentation => look.external_fragmentation,
        })
    }

    /// What to tell when `look` crosses the bound; none when it does not.
    pub fn alarm(&self, look: &Look) -> Option<String> {
        let value = self.value(look)?;
        let is_crossed = if self.is_above { value > self.bound } else { value < self.bound };
        is_crossed.then(|| format!("{self}: it is {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Quantity, Threshold};
    use crate::look::Look;

    #[test]
    fn thresholds_are_read_and_crossed() {
        let threshold: Threshold = "resident/live>3".parse().expect("one");
        assert_eq!(threshold.quantity, Quantity::ResidentOverLive);
        let look = |ratio| Look { resident_over_live: ratio, ..Look::default() };
        assert!(threshold.alarm(&look(2.9)).is_none());
        assert!(threshold.alarm(&look(3.1)).is_some_and(|text| text.contains("3.1")));
        let threshold: Threshold = "largest-free < 64M".parse().expect("one");
        assert_eq!(threshold.bound, 64.0 * 1024.0 * 1024.0);
        assert!(threshold.alarm(&Look::default()).is_some());
        let threshold: Threshold = "headroom<1G".parse().expect("one");
        assert!(threshold.alarm(&Look::default()).is_none(), "there is no limit");
        for wrong in ["", "resident", "bogus>1", "live>", "live>x", "live>-1", "live>inf"] {
            let error = wrong.parse::<Threshold>().expect_err(wrong);
            assert!(error.to_string().contains("resident/live"));
        }
    }
}

//! `peak+5%`: a measure and how much it may grow.

use super::measures::Change;
use std::str::FromStr;

/// Names that a limit may have; the measures of [`super::measures::changes`].
const MEASURES: [&str; 7] = ["peak", "end", "bytes", "allocs", "events", "rss", "time"];

/// A measure and the growth it may have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Limit {
    measure: String,
    share: f64,
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no limit; write {} and a growth, such as peak+5%",
                MEASURES.join(", ")
            )
        };
        let (measure, growth) = text.split_once('+').ok_or_else(wrong)?;
        let percent: f64 =
            growth.strip_suffix('%').and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
        if !MEASURES.contains(&measure) || !percent.is_finite() || percent < 0.0 {
            return Err(wrong());
        }
        Ok(Self { measure: measure.to_owned(), share: percent / 100.0 })
    }
}

impl Limit {
    /// What exceeds the limit, in words.
    ///
    /// # Errors
    /// When the measure is in neither or only one of the two: nothing can be promised then.
    pub(super) fn judge(&self, changes: &[Change]) -> Result<Option<String>, String> {
        let measure = &self.measure;
        let change = changes.iter().find(|change| change.measure == measure).ok_or_else(|| {
            format!("{measure} is not in both advices, so its limit cannot be checked; run advise with the system's allocator")
        })?;
        let percent = self.share * 100.0;
        Ok(match change.share {
            Some(share) if share <= self.share => None,
            Some(share) => {
                Some(format!("{measure} grew by {:.1}%, the limit is {percent}%", share * 100.0))
            }
            None => Some(format!("{measure} was 0 and is {}, the limit is {percent}%", change.new)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Limit;
    use crate::diff::measures::Change;

    fn change(old: u64, new: u64, share: Option<f64>) -> [Change; 1] {
        [Change { measure: "peak", old, new, share }]
    }

    #[test]
    fn a_limit_has_a_known_measure_and_a_percentage() {
        assert_eq!("peak+5%".parse(), Ok(Limit { measure: "peak".into(), share: 0.05 }));
        for wrong in ["peak", "peak+5", "speed+5%", "peak+-5%", "peak+x%", ""] {
            assert!(wrong.parse::<Limit>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn growth_up_to_the_limit_passes() {
        let limit: Limit = "peak+5%".parse().expect("a limit");
        assert_eq!(limit.judge(&change(100, 105, Some(0.05))), Ok(None));
        assert_eq!(limit.judge(&change(100, 50, Some(-0.5))), Ok(None));
        let text = limit.judge(&change(100, 106, Some(0.06))).expect("judged").expect("exceeded");
        assert_eq!(text, "peak grew by 6.0%, the limit is 5%");
        assert!(limit.judge(&change(0, 1, None)).expect("judged").is_some());
        assert!(limit.judge(&[]).is_err());
    }
}

//! Limits on what may grow between two recordings: `peak+5%,allocs+10%`.

use std::fmt;

use crate::analysis::Totals;
use crate::text::{bytes_text, count_text};

/// A figure that limits are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Metric {
    /// Most requested bytes alive at once.
    Peak,
    /// Requested bytes in all.
    Bytes,
    /// Allocations.
    Allocs,
    /// Blocks freed by their thread before it allocated again.
    Temporaries,
    /// Requested bytes alive at the end.
    Leaks,
    /// Threads.
    Threads,
}

impl Metric {
    /// All metrics, in the order of reports.
    pub const ALL: [Self; 6] =
        [Self::Peak, Self::Bytes, Self::Allocs, Self::Temporaries, Self::Leaks, Self::Threads];

    /// How limits and reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Peak => "peak",
            Self::Bytes => "bytes",
            Self::Allocs => "allocs",
            Self::Temporaries => "temporaries",
            Self::Leaks => "leaks",
            Self::Threads => "threads",
        }
    }

    /// The metric with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }

    pub(crate) fn is_bytes(self) -> bool {
        matches!(self, Self::Peak | Self::Bytes | Self::Leaks)
    }

    pub(crate) fn of(self, totals: &Totals) -> u64 {
        match self {
            Self::Peak => totals.peak_live_bytes,
            Self::Bytes => totals.bytes,
            Self::Allocs => totals.allocs,
            Self::Temporaries => totals.temporaries,
            Self::Leaks => totals.end_live_bytes,
            Self::Threads => totals.threads.into(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Growth {
    Percent(f64),
    Absolute(u64),
}

/// How much a metric may grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    metric: Metric,
    growth: Growth,
}

/// A limit that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitError {
    limit: String,
    reason: String,
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, reason } = self;
        write!(f, "--fail-if: \"{limit}\" {reason}; write for example peak+5%,allocs+1000,leaks+2M")
    }
}

impl std::error::Error for LimitError {}

impl Limit {
    /// Reads limits separated by commas, each `METRIC+GROWTH`: a number with `%`, or an absolute
    /// one, for bytes with `K`, `M` or `G` (binary).
    ///
    /// # Errors
    /// [`LimitError`] names the part and what is wrong with it.
    ///
    /// ```
    /// use heapwright_advise::Limit;
    ///
    /// assert_eq!(Limit::parse_list("peak+5%, allocs+10%").unwrap().len(), 2);
    /// let error = Limit::parse_list("rss+5%").unwrap_err().to_string();
    /// assert!(error.starts_with("--fail-if: \"rss+5%\" has an unknown metric \"rss\""));
    /// ```
    pub fn parse_list(text: &str) -> Result<Vec<Self>, LimitError> {
        text.split(',').map(|part| Self::parse(part.trim())).collect()
    }

    fn parse(limit: &str) -> Result<Self, LimitError> {
        let error = |reason: String| LimitError { limit: limit.into(), reason };
        if limit.is_empty() {
            return Err(error("is an empty limit".into()));
        }
        let Some((name, growth)) = limit.split_once('+') else {
            return Err(error("has no + between the metric and its growth".into()));
        };
        let metric = Metric::from_name(name.trim()).ok_or_else(|| {
            let known = Metric::ALL.map(Metric::name).join(", ");
            error(format!("has an unknown metric \"{}\" (there are {known})", name.trim()))
        })?;
        let growth = growth.trim();
        let growth = match growth.strip_suffix('%') {
            Some(percent) => match percent.trim().parse::<f64>() {
                Ok(value) if value.is_finite() && value >= 0.0 => Growth::Percent(value),
                _ => return Err(error(format!("has no number before the %: \"{percent}\""))),
            },
            None => Growth::Absolute(absolute(growth, metric).map_err(error)?),
        };
        Ok(Self { metric, growth })
    }

    /// What the limit is about.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// A sentence when `new` is more than `old` allows.
    pub(crate) fn exceeded(&self, old: u64, new: u64) -> Option<String> {
        let is_exceeded = match self.growth {
            Growth::Percent(percent) => new as f64 > old as f64 * (1.0 + percent / 100.0),
            Growth::Absolute(most) => new > old.saturating_add(most),
        };
        let show =
            |value| if self.metric.is_bytes() { bytes_text(value) } else { count_text(value) };
        let allowed = match self.growth {
            Growth::Percent(percent) => format!("{percent} %"),
            Growth::Absolute(most) => show(most),
        };
        let grown = match old {
            0 => String::new(),
            _ => format!(" (+{:.1} %)", (new as f64 / old as f64 - 1.0) * 100.0),
        };
        is_exceeded.then(|| {
            let name = self.metric.name();
            let (old, new) = (show(old), show(new));
            format!("{name} grew from {old} to {new}{grown}, allowed is {allowed}.")
        })
    }
}

fn absolute(text: &str, metric: Metric) -> Result<u64, String> {
    let (digits, unit) = match text.char_indices().find(|(_, c)| !c.is_ascii_digit()) {
        Some((index, _)) => text.split_at(index),
        None => (text, ""),
    };
    let value: u64 =
        digits.parse().map_err(|_| format!("has no number after the +: \"{text}\""))?;
    let shift = match unit {
        "" => 0,
        "K" | "k" if metric.is_bytes() => 10,
        "M" if metric.is_bytes() => 20,
        "G" if metric.is_bytes() => 30,
        _ => return Err(format!("has an unknown unit \"{unit}\"")),
    };
    value.checked_mul(1 << shift).ok_or_else(|| format!("has too large a number \"{text}\""))
}

#[cfg(test)]
mod tests {
    use super::{Limit, Metric};

    #[test]
    fn limits_are_read() {
        let limits =
            Limit::parse_list("peak+5%, allocs+100 ,leaks+2M,bytes+0%").expect("well formed");
        let metrics: Vec<Metric> = limits.iter().map(Limit::metric).collect();
        assert_eq!(metrics, [Metric::Peak, Metric::Allocs, Metric::Leaks, Metric::Bytes]);
        assert_eq!(limits[0].exceeded(100, 105), None);
        assert_eq!(
            limits[0].exceeded(10_000, 10_501).as_deref(),
            Some("peak grew from 9.8 KiB to 10.3 KiB (+5.0 %), allowed is 5 %.")
        );
        assert_eq!(limits[1].exceeded(7, 107), None);
        assert!(limits[1].exceeded(7, 108).is_some());
        assert_eq!(limits[2].exceeded(0, 2 << 20), None);
        assert!(limits[2].exceeded(0, (2 << 20) + 1).is_some());
        assert!(limits[3].exceeded(0, 1).is_some());
        assert_eq!(limits[3].exceeded(5, 4), None, "shrinking is always fine");
    }

    #[test]
    fn errors_name_the_part_and_the_way_out() {
        for (text, part) in [
            ("", "empty limit"),
            ("peak", "no +"),
            ("peak+5%,", "empty limit"),
            ("peek+5%", "unknown metric \"peek\" (there are peak, bytes, allocs"),
            ("peak+x%", "no number before the %"),
            ("peak+-5%", "no number before the %"),
            ("peak+", "no number after the +"),
            ("peak+5T", "unknown unit \"T\""),
            ("allocs+5K", "unknown unit \"K\""),
            ("peak+99999999999999999999", "no number"),
            ("peak+18446744073709551615G", "too large"),
            ("peak+inf%", "no number before the %"),
        ] {
            let error = Limit::parse_list(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(error.contains("for example peak+5%"), "{error}");
        }
    }
}

//! The results as a table for the terminal.

use crate::search::Results;
use std::fmt;

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  CPU s   peak MiB  pause p99 ms     max  runs  setting (* no other beats it)"
        )?;
        for trial in &self.trials {
            let one = &trial.measured;
            writeln!(
                f,
                "{} {:6.3}  {:8}  {:12.3} {:7.3}  {:4}  {}{}",
                if trial.on_front { '*' } else { ' ' },
                one.cpu_s,
                one.peak_rss_kb >> 10,
                one.pause_ms_p99,
                one.pause_ms_max,
                trial.runs,
                trial.setting,
                if one.refusals > 0 { " (reached its limit)" } else { "" },
            )?;
        }
        for (setting, reason) in &self.failed {
            writeln!(f, "- {setting}: {reason}")?;
        }
        write!(f, "{} runs; chosen: {}", self.runs, self.trials[0].setting)
    }
}

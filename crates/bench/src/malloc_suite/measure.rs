//! One run of one program under one allocator.

use super::programs::Tools;
use heapwright_compare::Subject;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A program ready to run.
#[derive(Clone, Debug)]
pub(super) struct Runnable {
    /// The program.
    pub exe: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Additions to its environment.
    pub environment: Vec<(&'static str, &'static str)>,
}

/// What a run used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Used {
    /// Wall seconds.
    pub time_s: f64,
    /// User and system seconds.
    pub cpu_s: f64,
    /// Peak resident KiB.
    pub peak_rss_kb: f64,
    /// Page faults without I/O.
    pub minor_faults: f64,
}

/// What a process held as it exited, in KiB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct AtExit {
    /// Resident.
    pub rss_kb: f64,
    /// Written pages that nobody shares.
    pub private_dirty_kb: f64,
}

impl Runnable {
    /// Runs it once under `subject`; also what it printed.
    ///
    /// # Errors
    /// A sentence when it fails.
    pub(super) fn timed(
        &self,
        subject: &Subject,
        tools: &Tools,
    ) -> Result<(Used, Vec<u8>), String> {
        let said = self.measured("time", subject, tools)?;
        let used = Used::read(&said)?;
        let printed = fs::read(tools.file("out")).map_err(|error| error.to_string())?;
        Ok((used, printed))
    }

    /// Runs it once and looks at its memory as it exits.
    ///
    /// # Errors
    /// A sentence when it fails or cannot be traced.
    pub(super) fn at_exit(&self, subject: &Subject, tools: &Tools) -> Result<AtExit, String> {
        let said = self.measured("exit", subject, tools)?;
        match numbers(&said)[..] {
            [rss_kb, _, private_dirty_kb] => Ok(AtExit { rss_kb, private_dirty_kb }),
            _ => Err(format!("measure printed `{said}`")),
        }
    }

    /// The command that measures it, for a server that is driven meanwhile.
    pub(super) fn command(&self, how: &str, subject: &Subject, tools: &Tools) -> Command {
        let mut command = Command::new(tools.program("measure"));
        command.arg(how).arg(object(subject)).arg(tools.file("out"));
        command.arg(&self.exe).args(&self.arguments).envs(self.environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_remove("LD_PRELOAD");
        command
    }

    fn measured(&self, how: &str, subject: &Subject, tools: &Tools) -> Result<String, String> {
        if !self.exe.is_file() {
            return Err(format!("{} was not compiled", self.exe.display()));
        }
        let output = self.command(how, subject, tools).output();
        let output = output.map_err(|error| format!("measure: {error}"))?;
        let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if !output.status.success() {
            return Err(format!("{}: {complaint}", output.status).trim_end_matches(": ").into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

impl Used {
    /// Reads the line that `measure time` prints.
    ///
    /// # Errors
    /// A sentence when it is none.
    pub(super) fn read(line: &str) -> Result<Self, String> {
        match numbers(line)[..] {
            [wall_ns, user_us, system_us, peak_rss_kb, minor_faults] => Ok(Self {
                time_s: wall_ns / 1e9,
                cpu_s: (user_us + system_us) / 1e6,
                peak_rss_kb,
                minor_faults,
            }),
            _ => Err(format!("measure printed `{line}`")),
        }
    }
}

/// What is preloaded: an empty word for the system's.
fn object(subject: &Subject) -> &OsStr {
    match &subject.object {
        Ok(Some(object)) => object.path().as_os_str(),
        _ => OsStr::new(""),
    }
}

fn numbers(line: &str) -> Vec<f64> {
    line.split_whitespace().map_while(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::Used;

    #[test]
    fn a_line_of_measure_is_read() {
        let used = Used::read("1500000000 400000 100000 2048 77\n").expect("five numbers");
        assert_eq!((used.time_s, used.cpu_s, used.peak_rss_kb), (1.5, 0.5, 2048.0));
        assert!(Used::read("1 2 3").is_err() && Used::read("").is_err());
    }
}

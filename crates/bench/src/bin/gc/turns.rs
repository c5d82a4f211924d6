//! Two processes that run one workload in turn, a few milliseconds each: to tell builds apart that
//! differ by less than one run of a build differs from the next.
//!
//! Whole runs cannot: what a shared machine gives a process changes by tens of percent from one
//! second to the next, and two runs of seconds see different machines. Here both do the same work,
//! from one tick of the workload to the same later one, right after each other on one CPU. The
//! process that goes first in a turn decides how far it goes; they change places every turn.

use heapwright_os::thread_cpu_ns;
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Write, stdin, stdout};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// A process's part: it waits for its turns on standard input, and tells of them on standard
/// output, `TICKS CPU_NANOSECONDS`.
pub struct Turns {
    /// Looks at the clock so far.
    looks: u64,
    /// How long a turn takes in which time decides.
    length: Duration,
    /// Where this turn ends; none if time decides.
    until: Option<u64>,
    begin: Instant,
    begin_cpu_ns: u64,
}

impl Turns {
    /// Waits for the first turn.
    pub fn begin(length: Duration) -> Self {
        let begin = Instant::now();
        let mut turns = Self { looks: 0, length, until: None, begin, begin_cpu_ns: 0 };
        turns.wait();
        turns
    }

    pub fn look(&mut self, now: Instant) {
        self.looks += 1;
        let is_over =
            self.until.map_or(now - self.begin >= self.length, |until| self.looks >= until);
        if is_over {
            println!("{} {}", self.looks, thread_cpu_ns() - self.begin_cpu_ns);
            // Who reads has gone if this fails, and the wait tells.
            let _ = stdout().flush();
            self.wait();
        }
    }

    fn wait(&mut self) {
        let mut line = String::new();
        if !matches!(stdin().read_line(&mut line), Ok(1..)) {
            std::process::exit(1);
        }
        self.until = line.trim().parse().ok();
        (self.begin, self.begin_cpu_ns) = (Instant::now(), thread_cpu_ns());
    }
}

/// How long the process that goes first runs, so that what the other left in the caches counts
/// little.
const TURN_MS: u64 = 20;

/// One of the two processes, seen from outside.
struct Partner {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What a process says when its turn is over.
enum Answer {
    Turn { looks: u64, cpu_ns: u64 },
    End(Value),
}

impl Partner {
    fn start(program: &Path, words: &[&str], cpu: usize) -> Result<Self, String> {
        let mut command = Command::new(program);
        command.arg("cell").args(words).arg(format!("turns={TURN_MS}"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // SAFETY: one system call, on memory of this function; nothing that another thread of the
        // process that forks could hold.
        unsafe { command.pre_exec(move || stay_on(cpu)) };
        let mut child =
            command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let commands = child.stdin.take().ok_or("no standard input")?;
        let answers = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        Ok(Self { child, commands, answers })
    }

    /// Lets the process run until `looks`, or for the length of a turn.
    fn run(&mut self, looks: Option<u64>) -> Result<Answer, String> {
        let command = looks.map_or("turn".to_owned(), |looks| looks.to_string());
        writeln!(self.commands, "{command}").map_err(|error| error.to_string())?;
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|error| error.to_string())?;
        if let Some((looks, cpu_ns)) = line.trim().split_once(' ')
            && let (Ok(looks), Ok(cpu_ns)) = (looks.parse(), cpu_ns.parse())
        {
            return Ok(Answer::Turn { looks, cpu_ns });
        }
        let row = serde_json::from_str(&line).map_err(|error| format!("{line}: {error}"))?;
        let ended = self.child.wait().map_err(|error| error.to_string())?;
        if !ended.success() {
            return Err(format!("a cell ended with {ended}"));
        }
        Ok(Answer::End(row))
    }
}

/// Keeps this process on one CPU.
fn stay_on(cpu: usize) -> io::Result<()> {
    let mut set = [0u64; 16];
    let word = set.get_mut(cpu / 64).ok_or(io::ErrorKind::InvalidInput)?;
    *word = 1 << (cpu % 64);
    // SAFETY: the kernel reads as many bytes of the set, which is as large as a `cpu_set_t`.
    let set_it = unsafe { libc::sched_setaffinity(0, size_of_val(&set), set.as_ptr().cast()) };
    if set_it == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Drop for Partner {
    fn drop(&mut self) {
        // After an error; a process that has ended is not killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Of one run of each of `programs` in turn: the CPU nanoseconds of each turn of the first and of
/// the second.
pub fn in_turn(programs: [&Path; 2], words: &[&str]) -> Result<Vec<[f64; 2]>, String> {
    // SAFETY: asks the kernel for a number.
    let cpu = usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0);
    let [first, second] = programs.map(|program| Partner::start(program, words, cpu));
    let mut partners = [first?, second?];
    let mut turns = Vec::new();
    loop {
        let first = turns.len() % 2;
        let (lead, follow) = (first, 1 - first);
        match partners[lead].run(None)? {
            Answer::Turn { looks, cpu_ns } => {
                let Answer::Turn { looks: same, cpu_ns: other_ns } =
                    partners[follow].run(Some(looks))?
                else {
                    return Err("one program did less than the other".into());
                };
                if looks != same {
                    return Err(format!("turns ended at {looks} and {same}"));
                }
                let mut turn = [0.0; 2];
                (turn[lead], turn[follow]) = (cpu_ns as f64, other_ns as f64);
                turns.push(turn);
            }
            Answer::End(row) => {
                let Answer::End(other) = partners[follow].run(Some(u64::MAX))? else {
                    return Err("one program did more than the other".into());
                };
                if row["checksum"] != other["checksum"] {
                    return Err(format!("{words:?}: the two programs do not agree"));
                }
                return Ok(turns);
            }
        }
    }
}

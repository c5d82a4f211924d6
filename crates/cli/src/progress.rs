//! A bar on stderr for work that takes longer than two seconds.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// Work that ends sooner shows no bar.
const QUIET: Duration = Duration::from_secs(2);

/// Steps done of steps to do; drawn on a terminal only.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    started: Instant,
}

impl Progress {
    /// Nothing done of `steps` yet.
    pub(crate) fn new(steps: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::hidden());
        let template = "{msg:24!} [{bar:30}] {pos}/{len} {per_sec} {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar, started: Instant::now() }
    }

    /// `done` of `steps` are done and `what` is next.
    pub(crate) fn set(&self, done: u64, steps: u64, what: &str) {
        if self.bar.is_hidden() && self.started.elapsed() > QUIET && io::stderr().is_terminal() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(Duration::from_millis(250));
        }
        self.bar.set_length(steps);
        self.bar.set_message(what.to_owned());
        self.bar.set_position(done);
    }
}

impl Drop for Progress {
    /// Takes the bar off the screen.
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A line on stderr for work whose end nobody knows; on a terminal, after two seconds.
#[derive(Debug)]
pub(crate) struct Spinner {
    bar: ProgressBar,
    started: Instant,
}

impl Spinner {
    /// Nothing to say yet.
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
            bar.set_style(style);
        }
        Self { bar, started: Instant::now() }
    }

    /// What goes on.
    pub(crate) fn set(&self, what: &str) {
        if self.bar.is_hidden() && self.started.elapsed() > QUIET && io::stderr().is_terminal() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_message(what.to_owned());
        self.bar.tick();
    }
}

impl Spinner {
    /// Takes the line off the screen, for a while or for good.
    pub(crate) fn hide(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Spinner {
    /// Takes the line off the screen.
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

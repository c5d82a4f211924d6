//! The load that drives a server while it is recorded.

use std::process::Child;
use std::time::{Duration, Instant};

use heapwright_launch::server::is_listening;

use crate::command::{program_of, spawn_load};
use crate::error::RecordError;
use crate::options::RecordOptions;
use crate::wait::shell_status;

/// How often a server is looked at that does not listen yet.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// A server may use no socket, or not show it: then the load starts after this time.
const LISTEN_LIMIT: Duration = Duration::from_secs(10);

/// The load: not due yet, running, or ended.
pub(crate) struct Load {
    running: Option<Child>,
    next_look: Instant,
}

impl Load {
    pub(crate) fn new() -> Self {
        Self { running: None, next_look: Instant::now() }
    }

    /// Starts the load when it is due for the server `pid`; its status once it has ended.
    pub(crate) fn drive(
        &mut self,
        options: &RecordOptions,
        server: Option<u32>,
        start: Instant,
    ) -> Result<Option<i32>, RecordError> {
        let Some(words) = &options.load else { return Ok(None) };
        if let Some(load) = &mut self.running {
            let Ok(Some(status)) = load.try_wait() else { return Ok(None) };
            return Ok(Some(shell_status(status)));
        }
        let Some(server) = server else { return Ok(None) };
        if self.is_due(options.load_delay, server, start) {
            let failed = |error| RecordError::Load { program: program_of(words), error };
            self.running = Some(spawn_load(words, &options.stdout).map_err(failed)?);
        }
        Ok(None)
    }

    fn is_due(&mut self, delay: Option<Duration>, server: u32, start: Instant) -> bool {
        if let Some(delay) = delay {
            return start.elapsed() >= delay;
        }
        let now = Instant::now();
        if now < self.next_look {
            return false;
        }
        self.next_look = now + LOOK_INTERVAL;
        is_listening(server) || start.elapsed() >= LISTEN_LIMIT
    }
}

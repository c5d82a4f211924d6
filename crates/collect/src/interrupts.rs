//! Signals that end a recording.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use heapwright_os::is_signal_ignored;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

/// signal-hook has no name for it: a file reached its limit.
const SIGXFSZ: i32 = 25;

/// Ctrl-C, SIGTERM and the end of the terminal, counted.
///
/// The end of a child is only to interrupt the collector's sleep, and a file that reached its
/// limit is to be an error, not the collector's end. (Handlers, since what is ignored would also
/// be ignored by the command.)
pub(crate) struct Interrupts {
    count: Arc<AtomicUsize>,
    handlers: Vec<signal_hook::SigId>,
}

impl Interrupts {
    pub(crate) fn new() -> Self {
        let count = Arc::new(AtomicUsize::new(0));
        let signals = [(SIGINT, 1), (SIGTERM, 1), (SIGHUP, 1), (SIGCHLD, 0), (SIGXFSZ, 0)];
        let handlers = signals
            .into_iter()
            // Under nohup we are not to hear of it.
            .filter(|&(signal, _)| signal != SIGHUP || !is_signal_ignored(signal))
            .filter_map(|(signal, weight)| {
                let count = Arc::clone(&count);
                let note = move || {
                    count.fetch_add(weight, Ordering::Relaxed);
                };
                // SAFETY: the handler only adds to an atomic.
                unsafe { signal_hook::low_level::register(signal, note) }.ok()
            })
            .collect();
        Self { count, handlers }
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        for &handler in &self.handlers {
            signal_hook::low_level::unregister(handler);
        }
    }
}

//! Background threads that take what the request threads log and free it in batches.

use crate::random;
use crate::request::Request;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// Background threads; request threads share them by number.
const WRITERS: u64 = 2;
/// Entries a queue holds before a request thread waits.
const QUEUE_ENTRIES: usize = 4096;
/// Entries written, and freed, together.
const BATCH_ENTRIES: usize = 512;

/// A line of the journal, made by a request thread and freed by a background thread.
pub struct Entry(Box<Line>);

struct Line {
    text: String,
    path: Box<str>,
}

impl Entry {
    /// The line for an answered request.
    pub fn new(worker: u64, number: u64, request: &Request, answer_bytes: usize) -> Self {
        let text = format!("{worker} {number} {} {answer_bytes}", request.path);
        Self(Box::new(Line { text, path: request.path.as_str().into() }))
    }
}

/// A request thread's end of a queue.
pub struct Sender(SyncSender<Entry>);

impl Sender {
    /// Hands an entry over; waits while the queue is full.
    pub fn send(&self, entry: Entry) {
        self.0.send(entry).expect("the writer lives until every sender is gone");
    }
}

/// What the journal has seen.
pub struct Logged {
    /// Entries written.
    pub entries: u64,
    /// Sum over the entries, whatever their order.
    pub checksum: u64,
}

/// The background threads.
pub struct Journal {
    senders: Vec<SyncSender<Entry>>,
    writers: Vec<JoinHandle<Logged>>,
}

impl Journal {
    /// Starts the threads.
    pub fn start() -> Self {
        let (senders, writers) = (0..WRITERS)
            .map(|_| {
                let (sender, receiver) = sync_channel(QUEUE_ENTRIES);
                (sender, thread::spawn(move || write_all(&receiver)))
            })
            .unzip();
        Self { senders, writers }
    }

    /// The queue for request thread `worker`.
    pub fn sender(&self, worker: u64) -> Sender {
        Sender(self.senders[(worker % WRITERS) as usize].clone())
    }

    /// Waits until everything handed over is written.
    pub fn finish(self) -> Logged {
        drop(self.senders);
        self.writers.into_iter().fold(Logged { entries: 0, checksum: 0 }, |sum, writer| {
            let part = writer.join().expect("a background thread");
            Logged {
                entries: sum.entries + part.entries,
                checksum: sum.checksum.wrapping_add(part.checksum),
            }
        })
    }
}

fn write_all(receiver: &Receiver<Entry>) -> Logged {
    let mut logged = Logged { entries: 0, checksum: 0 };
    let mut batch = Vec::with_capacity(BATCH_ENTRIES);
    for entry in receiver {
        batch.push(entry);
        if batch.len() == BATCH_ENTRIES {
            write(&mut batch, &mut logged);
        }
    }
    write(&mut batch, &mut logged);
    logged
}

fn write(batch: &mut Vec<Entry>, logged: &mut Logged) {
    let mut page = String::new();
    for entry in batch.drain(..) {
        page.push_str(&entry.0.text);
        page.push('\n');
        logged.entries += 1;
        let sums =
            random::checksum(entry.0.text.as_bytes()) ^ random::checksum(entry.0.path.as_bytes());
        logged.checksum = logged.checksum.wrapping_add(sums);
    }
    // A server would write the page to disk here.
    std::hint::black_box(page);
}

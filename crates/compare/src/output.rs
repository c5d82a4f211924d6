//! A child's output, drained while it runs: of stdout its length and hash, of stderr its tail.

use std::collections::VecDeque;
use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::Hasher;
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// Bytes of standard error that are kept.
const TAIL_BYTES: usize = 2048;
/// How long a pipe may stay open after the child's end; a process it left behind may hold it.
const LEFT_OPEN_LIMIT: Duration = Duration::from_secs(1);

/// What a run wrote on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutputSum {
    /// Length in bytes.
    pub bytes: u64,
    /// 64-bit SipHash: tells outputs apart, proves nothing to an adversary.
    pub hash: u64,
}

/// A thread that drains a pipe.
pub(crate) struct Drained<T>(Receiver<T>);

impl<T: Default> Drained<T> {
    /// What was read, once the pipe is closed; the default when it stays open for a second.
    pub(crate) fn finish(self) -> T {
        self.0.recv_timeout(LEFT_OPEN_LIMIT).unwrap_or_default()
    }
}

/// Hashes all that comes, and copies it to `copy` as far as that can be written.
pub(crate) fn hash_output(
    mut pipe: impl Read + Send + 'static,
    mut copy: Option<File>,
) -> Drained<OutputSum> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut hasher = DefaultHasher::new();
        let mut sum = OutputSum::default();
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            // `write` hashes a stream: how it is split into pieces does not matter.
            hasher.write(&buffer[..count]);
            sum.bytes += count as u64;
            copy = copy.filter(|mut file| file.write_all(&buffer[..count]).is_ok());
        }
        sum.hash = hasher.finish();
        // Nobody waits any more when the run has been given up.
        let _ = sender.send(sum);
    });
    Drained(receiver)
}

/// Keeps the end of all that comes.
pub(crate) fn keep_tail(mut pipe: impl Read + Send + 'static) -> Drained<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut tail = VecDeque::with_capacity(TAIL_BYTES);
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            tail.extend(&buffer[..count]);
            tail.drain(..tail.len().saturating_sub(TAIL_BYTES));
        }
        let _ = sender.send(tail.into());
    });
    Drained(receiver)
}

#[cfg(test)]
mod tests {
    use super::{hash_output, keep_tail};
    use std::io::{Cursor, Read};

    #[test]
    fn the_hash_does_not_depend_on_the_pieces() {
        let text = vec![7u8; 200_000];
        let whole = hash_output(Cursor::new(text.clone()), None).finish();
        let pieces = Cursor::new(text[..777].to_vec()).chain(Cursor::new(text[777..].to_vec()));
        assert_eq!(whole, hash_output(pieces, None).finish());
        assert_eq!(whole.bytes, 200_000);
        assert_ne!(whole, hash_output(Cursor::new(vec![8u8; 200_000]), None).finish());
    }

    #[test]
    fn the_tail_is_the_end() {
        let mut text = vec![b'a'; 10_000];
        text.extend(b"the end");
        let tail = keep_tail(Cursor::new(text)).finish();
        assert_eq!(tail.len(), 2048);
        assert!(tail.ends_with(b"the end"));
    }
}

//! Servers do not end by themselves: waiting until one listens, and stopping it.

use crate::running::{Ended, Running};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// How often a server that is not ready yet is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What became of the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It, or a child of it, listens on a socket.
    Listening,
    /// It ended before that.
    Ended,
    /// It did not in the time given (it may not use a socket, or /proc does not show).
    NotSeen,
}

/// Waits until `server` or a descendant listens on a TCP or Unix socket, at most for `limit`.
///
/// Reads `/proc` every 10 ms; costs the server nothing.
///
/// # Errors
/// As [`Running::wait`].
pub fn wait_until_listening(server: &mut Running, limit: Duration) -> io::Result<Readiness> {
    let until = Instant::now() + limit;
    loop {
        if server.wait_for(Duration::ZERO, &|| true)?.is_some() {
            return Ok(Readiness::Ended);
        }
        if is_listening(server.pid()) {
            return Ok(Readiness::Listening);
        }
        if Instant::now() >= until {
            return Ok(Readiness::NotSeen);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Asks `server` to end by SIGTERM, then SIGINT, each with `grace` to do so, then kills its
/// whole group. Returns how it ended and whether it had to be killed.
///
/// # Errors
/// As [`Running::wait`].
pub fn stop(server: &mut Running, grace: Duration) -> io::Result<(Ended, bool)> {
    for signal in [SIGTERM, SIGINT] {
        server.signal(signal, false);
        if let Some(ended) = server.wait_for(grace, &|| false)? {
            return Ok((ended, false));
        }
    }
    server.signal(SIGKILL, true);
    Ok((server.wait()?, true))
}

/// `pid` and its descendants, parents before children.
pub fn process_tree(pid: u32) -> Vec<u32> {
    let mut tree = vec![pid];
    let mut next = 0;
    while let Some(&parent) = tree.get(next) {
        next += 1;
        let Ok(tasks) = fs::read_dir(format!("/proc/{parent}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            tree.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    tree
}

/// Whether `pid` or a descendant listens on a TCP or Unix socket now.
pub fn is_listening(pid: u32) -> bool {
    let Some(listening) = listening_inodes(pid) else {
        return false;
    };
    process_tree(pid).into_iter().any(|process| {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else {
            return false;
        };
        descriptors
            .flatten()
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .any(|target| socket_inode(&target).is_some_and(|inode| listening.contains(&inode)))
    })
}

/// The inode in a link such as `socket:[12345]`.
fn socket_inode(target: &std::path::Path) -> Option<u64> {
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Inodes of every listening socket in the network namespace of `pid`.
fn listening_inodes(pid: u32) -> Option<HashSet<u64>> {
    let table = |name: &str| fs::read_to_string(PathBuf::from(format!("/proc/{pid}/net/{name}")));
    let mut inodes = HashSet::new();
    for name in ["tcp", "tcp6"] {
        // sl local remote st ... inode is the tenth; state 0A is LISTEN.
        inodes.extend(table(name).unwrap_or_default().lines().filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            (fields.get(3) == Some(&"0A")).then(|| fields.get(9)?.parse::<u64>().ok()).flatten()
        }));
    }
    // Num RefCount Protocol Flags Type St Inode Path; flag 0x10000 says that it accepts.
    inodes.extend(table("unix").ok()?.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let flags = u32::from_str_radix(fields.get(3)?, 16).ok()?;
        (flags & 0x10000 != 0).then(|| fields.get(6)?.parse::<u64>().ok()).flatten()
    }));
    Some(inodes)
}

//! Processes that were started with a dormant recorder: finding their control files, switching
//! them on and off (`heapwright_format::dormant`).

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use heapwright_format::dormant::{
    CONTROL_BYTES, Control, DIRECTORY_BYTES, DORMANT_MAGIC, DORMANT_PREFIX, REFUSED_CONFINED,
    magic_version,
};
use heapwright_format::spool::SPOOL_VARIABLE;
use heapwright_launch::server::process_tree;
use heapwright_os::{
    Errno, Fd, Mapping, OpenFlags, Protection, effective_user_id, map_shared, process_alive,
};
use heapwright_sync::atomic::Ordering;

use crate::drain::is_running;
use crate::error::AttachProblem;
use crate::session::io_error;

/// A control file that we hold the lock of.
struct Held {
    pid: u32,
    /// Keeps the lock.
    _file: Fd,
    mapping: Mapping,
}

/// The processes that were switched on for a recording: the one that was named, and those of its
/// descendants that have a dormant recorder of their own (after an exec).
pub(crate) struct Attached {
    held: Vec<Held>,
    directory: PathBuf,
}

impl Attached {
    /// Switches process `pid` on: it records into the session in `directory`.
    pub(crate) fn to(pid: u32, directory: &Path) -> Result<Self, AttachProblem> {
        remove_abandoned();
        let held = Held::open(pid)?;
        held.wake(directory)?;
        Ok(Self { held: vec![held], directory: directory.to_owned() })
    }

    /// The process that was named.
    pub(crate) fn pid(&self) -> u32 {
        self.held[0].pid
    }

    /// Whether that process runs.
    pub(crate) fn is_running(&self) -> bool {
        is_running(self.pid())
    }

    /// Switches descendants on that have come since; tells if the process cannot follow.
    pub(crate) fn look(&mut self) -> Result<(), AttachProblem> {
        match self.held[0].control().refusal.load(Ordering::Acquire) {
            0 => {}
            REFUSED_CONFINED => return Err(AttachProblem::Confined),
            _ => return Err(AttachProblem::CannotOpen),
        }
        for held in &self.held {
            // A recorder that finds an earlier session dead switches its process off.
            held.control().awake.store(1, Ordering::Release);
        }
        for pid in process_tree(self.pid()).into_iter().skip(1) {
            let is_known = self.held.iter().any(|held| held.pid == pid);
            // One that cannot be switched on is not in the recording; its parent's part is.
            if !is_known
                && path_of(pid).exists()
                && let Ok(held) = Held::open(pid)
                && held.wake(&self.directory).is_ok()
            {
                self.held.push(held);
            }
        }
        Ok(())
    }
}

impl Drop for Attached {
    /// The programs pass by their recorders again.
    fn drop(&mut self) {
        for held in &self.held {
            held.control().awake.store(0, Ordering::Release);
            // SAFETY: the last use was above; the value is dropped with us.
            unsafe { held.mapping.unmap() };
        }
    }
}

impl Held {
    fn open(pid: u32) -> Result<Self, AttachProblem> {
        let facts = fs::metadata(format!("/proc/{pid}"));
        if !process_alive(pid) {
            return Err(AttachProblem::NoProcess);
        }
        let owner = facts.map_or(0, |facts| facts.uid());
        let us = effective_user_id();
        if us != 0 && owner != us {
            return Err(AttachProblem::OtherUser { uid: owner });
        }
        let path = path_of(pid);
        let Ok(facts) = fs::symlink_metadata(&path) else { return Err(why_not_dormant(pid)) };
        // Anybody may make files there: only one of the process's own user counts.
        let is_its = facts.uid() == owner && facts.is_file() && !facts.file_type().is_socket();
        if !is_its || facts.mode() & 0o077 != 0 || facts.len() != CONTROL_BYTES as u64 {
            return Err(why_not_dormant(pid));
        }
        let unusable = |errno: Errno| AttachProblem::Unusable(io_error(errno));
        let name =
            CString::new(path.as_os_str().as_bytes()).map_err(|_| unusable(Errno::EINVAL))?;
        let file = Fd::open(&name, OpenFlags::ReadWrite).map_err(unusable)?;
        match file.try_lock() {
            Err(Errno::EAGAIN) => return Err(AttachProblem::BeingRecorded),
            other => other.map_err(unusable)?,
        }
        let mapping = map_shared(&file, 0, CONTROL_BYTES, Protection::ReadWrite)
            .map_err(|error| AttachProblem::Unusable(io::Error::other(error.to_string())))?;
        let held = Self { pid, _file: file, mapping };
        // Acquire: pairs with the recorder's Release; the page is set up.
        let magic = held.control().magic.load(Ordering::Acquire);
        if magic != DORMANT_MAGIC {
            // SAFETY: the value is dropped here.
            unsafe { held.mapping.unmap() };
            let version = magic_version(magic);
            return Err(version.map_or(AttachProblem::NotDormant { ancestor: None }, |found| {
                AttachProblem::OtherVersion { found }
            }));
        }
        Ok(held)
    }

    fn control(&self) -> &Control {
        // SAFETY: CONTROL_BYTES of atomic words, mapped until this value goes.
        unsafe { self.mapping.start().cast::<Control>().as_ref() }
    }

    fn wake(&self, directory: &Path) -> Result<(), AttachProblem> {
        let text = directory.as_os_str().as_bytes();
        if text.len() >= DIRECTORY_BYTES {
            return Err(AttachProblem::CannotOpen);
        }
        let mut bytes = [0; DIRECTORY_BYTES];
        bytes[..text.len()].copy_from_slice(text);
        let control = self.control();
        for (word, part) in control.directory.iter().zip(bytes.as_chunks::<8>().0) {
            word.store(u64::from_ne_bytes(*part), Ordering::Relaxed);
        }
        control.refusal.store(0, Ordering::Relaxed);
        control.request.fetch_add(1, Ordering::Relaxed);
        // Release: a recorder that is awake sees the request and its directory.
        control.awake.store(1, Ordering::Release);
        Ok(())
    }
}

fn path_of(pid: u32) -> PathBuf {
    PathBuf::from(format!("{DORMANT_PREFIX}{pid}"))
}

/// What to say of a process without a control file of its own.
fn why_not_dormant(pid: u32) -> AttachProblem {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let name = format!("{SPOOL_VARIABLE}=");
    if environment.split(|&byte| byte == 0).any(|entry| entry.starts_with(name.as_bytes())) {
        return AttachProblem::BeingRecorded;
    }
    let mut ancestor = parent_of(pid);
    while let Some(one) = ancestor.filter(|&one| one > 1) {
        if path_of(one).exists() {
            return AttachProblem::NotDormant { ancestor };
        }
        ancestor = parent_of(one);
    }
    AttachProblem::NotDormant { ancestor: None }
}

fn parent_of(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

/// Removes our own control files whose processes were killed.
fn remove_abandoned() {
    let prefix = Path::new(DORMANT_PREFIX);
    let (Some(folder), Some(name)) = (prefix.parent(), prefix.file_name()) else { return };
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let file = entry.file_name();
        let number = file.to_str().zip(name.to_str()).and_then(|(file, name)| {
            file.strip_prefix(name).and_then(|digits| digits.parse::<u32>().ok())
        });
        let is_ours = || entry.metadata().is_ok_and(|facts| facts.uid() == effective_user_id());
        if number.is_some_and(|pid| !process_alive(pid)) && is_ours() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The command line of process `pid`.
pub(crate) fn command_of(pid: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split(|&byte| byte == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

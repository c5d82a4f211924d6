//! Which processes are watched, and where their pages are.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use heapwright_os::effective_user_id;

use crate::MonitorError;

/// A process with a statistics page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedProcess {
    /// Its number.
    pub pid: u32,
    /// Its name, as the kernel has it.
    pub name: String,
    /// Its page.
    pub page: PathBuf,
}

/// Where pages of this user's processes can be: `$XDG_RUNTIME_DIR/heapwright`, and
/// `/dev/shm/heapwright-UID` for processes without that variable.
pub fn directories() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.filter(|path| path.is_absolute()).map(|path| path.join("heapwright"));
    let shared = PathBuf::from(format!("/dev/shm/heapwright-{}", effective_user_id()));
    runtime.into_iter().chain([shared]).collect()
}

/// All watched processes of this user whose pages are in `directories`, by number. Pages and
/// profiles that ended processes left behind are removed on the way.
pub fn watched_processes(directories: &[PathBuf]) -> Vec<WatchedProcess> {
    let mut found = Vec::new();
    for directory in directories {
        let Ok(entries) = fs::read_dir(directory) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            let Some(pid) = pid_of(&path) else { continue };
            if is_current(pid, &path) {
                if path.extension().is_some_and(|ending| ending == "page") {
                    let name = name_of(pid).unwrap_or_default();
                    found.push(WatchedProcess { pid, name, page: path });
                }
            } else {
                // Somebody else may have been quicker.
                let _ = fs::remove_file(&path);
            }
        }
    }
    found.sort_by_key(|process| process.pid);
    found
}

/// The process that PID or a name means.
pub(crate) fn find(text: &str, directories: &[PathBuf]) -> Result<WatchedProcess, MonitorError> {
    if let Ok(pid) = text.parse::<u32>() {
        return find_pid(pid, directories);
    }
    let mut named: Vec<WatchedProcess> =
        watched_processes(directories).into_iter().filter(|process| process.name == text).collect();
    match named.len() {
        0 => Err(MonitorError::NoSuchName(text.to_owned())),
        1 => Ok(named.remove(0)),
        _ => {
            let pids = named.iter().map(|process| process.pid).collect();
            Err(MonitorError::Ambiguous { name: text.to_owned(), pids })
        }
    }
}

fn find_pid(pid: u32, directories: &[PathBuf]) -> Result<WatchedProcess, MonitorError> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let Ok(facts) = fs::metadata(&folder) else { return Err(MonitorError::Exited(pid)) };
    let me = effective_user_id();
    if facts.uid() != me && me != 0 {
        return Err(MonitorError::OtherUser { pid, uid: facts.uid() });
    }
    let mut places = directories.to_vec();
    if facts.uid() != me {
        // Root looks at somebody else's.
        places.push(PathBuf::from(format!("/dev/shm/heapwright-{}", facts.uid())));
        places.push(PathBuf::from(format!("/run/user/{}/heapwright", facts.uid())));
    }
    for directory in places {
        let page = directory.join(format!("{pid}.page"));
        if page.is_file() {
            if is_current(pid, &page) {
                return Ok(WatchedProcess { pid, name: name_of(pid).unwrap_or_default(), page });
            }
            let _ = fs::remove_file(&page);
        }
    }
    let maps = fs::read_to_string(folder.join("maps")).unwrap_or_default();
    if maps.contains("libheapwright_") && !maps.contains("libheapwright_recorder") {
        return Err(MonitorError::NotWatched(pid));
    }
    Err(MonitorError::NotOurs(pid))
}

fn pid_of(path: &Path) -> Option<u32> {
    let ending = path.extension()?;
    if ending != "page" && ending != "profile" {
        return None;
    }
    path.file_stem()?.to_str()?.parse().ok()
}

fn name_of(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim_end().to_owned())
}

/// Whether the file is of the process that has that number now: it maps the page. Where the
/// kernel does not say what it maps, whether there is such a process.
fn is_current(pid: u32, path: &Path) -> bool {
    let page = path.with_extension("page");
    let Ok(facts) = fs::metadata(&page) else { return false };
    match fs::read_to_string(format!("/proc/{pid}/maps")) {
        Ok(maps) => maps.lines().any(|line| {
            // address perms offset device inode path
            let inode = line.split_ascii_whitespace().nth(4);
            inode.and_then(|inode| inode.parse().ok()) == Some(facts.ino())
        }),
        Err(_) => Path::new(&format!("/proc/{pid}")).exists(),
    }
}

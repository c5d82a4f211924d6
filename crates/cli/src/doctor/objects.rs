//! Which of Heapwright's own pieces are there and load.

use super::Check;
use heapwright_launch::{MissingObject, Objects, PreloadObject};
use std::path::PathBuf;

/// The recorder, our allocator, the peers, the bundled program.
pub(super) fn all() -> Vec<Check> {
    let objects = match Objects::of_this_binary() {
        Ok(objects) => objects,
        Err(error) => {
            let instead = "start heapwright by its path";
            return vec![Check::missing("objects", format!("own path unknown: {error}"), instead)];
        }
    };
    let mut checks = vec![
        check("recorder", objects.recorder(), "nothing can be recorded"),
        check("call sites", objects.sites(), "their gains are of replays only"),
        check("allocator", objects.allocator("fast"), "`run` and its row are left out"),
        check("check mode", objects.allocator("check"), "`run --mode check` is not there"),
    ];
    for name in objects.peers() {
        checks.push(check(name, objects.peer(name), "its row is left out"));
    }
    checks.push(demo_program());
    checks
}

fn check(name: &'static str, found: Result<PathBuf, MissingObject>, without: &str) -> Check {
    let path = match found {
        Ok(path) => path,
        Err(missing) => {
            let instead = format!("{without}; `cargo xtask build` makes it");
            return Check::missing(name, format!("no {}", missing.file), instead);
        }
    };
    match PreloadObject::check(&path) {
        Ok(object) => {
            let version = object.version().map_or_else(String::new, |text| format!(" ({text})"));
            Check::ok(name, format!("{}{version}", path.display()))
        }
        Err(error) => Check::missing(name, error.to_string(), without),
    }
}

fn demo_program() -> Check {
    let path = std::env::current_exe().map(|exe| exe.with_file_name("heapwright-demo"));
    match path {
        Ok(path) if path.is_file() => Check::ok("demo program", path.display().to_string()),
        _ => Check::missing(
            "demo program",
            "no heapwright-demo beside the binary",
            "`demo` cannot run; `cargo xtask build` makes it",
        ),
    }
}

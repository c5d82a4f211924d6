//! `advise` on a disk that fills up: the program runs to its end, what was written stays, and
//! what was measured is said (feature `preload-tests`, after `cargo xtask build`).
#![cfg(feature = "preload-tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// Random sizes and lives, so that an event takes some bytes of the file.
const SOURCE: &str = r#"
#include <stdio.h>
#include <stdlib.h>
static char *kept[4096];
int main(void) {
    unsigned long state = 7;
    for (int i = 0; i < 1000000; i++) {
        state ^= state << 13; state ^= state >> 7; state ^= state << 17;
        unsigned long at = state % 4096;
        free(kept[at]);
        kept[at] = malloc(1 + (state >> 20) % 3000);
    }
    puts("ran to its end");
    return 0;
}
"#;

/// A memory file system without room for the recording, or, where we may not mount, a directory
/// in which no file may be so long.
struct SmallDisk {
    place: TempDir,
    is_mounted: bool,
}

impl SmallDisk {
    const KIB: u32 = 1500;

    fn new() -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={}k", Self::KIB), "none"]);
        let output = mount.arg(place.path()).output();
        Self { is_mounted: output.is_ok_and(|output| output.status.success()), place }
    }

    fn directory(&self) -> PathBuf {
        self.place.path().join("advice")
    }

    fn advise(&self, program: &Path) -> Output {
        let mut command = Command::new("sh");
        // In units of 512 bytes, as POSIX has it.
        let limit = if self.is_mounted { "unlimited".into() } else { (2 * Self::KIB).to_string() };
        command.args(["-c", &format!("ulimit -f {limit}; exec \"$@\""), "sh"]);
        command.arg(heapwright_testkit::heapwright(env!("CARGO_BIN_EXE_heapwright")).get_program());
        command.args(["advise", "--on", "system", "--repeats", "1", "--confirm", "never", "-o"]);
        command.arg(self.directory()).arg("--").arg(program);
        command.output().expect("a shell")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.is_mounted {
            // Nothing is lost with it; a mount that stays is the machine's.
            let _ = Command::new("umount").arg("-l").arg(self.place.path()).status();
        }
    }
}

#[test]
fn advise_on_a_full_disk_keeps_what_there_is() {
    let folder = tempfile::tempdir().expect("a directory");
    let program = folder.path().join("sizes");
    heapwright_testkit::compile_c(SOURCE, &program, &[]);
    let disk = SmallDisk::new();
    let output = disk.advise(&program);
    let (said, printed) =
        (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(printed.contains("ran to its end"), "the program is not disturbed: {said}");
    assert!(said.contains("events could not be written"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    let directory = disk.directory();
    if disk.is_mounted {
        assert!(printed.contains("M events") || printed.contains("k events"), "{printed}");
        assert!(said.contains("advice.json: cannot be written"), "{said}");
    }
    assert!(!directory.join("report.html").exists(), "no half page");
    // What was written is a recording.
    let mut export = heapwright_testkit::heapwright(env!("CARGO_BIN_EXE_heapwright"));
    export.arg("export").arg(directory.join("recording.hwr")).arg("-o");
    let read = export.arg(folder.path().join("profile.pb.gz")).output().expect("it starts");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
}

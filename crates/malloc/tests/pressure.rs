//! Memory goes back earlier when the process's control group is short of it. A process each: what
//! is held is the process's.

use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use heapwright_malloc::{alloc, free, pressure, statistics, watch_group};

const MIB: usize = 1 << 20;
/// What the group of the second test may use, and what the program there has live at most.
const LIMIT_BYTES: usize = 64 * MIB;
/// Says which part a child process plays.
const PART: &str = "HEAPWRIGHT_TEST_PART";

fn take(bytes: usize) -> usize {
    let block = alloc(bytes);
    assert!(!block.is_null());
    // SAFETY: a fresh block.
    unsafe { block.write_bytes(1, bytes) };
    block.expose_provenance()
}

fn give(blocks: &[usize]) {
    for block in blocks {
        // SAFETY: live, and not used again.
        unsafe { free(std::ptr::with_exposed_provenance_mut(*block)) };
    }
}

fn write(directory: &Path, used: usize, limit: &str) {
    fs::write(directory.join("memory.current"), format!("{used}\n")).expect("written");
    fs::write(directory.join("memory.max"), format!("{limit}\n")).expect("written");
    // This machine's own state is not looked at.
    let pressure = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
    fs::write(directory.join("memory.pressure"), pressure).expect("written");
}

#[test]
fn free_runs_go_back_as_the_group_fills_up() {
    if std::env::var_os(PART).is_some() {
        return;
    }
    let directory = std::env::temp_dir().join(format!("heapwright-group-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("made");
    let path = CString::new(directory.to_str().expect("a text")).expect("no zero byte");
    assert!(!watch_group(Some(c"/no/such/group")));
    let kept_after_freeing = || {
        let blocks: Vec<usize> = (0..40).map(|_| take(MIB)).collect();
        give(&blocks);
        statistics().dirty_bytes / MIB
    };
    write(&directory, 100 * MIB, "max");
    assert!(watch_group(Some(&path)));
    assert_eq!((pressure().group, pressure().is_tight), (None, false));
    assert!(kept_after_freeing() >= 40, "nothing is short");

    write(&directory, 100 * MIB, &(1024 * MIB).to_string());
    assert!(!pressure().is_tight);
    assert!(kept_after_freeing() >= 40, "924 MiB are left");

    // 48 MiB are left, of which free runs may keep 12.
    write(&directory, 400 * MIB, &(448 * MIB).to_string());
    let now = pressure();
    let group = now.group.expect("a limit");
    assert_eq!((group.limit_bytes, group.used_bytes), (448 * MIB as u64, 400 * MIB as u64));
    assert!(now.is_tight);
    assert!(kept_after_freeing() <= 12);

    write(&directory, 460 * MIB, &(448 * MIB).to_string());
    assert!(pressure().is_tight && kept_after_freeing() == 0);

    fs::write(directory.join("memory.max"), "max").expect("written");
    fs::write(directory.join("memory.pressure"), "some avg10=31.00 avg60=9.0\n").expect("written");
    let now = pressure();
    assert_eq!((now.stalled_percent, now.is_tight), (Some(31), true));
    assert!(kept_after_freeing() <= 4);

    heapwright_malloc::set_option("pressure", "0").expect("an option");
    assert!(!pressure().is_tight && kept_after_freeing() >= 40);
    fs::remove_dir_all(directory).expect("removed");
}

/// A group for a child, where this process may make one.
struct Group(PathBuf);

impl Group {
    fn new() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/cgroup").ok()?;
        let inside = |wanted: &str| {
            text.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                (fields.next()? == wanted).then(|| fields.next().unwrap_or("/").to_owned())
            })
        };
        let name = format!("heapwright-test-{}", std::process::id());
        // Without making a file: a directory of anything else is no group.
        let set = |file: PathBuf, text: &str| {
            let mut file = fs::OpenOptions::new().write(true).open(file).ok()?;
            file.write_all(text.as_bytes()).ok()
        };
        let mounts = [("", "memory.max"), ("memory", "memory.limit_in_bytes")];
        mounts.iter().find_map(|(mount, limit)| {
            let inside = inside(mount)?;
            let place = Path::new("/sys/fs/cgroup").join(mount);
            [place.join(&inside[1..]), place].iter().find_map(|above| {
                let group = above.join(&name);
                fs::create_dir(&group).ok()?;
                let group = Self(group);
                let _ = set(group.0.join("memory.swap.max"), "0");
                set(group.0.join(limit), &LIMIT_BYTES.to_string())?;
                // Version 2 lets nobody into a group whose parent has members.
                let probe = Command::new("sh")
                    .args(["-c", "echo $$ > \"$0\""])
                    .arg(group.0.join("cgroup.procs"))
                    .stderr(Stdio::null())
                    .status();
                probe.is_ok_and(|status| status.success()).then_some(group)
            })
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Members that have just ended may still count.
        for _ in 0..200 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

/// Sizes change again and again, so that what was freed before serves nobody: without going back
/// in time it and what is live are more than the limit.
fn part_of_changing_sizes() {
    let mut stages = 0;
    for round in 0..2 {
        for bytes in [MIB / 2, 3 * MIB / 4, MIB] {
            let bytes = bytes + round * 128 * 1024;
            let blocks: Vec<usize> =
                (0..LIMIT_BYTES * 8 / 10 / bytes).map(|_| take(bytes)).collect();
            // Every other one, so that nothing joins; the rest when the next ones are there.
            let (go, stay): (Vec<_>, Vec<_>) =
                blocks.iter().enumerate().partition(|(number, _)| number % 2 == 0);
            give(&go.into_iter().map(|(_, block)| *block).collect::<Vec<_>>());
            let more: Vec<usize> =
                (0..LIMIT_BYTES * 45 / 100 / (2 * bytes)).map(|_| take(2 * bytes)).collect();
            give(&stay.into_iter().map(|(_, block)| *block).collect::<Vec<_>>());
            give(&more);
            stages += 1;
        }
    }
    println!("went through {stages} stages");
}

#[test]
fn a_program_lives_in_a_group_that_its_free_memory_would_fill() {
    if std::env::var_os(PART).is_some() {
        return part_of_changing_sizes();
    }
    let Some(group) = Group::new() else {
        return println!("skipped: no control group can be made here");
    };
    let own = std::env::current_exe().expect("this program");
    let run = |pressure: &str| {
        let name = "a_program_lives_in_a_group_that_its_free_memory_would_fill";
        Command::new("sh")
            .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
            .arg(group.0.join("cgroup.procs"))
            .arg(&own)
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env(PART, "1")
            .env("HEAPWRIGHT_PRESSURE", pressure)
            .output()
            .expect("it starts")
    };
    let output = run("1");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("6 stages"), "{output:?}");
    // Not promised, but it says whether the test tests anything here.
    println!("without looking at the group: {:?}", run("0").status);
}

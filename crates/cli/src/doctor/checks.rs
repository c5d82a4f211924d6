//! What the kernel and the system allow, read from /proc and /sys.

use super::Check;
use heapwright_launch::{CycleCounter, Machine, Program};
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

/// The kernel's usual number of mappings a process may have.
const MAP_COUNT_USUAL: u64 = 65_530;
/// Shared memory that a recording of a busy program with many threads wants.
const SPOOL_BYTES: u64 = 64 << 20;
/// First kernel with memfd_create (3.17).
const MEMFD_KERNEL: (u32, u32) = (3, 17);

/// Every check of the machine, in the order of printing.
pub(super) fn all(machine: &Machine) -> Vec<Check> {
    vec![
        platform(machine),
        Check::ok("cpu", format!("{} x {}", machine.cpus, machine.cpu)),
        memory(machine),
        cycle_counter(),
        performance_events(),
        memfd(machine),
        shared_memory(),
        temporary_directory(),
        huge_pages(),
        overcommit(),
        map_count(),
        limit("address space", "Max address space", "allocators reserve less at a time"),
        open_files(),
        core_files(),
        ptrace(),
        preloaded(),
        compiler(),
    ]
}

fn platform(machine: &Machine) -> Check {
    let value = format!("Linux {} {}, {}", machine.kernel, machine.architecture, machine.libc);
    match (machine.architecture.as_str(), machine.libc.is_empty()) {
        ("x86_64", false) => Check::ok("platform", value),
        (_, true) => Check::limited("platform", value, "not glibc: preloading is untested here"),
        _ => Check::limited("platform", value, "x86_64 is what we measure on"),
    }
}

fn memory(machine: &Machine) -> Check {
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64);
    match cgroup_limit() {
        Some(limit) if limit < machine.memory_bytes => Check::limited(
            "memory",
            format!("{}, this control group has {}", gib(machine.memory_bytes), gib(limit)),
            "peaks above the group's limit end by its killer; keep recordings small by --max-size",
        ),
        _ => Check::ok(
            "memory",
            format!("{}, no limit by a control group", gib(machine.memory_bytes)),
        ),
    }
}

/// The tightest `memory.max` from this process's control group up.
fn cgroup_limit() -> Option<u64> {
    let groups = read("/proc/self/cgroup")?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mut directory = PathBuf::from("/sys/fs/cgroup").join(path);
    let mut limit = None;
    while directory.starts_with("/sys/fs/cgroup") {
        if let Some(bytes) = number(&directory.join("memory.max")) {
            limit = Some(limit.map_or(bytes, |least: u64| least.min(bytes)));
        }
        directory.pop();
    }
    limit
}

fn cycle_counter() -> Check {
    match CycleCounter::this() {
        CycleCounter::Invariant => Check::ok("cycle counter", "invariant"),
        CycleCounter::Unknown => Check::limited(
            "cycle counter",
            "not said to be invariant",
            "events are timed by clock_gettime, some 20 ns each",
        ),
    }
}

fn performance_events() -> Check {
    let name = "performance events";
    let instead = "no instruction counts by the kernel; `cargo xtask bench` counts by valgrind";
    match read("/proc/sys/kernel/perf_event_paranoid")
        .and_then(|text| text.trim().parse::<i32>().ok())
    {
        None => Check::missing(name, "not in this kernel", instead),
        Some(level @ ..=2) => Check::ok(name, format!("perf_event_paranoid is {level}")),
        Some(level) => Check::limited(name, format!("perf_event_paranoid is {level}"), instead),
    }
}

fn memfd(machine: &Machine) -> Check {
    let mut numbers = machine.kernel.split(|letter: char| !letter.is_ascii_digit());
    let mut next = || numbers.next().and_then(|number| number.parse::<u32>().ok()).unwrap_or(0);
    let version = (next(), next());
    if version >= MEMFD_KERNEL {
        Check::ok("memfd", "in this kernel")
    } else {
        Check::missing("memfd", "kernel before 3.17", "files in /dev/shm are used")
    }
}

fn shared_memory() -> Check {
    let name = "/dev/shm";
    let instead = "recordings are spooled through TMPDIR, slower on a disk";
    if let Err(error) = try_write(Path::new("/dev/shm")) {
        return Check::missing(name, format!("cannot be written: {error}"), instead);
    }
    match heapwright_os::file_system_space(c"/dev/shm") {
        Ok(space) if space.free_bytes < SPOOL_BYTES => Check::limited(
            name,
            format!("{} MiB of {} MiB free", space.free_bytes >> 20, space.total_bytes >> 20),
            "a busy program waits for the collector more often; make it larger (docker: --shm-size)",
        ),
        Ok(space) => Check::ok(
            name,
            format!("{} MiB of {} MiB free", space.free_bytes >> 20, space.total_bytes >> 20),
        ),
        Err(errno) => Check::limited(name, format!("size unknown: {errno}"), instead),
    }
}

fn temporary_directory() -> Check {
    let directory = std::env::temp_dir();
    let value = directory.display().to_string();
    match try_write(&directory) {
        Ok(()) => Check::ok("temporary files", value),
        Err(error) => Check::missing(
            "temporary files",
            format!("{value} cannot be written: {error}"),
            "set TMPDIR to a directory that can",
        ),
    }
}

fn huge_pages() -> Check {
    let Some(text) = read("/sys/kernel/mm/transparent_hugepage/enabled") else {
        return Check::missing("huge pages", "not in this kernel", "nothing changes but speed");
    };
    let mode = text.split('[').nth(1).and_then(|rest| rest.split(']').next()).unwrap_or("unknown");
    match mode {
        "always" => Check::limited(
            "huge pages",
            "always",
            "resident memory comes in steps of 2 MiB: figures of small programs are coarse",
        ),
        _ => Check::ok("huge pages", mode),
    }
}

fn overcommit() -> Check {
    match number(Path::new("/proc/sys/vm/overcommit_memory")) {
        Some(2) => Check::limited(
            "overcommit",
            "2 (never)",
            "reserved addresses count as memory: allocators reserve less at a time",
        ),
        Some(mode) => Check::ok("overcommit", mode.to_string()),
        None => Check::limited("overcommit", "unknown", "the kernel's usual mode is assumed"),
    }
}

fn map_count() -> Check {
    match number(Path::new("/proc/sys/vm/max_map_count")) {
        Some(count) if count < MAP_COUNT_USUAL => Check::limited(
            "mappings",
            count.to_string(),
            "allocators stop splitting mappings at half of it and keep more memory",
        ),
        Some(count) => Check::ok("mappings", count.to_string()),
        None => Check::limited("mappings", "unknown", "65530 is assumed"),
    }
}

fn limit(name: &'static str, row: &str, instead: &'static str) -> Check {
    match soft_limit(row).as_deref() {
        Some("unlimited") | None => Check::ok(name, "unlimited"),
        Some(value) => Check::limited(name, value, instead),
    }
}

fn open_files() -> Check {
    match soft_limit("Max open files").and_then(|text| text.parse::<u64>().ok()) {
        Some(count @ ..256) => Check::limited(
            "open files",
            count.to_string(),
            "programs with hundreds of threads are recorded in part; raise `ulimit -n`",
        ),
        Some(count) => Check::ok("open files", count.to_string()),
        None => Check::ok("open files", "unlimited"),
    }
}

fn core_files() -> Check {
    let value = soft_limit("Max core file size").unwrap_or_else(|| "unknown".into());
    Check::ok("core files", if value == "0" { "off".into() } else { value })
}

fn ptrace() -> Check {
    match number(Path::new("/proc/sys/kernel/yama/ptrace_scope")) {
        None => Check::ok("ptrace", "not restricted"),
        Some(0) => Check::ok("ptrace", "allowed within a user"),
        Some(1) => Check::ok("ptrace", "parents only, which is all we need"),
        Some(scope) => Check::limited(
            "ptrace",
            format!("ptrace_scope is {scope}"),
            "Pss of other processes may be unreadable; the kernel's peak is used",
        ),
    }
}

fn preloaded() -> Check {
    match std::env::var_os("LD_PRELOAD").filter(|value| !value.is_empty()) {
        None => Check::ok("LD_PRELOAD", "empty"),
        Some(value) => Check::limited(
            "LD_PRELOAD",
            value.to_string_lossy(),
            "ours is put before it; an allocator in it serves as the system's",
        ),
    }
}

fn compiler() -> Check {
    match Program::find("cc".as_ref()) {
        Ok(program) => Check::ok("C compiler", program.path().display().to_string()),
        Err(_) => Check::missing(
            "C compiler",
            "no cc on PATH",
            "needed only to build Heapwright and its tests: install gcc",
        ),
    }
}

fn try_write(directory: &Path) -> std::io::Result<()> {
    let path = directory.join(format!(".heapwright-doctor-{}", std::process::id()));
    OpenOptions::new().write(true).create_new(true).open(&path)?;
    fs::remove_file(path)
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn number(path: &Path) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

/// The soft limit in row `name` of /proc/self/limits.
fn soft_limit(name: &str) -> Option<String> {
    let text = read("/proc/self/limits")?;
    let row = text.lines().find_map(|line| line.strip_prefix(name))?;
    row.split_whitespace().next().map(str::to_owned)
}

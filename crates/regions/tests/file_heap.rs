//! A heap in a file: found again elsewhere with its contents; told from what is torn or foreign.
#![cfg(feature = "os")]

use std::alloc::Layout;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use heapwright_os::{Fd, is_readable};
use heapwright_regions::{
    AllocError, FileHeap, FileHeapError, FileHeapShape, FilePart, FreeError, Tails,
};
use heapwright_testkit::Random;

const APPLICATION: u64 = 0x7465_7374;
const PATIENCE: Duration = Duration::from_secs(20);
const SHAPE: FileHeapShape = FileHeapShape { bytes: 1 << 20, leaf_bytes: 64, tails: Tails::Trim };

/// A path that no file has; removed at the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let name = format!("heapwright-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&path);
        Self(path)
    }

    fn c(&self) -> CString {
        CString::new(self.0.as_os_str().as_bytes()).expect("no zero byte")
    }

    fn create(&self) -> FileHeap {
        FileHeap::create(&self.c(), APPLICATION, SHAPE).expect("a fresh file")
    }

    /// Opens the heap, which nobody has open. A child that another test starts may have the file,
    /// and so the lock, until it runs its own program.
    fn open(&self) -> Result<FileHeap, FileHeapError> {
        let start = Instant::now();
        loop {
            match self.open_at_once() {
                Err(FileHeapError::InUse) if start.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                result => return result,
            }
        }
    }

    fn open_at_once(&self) -> Result<FileHeap, FileHeapError> {
        FileHeap::open(&self.c(), APPLICATION)
    }

    fn file(&self) -> std::fs::File {
        std::fs::File::options().read(true).write(true).open(&self.0).expect("it is there")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn fill(block: NonNull<u8>, bytes: usize, value: u8) {
    // SAFETY: a live block of that length.
    unsafe { block.write_bytes(value, bytes) };
}

fn holds(block: NonNull<u8>, bytes: usize, value: u8) -> bool {
    let bytes = NonNull::slice_from_raw_parts(block, bytes);
    // SAFETY: a live block of that length, filled before.
    unsafe { bytes.as_ref() }.iter().all(|byte| *byte == value)
}

#[test]
fn a_heap_is_found_again_at_another_address_with_its_contents() {
    for (seed, tails) in [(1, Tails::Trim), (2, Tails::Keep)] {
        let place = Place::new("reopen");
        let random = &mut Random::new(seed);
        let mut heap = FileHeap::create(&place.c(), APPLICATION, FileHeapShape { tails, ..SHAPE })
            .expect("a fresh file");
        let mut live: Vec<(u64, Layout, u8)> = Vec::new();
        let mut bases = Vec::new();
        for round in 0..8u8 {
            for _ in 0..400 {
                let size = random.log_uniform(1, 5000) as usize;
                let layout = Layout::from_size_align(size, 1 << random.below(8)).expect("a layout");
                if random.below(5) > 1 {
                    let Ok(block) = heap.try_alloc(layout) else { continue };
                    assert!(block.as_ptr().addr().is_multiple_of(layout.align()));
                    fill(block, size, round);
                    live.push((heap.offset_of(block), layout, round));
                } else if !live.is_empty() {
                    let (offset, layout, value) =
                        live.swap_remove(random.below(live.len() as u64) as usize);
                    let block = heap.at(offset).expect("inside");
                    assert!(holds(block, layout.size(), value));
                    // SAFETY: live, unused from here.
                    unsafe { heap.free(block, layout) }.expect("live");
                }
            }
            let root = live.first().map_or(0, |(offset, ..)| *offset);
            heap.set_root(3, root);
            let before = heap.statistics();
            bases.push(heap.mapping().start().as_ptr().addr());
            let bytes = heap.mapping().bytes();
            heap.close().expect("written");
            // Something else takes the old place, so that the heap comes to another.
            let taken = heapwright_os::reserve(bytes, heapwright_os::Protection::Read);
            heap = place.open().expect("closed well");
            assert_eq!(heap.statistics().live_bytes, before.live_bytes);
            assert_eq!(heap.statistics().largest_free_bytes, before.largest_free_bytes);
            assert_eq!(heap.root(3), Some(root).filter(|root| *root != 0));
            assert_eq!(heap.root(0), None);
            for (offset, layout, value) in &live {
                assert!(holds(heap.at(*offset).expect("inside"), layout.size(), *value));
            }
            assert!(taken.is_ok());
        }
        bases.dedup();
        assert!(bases.len() > 1, "seed {seed}: it came to the same address each time");
        for (offset, layout, _) in live {
            // SAFETY: live, unused from here.
            unsafe { heap.free(heap.at(offset).expect("inside"), layout) }.expect("live");
        }
        assert_eq!(heap.statistics().largest_free_bytes, 1 << 20);
    }
}

#[test]
fn a_heap_over_shared_memory_is_shared_by_its_descriptor() {
    let memory = Fd::shared_memory(c"heapwright-test").expect("memfd");
    let heap = FileHeap::create_in(memory, APPLICATION, SHAPE).expect("empty");
    let block = heap.try_alloc(Layout::new::<[u8; 100]>()).expect("room");
    fill(block, 100, 7);
    let offset = heap.offset_of(block);
    let same = heap.file().duplicate_above(3).expect("another descriptor");
    heap.close().expect("closed");
    let heap = FileHeap::open_in(same, APPLICATION).expect("closed well");
    assert!(holds(heap.at(offset).expect("inside"), 100, 7));
    assert_eq!(heap.at(0), None, "the header is no block");
    assert_eq!(heap.at(u64::MAX), None);
}

#[test]
fn misuse_is_refused_with_the_numbers() {
    let place = Place::new("misuse");
    let heap = place.create();
    let layout = Layout::new::<[u8; 1000]>();
    let block = heap.try_alloc(layout).expect("room");
    // SAFETY: a live block; likewise below, where it is none any more.
    unsafe { heap.free(block, layout) }.expect("live");
    let address = block.as_ptr().addr();
    // SAFETY: it may be anything.
    let twice = unsafe { heap.free(block, layout) };
    assert_eq!(twice, Err(FreeError::AlreadyFree { address }));
    let mut foreign = 0u64;
    // SAFETY: it may be anything.
    let foreign = unsafe { heap.free(NonNull::from(&mut foreign).cast(), layout) };
    assert!(matches!(foreign, Err(FreeError::NotOwned { .. })));
    let wide = Layout::from_size_align(1, 8192).expect("a layout");
    assert!(matches!(heap.try_alloc(wide), Err(AllocError::Unfit { align_bytes: 8192, .. })));
    let large = Layout::from_size_align(1 << 21, 1).expect("a layout");
    assert!(matches!(heap.try_alloc(large), Err(AllocError::Unfit { .. })));
    assert_eq!(heap.statistics().failure_count.value(), Some(2));
    assert_eq!(place.open_at_once().map(drop), Err(FileHeapError::InUse));
    drop(heap);
    for bytes in [0, 63] {
        let refused = FileHeap::create(&place.c(), 1, FileHeapShape { bytes, ..SHAPE });
        assert!(matches!(refused.map(drop), Err(FileHeapError::NotEmpty { .. })));
        let empty = Fd::shared_memory(c"heapwright-test").expect("memfd");
        let refused = FileHeap::create_in(empty, 1, FileHeapShape { bytes, ..SHAPE });
        assert!(matches!(refused.map(drop), Err(FileHeapError::Shape(_))));
    }
    for leaf_bytes in [0, 8, 100, 8192] {
        let empty = Fd::shared_memory(c"heapwright-test").expect("memfd");
        let refused = FileHeap::create_in(empty, 1, FileHeapShape { leaf_bytes, ..SHAPE });
        assert!(matches!(refused.map(drop), Err(FileHeapError::Shape(_))), "{leaf_bytes}");
    }
}

#[test]
fn more_than_the_disk_has_is_refused_with_the_numbers() {
    let place = Place::new("full");
    let shape = FileHeapShape { bytes: 1 << 50, leaf_bytes: 4096, tails: Tails::Keep };
    match FileHeap::create(&place.c(), APPLICATION, shape).map(drop) {
        Err(FileHeapError::NoSpace { requested_bytes, free_bytes }) => {
            assert!(requested_bytes > 1 << 50 && free_bytes < 1 << 50);
        }
        // Files as long are beyond some file systems, and leaves beyond the table.
        Err(FileHeapError::Kernel(_) | FileHeapError::Shape(_)) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn foreign_and_torn_files_have_clear_errors() {
    let place = Place::new("torn");
    for text in ["", "short", "#!/bin/sh\n# a file of somebody else, longer than a header is: \n"] {
        std::fs::write(&place.0, text.repeat(4)).expect("written");
        let told = place.open().map(drop);
        assert!(matches!(told, Err(FileHeapError::Foreign { .. })), "{text}: {told:?}");
        let refused = FileHeap::create(&place.c(), APPLICATION, SHAPE).map(drop);
        assert_eq!(refused.is_ok(), text.is_empty(), "{refused:?}");
        std::fs::remove_file(&place.0).expect("it is there");
    }
    let heap = place.create();
    let block = heap.try_alloc(Layout::new::<[u8; 5000]>()).expect("room");
    fill(block, 5000, 1);
    heap.close().expect("closed");
    let other = FileHeap::open(&place.c(), 9).map(drop);
    assert_eq!(other, Err(FileHeapError::OtherApplication { found: APPLICATION, expected: 9 }));
    // Each byte of the header, and bytes of the table: flipped, told, flipped back.
    let file = place.file();
    let table_bytes = (1 << 20) / 64 * 3 / 8;
    for offset in (0..160).chain((4096..4096 + table_bytes).step_by(97)) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).expect("inside");
        file.write_all_at(&[byte[0] ^ 0x10], offset).expect("written");
        let told = place.open().map(drop).expect_err("a flipped bit is told");
        let expected = match offset {
            0..8 => matches!(told, FileHeapError::Foreign { .. }),
            8..16 => matches!(told, FileHeapError::Version { .. }),
            16..160 => matches!(told, FileHeapError::Torn { part: FilePart::Header, .. }),
            _ => matches!(told, FileHeapError::Torn { part: FilePart::Table, .. }),
        };
        assert!(expected, "byte {offset}: {told:?}");
        file.write_all_at(&byte, offset).expect("written");
    }
    let whole = file.metadata().expect("it is there").len();
    file.set_len(whole - 1).expect("cut");
    let cut = FileHeapError::Truncated { expected_bytes: whole, file_bytes: whole - 1 };
    assert_eq!(place.open().map(drop), Err(cut));
    file.set_len(whole).expect("long again");
    place.open().expect("all is as it was");
}

/// A page of a heap in this file is touched by a child: `HEAPWRIGHT_CUT` names it.
#[test]
fn the_child_that_touches_a_cut_file() {
    let Some(path) = std::env::var_os("HEAPWRIGHT_CUT") else { return };
    let path = CString::new(path.as_bytes()).expect("no zero byte");
    let heap = FileHeap::open(&path, APPLICATION).expect("closed well");
    let offset = heap.root(0).expect("the parent set it");
    let block = heap.at(offset).expect("inside");
    assert!(is_readable(block.as_ptr().addr()));
    heap.file().set_bytes(8192).expect("cut");
    let told = heap.check().expect_err("it is shorter");
    assert!(matches!(told, FileHeapError::Truncated { file_bytes: 8192, .. }));
    assert!(matches!(heap.sync(), Err(FileHeapError::Truncated { .. })));
    assert!(!is_readable(block.as_ptr().addr()), "asking is no signal");
    println!("touching");
    // SAFETY: mapped memory; the file behind it is gone, which is what this is about.
    unsafe { block.write_volatile(1) };
    println!("not reached");
}

fn child(test: &str, variable: &str, path: &Path) -> std::process::Output {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env(variable, path)
        .output()
        .expect("it starts")
}

#[test]
fn a_file_cut_under_a_mapping_is_told_and_touching_it_is_sigbus() {
    let place = Place::new("cut");
    let heap = place.create();
    let block = heap.try_alloc(Layout::new::<[u8; 100_000]>()).expect("room");
    fill(block, 100_000, 1);
    let last = heap.offset_of(block) + 90_000;
    heap.set_root(0, last);
    heap.close().expect("closed");
    let output = child("the_child_that_touches_a_cut_file", "HEAPWRIGHT_CUT", &place.0);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("touching") && !text.contains("not reached"), "{output:?}");
    assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{output:?}");
    assert!(matches!(place.open(), Err(FileHeapError::Truncated { .. })));
}

/// Allocates and frees for ever in a heap, one line a call: `HEAPWRIGHT_KILL` names it.
#[test]
fn the_child_that_is_killed() {
    use std::io::Write;
    let Some(path) = std::env::var_os("HEAPWRIGHT_KILL") else { return };
    let path = CString::new(path.as_bytes()).expect("no zero byte");
    let heap = FileHeap::open(&path, APPLICATION).expect("closed well");
    let random = &mut Random::new(u64::from(std::process::id()));
    let mut live = Vec::new();
    for step in 0u64.. {
        let layout =
            Layout::from_size_align(random.log_uniform(1, 9000) as usize, 8).expect("fits");
        if random.below(2) == 0
            && let Ok(block) = heap.try_alloc(layout)
        {
            live.push((block, layout));
        } else if !live.is_empty() {
            let (block, layout) = live.swap_remove(random.below(live.len() as u64) as usize);
            // SAFETY: live, unused from here.
            unsafe { heap.free(block, layout) }.expect("live");
        }
        if step == 1000 {
            let mut out = std::io::stdout();
            out.write_all(b"ready\n").expect("written");
            out.flush().expect("written");
        }
    }
}

#[test]
fn a_heap_whose_process_was_killed_is_told_and_salvaged_or_refused() {
    use std::io::Read;
    let (mut salvaged, mut refused) = (0, 0);
    for trial in 0..12 {
        let place = Place::new(&format!("killed-{trial}"));
        place.create().close().expect("closed");
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "the_child_that_is_killed", "--nocapture"])
            .env("HEAPWRIGHT_KILL", &place.0)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut out = child.stdout.take().expect("a pipe");
        let mut text = Vec::new();
        while !text.ends_with(b"ready\n") {
            let mut byte = [0];
            assert_eq!(out.read(&mut byte).expect("read"), 1, "the child ended: {text:?}");
            text.push(byte[0]);
        }
        child.kill().expect("killed");
        child.wait().expect("it ends");
        let told = place.open().map(drop);
        assert_eq!(told, Err(FileHeapError::NotClosed { close_count: 1 }));
        match FileHeap::salvage(&place.c(), APPLICATION) {
            Ok(heap) => {
                salvaged += 1;
                let block = heap.try_alloc(Layout::new::<u64>());
                assert!(block.is_ok() || heap.statistics().largest_free_bytes == 0);
                drop(heap);
                place.open().expect("closed by the drop");
            }
            // Killed inside a call: the bits are between two states, and that is told.
            Err(FileHeapError::Unsound) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(salvaged + refused, 12);
    assert!(salvaged > 0, "a kill inside a call is the rarer case");
}

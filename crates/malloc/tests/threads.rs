//! Blocks that cross threads, threads that end, frees that come late.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use heapwright_malloc::{alloc, free, statistics, trim, usable_bytes};

/// The tests of this file look at the whole process's numbers.
static ALONE: Mutex<()> = Mutex::new(());

/// A block on its way to another thread.
struct Sent(*mut u8, usize, u8);

// SAFETY: blocks may be used and freed by any thread.
unsafe impl Send for Sent {}

fn fresh(bytes: usize, fill: u8) -> Sent {
    let block = alloc(bytes);
    assert!(!block.is_null());
    // SAFETY: just allocated.
    unsafe { block.write_bytes(fill, bytes) };
    Sent(block, bytes, fill)
}

fn check_and_free(Sent(block, bytes, fill): Sent) {
    // SAFETY: a live block of at least `bytes`.
    let contents = unsafe { std::slice::from_raw_parts(block, bytes) };
    assert!(contents.iter().all(|byte| *byte == fill), "{bytes} bytes at {block:p} changed");
    // SAFETY: live, and not used again.
    unsafe { free(block) };
}

#[test]
fn a_producers_blocks_are_freed_by_consumers_and_reused() {
    let _alone = ALONE.lock().unwrap();
    let before = statistics();
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel::<Sent>(256);
        let receiver = std::sync::Arc::new(Mutex::new(receiver));
        for _ in 0..2 {
            let receiver = receiver.clone();
            scope.spawn(move || {
                loop {
                    let Ok(block) = receiver.lock().unwrap().recv() else { return };
                    check_and_free(block);
                }
            });
        }
        scope.spawn(move || {
            for step in 0..300_000usize {
                sender.send(fresh(16 + step * 7 % 600, step as u8)).unwrap();
            }
        });
    });
    trim();
    let after = statistics();
    // All threads are gone and every block came back, so their spans did, too.
    assert!(
        after.small_used_bytes <= before.small_used_bytes + 64 * 1024,
        "{before:?} then {after:?}"
    );
}

#[test]
fn memory_of_ended_threads_is_used_again() {
    let _alone = ALONE.lock().unwrap();
    let mut largest = 0;
    let mut kept = Vec::new();
    for round in 0..300usize {
        let blocks = std::thread::spawn(move || {
            (0..200).map(|step| fresh(16 + step * 11 % 900, round as u8)).collect::<Vec<_>>()
        })
        .join()
        .unwrap();
        for (step, block) in blocks.into_iter().enumerate() {
            if step == 0 { kept.push(block) } else { check_and_free(block) }
        }
        if round >= 20 {
            largest = largest.max(statistics().small_span_bytes);
        }
        if round == 20 {
            largest = statistics().small_span_bytes;
        }
    }
    // 300 blocks of 16 bytes are kept; without adoption each thread would leave its spans.
    assert!(largest < 32 << 20, "{largest}");
    kept.into_iter().for_each(check_and_free);
}

static LATE: AtomicUsize = AtomicUsize::new(0);
static KEY: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn late_destructor(value: *mut libc::c_void) {
    let round = LATE.fetch_add(1, Ordering::Relaxed);
    // SAFETY: set by the test's thread or below: a live block.
    assert!(unsafe { usable_bytes(value.cast()) } >= 100);
    // SAFETY: as above; it is freed once.
    unsafe { free(value.cast()) };
    let next = alloc(100 + round);
    assert!(!next.is_null());
    // SAFETY: the key was made by the test.
    unsafe { libc::pthread_setspecific(KEY.load(Ordering::Relaxed) as u32, next.cast()) };
}

#[test]
fn blocks_come_and_go_after_the_threads_last_destructor() {
    let _alone = ALONE.lock().unwrap();
    // Make sure that the allocator's own key is the older one, so that in every round its
    // destructor runs before this test's.
    check_and_free(fresh(100, 1));
    let mut key = 0;
    // SAFETY: libc writes the key.
    assert_eq!(unsafe { libc::pthread_key_create(&mut key, Some(late_destructor)) }, 0);
    KEY.store(key as usize, Ordering::Relaxed);
    for _ in 0..50 {
        std::thread::spawn(|| {
            let block = alloc(100);
            let key = KEY.load(Ordering::Relaxed) as u32;
            // SAFETY: the key was made above.
            unsafe { libc::pthread_setspecific(key, block.cast()) };
            check_and_free(fresh(3000, 7));
        })
        .join()
        .unwrap();
    }
    // Four rounds in each thread, the last one after the heap was given up. glibc leaves what
    // the last round sets.
    assert_eq!(LATE.load(Ordering::Relaxed), 200);
}

#[test]
fn a_thread_without_a_heap_can_free() {
    let _alone = ALONE.lock().unwrap();
    let blocks: Vec<_> = (0..5000).map(|step| fresh(16 + step % 500, 3)).collect();
    std::thread::spawn(move || blocks.into_iter().for_each(check_and_free)).join().unwrap();
    // Blocks of a thread that has ended, freed by a thread that has never allocated.
    let orphans =
        std::thread::spawn(|| (0..5000).map(|step| fresh(16 + step % 500, 4)).collect::<Vec<_>>())
            .join()
            .unwrap();
    std::thread::spawn(move || orphans.into_iter().for_each(check_and_free)).join().unwrap();
}

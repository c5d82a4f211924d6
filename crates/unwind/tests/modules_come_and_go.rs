//! Rules do not outlive the module that they were made for, and the list of modules is right.
#![cfg(target_arch = "x86_64")]

mod shapes;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use heapwright_unwind::{
    Memo, Registers, StackEnd, module_generation, modules_loaded, modules_unloaded,
    modules_unloading, refresh_modules, reset_after_fork, visit_modules,
};
use shapes::{FIRST_SHAPE, NAMES, SAMPLE, compile, libgcc_backtrace, open, play_with, run_script};

#[inline(never)]
fn compare(memo: &mut Memo) {
    // SAFETY: this thread's registers; this function goes on running.
    let capture = unsafe { memo.capture(Registers::current()) };
    let theirs = libgcc_backtrace();
    assert_eq!(capture.end, StackEnd::Complete);
    let ours: Vec<usize> = memo.frames().iter().rev().map(|f| f.return_address()).collect();
    assert_eq!(format!("{:x?}", &ours[1..]), format!("{:x?}", &theirs[1..]));
}

/// Start, end and build id of the module with this path.
fn find(path: &Path) -> Option<(usize, usize, Vec<u8>)> {
    let mut found = None;
    visit_modules(|module| {
        if module.path == path.as_os_str().as_encoded_bytes() {
            found = Some((module.start, module.end, module.build_id.to_vec()));
        }
    })
    .expect("nobody holds the list");
    found
}

#[test]
fn another_object_at_the_same_address_gets_its_own_rules() {
    let objects = [
        compile("small-frames", &["-fomit-frame-pointer", "-Wl,--build-id=sha1"]),
        compile("frame-pointers", &["-fno-omit-frame-pointer", "-mavx", "-DPADDING"]),
        compile("unoptimised", &["-O0"]),
    ];
    let script: Vec<u8> =
        (0..NAMES.len() as u8 - 4).flat_map(|shape| [FIRST_SHAPE + shape, SAMPLE]).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Another thread captures all the time; its stacks have no part in the objects.
        let busy = scope.spawn(|| {
            let mut memo = Box::new(Memo::new());
            let mut complete = 0;
            while !stop.load(Ordering::Relaxed) {
                // SAFETY: this thread's registers; this function goes on running.
                let capture = unsafe { memo.capture(Registers::current()) };
                complete += usize::from(capture.end == StackEnd::Complete);
            }
            complete
        });
        let mut memo = Box::new(Memo::new());
        let mut starts = Vec::new();
        for round in 0..30 {
            let path = &objects[round % objects.len()];
            modules_loaded();
            let handle = open(path);
            modules_loaded();
            let mut samples = 0;
            play_with(run_script(handle), &script, &mut || {
                compare(&mut memo);
                samples += 1;
            });
            assert_eq!(samples, script.len() / 2);
            let (start, end, build_id) = find(path).expect("is in the list");
            assert!(start < end);
            assert_eq!(build_id.len(), 20);
            starts.push(start);
            let generation = module_generation();
            modules_unloading();
            // SAFETY: nothing of the object is in use.
            assert_eq!(unsafe { libc::dlclose(handle) }, 0);
            modules_unloaded();
            assert_ne!(module_generation(), generation);
            assert_eq!(find(path), None);
        }
        starts.sort_unstable();
        starts.dedup();
        assert!(starts.len() < 30, "the loader never used an address again: nothing was tested");
        stop.store(true, Ordering::Relaxed);
        assert!(busy.join().expect("runs") > 0);
    });
    for path in objects {
        std::fs::remove_file(path).expect("was made");
    }
}

#[test]
fn the_list_has_the_program_libc_and_the_vdso_in_order() {
    assert!(refresh_modules());
    let (mut last_end, mut names) = (0, Vec::new());
    let generation = visit_modules(|module| {
        assert!(module.start >= last_end && module.start < module.end);
        last_end = module.end;
        names.push(String::from_utf8_lossy(module.path).into_owned());
    });
    assert!(generation.is_some_and(|generation| generation > 0));
    let program = std::env::current_exe().expect("has a path");
    assert!(names.iter().any(|name| Path::new(name) == program), "{names:?}");
    assert!(names.iter().any(|name| name.contains("libc.so")), "{names:?}");
    assert!(names.iter().any(|name| name == "[vdso]"), "{names:?}");
}

#[test]
fn a_forked_child_captures() {
    // Another thread keeps the resolver's lock busy while this one forks.
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                refresh_modules();
            }
        });
        for _ in 0..20 {
            let mut memo = Box::new(Memo::new());
            // SAFETY: the child calls only what is allowed after fork, and ends by `_exit`.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: the child's only thread, in no other call of the crate.
                unsafe { reset_after_fork() };
                // SAFETY: this thread's registers; this function goes on running.
                let capture = unsafe { memo.capture(Registers::current()) };
                // SAFETY: ends the process.
                unsafe { libc::_exit(i32::from(capture.end != StackEnd::Complete)) };
            }
            let mut status = 0;
            // SAFETY: waits for the child made above.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

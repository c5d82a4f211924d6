//! What the kernel refuses, forks, and threads that end with a heap.

mod collecting;
mod list;

use collecting::COLLECTORS;
use heapwright_gc::{Config, Gc, GcCell, Heap, HeapError, LimitReached, rootable};
use list::Node;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::rc::Rc;

type List = rootable!['gc => GcCell<Option<Gc<'gc, Node<'gc>>>>];
/// Tells the test below that it is the child, and how much address space it has left, in KiB.
const ROOM_KIB: &str = "HEAPWRIGHT_GC_TEST_ROOM_KIB";

fn fill(heap: &mut Heap<List>, count: u64) -> Result<(), LimitReached> {
    for value in 0..count {
        heap.mutate(|mu, head| {
            // Wide and deep: an array of nodes makes the mark stack grow.
            let many = mu.alloc_slice(50, |_| mu.alloc(value))?;
            let node = mu.alloc(Node {
                value: value + many.len() as u64 - 50,
                next: GcCell::new(head.get()),
            })?;
            mu.alloc_weak(node)?;
            mu.identity(node)?;
            head.set(mu, Some(node));
            Ok(())
        })?;
    }
    Ok(())
}

fn values(heap: &mut Heap<List>) -> u64 {
    heap.mutate(|_, head| {
        std::iter::successors(head.get(), |node| node.next.get()).map(|node| node.value).sum()
    })
}

/// Bytes of addresses that this process has.
fn address_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("this process");
    let pages = pages.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
    pages.expect("its size") * 4096
}

#[test]
fn child_with_little_room() {
    let Ok(kib) = std::env::var(ROOM_KIB) else { return };
    let bytes = address_bytes() + kib.parse::<u64>().expect("a number") * 1024;
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: the structure lives, and lowering a limit concerns this process only.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
    for collector in COLLECTORS {
        let config = Config {
            limit_bytes: 1 << 20,
            trigger_bytes_min: 256 << 10,
            nursery_bytes: 64 << 10,
            ..Config::with(collector)
        };
        let mut heap = match Heap::<List>::new(config, |_| GcCell::new(None)) {
            Ok(heap) => heap,
            Err(HeapError::Reserve { bytes, .. }) => {
                assert!(bytes > 0);
                eprintln!("outcome: no heap");
                continue;
            }
            Err(other) => panic!("{other}"),
        };
        // Refused to the program, or to a table of the collector: then the heap is lost, and says
        // so. Never anything else.
        let filled = catch_unwind(AssertUnwindSafe(|| fill(&mut heap, 100)));
        let outcome = match &filled {
            Ok(Ok(())) => "filled",
            Ok(Err(LimitReached)) => "refused",
            Err(_) => "lost",
        };
        eprintln!("outcome: {outcome}");
        match filled {
            Ok(result) => {
                let again = catch_unwind(AssertUnwindSafe(|| values(&mut heap)));
                assert!(result.is_err() || again.is_err() || again.is_ok_and(|sum| sum == 4950));
            }
            Err(_) => assert!(catch_unwind(AssertUnwindSafe(|| heap.collect())).is_err()),
        }
    }
}

/// Every mapping that a heap asks for is refused in some of these runs.
#[test]
fn a_kernel_that_refuses_addresses_ends_no_process() {
    let test = std::env::current_exe().expect("this test");
    let mut outcomes = BTreeMap::<String, usize>::new();
    for kib in (0..16).map(|step| 128 * step).chain((0..320).map(|step| 2048 + 32 * step)) {
        let output = Command::new(&test)
            .args(["--exact", "child_with_little_room", "--test-threads", "1", "--nocapture"])
            .env(ROOM_KIB, kib.to_string())
            .env("RUST_BACKTRACE", "0")
            .output()
            .expect("runs");
        let text = String::from_utf8_lossy(&output.stderr);
        // So little that not even the test's own thread or message has room.
        if !output.status.success() && text.contains("memory allocation of") {
            continue;
        }
        assert!(output.status.success(), "{kib} KiB: {:?}\n{text}", output.status);
        for outcome in text.lines().filter_map(|line| line.strip_prefix("outcome: ")) {
            *outcomes.entry(outcome.to_owned()).or_default() += 1;
        }
    }
    // Where exactly each begins depends on the machine; that there is
    // something between none and all is sure.
    for outcome in ["no heap", "filled"] {
        assert!(outcomes.contains_key(outcome), "{outcomes:?}");
    }
    let between = ["refused", "lost"].map(|name| outcomes.get(name).copied().unwrap_or(0));
    assert!(between.iter().sum::<usize>() > 0, "{outcomes:?}");
}

#[test]
fn a_fork_leaves_two_heaps() {
    for collector in COLLECTORS {
        let mut heap =
            Heap::<List>::new(Config::with(collector), |_| GcCell::new(None)).expect("addresses");
        fill(&mut heap, 100).expect("room");
        // SAFETY: the child uses its copy of the heap, whose memory is its own, and leaves without
        // running what belongs to the parent; heaps take no lock and no memory of malloc.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "the kernel makes a process");
        if child == 0 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                heap.collect();
                let is_same = values(&mut heap) == 4950;
                heap.mutate(|mu, head| head.set(mu, None));
                heap.collect();
                is_same && fill(&mut heap, 50).is_ok() && values(&mut heap) == 1225
            }));
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(if result.is_ok_and(|fine| fine) { 0 } else { 1 }) };
        }
        heap.collect();
        assert_eq!(values(&mut heap), 4950, "{collector:?}: the parent's");
        let mut status = 0;
        // SAFETY: the child is ours, and the status lives.
        while unsafe { libc::waitpid(child, &raw mut status, 0) } != child {}
        assert_eq!(status, 0, "{collector:?}: the child's");
        assert_eq!(values(&mut heap), 4950, "{collector:?}: the parent's, later");
    }
}

struct Counted(Rc<Cell<u32>>, std::sync::mpsc::Sender<u32>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
        let _ = self.1.send(self.0.get());
    }
}

type Held = rootable!['gc => Gc<'gc, heapwright_gc::Static<Counted>>];

#[test]
fn a_heap_of_a_thread_ends_with_it() {
    thread_local! { static HEAP: RefCell<Option<Heap<Held>>> = const { RefCell::new(None) }; }
    for collector in COLLECTORS {
        let (send, receive) = std::sync::mpsc::channel();
        let ended = std::thread::spawn(move || {
            let heap = Heap::<Held>::new(Config::with(collector), |mu| {
                mu.alloc(heapwright_gc::Static(Counted(Rc::default(), send))).expect("room")
            });
            HEAP.with(|place| *place.borrow_mut() = heap.ok());
        });
        ended.join().expect("ends");
        assert_eq!(receive.iter().collect::<Vec<_>>(), [1], "{collector:?}: the destructor ran");
    }
}

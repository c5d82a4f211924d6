//! A whole test process, harness included, on Heapwright as its global allocator.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::process::Command;

use heapwright::Heapwright;

#[global_allocator]
static GLOBAL: Heapwright = Heapwright;

/// Allocates and frees in a destructor of a thread-local.
struct Late(Vec<String>);

impl Drop for Late {
    fn drop(&mut self) {
        self.0.push(format!("{} strings", self.0.len()));
        let joined = self.0.join(", ");
        assert!(joined.ends_with(" strings"));
    }
}

thread_local! {
    static LATE: RefCell<Late> = const { RefCell::new(Late(Vec::new())) };
}

#[test]
fn collections_in_many_threads_keep_their_contents() {
    let threads: Vec<_> = (0..32usize)
        .map(|thread| {
            std::thread::spawn(move || {
                LATE.with_borrow_mut(|late| late.0.push("first".repeat(thread)));
                let mut by_name = HashMap::new();
                let mut by_number = BTreeMap::new();
                for step in 0..3000usize {
                    by_name.insert(format!("{thread}-{step}"), vec![step as u8; step % 3000]);
                    by_number.insert(step * 7919 % 3001, step.to_string());
                }
                (by_name, by_number)
            })
        })
        .collect();
    for (thread, handle) in threads.into_iter().enumerate() {
        let (by_name, by_number) = handle.join().expect("no panic");
        for step in 0..3000usize {
            let bytes = &by_name[&format!("{thread}-{step}")];
            assert!(bytes.len() == step % 3000 && bytes.iter().all(|byte| *byte == step as u8));
            assert_eq!(by_number[&(step * 7919 % 3001)], step.to_string());
        }
    }
}

#[repr(align(256))]
#[derive(Clone)]
struct Aligned([u8; 256]);

#[test]
fn a_vector_of_strictly_aligned_elements_stays_aligned_as_it_grows() {
    let mut elements = Vec::new();
    for step in 0..2000usize {
        elements.push(Aligned([step as u8; 256]));
        assert!(elements.as_ptr().addr().is_multiple_of(256));
    }
    assert!(elements.iter().enumerate().all(|(step, element)| element.0[255] == step as u8));
}

#[test]
fn zeroed_vectors_are_zero_after_reuse() {
    for round in 0..50 {
        for bytes in [100, 5000, 70_000, 3_000_000] {
            let mut zeroed = vec![0u8; bytes];
            assert!(zeroed.iter().all(|byte| *byte == 0), "round {round}, {bytes} bytes");
            zeroed.fill(0xff);
        }
    }
}

#[test]
fn children_are_started_from_many_threads() {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let output = Command::new("/bin/echo").arg("heap").output().expect("echo");
                    assert_eq!(output.stdout, b"heap\n");
                }
            });
        }
    });
}

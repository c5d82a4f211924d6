//! A row store: rows of bytes under numbers, found through a B-tree.
//!
//! `database --malloc` keeps nodes and rows in blocks of `malloc` and loses them at the end;
//! `database --ours` keeps them in row pools of a heap in a file, closes it, opens it again at
//! another address and reads every row. Both run the same seeded load over the same tree and print
//! the same check sum.

mod btree;
mod malloc;
mod ours;
mod store;

use btree::Tree;
use heapwright_testkit::{Latencies, Random, resident_kib};
use std::process::ExitCode;
use store::{Store, StoreError};

/// What one run does.
struct Load {
    rows: u64,
    /// Finds, updates and removals after the rows are in.
    operations: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (variant, rows, operations) = match words[..] {
        [variant] => (variant, "200000", None),
        [variant, "--rows", rows] => (variant, rows, None),
        [variant, "--rows", rows, "--operations", count] => (variant, rows, Some(count)),
        _ => ("", "", None),
    };
    let counts = (rows.parse::<u64>(), operations.unwrap_or(rows).parse::<u64>());
    let ((Ok(rows @ 1..), Ok(operations)), "--malloc" | "--ours") = (counts, variant) else {
        eprintln!("usage: database --malloc|--ours [--rows N [--operations N]]");
        return ExitCode::from(2);
    };
    let load = Load { rows, operations };
    let result = if variant == "--malloc" { on_malloc(&load) } else { on_file(&load) };
    match result {
        Ok(sum) => {
            println!("check sum: {sum:016x}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("database: {error}");
            ExitCode::FAILURE
        }
    }
}

fn on_malloc(load: &Load) -> Result<u64, StoreError> {
    let mut store = malloc::MallocStore::default();
    let mut tree = Tree::empty();
    run(&mut store, &mut tree, load)?;
    read_all(&store, &tree)
}

fn on_file(load: &Load) -> Result<u64, StoreError> {
    let path = std::env::temp_dir().join(format!("heapwright-database-{}", std::process::id()));
    let result = in_file(&path, load);
    // The file is an example's; a database keeps it.
    let _ = std::fs::remove_file(&path);
    result
}

fn in_file(path: &std::path::Path, load: &Load) -> Result<u64, StoreError> {
    // A row of up to 1 KiB, its node's share, and as much again for what is deleted meanwhile.
    let bytes = (load.rows * 1200).max(8 << 20);
    let mut store = ours::FileStore::create(path, bytes)?;
    let mut tree = Tree::empty();
    run(&mut store, &mut tree, load)?;
    let before = read_all(&store, &tree)?;
    store.close(&tree)?;
    let (store, tree) = ours::FileStore::open(path)?;
    let after = read_all(&store, &tree)?;
    if before != after {
        return Err(StoreError::Lost);
    }
    println!("reopened: every row is as it was");
    Ok(after)
}

/// Fills the store, then reads, updates and deletes.
fn run(store: &mut impl Store, tree: &mut Tree, load: &Load) -> Result<(), StoreError> {
    let random = &mut Random::new(1);
    let mut row = Vec::with_capacity(1024);
    let mut inserts = Latencies::default();
    for key in 0..load.rows {
        fill(&mut row, random);
        inserts.time(|| tree.insert(store, scramble(key), &row))?;
    }
    println!("inserts: {}, {}", inserts.count(), inserts.summary());
    let mut finds = Latencies::default();
    let mut updates = Latencies::default();
    for _ in 0..load.operations {
        let key = scramble(random.below(load.rows));
        if random.below(2) == 0 {
            finds.time(|| tree.find(store, key).map(|row| row.len()));
        } else if random.below(4) == 0 {
            updates.time(|| tree.remove(store, key))?;
        } else {
            fill(&mut row, random);
            updates.time(|| tree.insert(store, key, &row))?;
        }
    }
    println!("finds: {}, {}", finds.count(), finds.summary());
    println!("updates: {}, {}", updates.count(), updates.summary());
    println!("resident: {} KiB", resident_kib().unwrap_or(0));
    Ok(())
}

/// Rows of the lengths that rows have: mostly short, some long.
fn fill(row: &mut Vec<u8>, random: &mut Random) {
    let bytes = random.log_uniform(40, 1000) as usize;
    row.clear();
    row.resize(bytes, random.next_u64() as u8);
}

/// Keys come in no order.
fn scramble(key: u64) -> u64 {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

/// A sum over all rows in the order of their keys.
fn read_all(store: &impl Store, tree: &Tree) -> Result<u64, StoreError> {
    let mut sum = 0u64;
    let mut last = None;
    let mut count = 0;
    tree.each(store, &mut |key, row| {
        let ordered = last.is_none_or(|last| last < key);
        sum = sum.wrapping_mul(31).wrapping_add(key ^ row.len() as u64 ^ u64::from(row[0]));
        sum ^= u64::from(!ordered);
        last = Some(key);
        count += 1;
    });
    if count == tree.row_count() { Ok(sum) } else { Err(StoreError::Lost) }
}

//! Random programs on pools, over every backing, beside a model.

use std::alloc::{Layout, System};
use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::rc::Rc;

use heapwright_regions::{
    AnonymousPages, Backing, Buffer, Chained, DensePool, Failing, Handle, HandlePool, Limited,
    Pool, Upstream,
};
use heapwright_testkit::Random;

/// Fills blocks and frees them in any order; how many requests were refused.
fn run_pool<B: Backing>(backing: B, layout: Layout, seed: u64, steps: u32) -> u32 {
    println!("seed {seed}, {layout:?}");
    let random = &mut Random::new(seed);
    let pool: Pool<B> = Pool::new_in(backing, layout);
    let size = pool.block_layout().size();
    let mut live: Vec<(NonNull<u8>, u8)> = Vec::new();
    let mut refused = 0;
    let holds = |(start, fill): (NonNull<u8>, u8)| {
        for at in 0..size {
            // SAFETY: inside a live block.
            let byte = unsafe { start.add(at) };
            // SAFETY: written when the block was made.
            assert_eq!(unsafe { byte.read() }, fill);
        }
    };
    for step in 0..steps {
        let growing = step / 1000 % 2 == 0;
        if random.below(10) < if growing { 6 } else { 4 } || live.is_empty() {
            let Some(start) = pool.alloc() else {
                refused += 1;
                continue;
            };
            assert!(start.as_ptr().addr().is_multiple_of(layout.align()));
            assert!(start.cast::<usize>().is_aligned(), "P2: it has a link when it is free");
            // SAFETY: a fresh block of that size.
            unsafe { start.write_bytes(step as u8, size) };
            live.push((start, step as u8));
        } else {
            let block = live.swap_remove(random.below(live.len() as u64) as usize);
            holds(block);
            // SAFETY: live, unused from here.
            unsafe { pool.free(block.0) };
        }
        if step % 500 == 0 {
            assert_eq!(pool.statistics().live_count.value(), Some(live.len()));
            live.iter().for_each(|block| holds(*block));
        }
    }
    refused
}

#[test]
fn blocks_keep_their_contents_over_every_backing() {
    let layouts = [(1, 1), (21, 1), (24, 8), (64, 64), (1000, 16), (16, 4096)];
    for (seed, (size, align)) in layouts.into_iter().enumerate() {
        let (layout, seed) = (Layout::from_size_align(size, align).expect("valid"), seed as u64);
        assert_eq!(run_pool(AnonymousPages, layout, seed, 4000), 0);
        assert_eq!(run_pool(Upstream(System), layout, seed, 4000), 0);
        let mut memory = vec![MaybeUninit::uninit(); 20_000];
        let chain = Chained::new(Buffer::new(&mut memory), Upstream(System));
        assert_eq!(run_pool(chain, layout, seed, 4000), 0);
        let quota = Limited::new(AnonymousPages, 3 * 65536);
        run_pool(&quota, layout, seed, 4000);
        assert_eq!(quota.committed_bytes(), 0);
        for calls in 0..12 {
            run_pool(Failing::once_after(Upstream(System), calls), layout, seed, 1000);
            run_pool(Failing::for_ever_after(AnonymousPages, calls), layout, seed, 1000);
        }
    }
}

/// The same program for every pool with handles; how many insertions were refused.
macro_rules! handles_model {
    ($name:ident, $pool:ident) => {
        fn $name<B: Backing>(backing: B, seed: u64, steps: u32) -> u32 {
            println!("seed {seed}");
            let random = &mut Random::new(seed);
            let counted = Rc::new(());
            let mut pool: $pool<(u64, Rc<()>), B> = $pool::new_in(backing);
            let mut live: HashMap<Handle<(u64, Rc<()>)>, u64> = HashMap::new();
            let mut order = Vec::new();
            let mut dead = Vec::new();
            let mut refused = 0;
            for step in 0..steps {
                if random.below(100) < 55 || order.is_empty() {
                    let Ok(handle) = pool.insert((u64::from(step), counted.clone())) else {
                        refused += 1;
                        continue;
                    };
                    assert_eq!(live.insert(handle, u64::from(step)), None, "a handle came twice");
                    order.push(handle);
                } else {
                    let handle = order.swap_remove(random.below(order.len() as u64) as usize);
                    let value = live.remove(&handle);
                    pool.get_mut(handle).expect("live").0 += 1;
                    assert_eq!(
                        pool.remove(handle).map(|(number, _)| number),
                        value.map(|old| old + 1)
                    );
                    dead.push(handle);
                }
                assert_eq!(Rc::strong_count(&counted), live.len() + 1);
                if step % 400 == 0 {
                    assert!(
                        dead.iter().all(|stale| !pool.contains(*stale)),
                        "a stale handle is taken"
                    );
                    assert!(
                        live.iter().all(|(key, value)| pool.get(*key).map(|v| v.0) == Some(*value))
                    );
                    assert_eq!(pool.iter().len(), live.len());
                    assert_eq!(pool.iter().count(), live.len());
                    assert!(pool.iter().all(|(key, value)| live.get(&key) == Some(&value.0)));
                }
                if step == steps / 2 {
                    pool.clear();
                    dead.extend(live.drain().map(|(key, _)| key));
                    order.clear();
                }
            }
            drop(pool);
            assert_eq!(Rc::strong_count(&counted), 1, "values are dropped with the pool");
            refused
        }
    };
}

handles_model!(run_handles, HandlePool);
handles_model!(run_dense, DensePool);

#[test]
fn handles_name_their_value_and_nothing_after_it() {
    for seed in 0..4 {
        assert_eq!(run_handles(AnonymousPages, seed, 4000), 0);
        let mut memory = vec![MaybeUninit::uninit(); 1000];
        assert!(run_handles(Buffer::new(&mut memory), seed, 2000) > 0);
        let quota = Limited::new(AnonymousPages, 65536);
        run_handles(&quota, seed, 4000);
        assert_eq!(quota.committed_bytes(), 0);
        for calls in 0..4 {
            run_handles(Failing::once_after(AnonymousPages, calls), seed, 500);
            run_handles(Failing::for_ever_after(Upstream(System), calls), seed, 500);
        }
    }
}

#[test]
fn values_without_gaps_keep_their_handles() {
    for seed in 0..4 {
        assert_eq!(run_dense(AnonymousPages, seed, 4000), 0);
        let mut memory = vec![MaybeUninit::uninit(); 2000];
        assert!(run_dense(Buffer::new(&mut memory), seed, 2000) > 0);
        let quota = Limited::new(AnonymousPages, 3 * 65536);
        run_dense(&quota, seed, 4000);
        assert_eq!(quota.committed_bytes(), 0);
        for calls in 0..10 {
            run_dense(Failing::once_after(AnonymousPages, calls), seed, 500);
            run_dense(Failing::for_ever_after(Upstream(System), calls), seed, 500);
        }
    }
}

#[test]
fn a_dense_pool_is_a_slice_after_removals() {
    let mut pool = DensePool::new_in(AnonymousPages);
    let handles: Vec<_> = (0..1000u32).map(|n| pool.insert(n).expect("memory")).collect();
    let gone: Vec<_> = handles.iter().step_by(2).collect();
    assert!(gone.iter().all(|handle| pool.remove(**handle).is_some()));
    let mut values = pool.values().to_vec();
    values.sort_unstable();
    assert_eq!(values, (0..1000).filter(|n| n % 2 == 1).collect::<Vec<_>>());
    pool.values_mut().iter_mut().for_each(|value| *value += 1);
    assert_eq!(pool.get(handles[1]), Some(&2));
    let statistics = pool.statistics();
    assert_eq!(statistics.live_bytes.value(), Some(2000));
}

#[test]
fn a_capacity_is_kept() {
    let mut pool = HandlePool::with_capacity_max(AnonymousPages, 3);
    let handles: Vec<_> = (0..3).map(|n| pool.insert(n).expect("three")).collect();
    assert_eq!(pool.insert(3), Err(3));
    assert!(pool.try_reserve(1).is_err());
    assert_eq!(pool.remove(handles[1]), Some(1));
    assert!(pool.insert(4).is_ok());
    assert_eq!(pool.len(), 3);
}

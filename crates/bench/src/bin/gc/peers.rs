//! The tree workloads (and the graph, on gc-arena) on other collectors from crates.io.

use crate::measure::Ticks;
use crate::workload::{BinaryTrees, GcBench, Graph, Scale};

/// The peers compiled in.
pub const NAMES: [&str; 4] = ["gc-arena", "dumpster", "rust-cc", "boa_gc"];

/// Runs a workload; no result if the peer or the workload is not here.
pub fn run(subject: &str, workload: &str, scale: Scale, ticks: &mut Ticks) -> Option<u64> {
    let (gcbench, binary_trees) = (GcBench::of(scale), BinaryTrees::of(scale));
    match (subject, workload) {
        ("gc-arena", "gcbench") => Some(gc_arena::gcbench(gcbench, ticks)),
        ("gc-arena", "binary_trees") => Some(gc_arena::binary_trees(binary_trees, ticks)),
        ("gc-arena", "graph") => Some(crate::arena_graph::graph(Graph::of(scale), ticks)),
        ("dumpster", "gcbench") => Some(dumpster::gcbench(gcbench, ticks)),
        ("dumpster", "binary_trees") => Some(dumpster::binary_trees(binary_trees, ticks)),
        ("rust-cc", "gcbench") => Some(rust_cc::gcbench(gcbench, ticks)),
        ("rust-cc", "binary_trees") => Some(rust_cc::binary_trees(binary_trees, ticks)),
        ("boa_gc", "gcbench") => Some(boa_gc::gcbench(gcbench, ticks)),
        ("boa_gc", "binary_trees") => Some(boa_gc::binary_trees(binary_trees, ticks)),
        _ => None,
    }
}

/// Trees of counted or implicitly rooted pointers: the same program for three crates.
macro_rules! trees {
    ($module:ident, [$($derive:tt)*], [$($use:tt)*], $pointer:ident, $cell:ident) => {
        mod $module {
            use super::{BinaryTrees, GcBench, Ticks};
            $($use)*

            // Given as a whole: some derives see only what comes from one place.
            $($derive)*

            fn leaf() -> $pointer<Tree> {
                let (left, right) = ($cell::new(None), $cell::new(None));
                $pointer::new(Tree { left, right, _numbers: [0; 2] })
            }

            fn bottom_up(depth: u32) -> $pointer<Tree> {
                if depth == 0 {
                    return leaf();
                }
                let left = $cell::new(Some(bottom_up(depth - 1)));
                let right = $cell::new(Some(bottom_up(depth - 1)));
                $pointer::new(Tree { left, right, _numbers: [0; 2] })
            }

            fn top_down(tree: &$pointer<Tree>, depth: u32) {
                if depth > 0 {
                    let (left, right) = (leaf(), leaf());
                    top_down(&left, depth - 1);
                    top_down(&right, depth - 1);
                    *tree.left.borrow_mut() = Some(left);
                    *tree.right.borrow_mut() = Some(right);
                }
            }

            fn count(tree: &$pointer<Tree>) -> u64 {
                1 + tree.left.borrow().as_ref().map_or(0, |child| count(child))
                    + tree.right.borrow().as_ref().map_or(0, |child| count(child))
            }

            pub fn gcbench(size: GcBench, ticks: &mut Ticks) -> u64 {
                let mut sum = count(&bottom_up(size.stretch_depth));
                let long_lived = leaf();
                top_down(&long_lived, size.long_lived_depth);
                let array: Vec<f64> =
                    (0..size.array_len).map(|index| 1.0 / (index + 1) as f64).collect();
                for (depth, trees) in size.trees() {
                    for _ in 0..trees {
                        let tree = leaf();
                        top_down(&tree, depth);
                        sum += u64::from(tree.left.borrow().is_some());
                        drop(tree);
                        ticks.tick();
                    }
                    for _ in 0..trees {
                        let tree = bottom_up(depth);
                        sum += u64::from(tree.left.borrow().is_some());
                        drop(tree);
                        ticks.tick();
                    }
                }
                sum + count(&long_lived) + (std::hint::black_box(array)[999] * 1e6) as u64
            }

            pub fn binary_trees(size: BinaryTrees, ticks: &mut Ticks) -> u64 {
                let mut sum = count(&bottom_up(size.depth_max + 1));
                let long_lived = bottom_up(size.depth_max);
                for (depth, trees) in size.trees() {
                    for _ in 0..trees {
                        sum += count(&bottom_up(depth));
                        ticks.tick();
                    }
                }
                sum + count(&long_lived)
            }
        }
    };
}

trees!(
    dumpster,
    [
        #[derive(dumpster::Trace)]
        struct Tree {
            left: RefCell<Option<Gc<Tree>>>,
            right: RefCell<Option<Gc<Tree>>>,
            _numbers: [u32; 2],
        }
    ],
    [use dumpster::unsync::Gc; use std::cell::RefCell;],
    Gc,
    RefCell
);
trees!(
    rust_cc,
    [
        #[derive(rust_cc::Trace, rust_cc::Finalize)]
        struct Tree {
            left: RefCell<Option<Cc<Tree>>>,
            right: RefCell<Option<Cc<Tree>>>,
            _numbers: [u32; 2],
        }
    ],
    [use rust_cc::Cc; use std::cell::RefCell;],
    Cc,
    RefCell
);
trees!(
    boa_gc,
    [
        #[derive(boa_gc::Trace, boa_gc::Finalize)]
        struct Tree {
            left: GcRefCell<Option<Gc<Tree>>>,
            right: GcRefCell<Option<Gc<Tree>>>,
            _numbers: [u32; 2],
        }
    ],
    [use boa_gc::{Gc, GcRefCell};],
    Gc,
    GcRefCell
);

mod gc_arena {
    use super::{BinaryTrees, GcBench, Ticks};
    use gc_arena::lock::Lock;
    use gc_arena::metrics::Pacing;
    use gc_arena::{Arena, Collect, Gc, Mutation, Rootable, barrier};

    type Link<'gc> = Option<Gc<'gc, Tree<'gc>>>;

    #[derive(Collect)]
    #[collect(no_drop)]
    struct Tree<'gc> {
        left: Lock<Link<'gc>>,
        right: Lock<Link<'gc>>,
        numbers: [u32; 2],
    }

    #[derive(Collect)]
    #[collect(no_drop)]
    struct Root<'gc> {
        tree: Link<'gc>,
    }

    impl<'gc> Tree<'gc> {
        fn leaf(mc: &Mutation<'gc>) -> Gc<'gc, Self> {
            let (left, right) = (Lock::new(None), Lock::new(None));
            Gc::new(mc, Self { left, right, numbers: [0; 2] })
        }

        fn bottom_up(mc: &Mutation<'gc>, depth: u32) -> Gc<'gc, Self> {
            if depth == 0 {
                return Self::leaf(mc);
            }
            let left = Lock::new(Some(Self::bottom_up(mc, depth - 1)));
            let right = Lock::new(Some(Self::bottom_up(mc, depth - 1)));
            Gc::new(mc, Self { left, right, numbers: [0; 2] })
        }

        fn top_down(this: Gc<'gc, Self>, mc: &Mutation<'gc>, depth: u32) {
            if depth > 0 {
                let (left, right) = (Self::leaf(mc), Self::leaf(mc));
                let write = Gc::write(mc, this);
                barrier::field!(write, Tree, left).unlock().set(Some(left));
                barrier::field!(write, Tree, right).unlock().set(Some(right));
                Self::top_down(left, mc, depth - 1);
                Self::top_down(right, mc, depth - 1);
            }
        }

        fn count(&self) -> u64 {
            1 + self.left.get().map_or(0, |child| child.count())
                + self.right.get().map_or(0, |child| child.count())
        }
    }

    type Trees = Arena<Rootable![Root<'_>]>;

    /// With its stop-the-world pacing, the fastest of its own.
    fn arena() -> Trees {
        let arena = Trees::new(|_| Root { tree: None });
        arena.metrics().set_pacing(Pacing::STOP_THE_WORLD);
        arena
    }

    pub fn gcbench(size: GcBench, ticks: &mut Ticks) -> u64 {
        let mut arena = arena();
        let mut sum = arena.mutate(|mc, _| Tree::bottom_up(mc, size.stretch_depth).count());
        arena.mutate_root(|mc, root| {
            let tree = Tree::leaf(mc);
            Tree::top_down(tree, mc, size.long_lived_depth);
            root.tree = Some(tree);
        });
        let array: Vec<f64> = (0..size.array_len).map(|index| 1.0 / (index + 1) as f64).collect();
        for (depth, trees) in size.trees() {
            for _ in 0..trees {
                sum += arena.mutate(|mc, _| {
                    let tree = Tree::leaf(mc);
                    Tree::top_down(tree, mc, depth);
                    u64::from(tree.left.get().is_some() && tree.numbers[0] == 0)
                });
                arena.collect_debt();
                ticks.tick();
            }
            for _ in 0..trees {
                sum += arena
                    .mutate(|mc, _| u64::from(Tree::bottom_up(mc, depth).left.get().is_some()));
                arena.collect_debt();
                ticks.tick();
            }
        }
        sum += arena.mutate(|_, root| root.tree.map_or(0, |tree| tree.count()));
        sum + (std::hint::black_box(array)[999] * 1e6) as u64
    }

    pub fn binary_trees(size: BinaryTrees, ticks: &mut Ticks) -> u64 {
        let mut arena = arena();
        let mut sum = arena.mutate(|mc, _| Tree::bottom_up(mc, size.depth_max + 1).count());
        arena.mutate_root(|mc, root| root.tree = Some(Tree::bottom_up(mc, size.depth_max)));
        for (depth, trees) in size.trees() {
            for _ in 0..trees {
                sum += arena.mutate(|mc, _| Tree::bottom_up(mc, depth).count());
                arena.collect_debt();
                ticks.tick();
            }
        }
        sum + arena.mutate(|_, root| root.tree.map_or(0, |tree| tree.count()))
    }
}

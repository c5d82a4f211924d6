//! Heap snapshot: every reachable object with its type, its size, who dominates it and what it
//! retains, as a value and as JSON.
//!
//! An object dominates another if every path from the roots to the other leads through it; what
//! it retains is itself and all that it dominates: what would go with it.
//! Source: Cooper, Harvey, Kennedy, "A simple, fast dominance algorithm", 2001.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use crate::Heap;
use crate::root::Rootable;

/// One object. The first of a snapshot stands for the roots and has no bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotObject {
    /// The name of its Rust type; that of the items, in brackets, for an array.
    pub type_name: &'static str,
    /// Whether it is an array of that type.
    pub is_array: bool,
    /// Bytes, head included.
    pub bytes: usize,
    /// Bytes of it and of all that it dominates.
    pub retained_bytes: usize,
    /// The index of the object that immediately dominates it; 0 is the roots.
    pub dominator: usize,
    /// The indices of the objects that it refers to.
    pub references: Vec<usize>,
}

/// All of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotType {
    /// Objects.
    pub count: usize,
    /// Bytes, heads included.
    pub bytes: usize,
}

/// A snapshot of what was reachable.
#[derive(Clone, Debug)]
pub struct Snapshot {
    objects: Vec<SnapshotObject>,
}

impl Snapshot {
    /// Looks at everything reachable in `heap`. O(live) time and memory of the global allocator,
    /// and some passes over the references.
    ///
    /// ```
    /// use heapwright_gc::{Config, Gc, Heap, Snapshot, rootable};
    ///
    /// type Root = rootable!['gc => Option<Gc<'gc, [Gc<'gc, u64>]>>];
    /// let mut heap = Heap::<Root>::new(Config::default(), |mu| {
    ///     mu.alloc_slice(3, |index| mu.alloc(index as u64)).ok()
    /// })?;
    /// let snapshot = Snapshot::of(&mut heap);
    /// let [roots, array, ..] = snapshot.objects() else { panic!("roots and an array") };
    /// assert_eq!((array.dominator, roots.retained_bytes), (0, array.retained_bytes));
    /// assert_eq!(array.retained_bytes, array.bytes + 3 * 16);
    /// # Ok::<(), heapwright_gc::HeapError>(())
    /// ```
    ///
    /// # Panics
    /// As [`Heap::verify`].
    pub fn of<R: ?Sized + for<'gc> Rootable<'gc>>(heap: &mut Heap<R>) -> Self {
        let mut objects = Vec::new();
        let mut addresses = Vec::new();
        let mut targets: Vec<Vec<usize>> = Vec::new();
        heap.list(&mut |address, kind, bytes, references| {
            let (type_name, is_array) = kind.unwrap_or(("roots", false));
            addresses.push((address, objects.len()));
            targets.push(references.to_vec());
            objects.push(SnapshotObject {
                type_name,
                is_array,
                bytes,
                retained_bytes: bytes,
                dominator: 0,
                references: Vec::new(),
            });
        });
        addresses.sort_unstable();
        for (object, targets) in objects.iter_mut().zip(targets) {
            let index = |address: &usize| {
                let found = addresses.binary_search_by_key(address, |(address, _)| *address);
                found.ok().map(|at| addresses[at].1)
            };
            object.references = targets.iter().filter_map(index).collect();
        }
        let mut snapshot = Self { objects };
        snapshot.dominate();
        snapshot
    }

    /// The objects, the roots first.
    pub fn objects(&self) -> &[SnapshotObject] {
        &self.objects
    }

    /// Objects and bytes by type.
    pub fn types(&self) -> BTreeMap<(&'static str, bool), SnapshotType> {
        let mut types = BTreeMap::<_, SnapshotType>::new();
        for object in &self.objects[1..] {
            let one = types.entry((object.type_name, object.is_array)).or_default();
            one.count += 1;
            one.bytes += object.bytes;
        }
        types
    }

    /// Writes one JSON object: `objects` (`type`, `array`, `bytes`, `retained_bytes`, `dominator`,
    /// `references`) and `types` (`type`, `array`, `count`, `bytes`).
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_json(&self, out: &mut impl fmt::Write) -> fmt::Result {
        out.write_str("{\"objects\":[")?;
        for (index, object) in self.objects.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(
                out,
                "{comma}{{\"type\":\"{}\",\"array\":{},\"bytes\":{},\"retained_bytes\":{},\
                 \"dominator\":{},\"references\":{:?}}}",
                JsonText(object.type_name),
                object.is_array,
                object.bytes,
                object.retained_bytes,
                object.dominator,
                object.references
            )?;
        }
        out.write_str("],\"types\":[")?;
        for (index, ((name, is_array), one)) in self.types().into_iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let SnapshotType { count, bytes } = one;
            let name = JsonText(name);
            write!(
                out,
                "{comma}{{\"type\":\"{name}\",\"array\":{is_array},\"count\":{count},\
                 \"bytes\":{bytes}}}"
            )?;
        }
        out.write_str("]}")
    }

    /// Finds dominators and what they retain.
    fn dominate(&mut self) {
        let order = self.post_order();
        let mut rank = vec![0; self.objects.len()];
        for (at, index) in order.iter().enumerate() {
            rank[*index] = at;
        }
        let mut sources = vec![Vec::new(); self.objects.len()];
        for (index, object) in self.objects.iter().enumerate() {
            object.references.iter().for_each(|target| sources[*target].push(index));
        }
        let mut dominators = vec![None; self.objects.len()];
        dominators[0] = Some(0);
        let mut has_changed = true;
        while has_changed {
            has_changed = false;
            for index in order.iter().rev().copied().filter(|index| *index != 0) {
                let mut found: Option<usize> = None;
                for source in sources[index].iter().copied() {
                    if dominators[source].is_some() {
                        found = Some(match found {
                            Some(other) => meet(&dominators, &rank, other, source),
                            None => source,
                        });
                    }
                }
                has_changed |= dominators[index] != found;
                dominators[index] = found;
            }
        }
        // Children come before their dominators in this order.
        for index in order {
            let dominator = dominators[index].unwrap_or(0);
            self.objects[index].dominator = dominator;
            if index != 0 {
                let retained = self.objects[index].retained_bytes;
                self.objects[dominator].retained_bytes += retained;
            }
        }
    }

    /// The objects in post-order of a walk from the roots, without recursion.
    fn post_order(&self) -> Vec<usize> {
        let mut seen = vec![false; self.objects.len()];
        let mut order = Vec::new();
        let mut stack = vec![(0, 0)];
        seen[0] = true;
        while let Some((index, next)) = stack.last_mut() {
            match self.objects[*index].references.get(*next).copied() {
                Some(target) => {
                    *next += 1;
                    if !core::mem::replace(&mut seen[target], true) {
                        stack.push((target, 0));
                    }
                }
                None => {
                    order.push(*index);
                    stack.pop();
                }
            }
        }
        order
    }
}

/// The name of a type inside quotes; one with a `char` as parameter can have quotes of its own.
struct JsonText(&'static str);

impl fmt::Display for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|one| match one {
            '"' | '\\' => write!(f, "\\{one}"),
            _ if one < ' ' => write!(f, "\\u{:04x}", u32::from(one)),
            _ => f.write_char(one),
        })
    }
}

/// The nearest common dominator.
fn meet(dominators: &[Option<usize>], rank: &[usize], mut a: usize, mut b: usize) -> usize {
    let up = |index: usize| dominators[index].unwrap_or(0);
    while a != b {
        while rank[a] < rank[b] {
            a = up(a);
        }
        while rank[b] < rank[a] {
            b = up(b);
        }
    }
    a
}

//! Which NUMA nodes there are: their memory, their CPUs, how far apart they lie.
//!
//! From `/sys/devices/system/node`. A machine or kernel without NUMA is one node with everything.

use crate::pseudo_file::{PathText, TEXT_BYTES_MAX, parse_list, parse_number, read_text};

/// Nodes that a [`NodeSet`] can name. The kernel may be built for 1024; machines with more than 64
/// are not known to us, and nodes beyond are left out.
pub const NODE_COUNT_MAX: usize = 64;

/// Distance of a node to itself, by the firmware's definition (ACPI SLIT).
pub const DISTANCE_LOCAL: u8 = 10;

/// A set of NUMA nodes: bit `n` is node `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeSet(pub u64);

impl NodeSet {
    /// No node.
    pub const EMPTY: Self = Self(0);

    /// The set of node `node`; empty beyond [`NODE_COUNT_MAX`].
    pub const fn of(node: u32) -> Self {
        if node as usize >= NODE_COUNT_MAX { Self::EMPTY } else { Self(1 << node) }
    }

    /// With node `node`.
    pub const fn with(self, node: u32) -> Self {
        Self(self.0 | Self::of(node).0)
    }

    /// Whether node `node` is in it.
    pub const fn contains(self, node: u32) -> bool {
        self.0 & Self::of(node).0 != 0
    }

    /// How many nodes are in it.
    pub const fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its nodes, lowest first.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        (0..NODE_COUNT_MAX as u32).filter(move |node| self.contains(*node))
    }
}

/// The nodes of this machine as they were when [`Topology::read`] was called: some 5 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    online: NodeSet,
    with_memory: NodeSet,
    with_cpus: NodeSet,
    memory_bytes: [u64; NODE_COUNT_MAX],
    distance: [[u8; NODE_COUNT_MAX]; NODE_COUNT_MAX],
}

impl Topology {
    /// Reads it: some 100 µs a node, no allocation.
    pub fn read() -> Self {
        let mut seen = Self {
            online: node_list(c"/sys/devices/system/node/online"),
            with_memory: node_list(c"/sys/devices/system/node/has_memory"),
            with_cpus: node_list(c"/sys/devices/system/node/has_cpu"),
            memory_bytes: [0; NODE_COUNT_MAX],
            distance: [[DISTANCE_LOCAL; NODE_COUNT_MAX]; NODE_COUNT_MAX],
        };
        if seen.online.is_empty() {
            let all = NodeSet::of(0);
            return Self { online: all, with_memory: all, with_cpus: all, ..seen };
        }
        for node in seen.online.iter() {
            seen.memory_bytes[node as usize] = memory_field(node, b"MemTotal:").unwrap_or(0);
            let row = &mut seen.distance[node as usize];
            let path =
                PathText::numbered("/sys/devices/system/node/node", node.into(), "/distance");
            let mut buffer = [0; TEXT_BYTES_MAX];
            let mut rest = read_text(path.as_c(), &mut buffer).unwrap_or(b"");
            for other in seen.online.iter() {
                let Some((distance, after)) = parse_number(rest) else { break };
                row[other as usize] = u8::try_from(distance).unwrap_or(u8::MAX);
                rest = after;
            }
        }
        seen
    }

    /// Every node that is there.
    pub fn nodes(&self) -> NodeSet {
        self.online
    }

    /// Nodes with memory.
    pub fn nodes_with_memory(&self) -> NodeSet {
        self.with_memory
    }

    /// Nodes with CPUs. One without is memory behind a link (CXL), or persistent memory.
    pub fn nodes_with_cpus(&self) -> NodeSet {
        self.with_cpus
    }

    /// Memory of `node` in bytes; 0 for one that is not there, and where the kernel does not say.
    pub fn memory_bytes(&self, node: u32) -> u64 {
        self.memory_bytes.get(node as usize).copied().unwrap_or(0)
    }

    /// How far `to` is from `from`: 10 is local, 20 twice as far; 255 for a node that is not there.
    pub fn distance(&self, from: u32, to: u32) -> u8 {
        if self.online.contains(from) && self.online.contains(to) {
            self.distance[from as usize][to as usize]
        } else {
            u8::MAX
        }
    }

    /// The node with memory nearest to `from` that is not in `without`; the lowest of equals.
    /// Taking one after the other gives the order in which to fall back.
    pub fn nearest(&self, from: u32, without: NodeSet) -> Option<u32> {
        self.with_memory
            .iter()
            .filter(|node| !without.contains(*node))
            .min_by_key(|node| self.distance(from, *node))
    }
}

/// Free memory of `node` in bytes now, as the kernel counts it; none when it does not say.
pub fn node_free_bytes(node: u32) -> Option<u64> {
    memory_field(node, b"MemFree:")
}

/// A field of `node`'s meminfo, whose lines are `Node 0 MemTotal:  4028 kB`.
fn memory_field(node: u32, name: &[u8]) -> Option<u64> {
    let path = PathText::numbered("/sys/devices/system/node/node", node.into(), "/meminfo");
    let mut buffer = [0; TEXT_BYTES_MAX];
    let text = read_text(path.as_c(), &mut buffer)?;
    let at = text.windows(name.len()).position(|window| window == name)?;
    let (kib, _) = parse_number(&text[at + name.len()..])?;
    kib.checked_mul(1024)
}

fn node_list(path: &core::ffi::CStr) -> NodeSet {
    let mut buffer = [0; TEXT_BYTES_MAX];
    let mut nodes = NodeSet::EMPTY;
    if let Some(text) = read_text(path, &mut buffer) {
        parse_list(text, |node| nodes = u32::try_from(node).map_or(nodes, |node| nodes.with(node)));
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::{DISTANCE_LOCAL, NodeSet, Topology, node_free_bytes};

    #[test]
    fn a_set_has_what_was_put_into_it() {
        let set = NodeSet::of(3).with(63).with(64);
        assert_eq!((set.count(), set.contains(64), set.contains(63)), (2, false, true));
        assert!(set.iter().eq([3, 63]));
    }

    #[test]
    fn there_is_a_node_with_memory_and_cpus() {
        let machine = Topology::read();
        let both = machine.nodes_with_memory().0 & machine.nodes_with_cpus().0;
        assert_ne!(both & machine.nodes().0, 0, "{machine:?}");
        let node = NodeSet(both).iter().next().expect("checked above");
        assert_eq!(machine.distance(node, node), DISTANCE_LOCAL);
        assert_eq!(machine.distance(node, 63), if machine.nodes().contains(63) { 10 } else { 255 });
        assert_eq!(machine.nearest(node, NodeSet::EMPTY), Some(node));
        let mut without = NodeSet::EMPTY;
        while let Some(next) = machine.nearest(node, without) {
            assert!(!without.contains(next), "each node comes once");
            without = without.with(next);
        }
        assert_eq!(without, machine.nodes_with_memory());
        if let Some(free) = node_free_bytes(node) {
            assert!(free <= machine.memory_bytes(node));
        }
    }
}

//! Stacks of a process: one tree for all its threads, frames shared by their outer part.

use rustc_hash::FxHashMap;

use crate::kind::LeafKind;

/// Number of a stack in a [`StackTree`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackId(pub u32);

impl StackId {
    /// The empty stack.
    pub const ROOT: Self = Self(0);
    /// A stack whose definition was lost with its section.
    pub const UNKNOWN: Self = Self(1);
}

#[derive(Clone, Copy, Debug)]
struct Node {
    parent: StackId,
    word: u64,
    time: u64,
}

/// All stacks of a process.
#[derive(Clone, Debug)]
pub struct StackTree {
    nodes: Vec<Node>,
    children: FxHashMap<(StackId, u64), StackId>,
}

impl Default for StackTree {
    fn default() -> Self {
        let blank = Node { parent: StackId::ROOT, word: 0, time: 0 };
        Self { nodes: vec![blank, blank], children: FxHashMap::default() }
    }
}

impl StackTree {
    /// The stack `word` (a return address or a packed leaf) below `parent`; `time` tells at
    /// which moment the address was code.
    pub fn child(&mut self, parent: StackId, word: u64, time: u64) -> StackId {
        let nodes = &mut self.nodes;
        *self.children.entry((parent, word)).or_insert_with(|| {
            nodes.push(Node { parent, word, time });
            StackId(nodes.len() as u32 - 1)
        })
    }

    /// Number of stacks, the two special ones included; ids are below.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether no stack has been defined.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() <= 2
    }

    /// Operation, alignment and wholeness of an allocation's stack.
    pub fn leaf(&self, stack: StackId) -> LeafKind {
        if stack == StackId::UNKNOWN || stack == StackId::ROOT {
            return LeafKind { truncated: true, ..LeafKind::default() };
        }
        LeafKind::unpack(self.nodes[stack.0 as usize].word).unwrap_or_default()
    }

    /// The return addresses of `stack`, innermost first, each with the time of its definition.
    pub fn frames(&self, stack: StackId) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ids(stack).map(|id| {
            let node = &self.nodes[id.0 as usize];
            (node.word, node.time)
        })
    }

    /// The nodes of `stack` that are frames (not leaves), innermost first.
    pub fn ids(&self, stack: StackId) -> impl Iterator<Item = StackId> + '_ {
        let mut next = stack;
        std::iter::from_fn(move || {
            while next.0 > StackId::UNKNOWN.0 {
                let id = next;
                let node = &self.nodes[id.0 as usize];
                next = node.parent;
                if LeafKind::unpack(node.word).is_none() {
                    return Some(id);
                }
            }
            None
        })
    }

    /// Return address and time of definition of the frame `id`.
    pub fn frame(&self, id: StackId) -> (u64, u64) {
        let node = &self.nodes[id.0 as usize];
        (node.word, node.time)
    }

    /// The stack outside `id`.
    pub fn parent(&self, id: StackId) -> StackId {
        self.nodes[id.0 as usize].parent
    }
}

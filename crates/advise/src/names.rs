//! The frames of a process with their names, by stack.

use heapwright_format::LeafKind;
use heapwright_format::merge::Module;
use heapwright_format::stacks::{StackId, StackTree};
use heapwright_symbols::{AddressTable, Frame, Place, Symbolizer};
use rustc_hash::FxHashMap;

use crate::schema::StackFrame;
use crate::wrappers::{is_allocation_wrapper, is_entry, is_named_allocator, is_toolchain_source};

/// Number of a function's name; unnamed functions have `module+start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NameId(pub(crate) u32);

/// Calls from an allocation that a function named for allocating may be away. Further out it may
/// run anything, a collection of garbage for instance.
const WRAPPER_DEPTH_MAX: usize = 6;

const NO_INPUT: u32 = u32::MAX;

/// All stacks of a process and the symbols of their frames.
#[derive(Debug)]
pub struct NamedStacks {
    pub(crate) tree: StackTree,
    pub(crate) table: AddressTable,
    input_of_stack: Vec<u32>,
    names: Vec<String>,
    is_wrapper: Vec<bool>,
    is_allocator: Vec<bool>,
    /// For each place of the table the names of its frames.
    names_of_place: Vec<Vec<NameId>>,
}

/// A frame of a stack: the place, and which of its functions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameRef<'a> {
    pub(crate) place: &'a Place,
    pub(crate) frame: &'a Frame,
    pub(crate) name: NameId,
}

impl NamedStacks {
    /// Names each frame of `tree` once.
    pub(crate) fn new(tree: StackTree, modules: &[Module], symbolizer: &mut Symbolizer) -> Self {
        let mut input_of_stack = vec![NO_INPUT; tree.len()];
        let mut inputs = Vec::new();
        for id in (StackId::UNKNOWN.0 + 1..tree.len() as u32).map(StackId) {
            let (word, time) = tree.frame(id);
            if LeafKind::unpack(word).is_none() {
                input_of_stack[id.0 as usize] = inputs.len() as u32;
                inputs.push((word, time));
            }
        }
        let table = symbolizer.resolve(modules, inputs.into_iter());
        let mut names: Vec<String> = Vec::new();
        let mut known: FxHashMap<String, NameId> = FxHashMap::default();
        let names_of_place = table
            .places()
            .iter()
            .map(|place| {
                let label = |frame| table.label(place, frame);
                let labels = (0..place.frames.len()).map(label);
                labels
                    .map(|label| {
                        *known.entry(label).or_insert_with_key(|label| {
                            names.push(label.clone());
                            NameId(names.len() as u32 - 1)
                        })
                    })
                    .collect()
            })
            .collect();
        let is_wrapper = names.iter().map(|name| is_allocation_wrapper(name)).collect();
        let is_allocator = names.iter().map(|name| is_named_allocator(name)).collect();
        Self { tree, table, input_of_stack, names, is_wrapper, is_allocator, names_of_place }
    }

    /// The functions of `stack`, innermost first.
    pub(crate) fn frames(&self, stack: StackId) -> impl Iterator<Item = FrameRef<'_>> {
        self.tree.ids(stack).flat_map(|id| {
            let input = self.input_of_stack[id.0 as usize] as usize;
            let place = self.table.place(input);
            let names = &self.names_of_place[self.table.place_index(input) as usize];
            let frames = place.frames.iter().zip(names);
            frames.map(move |(frame, &name)| FrameRef { place, frame, name })
        })
    }

    /// The places of `stack` by their numbers in the table, innermost first.
    pub(crate) fn place_indices(&self, stack: StackId) -> impl Iterator<Item = u32> {
        self.tree
            .ids(stack)
            .map(|id| self.table.place_index(self.input_of_stack[id.0 as usize] as usize))
    }

    /// The text of a name.
    pub(crate) fn name(&self, name: NameId) -> &str {
        &self.names[name.0 as usize]
    }

    /// Whether the name is that of an allocation wrapper.
    pub(crate) fn is_wrapper(&self, name: NameId) -> bool {
        self.is_wrapper[name.0 as usize]
    }

    /// Whether the name is that of a function where a thread or the program begins.
    pub(crate) fn is_entry(&self, name: NameId) -> bool {
        is_entry(self.name(name))
    }

    /// How many of the innermost functions of `stack` are wrappers. What a function named for
    /// allocating calls, at a few calls' distance, is one whatever its name.
    pub(crate) fn wrapper_count(&self, stack: StackId) -> usize {
        let is_allocator = |frame: FrameRef<'_>| self.is_allocator[frame.name.0 as usize];
        let innermost: Vec<bool> =
            self.frames(stack).take(WRAPPER_DEPTH_MAX).map(is_allocator).collect();
        let inside = innermost.iter().rposition(|&is_allocator| is_allocator);
        let inside = inside.map_or(0, |index| index + 1);
        inside
            + self
                .frames(stack)
                .skip(inside)
                .take_while(|frame| {
                    self.is_wrapper(frame.name) || is_toolchain_source(&frame.frame.file)
                })
                .count()
    }

    /// The stack as `advice.json` has it, at most `frames_max` functions.
    pub(crate) fn stack_frames(&self, stack: StackId, frames_max: usize) -> Vec<StackFrame> {
        let module = |place: &Place| self.table.module_of(place);
        self.frames(stack)
            .take(frames_max)
            .map(|FrameRef { place, frame, .. }| StackFrame {
                module: module(place).map_or(String::new(), |module| module.name.to_string()),
                build_id: module(place).map_or(String::new(), |module| module.build_id.clone()),
                offset: place.offset,
                function: frame.function.to_string(),
                file: frame.file.to_string(),
                line: frame.line,
            })
            .collect()
    }
}

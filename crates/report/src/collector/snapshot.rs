//! A heap snapshot: who keeps what alive.

use super::CollectorError;
use crate::text::clean;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The largest holders that are kept.
const LARGEST_MAX: usize = 50;
/// Dominators that are named with each.
const DOMINATORS_MAX: usize = 10;
/// Levels of the tree of dominators, and branches at each, that are kept.
const DEPTH_MAX: usize = 12;
const BRANCHES_MAX: usize = 8;
/// A branch that retains less than this part of the whole is not.
const PART_MIN: u64 = 500;

/// What a snapshot says.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SnapshotSummary {
    /// Where it was read from.
    pub name: String,
    /// Objects.
    pub objects: u64,
    /// Their bytes, heads included.
    pub bytes: u64,
    /// By type, those that retain most first.
    pub types: Vec<TypeRow>,
    /// Objects that retain most, first the largest; of those that dominate others of their type, as
    /// the nodes of a list do, the first.
    pub largest: Vec<Holder>,
    /// The tree of dominators from the roots, as far as branches are large.
    pub tree: Branch,
}

/// All objects of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TypeRow {
    /// The type; items in brackets for an array.
    pub name: String,
    /// Objects.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that would go with all of them: what they retain, counted once.
    pub retained_bytes: u64,
}

/// One object that keeps others alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Holder {
    /// Its type.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes of it and of all that it dominates.
    pub retained_bytes: u64,
    /// The types of its dominators, the nearest first, without the roots; one for several of a type
    /// in a row, ten at most.
    pub dominators: Vec<String>,
}

/// A node of the tree of dominators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Branch {
    /// The type of the object.
    pub name: String,
    /// Bytes of it and of all that it dominates.
    pub retained_bytes: u64,
    /// What it dominates immediately, the largest first.
    pub branches: Vec<Branch>,
    /// How many more it dominates immediately.
    pub others: u64,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(rename = "type", borrow)]
    name: std::borrow::Cow<'a, str>,
    array: bool,
    bytes: u64,
    retained_bytes: u64,
    dominator: usize,
}

#[derive(Deserialize)]
struct Objects<'a> {
    #[serde(borrow)]
    objects: Vec<Object<'a>>,
}

impl Object<'_> {
    fn is_like(&self, other: &Self) -> bool {
        (&self.name, self.array) == (&other.name, other.array)
    }

    fn shown(&self) -> String {
        let name = clean(&self.name);
        if self.array { format!("[{name}]") } else { name.into_owned() }
    }
}

impl SnapshotSummary {
    /// Reads a snapshot as `heapwright_gc::Snapshot::write_json` writes it. O(objects log objects).
    pub(crate) fn read(name: &str, text: &str) -> Result<Self, CollectorError> {
        let Objects { objects } = serde_json::from_str(text)
            .map_err(|error| CollectorError::Format(error.to_string()))?;
        if objects.is_empty() {
            return Err(CollectorError::Empty);
        }
        let children = Children::of(&objects)?;
        let is_first = |index: &usize| {
            let above = objects[*index].dominator;
            above == 0 || !objects[*index].is_like(&objects[above])
        };
        let mut largest: Vec<usize> = (1..objects.len()).filter(is_first).collect();
        largest.sort_by_key(|index| std::cmp::Reverse(objects[*index].retained_bytes));
        largest.truncate(LARGEST_MAX);
        Ok(Self {
            name: clean(name).into_owned(),
            objects: objects.len() as u64 - 1,
            bytes: objects[1..].iter().map(|object| object.bytes).sum(),
            types: types(&objects, &children),
            largest: largest.into_iter().map(|index| holder(&objects, index)).collect(),
            tree: children.branch(&objects, 0, DEPTH_MAX),
        })
    }
}

/// The objects that each dominates immediately.
struct Children {
    /// Sorted by dominator.
    all: Vec<usize>,
    /// Where those of each begin.
    begins: Vec<usize>,
}

impl Children {
    /// Fails unless every object's dominators lead to the roots.
    fn of(objects: &[Object<'_>]) -> Result<Self, CollectorError> {
        if objects.iter().any(|object| object.dominator >= objects.len()) {
            return Err(CollectorError::Dominators);
        }
        let mut all: Vec<usize> = (1..objects.len()).collect();
        all.sort_by_key(|index| objects[*index].dominator);
        let begins = (0..=objects.len())
            .map(|index| all.partition_point(|child| objects[*child].dominator < index))
            .collect();
        let children = Self { all, begins };
        let (mut reached, mut stack) = (0, vec![0]);
        while let Some(index) = stack.pop() {
            reached += 1;
            stack.extend_from_slice(children.at(index));
        }
        if reached == objects.len() { Ok(children) } else { Err(CollectorError::Dominators) }
    }

    fn at(&self, index: usize) -> &[usize] {
        &self.all[self.begins[index]..self.begins[index + 1]]
    }

    fn branch(&self, objects: &[Object<'_>], index: usize, depth: usize) -> Branch {
        let least = objects[0].retained_bytes / PART_MIN;
        let mut large = self.at(index).to_vec();
        large.retain(|child| depth > 0 && objects[*child].retained_bytes > least);
        large.sort_by_key(|child| std::cmp::Reverse(objects[*child].retained_bytes));
        large.truncate(BRANCHES_MAX);
        Branch {
            name: objects[index].shown(),
            retained_bytes: objects[index].retained_bytes,
            others: (self.at(index).len() - large.len()) as u64,
            branches: large.iter().map(|at| self.branch(objects, *at, depth - 1)).collect(),
        }
    }
}

/// What each type has. An object's retained bytes count for its type unless one that dominates it
/// is of that type, and has counted them.
fn types(objects: &[Object<'_>], children: &Children) -> Vec<TypeRow> {
    let mut numbers = HashMap::new();
    let mut rows: Vec<TypeRow> = Vec::new();
    // How many of each type lie on the way from the roots to where the walk is.
    let mut above: Vec<usize> = Vec::new();
    let of_type: Vec<usize> = objects
        .iter()
        .map(|object| {
            *numbers.entry((object.name.as_ref(), object.array)).or_insert_with(|| {
                rows.push(TypeRow { name: object.shown(), ..TypeRow::default() });
                above.push(0);
                rows.len() - 1
            })
        })
        .collect();
    enum Step {
        Enter(usize),
        Leave(usize),
    }
    let mut steps: Vec<Step> = children.at(0).iter().copied().map(Step::Enter).collect();
    while let Some(step) = steps.pop() {
        match step {
            Step::Enter(index) => {
                let number = of_type[index];
                let row = &mut rows[number];
                row.count += 1;
                row.bytes += objects[index].bytes;
                if above[number] == 0 {
                    row.retained_bytes += objects[index].retained_bytes;
                }
                above[number] += 1;
                steps.push(Step::Leave(number));
                steps.extend(children.at(index).iter().copied().map(Step::Enter));
            }
            Step::Leave(number) => above[number] -= 1,
        }
    }
    rows.retain(|row| row.count > 0);
    rows.sort_by(|a, b| b.retained_bytes.cmp(&a.retained_bytes).then_with(|| a.name.cmp(&b.name)));
    rows
}

fn holder(objects: &[Object<'_>], index: usize) -> Holder {
    let up = |index: &usize| Some(objects[*index].dominator).filter(|index| *index != 0);
    let mut dominators: Vec<usize> = Vec::new();
    for at in std::iter::successors(up(&index), up) {
        if dominators.last().is_some_and(|last| objects[*last].is_like(&objects[at])) {
            continue;
        }
        if dominators.len() == DOMINATORS_MAX {
            break;
        }
        dominators.push(at);
    }
    Holder {
        name: objects[index].shown(),
        bytes: objects[index].bytes,
        retained_bytes: objects[index].retained_bytes,
        dominators: dominators.into_iter().map(|index| objects[index].shown()).collect(),
    }
}

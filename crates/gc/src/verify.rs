//! Verifier: walks all that is reachable and checks that each reference leads to an object.
//!
//! The walk sets a bit in each header, a second one clears it again, and both must see the same.

use crate::memory::Table;
use crate::object::{Field, ObjectRef};
use crate::plan::{AnyPlan, Common, Plan};
use crate::root::Roots;
use crate::space::AddressRange;
use crate::trace::Visitor;
use crate::trace::sealed::Sealed;

/// The walk over everything.
#[derive(Debug)]
pub(crate) struct Verifier {
    places: [AddressRange; 3],
    /// The mark bit that every object has, if a full collection has just marked them all.
    mark: Option<usize>,
    /// Whether this walk sets the bits.
    sets: bool,
    stack: Table<ObjectRef>,
    objects: usize,
    bytes: usize,
}

impl Verifier {
    /// Walks the heap; returns the number of reachable objects and their bytes.
    ///
    /// # Panics
    /// If the heap is broken.
    pub(crate) fn run<R: Roots>(
        roots: &mut R,
        plan: &AnyPlan,
        common: &mut Common,
        mark: Option<usize>,
    ) -> (usize, usize) {
        let [first, second] = plan.used();
        let mut verifier = Self {
            places: [first, second, common.large.range()],
            mark,
            sets: true,
            stack: Table::new(),
            objects: 0,
            bytes: 0,
        };
        let seen = verifier.walk(roots, common);
        verifier.sets = false;
        let again = verifier.walk(roots, common);
        assert_eq!(seen, again, "the heap changed while it was verified");
        seen
    }

    fn walk<R: Roots>(&mut self, roots: &mut R, common: &mut Common) -> (usize, usize) {
        (self.objects, self.bytes) = (0, 0);
        common.trace_roots(roots, self);
        while let Some(object) = self.stack.pop() {
            let desc = object.desc();
            // SAFETY: the payload holds as many values of the descriptor's type (O1), and nobody
            // else uses the heap during the walk.
            unsafe { (desc.verify)(object.payload(), object.len(desc), self) };
        }
        (self.objects, self.bytes)
    }
}

impl Sealed for Verifier {}

impl Visitor for Verifier {
    fn visit(&mut self, field: Field) {
        let object = field.object();
        let address = object.address();
        let is_inside = self.places.iter().any(|place| place.contains(address));
        assert!(is_inside, "a reference to {address:#x}, where no object can be");
        assert!(address.is_multiple_of(8), "a reference to {address:#x}, which is not aligned");
        assert!(object.forwarded().is_none(), "a reference to the old place of an object");
        if object.is_seen() != self.sets {
            let is_marked = self.mark.is_none_or(|mark| object.mark_bit() == mark);
            assert!(is_marked, "the collection has not marked the object at {address:#x}");
            object.flip_seen();
            let desc = object.desc();
            self.objects += 1;
            self.bytes += object.total_bytes(desc);
            self.stack.push(object);
        }
    }
}

//! Verifier: walks all that is reachable and checks that each reference leads to an object.
//!
//! The walk sets a bit in each header, a second one clears it again, and both must see the same.

use core::marker::PhantomData;

use crate::memory::Table;
use crate::model::Model;
use crate::object::{Field, ObjectRef};
use crate::plan::{AnyPlan, Common, Plan};
use crate::root::Roots;
use crate::space::AddressRange;
use crate::trace::Visitor;
use crate::trace::sealed::Sealed;

/// The name of an object's type, and whether it is an array of that.
#[cfg(feature = "alloc")]
pub(crate) type Kind = (&'static str, bool);

/// Told of an object: its address, kind, bytes, and where its references lead. The roots have no
/// kind.
#[cfg(feature = "alloc")]
pub(crate) type Each<'a> = dyn FnMut(usize, Option<Kind>, usize, &[usize]) + 'a;

/// The walk over everything.
#[derive(Debug)]
pub(crate) struct Verifier<M: Model> {
    places: [AddressRange; 3],
    /// The mark bit that every object has, if a full collection has just marked them all.
    mark: Option<usize>,
    /// Whether this walk sets the bits.
    sets: bool,
    stack: Table<ObjectRef>,
    /// Every object seen, in a walk that lists them; and where the references of one lead.
    list: Option<Table<ObjectRef>>,
    references: Option<Table<usize>>,
    objects: usize,
    bytes: usize,
    model: PhantomData<M>,
}

impl<M: Model> Verifier<M> {
    /// Walks the heap; returns the number of reachable objects and their bytes.
    ///
    /// # Panics
    /// If the heap is broken.
    pub(crate) fn run<R: Roots>(
        roots: &mut R,
        plan: &AnyPlan<M>,
        common: &mut Common<M>,
        mark: Option<usize>,
    ) -> (usize, usize) {
        let mut verifier = Self::new(plan.used(), common, mark);
        let seen = verifier.walk(roots, common);
        verifier.sets = false;
        let again = verifier.walk(roots, common);
        assert_eq!(seen, again, "the heap changed while it was verified");
        seen
    }

    /// Every reachable object, for a build without the barrier, whose minor collections look at all
    /// of the old space instead.
    #[cfg(all(heapwright_gc_without = "barrier", not(heapwright_gc_without = "scan")))]
    pub(crate) fn reachable<R: Roots>(
        roots: &mut R,
        used: [AddressRange; 2],
        common: &mut Common<M>,
    ) -> Table<ObjectRef> {
        let mut verifier = Self::new(used, common, None);
        verifier.list = Some(Table::new());
        verifier.walk(roots, common);
        let list = verifier.list.take();
        verifier.sets = false;
        verifier.walk(roots, common);
        list.unwrap_or(Table::new())
    }

    fn new(used: [AddressRange; 2], common: &Common<M>, mark: Option<usize>) -> Self {
        let [first, second] = used;
        Self {
            places: [first, second, common.large.range()],
            mark,
            sets: true,
            stack: Table::new(),
            list: None,
            references: None,
            objects: 0,
            bytes: 0,
            model: PhantomData,
        }
    }

    /// Calls `each` for the roots, without a kind, and for every reachable object: its
    /// address, its kind, its bytes, and where its references lead.
    #[cfg(feature = "alloc")]
    pub(crate) fn list<R: Roots>(
        roots: &mut R,
        plan: &AnyPlan<M>,
        common: &mut Common<M>,
        each: &mut Each<'_>,
    ) {
        let mut verifier = Self::new(plan.used(), common, None);
        verifier.list = Some(Table::new());
        verifier.walk(roots, common);
        let list = verifier.list.take();
        verifier.sets = false;
        verifier.walk(roots, common);
        verifier.references = Some(Table::new());
        common.trace_roots(roots, &mut verifier);
        verifier.report(0, None, 0, each);
        for object in list.as_ref().map_or(&[][..], Table::as_slice) {
            M::verify(*object, &mut verifier);
            let (kind, bytes) = (M::kind(*object), M::total_bytes(*object));
            verifier.report(object.address(), Some(kind), bytes, each);
        }
    }

    #[cfg(feature = "alloc")]
    fn report(&mut self, address: usize, kind: Option<Kind>, bytes: usize, each: &mut Each<'_>) {
        if let Some(references) = &mut self.references {
            each(address, kind, bytes, references.as_slice());
            references.clear();
        }
    }

    fn walk<R: Roots>(&mut self, roots: &mut R, common: &mut Common<M>) -> (usize, usize) {
        (self.objects, self.bytes) = (0, 0);
        common.trace_roots(roots, self);
        while let Some(object) = self.stack.pop() {
            M::verify(object, self);
        }
        (self.objects, self.bytes)
    }
}

impl<M: Model> Sealed for Verifier<M> {}

impl<M: Model> Visitor for Verifier<M> {
    fn visit(&mut self, field: Field) {
        let Some(object) = field.object::<M>() else { return };
        let address = object.address();
        if let Some(references) = &mut self.references {
            references.push(address);
            return;
        }
        let is_inside = self.places.iter().any(|place| place.contains(address));
        assert!(is_inside, "a reference to {address:#x}, where no object can be");
        assert!(address.is_multiple_of(8), "a reference to {address:#x}, which is not aligned");
        assert!(object.forwarded().is_none(), "a reference to the old place of an object");
        if object.is_seen() != self.sets {
            let is_marked = self.mark.is_none_or(|mark| object.mark_bit() == mark);
            let (name, _) = M::kind(object);
            assert!(is_marked, "the collection has not marked the {name} at {address:#x}");
            object.flip_seen();
            self.objects += 1;
            self.bytes += M::total_bytes(object);
            self.stack.push(object);
            if let Some(list) = &mut self.list {
                list.push(object);
            }
        }
    }
}

//! A linked list.

use heapwright_gc::{Gc, GcCell, Trace};

#[derive(Trace)]
pub struct Node<'gc> {
    pub value: u64,
    pub next: GcCell<Option<Gc<'gc, Node<'gc>>>>,
}

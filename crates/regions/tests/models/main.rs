//! Random programs of operations on every allocator, over every backing, beside models.

mod bounds;
mod checked;
mod model;
mod slab;
mod slab_threads;
mod threads;
mod tight;
mod traps;
mod wrappers;

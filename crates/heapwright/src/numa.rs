//! NUMA: which nodes there are, memory on one of them, and where memory lies.
//!
//! For a region allocator on a node, see [`crate::regions::Bound`].
//!
//! ```
//! use heapwright::numa::{NodeSet, Topology, alloc_local, alloc_on_node};
//!
//! let machine = Topology::read();
//! let mut near = alloc_local(1 << 20)?;
//! near.as_mut_slice()[0] = 1;
//! for node in machine.nodes_with_memory().iter() {
//!     // A sandbox may forbid it; what is given lies there, page by page.
//!     if let Ok(pages) = alloc_on_node(1 << 20, node) {
//!         assert!(pages.placement()?.is_within(NodeSet::of(node)));
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub use heapwright_os::{
    DISTANCE_LOCAL, Errno, NODE_COUNT_MAX, NodeError, NodePages, NodeSet, Place, Placement,
    Topology, alloc_local, alloc_on_node, bind, bind_thread, current_node, current_place, migrate,
    node_free_bytes, placement,
};

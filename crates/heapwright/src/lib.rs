//! Memory management for Rust programs: a global allocator and its instruments.

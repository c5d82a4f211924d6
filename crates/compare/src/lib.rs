//! Runs a program under each allocator in turn and compares.

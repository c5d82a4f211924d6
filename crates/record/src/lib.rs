//! Event capture of Heapwright's recorder: per-thread rings in shared memory.
#![no_std]

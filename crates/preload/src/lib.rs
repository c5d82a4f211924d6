//! libheapwright_preload.so: Heapwright's allocator for any program.

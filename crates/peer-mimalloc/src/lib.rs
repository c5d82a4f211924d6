//! mimalloc as a preloadable object, for comparisons.

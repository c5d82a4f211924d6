//! jemalloc as a preloadable object, for comparisons.

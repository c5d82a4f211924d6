//! rpmalloc as a preloadable object, for comparisons.

//! Arithmetic of memory management: size classes, bitmaps, statistics, errors, traits. no_std, no I/O.
#![no_std]

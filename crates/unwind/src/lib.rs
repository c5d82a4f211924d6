//! In-process stack capture that never allocates.
#![no_std]

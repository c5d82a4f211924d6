//! A Scheme on the layer for virtual machines: reader, compiler, stack machine and library.
//!
//! The language is a large part of R7RS-small: proper tail calls, first-class continuations with
//! `dynamic-wind`, several values, records, `guard`, quasiquotation, inexact numbers, strings,
//! vectors. Not there: macros, ports, exact fractions and large integers, mutation of strings.

pub mod emit;
pub mod error;
pub mod expand;
pub mod machine;
pub mod primitives;
pub mod print;
pub mod read;
pub mod roots;
pub mod value;

//! A Scheme on the layer for virtual machines: reader, expander, compiler, stack machine, library.
//!
//! The language is R7RS-small: hygienic macros and libraries, proper tail calls, first-class
//! continuations with `dynamic-wind`, conditions, the numeric tower with integers of any size,
//! ratios and complex numbers, ports, records, parameters, promises. `docs/design/scheme.md` tells
//! what is missing and what it is for.
//!
//! In the order of a program's way: `text` reads data, `syntax` makes trees of forms, `emit` makes
//! code of trees, `machine` runs it, with `primitives` for what the library (`library/*.scm`)
//! cannot say. `value` and `roots` are where all of it meets the collectors.

pub mod emit;
pub mod error;
pub mod machine;
pub mod numbers;
pub mod ports;
pub mod primitives;
pub mod roots;
pub mod syntax;
pub mod text;
pub mod value;

//! Addresses of a recording to functions, files and lines, out of process.
//!
//! A [`Symbolizer`] opens each module once, finds its debug information (in the file itself, or
//! in a separate file by build id or debug link), and resolves many addresses of a process at
//! once ([`Symbolizer::resolve`]). What has no debug information gets the name of the symbol
//! that contains it; what has none gets the start of its function from the unwind tables, so
//! that addresses of one function stay together. `docs/design/symbols.md` has the details.
//!
//! # Not here
//! Stack walking (`heapwright-unwind`), grouping frames into call sites (`heapwright-advise`).

mod debug_file;
mod demangle;
mod function_starts;
mod module_symbols;
mod place;
mod symbol_table;
mod symbolizer;

pub use demangle::demangle;
pub use module_symbols::build_id;
pub use place::{AddressTable, Frame, ModuleFacts, Place, Source};
pub use symbolizer::Symbolizer;

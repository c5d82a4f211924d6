//! Data as text: reading and writing it.

pub mod names;
pub mod print;
pub mod read;

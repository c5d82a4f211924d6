//! `#[derive(Trace)]` for `heapwright-gc`: visits every field, once.
//!
//! The brand of the type is its lifetime `'gc`; a type without it may be stored in any heap.
//!
//! # Not here
//! The trait and its contract: see `heapwright_gc::Trace`.

mod expand;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements `heapwright_gc::Trace` for a struct or an enum.
///
/// Every field's type must itself be `Trace`. A generic parameter `T` gets the bound
/// `T: Trace<'gc>`. The type must not implement `Drop` (the expansion conflicts with such an
/// implementation): a collector that moves objects never sees the dead ones, and a `drop` that
/// follows a pointer could find it dead. Put what needs `Drop` into a field of the type
/// `heapwright_gc::Static`.
///
/// # Errors
/// A compile error for unions and for lifetimes other than `'gc` and `'static`.
#[proc_macro_derive(Trace)]
pub fn derive_trace(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::expand(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}

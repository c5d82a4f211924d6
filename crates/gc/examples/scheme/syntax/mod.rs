//! From data to trees: scopes, macros, and the forms of the language.

mod body;
mod derived;
mod expand;
mod library;
mod quasi;
mod rules;
mod scope;

pub use expand::{Expander, Lambda, Tree};
pub use library::Libraries;

//! Numbers: integers of any size, ratios, floats and complex numbers; their values as words.

mod integer;
mod parse;
mod show;
mod tower;

pub use integer::Integer;
pub use parse::parse;
pub use show::show;
pub use tower::Number;

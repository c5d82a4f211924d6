//! What can be set about the general allocator: by a static of the program, by the environment,
//! and at run time; the later one wins.
//!
//! ```
//! // In the program's text, read at its first allocation.
//! heapwright::options!("soft_limit=2G,purger=0");
//!
//! # fn main() -> Result<(), heapwright::options::OptionError> {
//! use heapwright::options::{option, set_option};
//! let _ = Box::new(1);
//! assert_eq!(option("soft_limit"), Some(2 << 30));
//! set_option("soft_limit", "none")?;
//! # Ok(())
//! # }
//! ```
//!
//! The table is [`OPTIONS`]; a program that has more rights than its caller (setuid) does not
//! listen to its environment. Nothing here allocates, locks or panics.

pub use heapwright_malloc::{OPTIONS, OptionError, OptionKind, OptionRow, option, set_option};

/// Gives the program a text of options, `name=value` pairs with commas between, as a static that
/// the allocator finds at its first use.
///
/// Once in a program, at the top level of a module: a second one is an error of the linker. What
/// cannot be read in the text is ignored.
#[macro_export]
macro_rules! options {
    ($text:literal) => {
        const _: () = {
            const TEXT: &str = concat!($text, "\0");
            const fn bytes() -> [u8; TEXT.len()] {
                let mut bytes = [0; TEXT.len()];
                let mut index = 0;
                while index < TEXT.len() {
                    bytes[index] = TEXT.as_bytes()[index];
                    index += 1;
                }
                bytes
            }
            // SAFETY: the name is Heapwright's own, and what it means is this: text up to a zero.
            #[unsafe(export_name = "heapwright_options")]
            #[used]
            static OPTIONS: [u8; TEXT.len()] = bytes();
        };
    };
}

//! What every bench does around its measuring: a directory for its files, and its results printed.

use std::fmt::Display;
use std::fs;
use std::path::Path;

use serde::Serialize;

/// Calls `work` with `directory` there. Was it not there before, it is removed afterwards with all
/// that is in it.
///
/// # Errors
/// `directory` cannot be made: its name and the reason. That it cannot be removed is none.
pub fn in_directory<T>(directory: &Path, work: impl FnOnce() -> T) -> Result<T, String> {
    let is_ours = !directory.exists();
    fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let result = work();
    if is_ours {
        // What is left there is in nobody's way.
        let _ = fs::remove_dir_all(directory);
    }
    Ok(result)
}

/// `results` as a table to read, or as one line of JSON.
///
/// # Errors
/// They do not fit into JSON: the reason.
pub fn printed<T: Serialize + Display>(results: &T, json: bool) -> Result<String, String> {
    match json {
        true => serde_json::to_string(results).map_err(|error| error.to_string()),
        false => Ok(results.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::in_directory;
    use std::{env, fs, process};

    #[test]
    fn a_directory_that_was_there_stays_and_another_goes() {
        let outer = env::temp_dir().join(format!("heapwright-outcome-{}", process::id()));
        let result = in_directory(&outer, || {
            let inner = outer.join("inner");
            assert_eq!(
                in_directory(&inner, || fs::write(inner.join("file"), "1").is_ok()),
                Ok(true)
            );
            assert!(!inner.exists());
            assert_eq!(in_directory(&outer, || 3), Ok(3));
            outer.exists()
        });
        assert_eq!(result, Ok(true));
        assert!(!outer.exists());
    }

    #[test]
    fn a_directory_that_cannot_be_is_named() {
        let message = in_directory("/dev/null/below".as_ref(), || ()).expect_err("no directory");
        assert!(message.starts_with("/dev/null/below: "), "{message}");
    }
}

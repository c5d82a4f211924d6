//! The suite's C programs, compiled on this machine by its own compiler.

use crate::programs::{said, write};
use std::path::{Path, PathBuf};
use std::process::Command;

const HEADER: &str = include_str!("../../programs/workload.h");

/// Name of the program, source, flags.
const PROGRAMS: [(&str, &str, &[&str]); 24] = [
    ("alloc_test", include_str!("../../programs/alloc_test.c"), &[]),
    ("barnes", include_str!("../../programs/barnes.c"), &[]),
    ("batches", include_str!("../../programs/batches.c"), &[]),
    ("burst", include_str!("../../programs/burst.c"), &["-lm"]),
    ("cache", include_str!("../../programs/cache.c"), &[]),
    ("cfrac", include_str!("../../programs/cfrac.c"), &[]),
    ("churn", include_str!("../../programs/churn.c"), &["-lm"]),
    ("espresso", include_str!("../../programs/espresso.c"), &[]),
    ("hot", include_str!("../../programs/hot.c"), &[]),
    ("idle", include_str!("../../programs/idle.c"), &[]),
    ("large", include_str!("../../programs/large.c"), &[]),
    ("larson", include_str!("../../programs/larson.c"), &[]),
    ("larson_sized", include_str!("../../programs/larson.c"), &["-DSIZED", "-lstdc++"]),
    ("latency", include_str!("../../programs/latency.c"), &[]),
    ("measure", include_str!("../../programs/measure.c"), &[]),
    ("mleak", include_str!("../../programs/mleak.c"), &[]),
    ("mstress", include_str!("../../programs/mstress.c"), &[]),
    ("nothing", "int main(void) { return 0; }\n", &[]),
    ("rptest", include_str!("../../programs/rptest.c"), &[]),
    ("simple", include_str!("../../programs/simple.c"), &[]),
    ("solver", include_str!("../../programs/solver.c"), &[]),
    ("store", include_str!("../../programs/store.c"), &[]),
    ("thread", include_str!("../../programs/thread.c"), &[]),
    ("xmalloc", include_str!("../../programs/xmalloc.c"), &[]),
];

/// Where the compiled programs lie.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    directory: PathBuf,
}

impl Tools {
    /// The program called `name`.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A file for what a program prints, or for its input.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The directory itself.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Compiles all programs into `directory`: about three seconds. A program that does not compile
/// is missing later, under its own name.
///
/// # Errors
/// A sentence when there is no C compiler.
pub(super) fn compile(directory: &Path) -> Result<Tools, String> {
    write(&directory.join("workload.h"), HEADER)?;
    for (name, source, flags) in PROGRAMS {
        let path = directory.join(format!("{name}.c"));
        write(&path, source)?;
        let mut command = Command::new("cc");
        // The compiler must not remove a malloc and its free, nor make one of two.
        command.args(["-O2", "-fno-builtin", "-pthread", "-o"]);
        command.arg(directory.join(name)).arg(&path).args(flags).arg("-lm");
        let compiled = said(&mut command);
        if name == "measure" {
            compiled?;
        }
    }
    Ok(Tools { directory: directory.to_owned() })
}

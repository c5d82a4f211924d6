//! `heapwright generate`: man pages and completions from the table of options, for packages.

use crate::failure::Failure;
use crate::options;
use clap::{Args, ValueEnum};
use clap_complete::Shell;
use std::fs;
use std::path::PathBuf;

/// What to write and where.
#[derive(Debug, Args)]
pub(crate) struct GenerateOptions {
    /// What to write
    what: Generated,
    /// The directory to write into
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// A kind of file made from the table of options.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Generated {
    /// heapwright.1 and a page for each command.
    Man,
    /// For bash, zsh and fish.
    Completions,
}

pub(crate) fn run(options: &GenerateOptions) -> Result<u8, Failure> {
    let directory = &options.directory;
    let unwritable = |error| Failure::unwritable(directory, &error);
    fs::create_dir_all(directory).map_err(unwritable)?;
    let mut command = options::command();
    match options.what {
        Generated::Man => clap_mangen::generate_to(command, directory).map_err(unwritable)?,
        Generated::Completions => {
            for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
                clap_complete::generate_to(shell, &mut command, "heapwright", directory)
                    .map_err(unwritable)?;
            }
        }
    }
    Ok(0)
}

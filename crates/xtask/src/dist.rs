//! `dist`: a tarball and a Debian package that need no Rust where they are installed.

use crate::build::{C_LIBRARY, OPTIONAL_PEER};
use crate::workspace::Workspace;
use crate::{build, shell};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Texts that go with the programs.
const DOCUMENTS: [&str; 4] = ["README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"];
const BINARIES: [&str; 2] = ["heapwright", "heapwright-demo"];
/// Suites of `heapwright bench`, which looks for them in `lib/heapwright`.
const SUITES: [&str; 1] = ["heapwright-bench-malloc"];

/// Builds, lays the files out under one prefix, and packs them both ways into `target/dist`.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    build::run(workspace, &["--parquet"])?;
    let dist = workspace.target.join("dist");
    let name = format!("heapwright-{VERSION}-{}-linux", std::env::consts::ARCH);
    let stage = dist.join(&name);
    let _ = fs::remove_dir_all(&dist);
    lay_out(workspace, &stage)?;
    let tarball = dist.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "-C"]).arg(&dist);
    shell::run(tar.arg("-czf").arg(&tarball).arg(&name))?;
    println!("{}", tarball.display());
    let package = debian(&dist, &stage)?;
    println!("{}", package.display());
    Ok(())
}

/// Everything under a prefix: `bin`, `lib/heapwright`, `include`, `share`.
fn lay_out(workspace: &Workspace, stage: &Path) -> Result<(), String> {
    let release = workspace.release();
    for binary in BINARIES {
        install(&release.join(binary), &stage.join("bin").join(binary))?;
    }
    for suite in SUITES {
        let to = stage.join("lib/heapwright").join(suite);
        install(&release.join(suite), &to)?;
        strip(&to)?;
    }
    for object in workspace.objects() {
        if object.name == C_LIBRARY || object.name == OPTIONAL_PEER {
            continue;
        }
        let file = object.object_file.clone();
        let to = stage.join("lib/heapwright").join(&file);
        install(&release.join(&file), &to)?;
        strip(&to)?;
    }
    // The demo keeps its line tables: its report shows files and lines.
    strip(&stage.join("bin/heapwright"))?;
    // Where linkers and compilers look.
    for file in ["libheapwright.so", "libheapwright.a"] {
        install(&release.join(file), &stage.join("lib").join(file))?;
    }
    strip(&stage.join("lib/libheapwright.so"))?;
    install(&release.join("heapwright.h"), &stage.join("include/heapwright.h"))?;
    let share = stage.join("share");
    let generate = |what: &str, to: &Path| {
        let mut command = Command::new(release.join("heapwright"));
        shell::run(command.args(["generate", what]).arg(to))
    };
    generate("man", &share.join("man/man1"))?;
    let completions = stage.join("completions");
    generate("completions", &completions)?;
    for (file, place) in [
        ("heapwright.bash", "bash-completion/completions/heapwright"),
        ("_heapwright", "zsh/vendor-completions/_heapwright"),
        ("heapwright.fish", "fish/vendor_completions.d/heapwright.fish"),
    ] {
        install(&completions.join(file), &share.join(place))?;
    }
    fs::remove_dir_all(&completions)
        .map_err(|error| format!("{}: {error}", completions.display()))?;
    for document in DOCUMENTS {
        let from = workspace.root.join(document);
        install(&from, &share.join("doc/heapwright").join(document))?;
    }
    Ok(())
}

/// The same files under `/usr`.
fn debian(dist: &Path, stage: &Path) -> Result<PathBuf, String> {
    let root = dist.join("debian");
    let failed = |error: std::io::Error| format!("{}: {error}", root.display());
    fs::create_dir_all(root.join("DEBIAN")).map_err(failed)?;
    shell::run(Command::new("cp").arg("-a").arg(stage).arg(root.join("usr")))?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let (major, minor) = newest_glibc(&root)?;
    let control = format!(
        "Package: heapwright\nVersion: {VERSION}\nArchitecture: {architecture}\n\
         Maintainer: The Heapwright authors <heapwright@localhost>\n\
         Depends: libc6 (>= {major}.{minor}), libgcc-s1\nSection: devel\nPriority: optional\n\
         Description: finds the memory allocator a program needs, by measurement\n \
         Records the allocations of a program, replays them on every allocator, and\n \
         says which one serves it best and which call sites to change.\n"
    );
    fs::write(root.join("DEBIAN/control"), control).map_err(failed)?;
    let package = dist.join(format!("heapwright_{VERSION}_{architecture}.deb"));
    let mut build = Command::new("dpkg-deb");
    shell::run(build.args(["--root-owner-group", "--build"]).arg(&root).arg(&package))?;
    fs::remove_dir_all(&root).map_err(failed)?;
    Ok(package)
}

/// Copies a file, permissions included, into a folder that need not be there.
fn install(from: &Path, to: &Path) -> Result<(), String> {
    let folder = to.parent().unwrap_or(to);
    fs::create_dir_all(folder)
        .and_then(|()| fs::copy(from, to))
        .map(|_| ())
        .map_err(|error| format!("{} to {}: {error}", from.display(), to.display()))
}

/// Takes debug information out; dynamic symbols stay.
fn strip(file: &Path) -> Result<(), String> {
    shell::run(Command::new("strip").arg("--strip-unneeded").arg(file))
}

/// The newest version of glibc's symbols that any of the files names.
fn newest_glibc(folder: &Path) -> Result<(u32, u32), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut newest = (2, 17);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            newest = newest.max(newest_glibc(&path)?);
        } else {
            newest = newest.max(newest_version(&fs::read(&path).map_err(failed)?));
        }
    }
    Ok(newest)
}

/// The largest `GLIBC_2.N` in the bytes of a file.
fn newest_version(bytes: &[u8]) -> (u32, u32) {
    const MARK: &[u8] = b"GLIBC_2.";
    let minor = bytes
        .windows(MARK.len() + 3)
        .filter_map(|window| window.strip_prefix(MARK))
        .filter_map(|rest| {
            let digits: Vec<u8> = rest.iter().copied().take_while(u8::is_ascii_digit).collect();
            std::str::from_utf8(&digits).ok()?.parse::<u32>().ok()
        })
        .max();
    (2, minor.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::newest_version;

    #[test]
    fn the_newest_symbol_version_counts() {
        assert_eq!(newest_version(b"\0GLIBC_2.17\0x\0GLIBC_2.34\0GLIBC_2.4\0"), (2, 34));
        assert_eq!(newest_version(b"nothing"), (2, 0));
    }
}

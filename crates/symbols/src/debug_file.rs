//! Where debug information lies when it is not in the module: by build id, by debug link.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use object::Object;

/// The file with the debug information of the module `file` at `path`, looked for under each
/// of `roots` (usually `/usr/lib/debug`) and beside the module; none when there is none.
///
/// A file found by name must carry the same build id, or the checksum of the link.
pub(crate) fn separate_debug_file(
    path: &Path,
    file: &object::File<'_>,
    roots: &[PathBuf],
) -> Option<PathBuf> {
    let id = file.build_id().ok().flatten().unwrap_or_default();
    let by_id = roots.iter().filter_map(|root| build_id_path(root, id));
    if let Some(found) = by_id.into_iter().find(|candidate| candidate.is_file()) {
        return Some(found);
    }
    let (name, checksum) = file.gnu_debuglink().ok().flatten()?;
    let name = Path::new(std::ffi::OsStr::from_bytes(name));
    let name = name.file_name()?; // A link is a bare name; never leave the folders below.
    let whole = fs::canonicalize(path).ok();
    let mut candidates = Vec::new();
    for module in [Some(path), whole.as_deref()].into_iter().flatten() {
        let folder = module.parent()?;
        candidates.push(folder.join(name));
        candidates.push(folder.join(".debug").join(name));
        let below = folder.strip_prefix("/").unwrap_or(folder);
        candidates.extend(roots.iter().map(|root| root.join(below).join(name)));
    }
    candidates
        .into_iter()
        .filter(|candidate| candidate != path && Some(candidate) != whole.as_ref())
        .find(|candidate| is_same_build(candidate, id, checksum))
}

/// The supplementary file (made by `dwz`) that `file` at `path` shares debug information with.
pub(crate) fn supplementary_file(
    path: &Path,
    file: &object::File<'_>,
    roots: &[PathBuf],
) -> Option<PathBuf> {
    let (name, id) = file.gnu_debugaltlink().ok().flatten()?;
    let name = Path::new(std::ffi::OsStr::from_bytes(name));
    let beside = path.parent().map(|folder| folder.join(name));
    let by_id = roots.iter().filter_map(|root| build_id_path(root, id));
    beside.into_iter().chain(by_id).find(|candidate| candidate.is_file())
}

pub(crate) fn build_id_path(root: &Path, id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = id.split_first().filter(|(_, rest)| !rest.is_empty())?;
    Some(root.join(".build-id").join(format!("{first:02x}")).join(format!("{}.debug", hex(rest))))
}

fn is_same_build(candidate: &Path, id: &[u8], checksum: u32) -> bool {
    let Ok(data) = fs::read(candidate) else { return false };
    let found = object::File::parse(&*data).ok();
    let found_id = found.as_ref().and_then(|file| file.build_id().ok().flatten());
    match found_id {
        Some(found_id) if !id.is_empty() => found_id == id,
        _ => crc32fast::hash(&data) == checksum,
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::build_id_path;

    #[test]
    fn a_build_id_becomes_the_usual_path() {
        let path = build_id_path(Path::new("/usr/lib/debug"), &[0xab, 0x01, 0xff]);
        assert_eq!(path, Some(PathBuf::from("/usr/lib/debug/.build-id/ab/01ff.debug")));
        assert_eq!(build_id_path(Path::new("/"), &[]), None);
        assert_eq!(build_id_path(Path::new("/"), &[1]), None);
    }
}

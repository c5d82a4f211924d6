//! What heaptrack recorded, read from its file: how many allocations, with how complete stacks.
//!
//! Its file is lines of text under zstd, numbers in hexadecimal, everything counted from 1:
//! `s LENGTH TEXT` a string, `i ADDRESS MODULE [FUNCTION FILE LINE]...` a frame,
//! `t FRAME PARENT` a stack (parent 0: the outermost frame), `a SIZE STACK` a kind of
//! allocation, `+ KIND` and `- KIND` one more and one less of it.

use object::Object;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// Bytes of a program's entry within which its call of `__libc_start_main` lies.
const ENTRY_BYTES: u64 = 0x40;

/// The part of an address that loading does not change.
const PAGE_OFFSET_MASK: u64 = 0xfff;

/// Functions in which a thread begins. The dynamic loader's own start is told by its module.
const OUTERMOST: [&str; 6] = ["_start", "clone", "clone3", "__clone", "__clone3", "start_thread"];

/// What a file of heaptrack's holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HeaptrackFile {
    /// Allocations; a resize is one of them and one of `frees`.
    pub allocs: u64,
    /// Frees.
    pub frees: u64,
    /// Share of allocations whose outermost frame is where a thread begins, 0 to 1.
    pub complete_share: f64,
}

/// Reads the file at `path` that heaptrack wrote about the executable at `exe`.
///
/// One pass, some 0.1 us a line; memory for each distinct stack.
///
/// # Errors
/// Those of reading `path`. An executable that cannot be read has no known entry.
pub fn read_heaptrack_file(path: &Path, exe: &Path) -> io::Result<HeaptrackFile> {
    let image = std::fs::read(exe).unwrap_or_default();
    let entry = object::File::parse(&*image).map_or(0, |file| file.entry());
    let lines = BufReader::new(zstd::Decoder::new(File::open(path)?)?);
    read(lines, entry)
}

/// What of a stack is needed.
#[derive(Clone, Copy)]
struct Stack {
    complete: bool,
}

fn read(mut lines: impl BufRead, entry: u64) -> io::Result<HeaptrackFile> {
    let mut strings: Vec<String> = Vec::new();
    let mut frames_complete: Vec<bool> = Vec::new();
    let mut stacks: Vec<Stack> = Vec::new();
    let mut kinds: Vec<bool> = Vec::new();
    let (mut file, mut complete) = (HeaptrackFile::default(), 0u64);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        let mut words = text.trim_end().split(' ');
        let mark = words.next().unwrap_or_default();
        let number = |word: Option<&str>| {
            word.and_then(|word| u64::from_str_radix(word, 16).ok()).unwrap_or(0)
        };
        match mark {
            "s" => {
                let string = text.trim_end().splitn(3, ' ').nth(2).unwrap_or_default();
                strings.push(string.to_owned());
            }
            "i" => {
                let address = number(words.next());
                let module = at(&strings, number(words.next()));
                let functions: Vec<u64> = words.map(|word| number(Some(word))).collect();
                // Inlined frames come first; the real function is the last of the triples.
                let function = functions.chunks(3).next_back().and_then(|one| one.first());
                let name = function.and_then(|&function| at(&strings, function));
                frames_complete.push(is_outermost(address, module, name, entry, &strings));
            }
            "t" => {
                let frame = number(words.next());
                let parent = number(words.next());
                let complete = match parent {
                    0 => at(&frames_complete, frame).copied().unwrap_or(false),
                    _ => at(&stacks, parent).is_some_and(|stack| stack.complete),
                };
                stacks.push(Stack { complete });
            }
            "a" => {
                let stack = number(words.nth(1));
                kinds.push(at(&stacks, stack).is_some_and(|stack| stack.complete));
            }
            "+" => {
                file.allocs += 1;
                complete += u64::from(at(&kinds, number(words.next()) + 1).is_some_and(|&one| one));
            }
            "-" => file.frees += 1,
            _ => {}
        }
        line.clear();
    }
    file.complete_share = complete as f64 / file.allocs as f64;
    Ok(file)
}

/// Whether a frame is where a thread begins. The executable is the first string of the file.
fn is_outermost(
    address: u64,
    module: Option<&String>,
    name: Option<&String>,
    entry: u64,
    strings: &[String],
) -> bool {
    let in_exe = module.is_some() && module == strings.first();
    let after_entry = address.wrapping_sub(entry) & PAGE_OFFSET_MASK;
    name.is_some_and(|name| OUTERMOST.contains(&name.as_str()))
        || in_exe && entry != 0 && after_entry < ENTRY_BYTES
        || module.is_some_and(|module| module.contains("/ld-linux"))
}

/// Item number `number`, counted from 1.
fn at<T>(items: &[T], number: u64) -> Option<&T> {
    items.get(usize::try_from(number.checked_sub(1)?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn stacks_that_reach_the_start_are_complete() {
        let text = "v 10400 3\ns 8 /bin/prog\ns 4 main\ns 6 _start\n\
                    i 5000 1 3\ni 5100 1 2\nt 1 0\nt 2 1\nt 2 0\n\
                    a 10 2\na 20 3\n+ 0\n+ 0\n+ 1\n- 0\n+ 0\n";
        let file = read(text.as_bytes(), 0).unwrap();
        assert_eq!((file.allocs, file.frees), (4, 1));
        assert_eq!(file.complete_share, 0.75);
    }

    #[test]
    fn a_stripped_program_is_known_by_its_entry() {
        let text = "s 9 /bin/prog\ni 5555000010a1 1\nt 1 0\na 10 1\n+ 0\n";
        assert_eq!(read(text.as_bytes(), 0x1080).unwrap().complete_share, 1.0);
        assert_eq!(read(text.as_bytes(), 0x1200).unwrap().complete_share, 0.0);
    }
}

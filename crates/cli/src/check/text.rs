//! A finding for people: what happened, where, to which block; what that means and what to do.

use super::finding::{Finding, Frame};
use std::fmt::Write;
use std::path::Path;

/// Frames of a stack that are shown.
const FRAMES_MAX: usize = 16;

/// The report of one finding, with a blank line after it.
pub(crate) fn describe(finding: &Finding) -> String {
    let mut text = format!("heapwright: {}: {}\n", finding.kind, headline(finding));
    let exe = Path::new(&finding.exe).file_name().unwrap_or_default();
    if finding.kind != "leak" && finding.kind != "uninitialised" {
        let _ = write!(text, "  address {:#x}, ", finding.address);
        let _ = match finding.thread {
            0 => write!(text, "found "),
            thread if thread == finding.process => write!(text, "main thread "),
            thread => write!(text, "thread {thread} "),
        };
        let _ = writeln!(text, "in process {} ({})", finding.process, exe.display());
        if finding.stack.is_empty() {
            text += "  found at the end of the program\n";
        } else {
            let title = if finding.access.is_empty() { "called at" } else { "accessed at" };
            let late = finding.kind.starts_with("overwritten");
            write_stack(&mut text, if late { "found at" } else { title }, &finding.stack);
        }
    }
    if let Some(block) = &finding.block {
        let title = format!("allocated by {} in thread {}", block.allocator, block.alloc_thread);
        write_stack(&mut text, &title, &block.alloc_stack);
        if block.free_thread != 0 {
            let title = format!("freed by {} in thread {}", block.deallocator, block.free_thread);
            write_stack(&mut text, &title, &block.free_stack);
        }
    } else if finding.kind == "uninitialised" {
        write_stack(&mut text, "allocated at", &finding.stack);
    }
    let (cause, next) = advice(finding);
    let _ = writeln!(text, "  cause: {cause}\n  next: {next}\n");
    text
}

fn plural(count: u64, unit: &str) -> String {
    if count == 1 { format!("1 {unit}") } else { format!("{count} {unit}s") }
}

/// Where an address lies with respect to a block.
fn place(address: u64, start: u64, bytes: u64) -> String {
    let end = start + bytes;
    if address < start {
        format!("{} before", plural(start - address, "byte"))
    } else if address >= end {
        match address - end {
            0 => "right behind the end of".into(),
            distance => format!("{} behind the end of", plural(distance, "byte")),
        }
    } else if address == start {
        "at the start of".into()
    } else {
        format!("{} inside", plural(address - start, "byte"))
    }
}

/// What happened, in half a sentence.
fn headline(finding: &Finding) -> String {
    let via = match finding.via.as_str() {
        "" => String::new(),
        via => format!(", in {via}"),
    };
    let Some(block) = &finding.block else {
        return match (finding.kind.as_str(), finding.filler) {
            ("crash", Some(filler)) => format!(
                "signal {} at an address full of {filler:#04x} bytes, which stand for {}",
                finding.signal,
                if filler == 0xdb { "freed memory" } else { "memory never set" }
            ),
            ("crash", None) if finding.address < 65_536 => format!(
                "signal {}: a null pointer was used (address {:#x})",
                finding.signal, finding.address
            ),
            ("crash", None) => format!("signal {} at {:#x}", finding.signal, finding.address),
            ("uninitialised", _) => "what the program prints depends on bytes never set".into(),
            _ => format!("{:#x} is not an address that was allocated{via}", finding.address),
        };
    };
    let size = plural(block.bytes, "byte");
    let place = place(finding.address, block.start, block.bytes);
    match finding.kind.as_str() {
        "leak" => format!(
            "{} in {} {}, never freed and no longer reachable",
            plural(finding.leaked_bytes, "byte"),
            plural(finding.told, "block"),
            if finding.indirect { "reached through other leaks" } else { "lost" }
        ),
        "double-free" => format!("a block of {size} is freed a second time{via}"),
        "invalid-free" => format!("{place} a block of {size} is no start of a block{via}"),
        "mismatched-free" => {
            format!("a block of {size} from {} is freed by {}", block.allocator, block.deallocator)
        }
        "wrong-size-free" => format!("a block of {size} is freed as one of {}", finding.told),
        "overwritten-after" | "overwritten-before" => format!(
            "{} overwritten {place} a block of {size}",
            if finding.bytes == 1 {
                "1 byte was".into()
            } else {
                format!("{} bytes were", finding.bytes)
            }
        ),
        "write-after-free" => format!("a freed block of {size} was written to, {place} it"),
        _ => {
            let what = match (finding.access.as_str(), finding.bytes) {
                ("", _) => "an access".to_owned(),
                (access, 0) => format!("a {access}"),
                (access, bytes) => format!("a {access} of {}", plural(bytes, "byte")),
            };
            let freed = if block.state == "freed" { "freed " } else { "" };
            format!("{what} {place} a {freed}block of {size}{via}")
        }
    }
}

fn write_stack(text: &mut String, title: &str, stack: &[Frame]) {
    let _ = writeln!(text, "  {title}");
    if stack.is_empty() {
        text.push_str("    (no stack)\n");
    }
    for frame in stack.iter().take(FRAMES_MAX) {
        let _ = write!(text, "    {}", frame.function);
        let _ = match frame.line {
            0 => writeln!(text, "  ({}+{:#x})", frame.module, frame.offset),
            line => writeln!(text, "  {}:{line}", frame.file),
        };
    }
    if stack.len() > FRAMES_MAX {
        let _ = writeln!(text, "    ... {} more", stack.len() - FRAMES_MAX);
    }
}

/// The function that most likely has the error: the innermost one, unless it is a library's
/// without source lines and one with lines called it.
fn suspect(stack: &[Frame]) -> String {
    let is_libc = |frame: &&Frame| frame.module.starts_with("libc.");
    let known = stack.iter().find(|frame| frame.line != 0 && !is_libc(frame)).or(stack.first());
    known.map_or("the code that was running".into(), |frame| match frame.line {
        0 => frame.function.clone(),
        line => format!("{} ({}:{line})", frame.function, frame.file),
    })
}

/// Cause and next step.
fn advice(finding: &Finding) -> (String, String) {
    let here = suspect(&finding.stack);
    let maker = finding.block.as_ref().map(|block| suspect(&block.alloc_stack));
    let maker = maker.unwrap_or_default();
    let freer = finding.block.as_ref().map(|block| suspect(&block.free_stack));
    let freer = freer.unwrap_or_default();
    let pair = |cause: &str, next: String| (cause.to_owned(), next);
    match finding.kind.as_str() {
        "overflow" => pair(
            "an index or length goes beyond what was allocated",
            format!("compare the bound used in {here} with the size asked for in {maker}"),
        ),
        "underflow" => pair(
            "an index is negative, or a pointer was moved below the block's start",
            format!("look at the index or pointer used in {here}"),
        ),
        "use-after-free" => pair(
            "a pointer to the block was kept and used after the block was freed",
            format!("let {here} run before {freer} frees, or clear the pointer there"),
        ),
        "overwritten-after" | "overwritten-before" => pair(
            "between allocation and this check something wrote outside the block",
            format!(
                "look at who writes to the block made in {maker}; --exact or --both can stop the \
                 write itself"
            ),
        ),
        "write-after-free" => pair(
            "a pointer to the block was kept and written through after the block was freed",
            format!(
                "clear the pointers to the block in {freer}; --guard-first with a larger number \
                 can stop the write itself"
            ),
        ),
        "double-free" => pair(
            "two owners free the same block, or one frees it twice",
            format!("decide whether {here} or {freer} owns the block"),
        ),
        "invalid-free" => pair(
            "the pointer was moved since it was allocated, or was never allocated",
            format!("free in {here} what the allocating function returned"),
        ),
        "mismatched-free" => pair(
            "malloc goes with free, new with delete, new[] with delete[]",
            format!("make {here} free by the counterpart of what {maker} calls"),
        ),
        "wrong-size-free" => pair(
            "the object is deleted as another type than it was made, often without a virtual \
             destructor",
            format!("compare the type deleted in {here} with the one made in {maker}"),
        ),
        "leak" => pair(
            "the last pointer to the block went away without a free",
            format!("free what {maker} allocates, or keep a pointer to it"),
        ),
        "uninitialised" => pair(
            "bytes of the block are read before anything was written to them",
            format!("set all of what {here} allocates, for example by calloc"),
        ),
        _ if finding.filler == Some(0xdb) => pair(
            "a pointer was read from a block that was freed",
            format!("look at which freed block {here} reads; --guard-first can name it"),
        ),
        _ if finding.filler.is_some() => pair(
            "a pointer was read from memory that was never set",
            format!("look at what {here} reads; --uninit names the block"),
        ),
        _ => pair(
            "a pointer that is null or points nowhere was used; no block is near",
            format!("look at the pointer used in {here}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn places_are_told_to_the_byte() {
        assert_eq!(place(100, 100, 10), "at the start of");
        assert_eq!(place(103, 100, 10), "3 bytes inside");
        assert_eq!(place(110, 100, 10), "right behind the end of");
        assert_eq!(place(111, 100, 10), "1 byte behind the end of");
        assert_eq!(place(98, 100, 10), "2 bytes before");
    }
}

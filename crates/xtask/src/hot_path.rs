//! `hot-path`: the instructions of `malloc` and `free` in the preloaded object, counted.
//!
//! Counted is the way of a small block of the calling thread: straight on from the entry to the
//! first `ret`, with no branch taken. A calling instruction on it, or one more than the budget,
//! fails: time is not gated, instructions are. Needs binutils, as the linker does.

use crate::shell;
use crate::workspace::Workspace;
use std::process::Command;

/// Function and the most instructions that its hot path may have, the `ret` included.
const BUDGETS: [(&str, usize); 2] = [("malloc", 12), ("free", 16)];

/// Counts in `target/release/libheapwright_preload.so`, which must have been built.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    if !cfg!(target_arch = "x86_64") {
        println!("hot-path: counted on x86_64 only");
        return Ok(());
    }
    let object = workspace.release().join("libheapwright_preload.so");
    let symbols =
        shell::output(Command::new("nm").args(["--dynamic", "--defined-only"]).arg(&object))?;
    for (function, budget) in BUDGETS {
        let start = address_of(&symbols, function)?;
        let range = format!("--start-address={start:#x}");
        let end = format!("--stop-address={:#x}", start + 512);
        let mut objdump = Command::new("objdump");
        objdump.args(["--disassemble", "--no-show-raw-insn", &range, &end]).arg(&object);
        let text = shell::output(&mut objdump)?;
        let count = count_to_return(&text).map_err(|why| format!("hot-path: {function}: {why}"))?;
        println!("{function}: {count} instructions of {budget}");
        if count > budget {
            return Err(format!(
                "hot-path: {function} has {count} instructions, {budget} are allowed"
            ));
        }
    }
    Ok(())
}

fn address_of(symbols: &str, function: &str) -> Result<u64, String> {
    symbols
        .lines()
        .find_map(|line| {
            let mut words = line.split_whitespace();
            let (address, _, name) = (words.next()?, words.next()?, words.next()?);
            (name == function).then(|| u64::from_str_radix(address, 16).ok()).flatten()
        })
        .ok_or_else(|| format!("hot-path: no symbol `{function}`"))
}

/// Instructions from the start of a disassembly to its first `ret`.
fn count_to_return(text: &str) -> Result<usize, String> {
    let mut count = 0;
    for line in text.lines() {
        // `  5110:	cmp    $0x401,%rdi`
        let Some((place, instruction)) = line.split_once(":\t") else { continue };
        if u64::from_str_radix(place.trim(), 16).is_err() {
            continue;
        }
        let name = instruction.split_whitespace().next().unwrap_or_default();
        count += 1;
        match name {
            "ret" => return Ok(count),
            "call" | "jmp" => return Err(format!("`{}` on the hot path", instruction.trim())),
            _ => {}
        }
    }
    Err("no `ret` found".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{address_of, count_to_return};

    #[test]
    fn instructions_are_counted_up_to_the_first_return() {
        let text = "\n0000000000005110 <libc_malloc>:\n    5110:\tcmp    $0x401,%rdi\n    5117:\tjae    \
                    513e <x>\n    513d:\tret\n    513e:\tcmp    $0x8001,%rdi\n";
        assert_eq!(count_to_return(text), Ok(3));
        assert!(count_to_return("    5110:\tcall   5117 <y>\n").is_err());
        assert!(count_to_return("").is_err());
    }

    #[test]
    fn a_symbol_is_found_by_its_whole_name() {
        let symbols = "0000000000004db0 T free\n0000000000005110 T malloc\n";
        assert_eq!(address_of(symbols, "malloc"), Ok(0x5110));
        assert!(address_of(symbols, "mallo").is_err());
    }
}

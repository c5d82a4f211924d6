//! `hot-path`: the instructions of `malloc` and `free` in the preloaded object, and of the
//! recorder's hooks while it is dormant, counted.
//!
//! Counted is straight on from the entry, with no branch taken: the way of a small block of the
//! calling thread to the first `ret`, and the way past a dormant recorder to the jump into the
//! real function. A calling instruction on it, or one more than the budget, fails: time is not
//! gated, instructions are. Needs binutils, as the linker does.

use crate::shell;
use crate::workspace::Workspace;
use std::process::Command;

/// An object, the instruction that ends its hot paths, and functions with the most instructions
/// that they may have, the last one included.
type Budgets = (&'static str, &'static str, &'static [(&'static str, usize)]);

const BUDGETS: [Budgets; 2] = [
    ("libheapwright_preload.so", "ret", &[("malloc", 12), ("free", 16)]),
    (
        "libheapwright_recorder.so",
        "jmp",
        &[("malloc", 3), ("calloc", 3), ("realloc", 3), ("free", 3), ("_Znwm", 3), ("_ZdlPv", 3)],
    ),
];

/// Counts in objects under `target/release`, which must have been built.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    if !cfg!(target_arch = "x86_64") {
        println!("hot-path: counted on x86_64 only");
        return Ok(());
    }
    for (object, last, functions) in BUDGETS {
        let path = workspace.release().join(object);
        let symbols =
            shell::output(Command::new("nm").args(["--dynamic", "--defined-only"]).arg(&path))?;
        for (function, budget) in functions {
            let start = address_of(&symbols, function)?;
            let range = format!("--start-address={start:#x}");
            let end = format!("--stop-address={:#x}", start + 512);
            let mut objdump = Command::new("objdump");
            objdump.args(["--disassemble", "--no-show-raw-insn", &range, &end]).arg(&path);
            let text = shell::output(&mut objdump)?;
            let count = count_to(last, &text)
                .map_err(|why| format!("hot-path: {object}: {function}: {why}"))?;
            println!("{object}: {function}: {count} instructions of {budget}");
            if count > *budget {
                return Err(format!(
                    "hot-path: {object}: {function} has {count} instructions, {budget} are allowed"
                ));
            }
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

/// Instructions from the start of a disassembly to the first one called `last`.
fn count_to(last: &str, text: &str) -> Result<usize, String> {
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
            name if name == last => return Ok(count),
            "call" | "jmp" | "ret" => {
                return Err(format!("`{}` on the hot path", instruction.trim()));
            }
            _ => {}
        }
    }
    Err(format!("no `{last}` found"))
}

#[cfg(test)]
mod tests {
    use super::{address_of, count_to};

    #[test]
    fn instructions_are_counted_up_to_the_first_return() {
        let text = "\n0000000000005110 <libc_malloc>:\n    5110:\tcmp    $0x401,%rdi\n    5117:\tjae    \
                    513e <x>\n    513d:\tret\n    513e:\tcmp    $0x8001,%rdi\n";
        assert_eq!(count_to("ret", text), Ok(3));
        assert!(count_to("ret", "    5110:\tcall   5117 <y>\n").is_err());
        assert!(count_to("ret", "").is_err());
        let passing =
            "    10:\tcmpb   $0x0,0x9(%rip)\n    17:\tjne    20 <x>\n    19:\tjmp    *0x3(%rip)\n";
        assert_eq!(count_to("jmp", passing), Ok(3));
        assert!(count_to("jmp", "    5110:\tret\n").is_err());
    }

    #[test]
    fn a_symbol_is_found_by_its_whole_name() {
        let symbols = "0000000000004db0 T free\n0000000000005110 T malloc\n";
        assert_eq!(address_of(symbols, "malloc"), Ok(0x5110));
        assert!(address_of(symbols, "mallo").is_err());
    }
}

//! Resolves evenly spread addresses of a file and prints the time it took: the cost of symbols.
//!
//!     cargo run --release --example resolve_all -- /usr/bin/gdb 100000

use std::path::PathBuf;
use std::time::Instant;

use heapwright_format::merge::Module;
use heapwright_symbols::{Source, Symbolizer};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().expect("the path of an ELF file");
    let count: u64 = arguments.next().map_or(100_000, |text| text.parse().expect("a number"));
    let bytes = std::fs::metadata(PathBuf::from(&path)).expect("a file").len();
    let bias: u64 =
        arguments.next().map_or(0, |text| u64::from_str_radix(&text, 16).expect("a base"));
    let module = Module {
        start: 0,
        end: 1 << 40,
        bias: bias.wrapping_neg(),
        build_id: Vec::new(),
        path,
        time: 0,
    };
    let start = Instant::now();
    let addresses = (0..count).map(|index| (1 + index * (bytes / count), 0));
    let table = Symbolizer::new().resolve(&[module], addresses);
    let elapsed = start.elapsed();
    let sources =
        [Source::DebugInformation, Source::SymbolTable, Source::FunctionStart, Source::Nothing];
    for source in sources {
        let found = table.places().iter().filter(|place| place.source == source).count();
        println!("{source:?}: {found}");
    }
    println!("{:?}", table.modules()[0]);
    println!("{count} addresses in {:.3} s", elapsed.as_secs_f64());
}

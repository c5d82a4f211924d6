//! C programs whose call sites have a known right answer, written by a random mix: what the advice
//! about single call sites is judged by.
//!
//! Each kind of site is a function of its own name (`pool_2`, say), so that the answer can be read
//! from the advice. The program calls them in random turns; they share nothing.

use std::fmt::Write;

use crate::random::Random;

/// The right answers, as the advice calls them.
pub const KINDS: [&str; 6] = ["linear", "stack", "pool", "slab", "buddy", "general"];

/// A generated program.
#[derive(Clone, Debug)]
pub struct SiteMix {
    /// Its C source.
    pub source: String,
    /// The function at each call site, and the kind that is right for it.
    pub answers: Vec<(String, &'static str)>,
}

impl SiteMix {
    /// The program of `seed`: three to seven sites, `turns` random calls of them.
    pub fn new(seed: u64, turns: u32) -> Self {
        let mut random = Random::new(seed);
        let mut below = |limit: u64| random.next_u64() % limit;
        let count = 3 + below(5);
        let mut source = String::from(PRELUDE);
        let mut answers = Vec::new();
        let mut calls = String::new();
        for number in 0..count {
            let kind = KINDS[below(KINDS.len() as u64) as usize];
            let name = format!("{kind}_{number}");
            let body = match kind {
                "linear" => linear(&name, 8 + below(40), 16 + below(300)),
                "stack" => stack(&name, 20 + below(60), 24 + below(400)),
                "pool" => pool(&name, 500 + below(4000), 16 + 8 * below(40)),
                "slab" => slab(&name, 500 + below(3000), 3 + below(5), 16 * (1 + below(8))),
                "buddy" => buddy(&name, 8 + below(24), 14 + below(2)),
                _ => general(&name, 300 + below(2000), 1000 + below(3000)),
            };
            source += &body;
            let weight = if kind == "buddy" { 1 } else { 1 + below(4) };
            let _ = writeln!(calls, "        for (int i = 0; i < {weight}; i++) {name}();");
            answers.push((name, kind));
        }
        let _ = write!(
            source,
            "int main(void) {{\n    state = {};\n    for (int turn = 0; turn < {turns}; turn++) {{\n\
             {calls}    }}\n    return 0;\n}}\n",
            below(u64::MAX - 1) | 1
        );
        Self { source, answers }
    }
}

const PRELUDE: &str = "\
#include <stdlib.h>
#include <string.h>
static unsigned long state;
static unsigned long below(unsigned long limit) {
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    return (state >> 11) % limit;
}
#define SITE __attribute__((noinline)) static void
";

/// A request: many sizes, all dead at its end.
fn linear(name: &str, blocks: u64, size: u64) -> String {
    format!(
        "SITE {name}(void) {{
    char *kept[{blocks}];
    for (int i = 0; i < {blocks}; i++) {{ kept[i] = malloc(16 + below({size})); kept[i][0] = 1; }}
    for (int i = 0; i < {blocks}; i++) free(kept[i]);
}}
"
    )
}

/// A walk up and down: the youngest goes first, and new ones come in between.
fn stack(name: &str, depth: u64, size: u64) -> String {
    format!(
        "SITE {name}(void) {{
    static char *kept[{depth}]; static int level;
    for (int i = 0; i < 24; i++) {{
        if (level == 0 || (level < {depth} && below(2))) {{
            kept[level] = malloc(16 + below({size})); kept[level][0] = 1; level++;
        }} else free(kept[--level]);
    }}
}}
"
    )
}

/// One size, any order.
fn pool(name: &str, live: u64, size: u64) -> String {
    format!(
        "SITE {name}(void) {{
    static char *kept[{live}];
    for (int i = 0; i < 24; i++) {{
        unsigned long at = below({live});
        free(kept[at]); kept[at] = malloc({size}); kept[at][0] = 1;
    }}
}}
"
    )
}

/// A few sizes, any order.
fn slab(name: &str, live: u64, sizes: u64, step: u64) -> String {
    format!(
        "SITE {name}(void) {{
    static char *kept[{live}];
    for (int i = 0; i < 24; i++) {{
        unsigned long at = below({live});
        free(kept[at]); kept[at] = malloc({step} * (1 + below({sizes}))); kept[at][0] = 1;
    }}
}}
"
    )
}

/// Large blocks a little below powers of two, any order.
fn buddy(name: &str, live: u64, log2: u64) -> String {
    format!(
        "SITE {name}(void) {{
    static char *kept[{live}];
    unsigned long at = below({live}), size = 1ul << ({log2} + below(3));
    if (size > 65536) size = 65536;
    free(kept[at]); kept[at] = malloc(size - below(size / 16)); kept[at][0] = 1;
}}
"
    )
}

/// Many sizes, any order: nothing simple serves it.
fn general(name: &str, live: u64, size: u64) -> String {
    format!(
        "SITE {name}(void) {{
    static char *kept[{live}];
    for (int i = 0; i < 24; i++) {{
        unsigned long at = below({live});
        free(kept[at]); kept[at] = malloc(16 + below({size})); kept[at][0] = 1;
    }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::{KINDS, SiteMix};

    #[test]
    fn a_seed_gives_one_program_and_all_kinds_come() {
        assert_eq!(SiteMix::new(7, 100).source, SiteMix::new(7, 100).source);
        let all: Vec<_> = (0..12).flat_map(|seed| SiteMix::new(seed, 10).answers).collect();
        assert!(all.len() >= 36);
        for kind in KINDS {
            assert!(all.iter().any(|answer| answer.1 == kind), "{kind}");
        }
    }
}

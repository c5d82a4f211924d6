//! What a report says, whatever memory it is made in.

use heapwright_testkit::Random;
use std::fmt::{self, Write};

/// One thing in the warehouse.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'a> {
    pub(crate) name: &'a str,
    pub(crate) count: u64,
    pub(crate) cents: u64,
}

/// The seed and the count of rows that a query as `seed=7&rows=100` asks for.
pub(crate) fn parse(query: &str) -> (u64, usize) {
    let number = |name: &str| {
        query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    };
    (number("seed").unwrap_or(0), number("rows").unwrap_or(0).min(2000) as usize)
}

/// Writes the name of a thing.
pub(crate) fn write_name(random: &mut Random, into: &mut impl Write) -> fmt::Result {
    const WORDS: [&str; 8] =
        ["bolt", "hinge", "copper wire", "valve", "left bracket", "gasket", "spring", "washer"];
    let word = WORDS[random.below(8) as usize];
    write!(into, "{word} no. {}", random.below(1_000_000))
}

/// The order of rows.
pub(crate) fn sort(items: &mut [Item<'_>]) {
    items.sort_unstable_by(|a, b| (b.cents, a.name).cmp(&(a.cents, b.name)));
}

/// Writes one row.
pub(crate) fn write_row(item: &Item<'_>, into: &mut impl Write) -> fmt::Result {
    let (euros, cents) = (item.cents / 100, item.cents % 100);
    writeln!(into, "{:>6} x {:<32} {euros:>8}.{cents:02}", item.count, item.name)
}

/// The numbers of a thing.
pub(crate) fn numbers(random: &mut Random) -> (u64, u64) {
    (random.below(500), random.below(1_000_000))
}

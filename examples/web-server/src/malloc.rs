//! Requests on `malloc`: a string for each name and each row.

use crate::Handler;
use crate::report::{Item, numbers, parse, sort, write_name, write_row};
use heapwright_testkit::Random;
use hyper::body::Bytes;

/// Keeps nothing between requests.
pub(crate) struct MallocHandler;

#[inline(never)]
fn name_of(random: &mut Random) -> String {
    let mut name = String::new();
    // A string does not refuse.
    let _ = write_name(random, &mut name);
    name
}

#[inline(never)]
fn row_of(item: &Item<'_>) -> String {
    let mut row = String::new();
    // As above.
    let _ = write_row(item, &mut row);
    row
}

impl Handler for MallocHandler {
    fn answer(&self, query: &str) -> Bytes {
        let (seed, rows) = parse(query);
        let random = &mut Random::new(seed);
        let names: Vec<String> = (0..rows).map(|_| name_of(random)).collect();
        let mut items: Vec<Item<'_>> = Vec::new();
        for name in &names {
            let (count, cents) = numbers(random);
            items.push(Item { name, count, cents });
        }
        sort(&mut items);
        let rows: Vec<String> = items.iter().map(row_of).collect();
        Bytes::from(rows.concat())
    }
}

//! A request: parsed into short-lived pieces, answered from the cache, gone at once.

use crate::cache::Cache;
use crate::random::Random;
use std::collections::BTreeMap;

/// Different keys asked for; more than the cache holds.
const KEYS: u64 = 30_000;

/// A parsed request.
pub struct Request {
    /// What was asked for.
    pub path: String,
    headers: BTreeMap<String, String>,
    keys: Vec<u64>,
}

impl Request {
    /// Parses the next request of the stream that `random` stands for.
    pub fn parse(random: &mut Random, table: &[String]) -> Self {
        let route = random.below(table.len() as u64);
        let line = format!("GET /{}/{} HTTP/1.1", &table[route as usize][..24], random.below(1000));
        let path = line.split(' ').nth(1).unwrap_or("/").to_owned();
        let headers = (0..6 + random.below(8))
            .map(|header| (format!("x-header-{header:02}"), text(random, header, 8, 96)))
            .collect();
        // A few keys are asked for often, most of them seldom.
        let keys = (0..1 + random.below(6))
            .map(|_| {
                let range = if random.below(3) == 0 { KEYS } else { KEYS / 50 };
                random.below(range)
            })
            .collect();
        Self { path, headers, keys }
    }

    /// Renders the answer: fragments of each key's value and the headers, joined.
    pub fn answer(&self, cache: &mut Cache) -> Vec<u8> {
        let mut answer = Vec::new();
        let mut fragments = Vec::new();
        for &key in &self.keys {
            let value = cache.get_or_make(key, make_value);
            let shown = value.len().min(600);
            fragments.push(value[..shown].to_vec().into_boxed_slice());
        }
        for (name, value) in &self.headers {
            let line = format!("{name}: {}\r\n", value.to_ascii_uppercase());
            answer.extend_from_slice(line.as_bytes());
        }
        for fragment in fragments {
            answer.extend_from_slice(&fragment);
        }
        answer
    }
}

/// A value as a slow backend would compute it: 64 B to 32 KiB, the same for the same key.
fn make_value(key: u64) -> Vec<u8> {
    let mut random = Random::new(key);
    let mut value = vec![0; random.size(64, 32 << 10)];
    for (index, byte) in value.iter_mut().enumerate().step_by(32) {
        *byte = (key as usize + index) as u8;
    }
    value
}

/// A text of `low` to `high` letters that starts with `number`.
pub fn text(random: &mut Random, number: u64, low: usize, high: usize) -> String {
    let length = low + random.below((high - low) as u64) as usize;
    let mut text = format!("{number:08}");
    let mut bits = random.next();
    while text.len() < length {
        text.push(char::from(b'a' + (bits % 26) as u8));
        bits = bits.rotate_right(5) ^ 0x55;
    }
    text
}

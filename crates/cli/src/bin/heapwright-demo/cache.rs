//! A shard of the cache: values of mixed sizes, the oldest evicted first when it is full.

use std::collections::{HashMap, VecDeque};

/// Values by key, bounded in bytes.
pub struct Cache {
    values: HashMap<u64, Vec<u8>>,
    order: VecDeque<u64>,
    bytes: usize,
    bytes_max: usize,
}

impl Cache {
    /// An empty cache for `bytes_max` bytes of values.
    pub fn new(bytes_max: usize) -> Self {
        Self { values: HashMap::new(), order: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// The value of `key`, made by `make` when it is not there; older values give way.
    pub fn get_or_make(&mut self, key: u64, make: impl FnOnce(u64) -> Vec<u8>) -> &[u8] {
        if !self.values.contains_key(&key) {
            let value = make(key);
            self.bytes += value.len();
            self.order.push_back(key);
            self.values.insert(key, value);
            while self.bytes > self.bytes_max && self.order.len() > 1 {
                let oldest = self.order.pop_front().expect("the order names each key");
                self.bytes -= self.values.remove(&oldest).map_or(0, |value| value.len());
            }
        }
        &self.values[&key]
    }
}

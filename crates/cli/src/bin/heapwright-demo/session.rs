//! The burst in the middle: sessions that come together, of which one in sixteen stays.

use crate::random::{self, Random};

/// One in so many sessions outlives the burst.
const SURVIVOR_EVERY: usize = 16;

/// A user's session: a few small blocks.
struct Session {
    user: String,
    items: Vec<Box<[u8]>>,
}

/// The sessions of one request thread.
pub struct Sessions(Vec<Option<Session>>);

impl Sessions {
    /// Opens `count` sessions at once.
    pub fn burst(count: u64, random: &mut Random) -> Self {
        let open = |number| {
            let items = 4 + random.below(8);
            Some(Session {
                user: format!("user-{number:06}-{:x}", random.next()),
                items: (0..items)
                    .map(|item| {
                        let mut bytes = vec![item as u8; random.size(32, 2048)];
                        bytes[0] = number as u8;
                        bytes.into_boxed_slice()
                    })
                    .collect(),
            })
        };
        Self((0..count).map(open).collect())
    }

    /// Ends all but one session in sixteen, in an order unlike that of their birth.
    pub fn end_most(&mut self) {
        let count = self.0.len();
        for step in 0..count {
            // 7919 is a prime above any count's factors, so every index comes once.
            let index = step * 7919 % count;
            if !index.is_multiple_of(SURVIVOR_EVERY) {
                self.0[index] = None;
            }
        }
    }

    /// A checksum of the sessions that are open.
    pub fn checksum(&self) -> u64 {
        self.0.iter().flatten().fold(0, |sum, session| {
            let items = session.items.iter().map(|item| random::checksum(item));
            let items = items.fold(0u64, u64::wrapping_add);
            sum.wrapping_add(items).wrapping_add(random::checksum(session.user.as_bytes()))
        })
    }
}

//! Requests in arenas: reset when the answer is made, kept for the next request.

use crate::Handler;
use crate::report::{Item, numbers, parse, sort, write_name, write_row};
use heapwright_regions::{AllocError, AnonymousPages, Linear};
use heapwright_testkit::Random;
use hyper::body::Bytes;
use std::cell::RefCell;
use std::fmt;

/// What an arena keeps between requests: a large report gives the rest back.
const KEEP_BYTES: usize = 1 << 20;
/// No name or row is longer.
const TEXT_BYTES_MAX: usize = 96;

/// Warm arenas: as many as there were requests at once.
#[derive(Default)]
pub(crate) struct ArenaHandler {
    idle: RefCell<Vec<Linear<AnonymousPages>>>,
}

/// Text at the end of a row's place in the arena.
struct Text<'a> {
    room: &'a mut [u8],
    length: usize,
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.room.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// What `write` writes, in the arena.
fn text_of(
    arena: &Linear<AnonymousPages>,
    write: impl FnOnce(&mut Text<'_>) -> fmt::Result,
) -> Result<&str, AllocError> {
    let mut buffer = [0; TEXT_BYTES_MAX];
    let mut text = Text { room: &mut buffer, length: 0 };
    let too_large = AllocError::TooLarge { requested_bytes: TEXT_BYTES_MAX + 1 };
    write(&mut text).map_err(|_| too_large)?;
    let length = text.length;
    let text = std::str::from_utf8(&buffer[..length]).map_err(|_| too_large)?;
    Ok(arena.try_alloc_str(text)?)
}

fn report(arena: &Linear<AnonymousPages>, query: &str) -> Result<Bytes, AllocError> {
    let (seed, rows) = parse(query);
    let random = &mut Random::new(seed);
    let names = arena.try_alloc_slice_fill_with(rows, |_| "")?;
    for name in names.iter_mut() {
        *name = text_of(arena, |text| write_name(random, text))?;
    }
    let items = arena.try_alloc_slice_fill_with(rows, |index| {
        let (count, cents) = numbers(random);
        Item { name: names[index], count, cents }
    })?;
    sort(items);
    let mut bytes = 0;
    let texts = arena.try_alloc_slice_fill_with(rows, |_| "")?;
    for (text, item) in texts.iter_mut().zip(items.iter()) {
        *text = text_of(arena, |text| write_row(item, text))?;
        bytes += text.len();
    }
    // The answer outlives the request in hyper's hands: one block, as long as it is.
    let mut answer = Vec::with_capacity(bytes);
    texts.iter().for_each(|text| answer.extend_from_slice(text.as_bytes()));
    Ok(Bytes::from(answer))
}

impl Handler for ArenaHandler {
    fn answer(&self, query: &str) -> Bytes {
        let mut arena = self.idle.borrow_mut().pop().unwrap_or_default();
        let answer = report(&arena, query);
        arena.reset_and_trim(KEEP_BYTES);
        self.idle.borrow_mut().push(arena);
        answer.unwrap_or_else(|error| Bytes::from(error.to_string()))
    }
}

//! How short memory is around the process: in its control group, and by the kernel's word on who
//! waits for memory. Looked at by purgers in their rounds, and before fresh memory is taken where
//! the group's limit may be near; never on a hot path.
//!
//! What follows from it:
//! - of the room that the group has left, free runs may keep a quarter;
//! - when it is *tight* (7/8 of the limit used, or members waited for memory in a tenth of the last
//!   ten seconds), purgers take what is free without waiting for it to age, and idle threads'
//!   memory after one round; and free runs go back before fresh memory is taken.
//!
//! Memory of the group that other processes use counts, files that the kernel can drop do not.

use core::ffi::CStr;

use heapwright_os::{GroupMemory, MemoryGroup, machine_stalled_percent};
use heapwright_sync::Lock;
use heapwright_sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::pool::Futex;
use crate::purge::note_work;
use crate::runs::ever_used_bytes;
use crate::thread_block::ThreadBlock;

/// Looks after which the process's group is searched again: it may have been moved.
const SEARCH_LOOKS: u32 = 64;
/// A process that never used so much does not search before it takes fresh memory.
const SEARCH_BYTES_MIN: usize = 16 << 20;
/// A group is tight from so many sixteenths of its limit on, and until it is below the second one.
const TIGHT_SIXTEENTHS: (u64, u64) = (14, 13);
/// The same in per cent of time in which somebody waited for memory.
const TIGHT_STALLED_PERCENT: (u32, u32) = (10, 5);
/// Of the group's room, free runs may keep one part in so many.
const ROOM_SHARE: u64 = 4;
/// What free runs may keep when memory is short and no limit is known.
const STALLED_DIRTY_BYTES_MAX: usize = 4 << 20;

/// How short memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pressure {
    /// The tightest limit of the process's control group and of those above it, and what is used
    /// of it; none when there is none, or when the option `pressure` is off.
    pub group: Option<GroupMemory>,
    /// The per cent of the last ten seconds in which a member waited for memory, if it is known.
    pub stalled_percent: Option<u32>,
    /// Whether memory goes back at once.
    pub is_tight: bool,
}

/// Which group is looked at.
struct Watched {
    group: Option<MemoryGroup>,
    /// Named by the program, and not searched for.
    is_named: bool,
    looks_left: u32,
    last: Pressure,
}

const CALM: Pressure = Pressure { group: None, stalled_percent: None, is_tight: false };

/// In no order with the other locks, since it is only tried while one of them is held.
static WATCHED: Lock<Watched, Futex> =
    Lock::new(Watched { group: None, is_named: false, looks_left: 0, last: CALM });
static IS_OFF: AtomicU32 = AtomicU32::new(0);
static IS_TIGHT: AtomicU32 = AtomicU32::new(0);
/// Limit of the group when last looked at; `usize::MAX` for none, 0 before the first look.
static LIMIT_BYTES: AtomicUsize = AtomicUsize::new(0);
/// What free runs may keep.
static DIRTY_BYTES_MAX: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Looks how short memory is, and returns it. Some system calls, 20 to 100 us.
pub fn pressure() -> Pressure {
    look(0);
    WATCHED.lock(ThreadBlock::token()).map_or(CALM, |watched| watched.last)
}

/// Names the control group to look at by its directory, instead of the process's own; with none
/// searches for that again. Whether the directory has a memory controller; nothing changes where
/// not.
pub fn watch_group(directory: Option<&CStr>) -> bool {
    let group = match directory {
        Some(directory) => match MemoryGroup::at(directory) {
            Some(group) => Some(group),
            None => return false,
        },
        None => None,
    };
    let Ok(mut watched) = WATCHED.lock(ThreadBlock::token()) else { return false };
    watched.is_named = group.is_some();
    watched.group = group;
    watched.looks_left = 0;
    drop(watched);
    look(0);
    true
}

/// Whether pressure is looked at.
pub(crate) fn is_watched() -> bool {
    IS_OFF.load(Ordering::Relaxed) == 0
}

/// Has pressure looked at or not.
pub(crate) fn set_watched(is_on: bool) {
    IS_OFF.store(u32::from(!is_on), Ordering::Relaxed);
    look(0);
}

/// Whether memory is to go back at once.
#[inline]
pub(crate) fn is_tight() -> bool {
    IS_TIGHT.load(Ordering::Relaxed) != 0
}

/// What free runs may keep, in bytes.
#[inline]
pub(crate) fn dirty_bytes_max() -> usize {
    DIRTY_BYTES_MAX.load(Ordering::Relaxed)
}

/// Called before `bytes` of fresh memory are taken from the kernel: whether what is free should go
/// back first. Locks may be held.
pub(crate) fn is_tight_before(bytes: usize) -> bool {
    let used = ever_used_bytes();
    let limit = LIMIT_BYTES.load(Ordering::Relaxed);
    // The process's own part of what is used is all that is known without asking.
    if used >= SEARCH_BYTES_MIN && limit / 4 <= used {
        look(bytes);
    }
    is_tight()
}

/// Looks, as if `more` bytes were used already. Does nothing where somebody else is looking.
pub(crate) fn look(more: usize) {
    let Some(mut watched) = WATCHED.try_lock(ThreadBlock::token()) else { return };
    let was_tight = is_tight();
    let now = if is_watched() { watched.look(more as u64, was_tight) } else { CALM };
    watched.last = now;
    let limit = now.group.map_or(usize::MAX, |group| group.limit_bytes as usize);
    LIMIT_BYTES.store(limit, Ordering::Relaxed);
    DIRTY_BYTES_MAX.store(dirty_bytes_at(&now), Ordering::Relaxed);
    IS_TIGHT.store(u32::from(now.is_tight), Ordering::Relaxed);
    if now.is_tight && !was_tight {
        note_work();
    }
}

impl Watched {
    fn look(&mut self, more: u64, was_tight: bool) -> Pressure {
        if self.looks_left == 0 {
            self.looks_left = SEARCH_LOOKS;
            if !self.is_named {
                self.group = MemoryGroup::own();
            }
        }
        self.looks_left -= 1;
        let group = self.group.and_then(|group| group.memory());
        let stalled_percent = match &self.group {
            Some(group) => group.stalled_percent(),
            None => machine_stalled_percent(),
        };
        Pressure {
            group,
            stalled_percent,
            is_tight: judge(group, stalled_percent, more, was_tight),
        }
    }
}

fn judge(
    group: Option<GroupMemory>,
    stalled_percent: Option<u32>,
    more: u64,
    was_tight: bool,
) -> bool {
    let of = |from: u64, until: u64| if was_tight { until } else { from };
    let sixteenths = of(TIGHT_SIXTEENTHS.0, TIGHT_SIXTEENTHS.1);
    let percent = of(TIGHT_STALLED_PERCENT.0.into(), TIGHT_STALLED_PERCENT.1.into());
    group.is_some_and(|group| group.used_bytes + more >= group.limit_bytes / 16 * sixteenths)
        || stalled_percent.is_some_and(|stalled| u64::from(stalled) >= percent)
}

fn dirty_bytes_at(now: &Pressure) -> usize {
    match now.group {
        Some(group) => (group.limit_bytes.saturating_sub(group.used_bytes) / ROOM_SHARE) as usize,
        None if now.is_tight => STALLED_DIRTY_BYTES_MAX,
        None => usize::MAX,
    }
}

/// In the child of a fork: who was looking is not here.
pub(crate) fn forget() {
    WATCHED.break_if_held_by_other(ThreadBlock::token());
}

#[cfg(test)]
mod tests {
    use super::{CALM, GroupMemory, Pressure, dirty_bytes_at, judge};

    #[test]
    fn tight_from_seven_eighths_until_a_little_less() {
        let group = |used_bytes| Some(GroupMemory { limit_bytes: 1600, used_bytes });
        assert!(!judge(group(1399), Some(0), 0, false) && judge(group(1400), None, 0, false));
        assert!(judge(group(1300), None, 100, false), "with what is about to be used");
        assert!(judge(group(1300), None, 0, true) && !judge(group(1299), None, 0, true));
        assert!(!judge(None, Some(9), 0, false) && judge(None, Some(10), 0, false));
        assert!(judge(None, Some(5), 0, true) && !judge(None, Some(4), 0, true));
        assert!(!judge(None, None, 0, true), "nothing is known");
    }

    #[test]
    fn free_runs_keep_a_quarter_of_the_room() {
        let with = |used_bytes| Pressure {
            group: Some(GroupMemory { limit_bytes: 1600, used_bytes }),
            ..CALM
        };
        assert_eq!(dirty_bytes_at(&with(800)), 200);
        assert_eq!(dirty_bytes_at(&with(2000)), 0, "the kernel is about to kill");
        assert_eq!(dirty_bytes_at(&CALM), usize::MAX);
        assert!(dirty_bytes_at(&Pressure { is_tight: true, ..CALM }) < usize::MAX);
    }
}

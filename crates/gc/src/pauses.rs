//! Pauses: each with its beginning and length, and what they mean for the mutator.
//!
//! Source for the utilisation: Cheng, Blelloch, "A parallel, real-time garbage collector",
//! PLDI 2001.

/// One pause of the mutator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pause {
    /// When it began, on the monotonic clock, in nanoseconds.
    pub begin_ns: u64,
    /// Wall time in nanoseconds.
    pub wall_ns: u64,
    /// CPU time of the heap's thread in nanoseconds: what the collector did, without what the
    /// machine gave to others meanwhile.
    pub cpu_ns: u64,
    /// What ran.
    pub kind: PauseKind,
}

/// What a pause was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PauseKind {
    /// A minor collection.
    Minor,
    /// A whole collection of everything.
    Full,
    /// A slice of an incremental collection.
    Slice,
}

impl PauseKind {
    /// The name in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Minor => "minor",
            Self::Full => "full",
            Self::Slice => "slice",
        }
    }
}

/// The time in nanoseconds that `percent` of `times_ns` do not exceed; 0 without any. Sorts them.
///
/// ```
/// let mut times_ns = [30, 10, 20, 40];
/// assert_eq!(heapwright_gc::percentile_ns(&mut times_ns, 50.0), 20);
/// assert_eq!(heapwright_gc::percentile_ns(&mut times_ns, 100.0), 40);
/// ```
pub fn percentile_ns(times_ns: &mut [u64], percent: f64) -> u64 {
    times_ns.sort_unstable();
    let rank = (times_ns.len() as f64 * percent / 100.0 + 0.999_999) as usize;
    match times_ns.len() {
        0 => 0,
        len => times_ns[rank.clamp(1, len) - 1],
    }
}

/// The least share of any `window_ns` that was left to the mutator, 0 to 1, wall time; `pauses` in
/// order. 1 without pauses. O(pauses).
///
/// ```
/// use heapwright_gc::minimum_utilisation;
/// // Two pauses of 2 ms, 3 ms apart: 10 ms hold both, 5 ms one of them.
/// let pauses = [(0, 2_000_000), (5_000_000, 2_000_000)];
/// assert_eq!(minimum_utilisation(pauses.iter().copied(), 10_000_000), 0.6);
/// assert_eq!(minimum_utilisation(pauses.iter().copied(), 5_000_000), 0.6);
/// assert_eq!(minimum_utilisation(pauses.iter().copied(), 1_000_000), 0.0);
/// ```
pub fn minimum_utilisation(
    pauses: impl Iterator<Item = (u64, u64)> + Clone,
    window_ns: u64,
) -> f64 {
    // The worst window begins with the beginning of a pause or ends with the end of one.
    let mut worst = 0;
    // Windows that begin with the pause `tail` names: `inside` is the sum of the pauses that end
    // in it, and `next` is the first that does not.
    let (mut inside, mut head) = (0, pauses.clone());
    let mut next = head.next();
    for (begin, len) in pauses.clone() {
        let end = begin + window_ns;
        while let Some((_, wall)) = next.filter(|(at, wall)| at + wall <= end) {
            inside += wall;
            next = head.next();
        }
        let cut = next.map_or(0, |(at, _)| end.saturating_sub(at));
        worst = worst.max(inside + cut);
        // A pause longer than the window was never inside.
        inside = inside.saturating_sub(if begin + len <= end { len } else { 0 });
        if next == Some((begin, len)) {
            next = head.next();
        }
    }
    // Windows that end with a pause: `inside` is the sum from the pause `first` on, of which the
    // window may cut a part.
    let (mut inside, mut tail) = (0, pauses.clone().peekable());
    for (begin, len) in pauses {
        inside += len;
        let start = (begin + len).saturating_sub(window_ns);
        while let Some((_, wall)) = tail.next_if(|(at, wall)| at + wall <= start) {
            inside -= wall;
        }
        let cut = tail.peek().map_or(0, |(at, _)| start.saturating_sub(*at));
        worst = worst.max(inside - cut);
    }
    1.0 - worst.min(window_ns) as f64 / window_ns as f64
}

#[cfg(test)]
mod tests {
    use super::minimum_utilisation;

    /// The definition, tried at every beginning and end.
    fn slow(pauses: &[(u64, u64)], window: u64) -> f64 {
        let edges = pauses.iter().flat_map(|(at, len)| [*at, at + len]);
        let starts = edges.clone().chain(edges.map(|edge| edge.saturating_sub(window)));
        let paused = |start: u64| -> u64 {
            let end = start + window;
            pauses
                .iter()
                .map(|(at, len)| (at + len).min(end).saturating_sub((*at).max(start)))
                .sum()
        };
        1.0 - starts.map(paused).max().unwrap_or(0) as f64 / window as f64
    }

    #[test]
    fn utilisation_is_that_of_the_worst_window() {
        let mut seed = 1u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for _ in 0..200 {
            let mut at = 1000;
            let pauses: [(u64, u64); 12] = core::array::from_fn(|_| {
                at += 1 + random(50);
                let len = 1 + random(30);
                at += len;
                (at - len, len)
            });
            for window in [1, 7, 40, 100, 1000] {
                let (found, wanted) =
                    (minimum_utilisation(pauses.iter().copied(), window), slow(&pauses, window));
                assert!((found - wanted).abs() < 1e-9, "{pauses:?} {window}: {found} {wanted}");
            }
        }
    }
}

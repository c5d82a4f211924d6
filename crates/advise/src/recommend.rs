//! Which allocator kind a call site's pattern asks for: a candidate, proved by nobody yet.

use crate::measure::SiteMeasure;

/// Fewest blocks that show a pattern.
const BLOCKS_MIN: u64 = 64;
/// A share that lets no block be an exception worth naming.
const NEARLY_ALL: f64 = 0.99;
/// Share of the deaths in batches that makes an arena plausible.
const BATCHED_MIN: f64 = 0.9;
/// Share of blocks still alive that an arena freed in batches may leave behind.
const LEFT_MAX: f64 = 0.1;
/// Share of resized blocks above which only what makes a block longer in place will do.
const RESIZED_MAX: f64 = 0.05;
/// Share of the resizes that are of the newest block, which an arena makes longer in place.
const NEWEST_MIN: f64 = 0.9;
/// Most sizes of a slab (DESIGN: 2 to 8).
const SLAB_SIZES_MAX: u32 = 8;
/// Median size from which a block is large: buddy's splitting pays from here on.
const LARGE_BYTES_MIN: u64 = 16 << 10;
/// Share of power-of-two-like blocks from which buddy wastes little.
const POWER_OF_TWO_MIN: f64 = 0.75;

/// The shares that rules look at, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shares {
    pub(crate) same_thread: f64,
    pub(crate) lifo: f64,
    pub(crate) batched: f64,
    pub(crate) temporary: f64,
    pub(crate) resized: f64,
    pub(crate) resized_newest: f64,
    pub(crate) left: f64,
}

impl Shares {
    /// The shares of `site`. Nobody freed: all by the same thread, none in order, none in
    /// batches.
    pub(crate) fn of(site: &SiteMeasure) -> Self {
        let share = |part: u64, of: u64, none: f64| {
            if of == 0 { none } else { part as f64 / of as f64 }
        };
        Self {
            same_thread: share(site.same_thread, site.deaths, 1.0),
            lifo: share(site.lifo, site.deaths, 0.0),
            batched: share(site.batched, site.deaths, 0.0),
            temporary: share(site.temporaries, site.blocks, 0.0),
            resized: share(site.resized, site.blocks, 0.0),
            resized_newest: share(site.resizes_of_newest, site.resizes, 1.0),
            left: share(site.blocks - site.deaths, site.blocks, 0.0),
        }
    }
}

/// The candidate kind for `site` and one sentence with the numbers behind it.
///
/// Rules are tried from the simplest kind on: linear, stack, pool, slab, buddy, general.
pub(crate) fn recommend(site: &SiteMeasure, is_sampled: bool) -> (&'static str, String) {
    let shares = Shares::of(site);
    let percent = |share: f64| percent(share);
    if is_sampled {
        return ("general", "A sample does not show the order in which blocks die.".into());
    }
    if site.blocks < BLOCKS_MIN {
        return ("general", format!("{} blocks are too few to show a pattern.", site.blocks));
    }
    let is_owned = shares.same_thread >= NEARLY_ALL;
    let is_resized = shares.resized > RESIZED_MAX;
    let fits_arena = is_owned && shares.resized_newest >= NEWEST_MIN;
    let dies_together =
        shares.left >= NEARLY_ALL || shares.batched >= BATCHED_MIN && shares.left <= LEFT_MAX;
    if is_resized && !(fits_arena && dies_together) {
        let why = format!(
            "{} of the blocks are resized, {} of the times while they are the newest, and {} die \
             in batches: no arena, and of the others only the general allocator resizes well.",
            percent(shares.resized),
            percent(shares.resized_newest),
            percent(shares.batched)
        );
        return ("general", why);
    }
    let growth = match is_resized {
        true => " They are resized while they are the newest, which an arena does in place.",
        false => "",
    };
    if shares.left >= NEARLY_ALL {
        let why = format!(
            "{} of {} blocks are never freed: an arena that lives as long as the program.{growth}",
            percent(shares.left),
            site.blocks
        );
        return ("linear", why);
    }
    if is_owned && shares.batched >= BATCHED_MIN && shares.left <= LEFT_MAX {
        let why = format!(
            "{} of the blocks die in batches with no allocation between, by the thread that \
             allocated them.{growth}",
            percent(shares.batched)
        );
        return ("linear", why);
    }
    if is_owned && shares.lifo >= NEARLY_ALL && shares.left <= LEFT_MAX {
        let why = format!(
            "{} of the frees are last in, first out; {} of the blocks are temporary.",
            percent(shares.lifo),
            percent(shares.temporary)
        );
        return ("stack", why);
    }
    let sizes = site.sizes.distinct();
    let owner = if is_owned {
        "freed by their own thread".to_owned()
    } else {
        format!("{} freed by other threads", percent(1.0 - shares.same_thread))
    };
    let is_large = site.sizes.median() >= LARGE_BYTES_MIN;
    if sizes == 1 {
        return ("pool", format!("All blocks have {} bytes, {owner}.", site.sizes.min()));
    }
    if sizes <= SLAB_SIZES_MAX && !is_large {
        let (min, max) = (site.sizes.min(), site.sizes.max());
        return ("slab", format!("{sizes} sizes from {min} to {max} bytes, {owner}."));
    }
    let fitting = site.sizes.power_of_two_share();
    if is_large && fitting >= POWER_OF_TWO_MIN {
        let why = format!(
            "Large blocks (median {} bytes), {} of them close to a power of two.",
            site.sizes.median(),
            percent(fitting)
        );
        return ("buddy", why);
    }
    let many = if sizes > 64 { "more than 64".to_owned() } else { sizes.to_string() };
    let why = format!(
        "{many} sizes, {} of the frees in stack order, {} in batches: no simple pattern.",
        percent(shares.lifo),
        percent(shares.batched)
    );
    ("general", why)
}

/// A share as whole per cents; never rounded up to 100 %, nor down to 0 %.
pub(crate) fn percent(share: f64) -> String {
    let value = share * 100.0;
    match value {
        v if v > 99.0 && v < 100.0 => format!("{:.1} %", (v * 10.0).floor() / 10.0),
        v if v > 0.0 && v < 1.0 => format!("{:.1} %", (v * 10.0).ceil() / 10.0),
        v => format!("{v:.0} %"),
    }
}

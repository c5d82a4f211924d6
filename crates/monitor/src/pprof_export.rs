//! The profile as pprof reads it: allocated, live, and pinned memory by stack.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use heapwright_advise::ProfileBuilder;
use heapwright_advise::pprof::Profile;

use crate::blame::Named;
use crate::raw_profile::RawProfile;

/// What each sample's values are.
const SAMPLE_TYPES: [(&str, &str); 6] = [
    ("alloc_objects", "count"),
    ("alloc_space", "bytes"),
    ("inuse_objects", "count"),
    ("inuse_space", "bytes"),
    ("pinned_space", "bytes"),
    ("releasable_space", "bytes"),
];

/// `profile` as pprof reads it; `debug_roots` as for [`crate::Blame::new`]. Values are estimates
/// of all blocks, rounded; the default is `inuse_space`.
pub fn pprof(profile: &RawProfile, debug_roots: Option<Vec<PathBuf>>) -> Profile {
    let named = Named::new(profile, debug_roots);
    let mut values = vec![[0.0; SAMPLE_TYPES.len()]; profile.stacks.len()];
    for site in &profile.sites {
        let count = site.taken as f64 / site.probability();
        values[site.stack][0] += count;
        values[site.stack][1] += count * site.usable_bytes as f64;
    }
    for sample in &profile.live {
        let site = &profile.sites[sample.site];
        let weight = 1.0 / site.probability();
        let sums = &mut values[site.stack];
        sums[2] += weight;
        sums[3] += weight * site.usable_bytes as f64;
        sums[4] += weight * sample.pinned_bytes;
        sums[5] += weight * sample.sole_bytes as f64;
    }
    let written = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let rate = profile.sites.iter().map(|site| site.rate_bytes).max().unwrap_or(1);
    let table = &named.table;
    let mut builder = ProfileBuilder::new(SAMPLE_TYPES, "inuse_space");
    builder.profile.time_nanos = written.as_nanos() as i64;
    builder.profile.duration_nanos = profile.duration_ns as i64;
    builder.profile.period = rate as i64;
    builder.enter_modules(table);
    for (stack, value) in named.stacks.iter().zip(&values) {
        if value.iter().all(|value| *value == 0.0) {
            continue;
        }
        let places = stack.iter().map(|input| table.place_index(*input));
        builder.enter_sample(table, places, value.map(|value| value.round() as i64));
    }
    builder.finish()
}

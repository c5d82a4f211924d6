//! What a region gains at a call site, measured in the program itself.
//!
//! The program is run with an object that serves the site's blocks from the region, in turn with
//! runs in which the same object tells the site, too, and leaves its blocks to the program's
//! allocator. The difference is the region's.

use crate::advise::AdviseOptions;
use crate::compare::Watch;
use crate::confirm::Confirm;
use crate::failure::Failure;
use heapwright_advise::{Analysis, SiteProof, SiteRun};
use heapwright_collect::RecordOutcome;
use heapwright_compare::{CompareOptions, RatioInterval, Subject, SubjectRuns, run_in_turn};
use heapwright_format::file::Recording;
use heapwright_launch::Objects;
use heapwright_replay::RegionKind;
use heapwright_site::{
    FrameKey, Served, SiteCounts, SiteFacts, TABLE_VARIABLE, Verdict, read_counts, table_words,
    write_table,
};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Pairs of runs of each site at most.
const ROUNDS: u32 = 15;
/// Fewer tell nothing: that all of three say the same is chance at one site of four.
const ROUNDS_MIN: u32 = 5;
/// So many there should be time for.
const ROUNDS_WANTED: u32 = 7;
/// Time that unasked runs may take in all, and asked ones (`--confirm always`).
const UNASKED_LIMIT: Duration = Duration::from_secs(12);
const ASKED_LIMIT: Duration = Duration::from_secs(150);
/// Room for a thread's blocks where a region's length is fixed: so many times the program's peak.
const CAPACITY_FACTOR: u64 = 4;
const CAPACITY_BYTES_MIN: u64 = 1 << 20;
const CAPACITY_BYTES_MAX: u64 = 2 << 30;
/// Least share of a site's recorded blocks that the runs must have known.
const KNOWN_SHARE_MIN: f64 = 0.9;

/// A table in a file, and the subject that goes by it. The file goes with the value.
struct Told {
    path: PathBuf,
    subject: Subject,
}

impl Drop for Told {
    fn drop(&mut self) {
        // Left behind it is in the way of nobody.
        let _ = fs::remove_file(&self.path);
    }
}

/// Runs the program for each of the candidates in `proofs` that a replay could measure, the
/// heaviest first, as far as time allows, and enters what that showed. CPU seconds of the program
/// alone; none where it was not run.
pub(crate) fn measure(
    options: &AdviseOptions,
    outcome: &RecordOutcome,
    (recording, process, analysis): (&Recording, usize, &Analysis),
    proofs: &mut [SiteProof],
) -> Result<Option<f64>, Failure> {
    let mut wanted: Vec<&mut SiteProof> =
        proofs.iter_mut().filter(|proof| proof.failure.is_empty()).collect();
    if wanted.is_empty() || !options.confirm.is_wanted(outcome) {
        return Ok(None);
    }
    // Each site costs two runs a round, beside the bare one.
    let is_asked = options.confirm == Confirm::Always;
    let time_limit = if is_asked { ASKED_LIMIT } else { UNASKED_LIMIT };
    let runs = time_limit.as_secs_f64() / outcome.wall.as_secs_f64().max(0.001);
    let affordable = (runs / f64::from(ROUNDS_WANTED) - 1.0) / 2.0;
    let count = (affordable as usize).clamp(1, wanted.len());
    for proof in wanted.drain(count..) {
        let failure = "in the time for that heavier sites were run".to_owned();
        proof.run = Some(SiteRun { failure, ..SiteRun::default() });
    }
    let object = match object() {
        Ok(object) => object,
        Err(why) => return Ok(give_up(wanted, &why)),
    };
    let exe = FrameKey::of_file(recording.processes()[process].info.exe.as_bytes());
    let mut told = Vec::new();
    for proof in &wanted {
        for served in [Served::Allocator, served(analysis, proof.site)] {
            told.push(tell(&options.output, analysis, proof.site, (served, exe), &object)?);
        }
    }
    let subjects = told.iter().map(|told| told.subject.clone()).collect();
    let mut settings = CompareOptions::new(options.command.clone(), subjects);
    settings.rounds = ROUNDS;
    settings.time_limit = time_limit;
    settings.load.clone_from(&options.capture.load);
    let watch = Watch::new()?;
    let all = match run_in_turn(&settings, &watch) {
        Ok(all) => all,
        Err(error) => return Ok(give_up(wanted, &error.to_string())),
    };
    drop(watch);
    let find = |told: &Told| all.iter().find(|runs| runs.name == told.subject.name);
    let bare_s = median(&all[0].cpu_s);
    for (proof, pair) in wanted.into_iter().zip(told.chunks(2)) {
        let (base, region) = (find(&pair[0]), find(&pair[1]));
        let (Some(base), Some(region)) = (base, region) else { continue };
        let counts = [counts(&pair[0].path), counts(&pair[1].path)];
        let allocs = analysis.sites[proof.site as usize].allocs;
        let run = match obstacle(base, region, counts, allocs) {
            Some(failure) => SiteRun { failure, ..SiteRun::default() },
            None => {
                let passed = passed_share(analysis, proof.site);
                run_of([&all[0].cpu_s, &base.cpu_s, &region.cpu_s], passed)
            }
        };
        proof.run = Some(SiteRun { bare_s, ..run });
    }
    Ok(Some(bare_s))
}

/// Says of all sites why there are no runs.
fn give_up(proofs: Vec<&mut SiteProof>, why: &str) -> Option<f64> {
    for proof in proofs {
        proof.run = Some(SiteRun { failure: why.to_owned(), ..SiteRun::default() });
    }
    None
}

/// The share of what the object costs that a site's blocks have no part in once they are on the
/// region: the way through the object to the program's allocator. Where stacks have to be captured
/// nearly all of its cost is that, and it is the same on the region.
fn passed_share(analysis: &Analysis, site: u32) -> f64 {
    let is_captured = |&(_, verdict): &(u64, Verdict)| verdict == Verdict::Deeper;
    if analysis.site_paths(site).iter().any(is_captured) {
        return 0.0;
    }
    analysis.sites[site as usize].allocs as f64 / analysis.totals.allocs.max(1) as f64
}

/// What the runs of a site say, by CPU seconds of the program alone, with the object, and with the
/// site on its region, too. `passed_share` of what the object costs is no gain of the region's.
fn run_of([bare, base, region]: [&[f64]; 3], passed_share: f64) -> SiteRun {
    let ratios = (RatioInterval::of(region, base), RatioInterval::of(base, bare));
    let (Some(ratio), Some(object), true) = (ratios.0, ratios.1, base.len() >= ROUNDS_MIN as usize)
    else {
        let failure = "there was time for too few runs".to_owned();
        return SiteRun { failure, ..SiteRun::default() };
    };
    // The end of the interval that is nearer to no difference.
    let end = if ratio.median < 1.0 { ratio.high } else { ratio.low };
    let (bare_s, base_s) = (median(bare), median(base));
    let passed_s = passed_share * bare_s * (object.median - 1.0).max(0.0);
    let passed_noise_s = passed_share * bare_s * (object.high - object.low) / 2.0;
    SiteRun {
        gain_s: (1.0 - ratio.median) * base_s - passed_s,
        noise_s: ((ratio.median - end) * base_s).hypot(passed_noise_s),
        repeats: base.len() as u32,
        ..SiteRun::default()
    }
}

/// Why runs say nothing of a site.
fn obstacle(
    base: &SubjectRuns,
    region: &SubjectRuns,
    counts: [SiteCounts; 2],
    allocs: u64,
) -> Option<String> {
    for runs in [base, region] {
        if !runs.failure.is_empty() {
            return Some(format!("the program failed, {}", runs.failure));
        }
        if runs.same_output == Some(false) {
            return Some("the program wrote something else".into());
        }
    }
    for (runs, counts) in [base, region].into_iter().zip(counts) {
        let known = counts.blocks as f64 / runs.cpu_s.len().max(1) as f64;
        if known < allocs as f64 * KNOWN_SHARE_MIN {
            return Some(format!("of its {allocs} blocks {known:.0} were known again"));
        }
    }
    let [_, served] = counts;
    if (served.refused as f64) > served.blocks as f64 * (1.0 - KNOWN_SHARE_MIN) {
        let SiteCounts { refused, blocks, .. } = served;
        return Some(format!("the region did not take {refused} of {blocks} blocks"));
    }
    (served.sizes_asked > 0).then(|| "the program asks for usable sizes of its blocks".into())
}

/// The region that is advised for a site.
fn served(analysis: &Analysis, site: u32) -> Served {
    RegionKind::from_name(&analysis.sites[site as usize].recommend)
        .map_or(Served::Allocator, Served::Region)
}

/// The object that serves a site; why it cannot be had.
fn object() -> Result<Subject, String> {
    let objects = Objects::of_this_binary().map_err(|error| error.to_string())?;
    let path = objects.sites().map_err(|missing| missing.to_string())?;
    Subject::at_path(&path).map_err(|error| error.to_string())
}

/// Writes the table for a site.
fn tell(
    directory: &Path,
    analysis: &Analysis,
    site: u32,
    (served, exe): (Served, u64),
    object: &Subject,
) -> Result<Told, Failure> {
    let one = &analysis.sites[site as usize];
    let capacity = analysis.totals.peak_live_bytes.saturating_mul(CAPACITY_FACTOR);
    let facts = SiteFacts {
        served,
        is_resized: one.realloc_share > 0.0,
        capacity_bytes: capacity.clamp(CAPACITY_BYTES_MIN, CAPACITY_BYTES_MAX) as usize,
        size_min: one.sizes.min as usize,
        size_max: one.sizes.max as usize,
        exe,
    };
    let paths = analysis.site_paths(site);
    let mut words = vec![0; table_words(paths.len())];
    write_table(&mut words, &facts, &paths);
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let way = if served == Served::Allocator { "malloc" } else { one.recommend.as_str() };
    let name = format!("call site {site} on {way}");
    let directory = fs::canonicalize(directory)?;
    let path = directory.join(format!("site-{site}-{way}.table"));
    fs::write(&path, bytes).map_err(|error| Failure::unwritable(&path, &error))?;
    let environment = vec![(TABLE_VARIABLE.into(), path.clone().into())];
    Ok(Told { path, subject: Subject { name, environment, ..object.clone() } })
}

/// What the programs have counted; nothing where the file cannot be read.
fn counts(path: &Path) -> SiteCounts {
    let words = || -> io::Result<Vec<u64>> {
        let bytes = fs::read(path)?;
        let (words, _) = bytes.as_chunks();
        Ok(words.iter().map(|word| u64::from_ne_bytes(*word)).collect())
    };
    read_counts(&words().unwrap_or_default())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::run_of;

    /// Half of the blocks are the site's. The object costs 0.2 s, half of that on their way to the
    /// program's allocator, which they do not take from the region.
    #[test]
    fn the_way_through_the_object_is_no_gain() {
        let [bare, base, region] = [[1.0; 5], [1.2; 5], [0.7; 5]];
        let run = run_of([&bare, &base, &region], 0.5);
        assert!((run.gain_s - 0.4).abs() < 1e-9 && run.noise_s.abs() < 1e-9, "{run:?}");
        let captured = run_of([&bare, &base, &region], 0.0);
        assert!((captured.gain_s - 0.5).abs() < 1e-9, "{captured:?}");
        let only_the_way = run_of([&bare, &base, &[1.1; 5]], 0.5);
        assert!(only_the_way.gain_s.abs() < 1e-9, "{only_the_way:?}");
    }

    #[test]
    fn what_the_object_costs_by_chance_may_be_chance_of_the_gain() {
        let (bare, region) = ([1.0; 5], [0.7; 5]);
        let base = [1.0, 1.1, 1.2, 1.3, 1.4];
        let noise = |share| run_of([&bare, &base, &region], share).noise_s;
        assert!(noise(1.0) > noise(0.0) && noise(0.0) > 0.0);
        assert!(!run_of([&bare[..4], &base[..4], &region[..4]], 1.0).failure.is_empty());
    }
}

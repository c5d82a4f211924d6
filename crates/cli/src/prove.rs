//! Proving the candidates: each call site's own blocks on the region that is advised for them.

use crate::failure::Failure;
use crate::progress::Progress;
use crate::source;
use clap::Args;
use heapwright_advise::schema::Site;
use heapwright_advise::{Analysis, SiteProof};
use heapwright_format::file::Recording;
use heapwright_replay::{
    RegionKind, ReplayOptions, Shape, SiteFigures, compile_with_sites, measure_sites,
};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::console::Console;

/// Sites that are measured; each costs a memory run and some timing runs.
const SITES_MAX: usize = 8;
/// Least share of the allocations, or of the peak, from which a gain could show.
const SHARE_MIN: f64 = 0.005;
/// Timing runs of each site.
const REPEATS: u32 = 5;
/// No further round begins after this time, once there are three.
const TIME_LIMIT: Duration = Duration::from_secs(15);

/// How candidates are proved.
#[derive(Debug, Args)]
pub(crate) struct ProveOptions {
    /// Do not measure single call sites on the regions that are advised for them, neither by replay
    /// nor by running CMD
    #[arg(long)]
    pub no_sites: bool,
    /// A second recording of the program: a call site's gain must show there as well
    #[arg(long, value_name = "FILE")]
    pub second: Option<PathBuf>,
}

/// Measures the candidates among the sites of `analysis`, and those that gain in the `second`
/// recording, too, if there is one; what their gains are worth is for the advice to say.
pub(crate) fn prove(
    recording: &Recording,
    process: usize,
    analysis: &Analysis,
    options: &ProveOptions,
    second: Option<&Recording>,
) -> Result<Vec<SiteProof>, Failure> {
    if analysis.is_sampled {
        return Ok(Vec::new());
    }
    let (candidates, others) = candidates(analysis, options.no_sites);
    let figures = measure(recording, process, analysis, &candidates)?;
    let mut proofs: Vec<SiteProof> =
        candidates.iter().zip(figures).map(|(&(site, _), figures)| proof(site, figures)).collect();
    if let Some(second) = second
        && proofs.iter().any(SiteProof::shows_gain)
    {
        uphold(&mut proofs, &candidates, analysis, second, &name_of(recording, process))?;
    }
    proofs.extend(others);
    Ok(proofs)
}

/// Measures the candidates in the second recording, too, as far as they are there, and enters
/// whether a gain shows.
fn uphold(
    proofs: &mut [SiteProof],
    candidates: &[(u32, RegionKind)],
    analysis: &Analysis,
    second: &Recording,
    program: &str,
) -> Result<(), Failure> {
    // The same program's process, else the one with most events.
    let process =
        source::choose(second, Some(program)).or_else(|_| source::choose(second, None))?;
    let other = source::analyse(second, process)?;
    // The same call, in the same place, by names: addresses differ.
    let same = |one: &Site, two: &Site| {
        (&one.function, &one.file, one.line) == (&two.function, &two.file, two.line)
    };
    let matched: Vec<Option<(u32, RegionKind)>> = candidates
        .iter()
        .map(|&(site, kind)| {
            let one = &analysis.sites[site as usize];
            other.sites.iter().find(|two| same(one, two)).map(|two| (two.id, kind))
        })
        .collect();
    let there: Vec<(u32, RegionKind)> = matched.iter().flatten().copied().collect();
    let mut figures = measure(second, process, &other, &there)?.into_iter();
    for (proof, place) in proofs.iter_mut().zip(&matched) {
        let figures = place.and_then(|_| figures.next());
        proof.is_upheld = Some(figures.is_some_and(|figures| self::proof(0, figures).shows_gain()));
    }
    Ok(())
}

/// Opens what `--second` names, before anything else is done.
pub(crate) fn open_second(
    options: &ProveOptions,
    console: &Console,
) -> Result<Option<Recording>, Failure> {
    let Some(path) = &options.second else { return Ok(None) };
    let second = source::open(path, console)?;
    source::choose(&second, None)?;
    if second.session().sample_bytes > 0 {
        return Err(Failure::ours(format!(
            "{}: a sample cannot be replayed, so it upholds nothing; record again without --sample",
            second.path().display()
        )));
    }
    Ok(Some(second))
}

fn name_of(recording: &Recording, process: usize) -> String {
    recording.processes()[process].info.display_name().to_owned()
}

/// Sites with a region to try that are large enough to matter; and of the others with one, why
/// they are not tried.
fn candidates(analysis: &Analysis, no_sites: bool) -> (Vec<(u32, RegionKind)>, Vec<SiteProof>) {
    let all = analysis.totals.allocs.max(1) as f64;
    let peak = analysis.totals.peak_live_bytes.max(1) as f64;
    let weight =
        |site: &Site| (site.allocs as f64 / all).max(site.live_at_peak_bytes as f64 / peak);
    let mut found: Vec<(&Site, RegionKind)> = analysis
        .sites
        .iter()
        .filter_map(|site| Some((site, RegionKind::from_name(&site.recommend)?)))
        .collect();
    found.sort_by(|a, b| weight(b.0).total_cmp(&weight(a.0)).then(a.0.id.cmp(&b.0.id)));
    let mut tried = Vec::new();
    let mut others = Vec::new();
    for (site, kind) in found {
        let failure = if no_sites {
            "--no-sites was given".to_owned()
        } else if weight(site) < SHARE_MIN {
            format!(
                "it has less than {} % of the allocations and of the peak, too little for a gain \
                 to show",
                SHARE_MIN * 100.0
            )
        } else if tried.len() == SITES_MAX {
            format!("the {SITES_MAX} sites with the largest shares are tried, and it is not one")
        } else {
            tried.push((site.id, kind));
            continue;
        };
        others.push(SiteProof { site: site.id, failure, ..SiteProof::default() });
    }
    (tried, others)
}

fn measure(
    recording: &Recording,
    process: usize,
    analysis: &Analysis,
    sites: &[(u32, RegionKind)],
) -> Result<Vec<SiteFigures>, Failure> {
    if sites.is_empty() {
        return Ok(Vec::new());
    }
    let numbers: HashMap<u32, u32> =
        sites.iter().enumerate().map(|(number, &(site, _))| (site, number as u32)).collect();
    let progress = Progress::new(1);
    let mut show = |state: &heapwright_replay::Progress| {
        progress.set(state.done, state.total, &state.what);
    };
    let site_of = |stack| analysis.site_of(stack).and_then(|site| numbers.get(&site).copied());
    let plan = compile_with_sites(recording, process, Shape::default(), &site_of, &mut show)?;
    let options = ReplayOptions {
        repeats: REPEATS,
        time_budget: Some(TIME_LIMIT),
        ..ReplayOptions::default()
    };
    let kinds: Vec<RegionKind> = sites.iter().map(|&(_, kind)| kind).collect();
    Ok(measure_sites(&plan, &kinds, &options, &mut show)?)
}

fn proof(site: u32, figures: SiteFigures) -> SiteProof {
    SiteProof {
        site,
        failure: figures.failure,
        is_shared: figures.is_shared,
        gain_s: figures.gain_s,
        base_s: figures.base_s,
        noise_s: figures.noise_s,
        base_peak_bytes: figures.base_peak_bytes,
        peak_bytes: figures.peak_bytes,
        held_bytes: figures.held_bytes,
        repeats: figures.repeats,
        is_upheld: None,
        run: None,
    }
}

//! From the replay of a call site on its region to what the advice says of it.

use crate::recommend::percent;
use crate::schema::{Predicted, Site};
use crate::text::bytes_text;

/// Least share of the program's CPU time, or of its peak, that is worth a word.
const WORTH_SHARE: f64 = 0.001;
/// Noise of a peak that was read once.
const PEAK_NOISE_SHARE: f64 = 0.02;
const PEAK_NOISE_BYTES: f64 = 128.0 * 1024.0;

/// What serving one site by a region did to the replayed program.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SiteProof {
    /// The site.
    pub site: u32,
    /// Why there are no figures; empty when there are.
    pub failure: String,
    /// Whether the region was one that threads share.
    pub is_shared: bool,
    /// CPU seconds saved.
    pub gain_s: f64,
    /// CPU seconds of the replay without the region: the program's own are at least so many.
    pub base_s: f64,
    /// What of that may be chance.
    pub noise_s: f64,
    /// Peak growth without the region, bytes.
    pub base_peak_bytes: u64,
    /// And with it.
    pub peak_bytes: u64,
    /// Most that the region held.
    pub held_bytes: u64,
    /// Runs behind the figures.
    pub repeats: u32,
    /// Whether a second recording, where one was given, shows a gain as well.
    pub is_upheld: Option<bool>,
    /// What the region did in the program itself, where that was run with it.
    pub run: Option<SiteRun>,
}

/// What serving one site by a region did to the program itself, compared with runs in which the
/// site is told from others, too, and stays with the program's allocator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SiteRun {
    /// Why there are no figures; empty when there are.
    pub failure: String,
    /// CPU seconds saved.
    pub gain_s: f64,
    /// What of that may be chance.
    pub noise_s: f64,
    /// CPU seconds of the program alone.
    pub bare_s: f64,
    /// Pairs of runs behind the figures.
    pub repeats: u32,
}

impl SiteRun {
    /// The share of the program's CPU time that the region saves, below 0 what it costs; none
    /// where it is within the noise, or there are no figures.
    fn gain_share(&self) -> Option<f64> {
        let shows = self.is_measured() && self.gain_s.abs() > self.noise_s;
        shows.then(|| self.gain_s / self.bare_s)
    }

    fn is_measured(&self) -> bool {
        self.failure.is_empty() && self.bare_s > 0.0
    }

    /// Whether a share of the program's CPU time is more than what the runs leave open.
    fn refutes(&self, gain_share: f64) -> bool {
        self.is_measured() && gain_share * self.bare_s > self.gain_s + self.noise_s
    }
}

impl SiteProof {
    /// Whether time or peak of the replay is better beyond the noise and by a share that is worth
    /// a word, and neither is worse.
    pub fn shows_gain(&self) -> bool {
        let (time, peak) = (self.time_gain_s(), self.peak_gain_bytes());
        let is_worth = time >= self.base_s * WORTH_SHARE && time > 0.0
            || peak >= self.base_peak_bytes as f64 * WORTH_SHARE && peak > 0.0;
        self.failure.is_empty() && is_worth && time >= 0.0 && peak >= 0.0
    }

    /// Seconds gained (lost, below 0) beyond the noise; 0 within it.
    fn time_gain_s(&self) -> f64 {
        if self.gain_s.abs() > self.noise_s { self.gain_s } else { 0.0 }
    }

    fn peak_gain_bytes(&self) -> f64 {
        let gain = self.base_peak_bytes as f64 - self.peak_bytes as f64;
        let noise = (self.base_peak_bytes as f64 * PEAK_NOISE_SHARE).max(PEAK_NOISE_BYTES);
        if gain.abs() > noise { gain } else { 0.0 }
    }
}

/// Enters `proof` into its site: a gain becomes `predicted`; a loss takes the candidate back; what
/// lies within the noise is said to.
///
/// `native_s` are the bare program's CPU seconds, `other_bytes` what it holds that no allocator can
/// change.
pub(crate) fn enter(site: &mut Site, proof: &SiteProof, native_s: f64, other_bytes: u64) {
    let say = |site: &mut Site, text: String| {
        site.why = format!("{} {text}", site.why);
    };
    if !proof.failure.is_empty() {
        site.proof = "not_measured".into();
        say(site, format!("Not measured: {}.", proof.failure));
        return;
    }
    if let Some(run) = proof.run.as_ref().filter(|run| !run.failure.is_empty()) {
        say(site, format!("Not measured in the program itself: {}.", run.failure));
    }
    let (time_s, peak_bytes) = (proof.time_gain_s(), proof.peak_gain_bytes());
    let all_bytes = (proof.base_peak_bytes + other_bytes).max(1) as f64;
    let native_s = native_s.max(proof.base_s);
    let by_replay = if native_s > 0.0 { time_s / native_s } else { 0.0 };
    let by_run = proof.run.as_ref().and_then(SiteRun::gain_share);
    let is_refuted = by_run.is_none()
        && proof.run.as_ref().is_some_and(|run| by_replay > 0.0 && run.refutes(by_replay));
    let time_share = by_run.unwrap_or(if is_refuted { 0.0 } else { by_replay });
    let peak_share = peak_bytes / all_bytes;
    let is_worse = time_share < -WORTH_SHARE || peak_share < -WORTH_SHARE;
    let name = match site.recommend.as_str() {
        "linear" => "linear region".to_owned(),
        "buddy" => "buddy heap".to_owned(),
        other => other.to_owned(),
    };
    let kind = match proof.is_shared {
        // In the program each thread has one of its own, and blocks that others free come home.
        true if by_run.is_some() => format!("{name} of each thread that allocates"),
        true => format!("{name} that threads share"),
        false => name,
    };
    if is_worse {
        let (more, of) = if time_share < peak_share {
            (-time_share, "CPU time")
        } else {
            (-peak_share, "peak memory")
        };
        site.recommend = "general".into();
        site.proof = "loss".into();
        say(
            site,
            format!("Measured as a {kind}: {} more {of}, so malloc it stays.", percent(more)),
        );
        return;
    }
    if time_share < WORTH_SHARE && peak_share < WORTH_SHARE {
        site.proof = "no_gain".into();
        let text = if is_refuted {
            "a gain in replays that the program itself does not show"
        } else {
            "no gain above the noise"
        };
        say(site, format!("Measured as a {kind}: {text}."));
        return;
    }
    if proof.is_upheld == Some(false) {
        site.proof = "not_upheld".into();
        let text = "a gain that the second recording does not show";
        say(site, format!("Measured as a {kind}: {text}."));
        return;
    }
    // Of a linear region one block that is never freed keeps everything that comes after it.
    let is_linear = site.recommend == "linear";
    let pinned_bytes = if is_linear { site.bytes.max(proof.held_bytes) } else { proof.held_bytes };
    site.predicted = Some(Predicted {
        time_ratio: (1.0 - time_share).max(0.0),
        peak_ratio: (1.0 - peak_share).max(0.0),
        worst_case_held_bytes: pinned_bytes,
        source: if by_run.is_some() { "run" } else { "replay" }.into(),
        by_replay: Some((1.0 - by_replay).max(0.0)),
        by_run: by_run.map(|share| (1.0 - share).max(0.0)),
    });
    site.proof = "gain".into();
    let upheld = if proof.is_upheld == Some(true) { ", and on a second recording" } else { "" };
    let worst = if pinned_bytes > proof.held_bytes {
        format!(", but one block that is never freed would hold {}", bytes_text(pinned_bytes))
    } else {
        String::new()
    };
    let how = match &proof.run {
        Some(run) if by_run.is_some() => format!("{} pairs of runs of the program", run.repeats),
        _ => format!("{} pairs of replays", proof.repeats),
    };
    say(
        site,
        format!(
            "Measured by {how} on a {kind}{upheld}; it holds {} at most{worst}.",
            bytes_text(proof.held_bytes)
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::{SiteProof, SiteRun, enter};
    use crate::schema::Site;

    fn entered(proof: &SiteProof) -> Site {
        let mut site = Site { recommend: "pool".into(), why: "A pool.".into(), ..Site::default() };
        enter(&mut site, proof, 1.0, 0);
        site
    }

    #[test]
    fn what_the_program_itself_shows_is_preferred_where_it_shows_anything() {
        let gain = SiteProof { gain_s: 0.05, noise_s: 0.01, repeats: 5, ..SiteProof::default() };
        let with = |gain_s: f64, noise_s: f64| {
            let run = SiteRun { gain_s, noise_s, bare_s: 1.0, repeats: 9, ..SiteRun::default() };
            entered(&SiteProof { run: Some(run), ..gain.clone() })
        };
        let ratio = |site: &Site| {
            let predicted = site.predicted.clone().expect("a gain");
            ((predicted.time_ratio * 100.0).round() as u32, predicted.source)
        };
        // Clear: the run's. Nothing clear that leaves the replay's open: the replay's.
        let run = with(0.30, 0.02);
        assert_eq!(ratio(&run), (70, "run".to_owned()));
        let predicted = run.predicted.expect("a gain");
        assert_eq!(predicted.by_run.map(|ratio| (ratio * 100.0).round()), Some(70.0));
        assert_eq!(predicted.by_replay.map(|ratio| (ratio * 100.0).round()), Some(95.0));
        assert!(run.why.contains("9 pairs of runs of the program"), "{}", run.why);
        let open = with(0.03, 0.04);
        assert_eq!(ratio(&open), (95, "replay".to_owned()));
        assert!(open.why.contains("5 pairs of replays"), "{}", open.why);
        // The program says that it cannot be so much, or that it is a loss.
        let refuted = with(0.001, 0.01);
        assert!(refuted.predicted.is_none() && refuted.proof == "no_gain");
        assert!(refuted.why.contains("the program itself does not show"), "{}", refuted.why);
        assert_eq!(with(-0.2, 0.01).proof, "loss");
        // Whose region it was is told.
        let run = SiteRun { gain_s: 0.3, bare_s: 1.0, repeats: 9, ..SiteRun::default() };
        let shared = SiteProof { run: Some(run), is_shared: true, ..gain.clone() };
        assert!(entered(&shared).why.contains("on a pool of each thread that allocates;"));
        // A run that failed says why and decides nothing.
        let run = SiteRun { failure: "why not".into(), ..SiteRun::default() };
        let failed = entered(&SiteProof { run: Some(run), ..gain });
        assert_eq!(ratio(&failed), (95, "replay".to_owned()));
        assert!(failed.why.contains("in the program itself: why not."), "{}", failed.why);
    }

    #[test]
    fn a_gain_is_predicted_a_loss_takes_the_candidate_back_and_noise_is_nothing() {
        let mib = 1 << 20;
        let gain = SiteProof {
            gain_s: 0.05,
            noise_s: 0.01,
            base_peak_bytes: 10 * mib,
            peak_bytes: 10 * mib,
            held_bytes: 4096,
            repeats: 5,
            ..SiteProof::default()
        };
        assert!(gain.shows_gain());
        let site = entered(&gain);
        let predicted = site.predicted.expect("a gain");
        assert!((predicted.time_ratio - 0.95).abs() < 1e-9 && predicted.peak_ratio == 1.0);
        assert_eq!((predicted.worst_case_held_bytes, site.recommend.as_str()), (4096, "pool"));

        let noise = SiteProof { gain_s: 0.009, ..gain.clone() };
        let site = entered(&noise);
        assert!(!noise.shows_gain() && site.predicted.is_none() && site.recommend == "pool");
        assert_eq!(site.why, "A pool. Measured as a pool: no gain above the noise.");
        assert_eq!(site.proof, "no_gain");

        let pinned = SiteProof { peak_bytes: 20 * mib, ..gain.clone() };
        let site = entered(&pinned);
        assert!(!pinned.shows_gain() && site.predicted.is_none());
        assert_eq!(site.recommend, "general");
        assert!(site.why.contains("100 % more peak memory"), "{}", site.why);

        let shared = entered(&SiteProof { is_shared: true, ..gain.clone() });
        assert!(shared.why.contains("replays on a pool that threads share;"), "{}", shared.why);
        assert_eq!((shared.proof.as_str(), site.proof.as_str()), ("gain", "loss"));

        let mut site = Site { recommend: "linear".into(), bytes: 50 * mib, ..Site::default() };
        enter(&mut site, &gain, 1.0, 0);
        assert_eq!(site.predicted.map(|one| one.worst_case_held_bytes), Some(50 * mib));
        assert!(site.why.contains("never freed would hold 50.0 MiB"), "{}", site.why);

        let tiny = SiteProof { base_s: 100.0, ..gain.clone() };
        assert!(!tiny.shows_gain() && gain.shows_gain());
        assert!(!SiteProof { failure: "why not".into(), ..gain.clone() }.shows_gain());

        let fallen = SiteProof { is_upheld: Some(false), ..gain.clone() };
        assert!(entered(&fallen).predicted.is_none());
        let failed = SiteProof { failure: "why not".into(), ..gain };
        assert!(entered(&failed).why.ends_with("Not measured: why not."));
    }
}

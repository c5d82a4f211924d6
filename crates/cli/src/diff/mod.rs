//! `heapwright diff`: two recordings' advice beside each other, for CI.

mod limit;
mod measures;
mod sites;

use crate::console::Console;
use crate::failure::Failure;
use clap::Args;
use heapwright_advise::schema::Advice;
use limit::Limit;
use measures::Change;
use serde::Serialize;
use sites::SiteChange;
use std::fs;
use std::path::{Path, PathBuf};

/// Sites shown on a terminal; `--json` has all that changed.
const SITES_SHOWN: usize = 10;

/// What to compare and when to fail.
#[derive(Debug, Args)]
pub(crate) struct DiffOptions {
    /// The directory that `advise` wrote before, or its advice.json
    old: PathBuf,
    /// The directory that `advise` wrote after, or its advice.json
    new: PathBuf,
    /// Fail when a measure grows by more: peak, end, bytes, allocs, events, rss, time
    #[arg(long, value_name = "MEASURE+N%,...", value_delimiter = ',')]
    fail_if: Vec<Limit>,
    /// The exit status of such a failure
    #[arg(long, value_name = "N", default_value_t = 1)]
    error_exit: u8,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Difference {
    schema: u32,
    heapwright_version: &'static str,
    changes: Vec<Change>,
    exceeded: Vec<String>,
    sites: Vec<SiteChange>,
}

pub(crate) fn run(options: &DiffOptions, console: &Console) -> Result<u8, Failure> {
    let old = read(&options.old)?;
    let new = read(&options.new)?;
    let changes = measures::changes(&old, &new);
    let mut exceeded = Vec::new();
    for limit in &options.fail_if {
        exceeded.extend(limit.judge(&changes).map_err(Failure::ours)?);
    }
    let status = if exceeded.is_empty() { 0 } else { options.error_exit };
    let heapwright_version = env!("CARGO_PKG_VERSION");
    let sites = sites::changes(&old, &new);
    let difference = Difference { schema: 1, heapwright_version, changes, exceeded, sites };
    if console.json() {
        console.print_json(&difference)?;
    } else {
        console.print(&text(&difference))?;
    }
    Ok(status)
}

/// The advice in `path`: a file, or a directory with `advice.json`.
fn read(path: &Path) -> Result<Advice, Failure> {
    let file = if path.is_dir() { path.join("advice.json") } else { path.to_owned() };
    let shown = file.display();
    let text = fs::read_to_string(&file).map_err(|error| {
        Failure::ours(format!(
            "{shown}: cannot be read ({error}); `heapwright advise -o DIR` writes it"
        ))
    })?;
    let advice: Advice = serde_json::from_str(&text).map_err(|error| {
        Failure::ours(format!(
            "{shown}: is no advice.json ({error}); name a directory of `heapwright advise`"
        ))
    })?;
    if advice.schema != 1 {
        let schema = advice.schema;
        return Err(Failure::ours(format!("{shown}: has schema {schema}, this version reads 1")));
    }
    Ok(advice)
}

fn text(difference: &Difference) -> String {
    let mut lines = vec![format!("{:<10} {:>15} {:>15} {:>9}", "measure", "old", "new", "change")];
    for change in &difference.changes {
        let share =
            change.share.map_or("new".to_owned(), |share| format!("{:+.1}%", share * 100.0));
        lines.push(format!(
            "{:<10} {:>15} {:>15} {share:>9}",
            change.measure, change.old, change.new
        ));
    }
    if !difference.sites.is_empty() {
        lines.push("call sites by growth of live bytes at the peak:".into());
    }
    for site in difference.sites.iter().take(SITES_SHOWN) {
        let place = if site.file.is_empty() {
            site.function.clone()
        } else {
            format!("{} ({}:{})", site.function, site.file, site.line)
        };
        lines.push(format!(
            "  {:+15} bytes {:+12} allocations  {place}",
            site.live_at_peak_bytes, site.allocs
        ));
    }
    lines.extend(difference.exceeded.iter().map(|text| format!("exceeded: {text}")));
    lines.join("\n")
}

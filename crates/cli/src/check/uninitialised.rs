//! Bytes that are read before they were set: the program runs again with other bytes in new
//! blocks, and what it prints is compared; then the call site is searched by halves.

use super::finding::{Finding, frames};
use super::lines::{Line, RawModule, RawSite};
use super::{Session, outcome};
use crate::failure::Failure;
use heapwright_launch::Stdin;
use heapwright_os::fix_addresses_of_children;
use std::process::Stdio;

/// The two fills, and a third where the second changes nothing.
const PLAIN: &str = "fill=00,leaks=0";
const OTHERS: [&str; 2] = ["be", "41"];

/// What a run printed and how it ended, and the lines of its report.
struct Ran {
    outcome: (String, Vec<u8>),
    lines: Vec<Line>,
}

impl Session<'_> {
    fn compared_run(&mut self, words: &str) -> Result<Ran, Failure> {
        let (mut command, mut reader) = self.prepare(words)?;
        command.stdin(Stdin::repeatable().open()?).stderr(Stdio::null());
        let output = command.output().map_err(|error| self.refused(&error))?;
        Ok(Ran { outcome: outcome(output), lines: reader.lines()? })
    }
}

/// Searches; says how it went. The guilty site becomes a finding.
pub(super) fn search(session: &mut Session<'_>) -> Result<&'static str, Failure> {
    if !fix_addresses_of_children() {
        return Ok("the kernel does not fix addresses, so runs cannot be compared");
    }
    let plain = session.compared_run(PLAIN)?;
    if session.compared_run(PLAIN)?.outcome != plain.outcome {
        return Ok("the program prints something else in each run, so fills cannot be compared");
    }
    for other in OTHERS {
        let ran = session.compared_run(&format!("fill={other},leaks=0,sites=1"))?;
        if ran.outcome != plain.outcome {
            return bisect(session, &plain, ran, other);
        }
    }
    Ok("no output depends on unset bytes")
}

fn bisect(
    session: &mut Session<'_>,
    plain: &Ran,
    ran: Ran,
    other: &str,
) -> Result<&'static str, Failure> {
    let mut sites: Vec<u64> = ran
        .lines
        .into_iter()
        .flat_map(|line| match line {
            Line::Sites(sites) => sites,
            _ => Vec::new(),
        })
        .collect();
    sites.sort_unstable();
    sites.dedup();
    // The least number of sites, by their numbers, whose fill changes the outcome.
    let (mut innocent, mut enough) = (0, sites.len());
    while innocent + 1 < enough {
        let middle = innocent.midpoint(enough);
        let words = format!("{PLAIN},other={other},low=0,high={:x}", sites[middle]);
        match session.compared_run(&words)?.outcome == plain.outcome {
            true => innocent = middle,
            false => enough = middle,
        }
    }
    let Some(site) = enough.checked_sub(1).and_then(|index| sites.get(index)) else {
        return Ok("output depends on unset bytes, but the program ended without naming its sites");
    };
    let words = format!("{PLAIN},other={other},low={site:x},high={:x},tell={site:x}", site + 1);
    let last = session.compared_run(&words)?;
    let is_certain = last.outcome != plain.outcome;
    for line in last.lines {
        if let Line::Site(raw) = line {
            let finding = name(raw, session);
            session.enter(finding);
        }
    }
    Ok(match is_certain {
        true => "output depends on unset bytes of one site",
        false => "output depends on unset bytes of several sites together; one is named",
    })
}

fn name(raw: RawSite, session: &mut Session<'_>) -> Finding {
    let modules: Vec<_> = raw.modules.iter().map(RawModule::module).collect();
    Finding {
        kind: "uninitialised".into(),
        process: raw.pid,
        exe: raw.exe,
        thread: raw.pid,
        address: 0,
        bytes: 0,
        access: "read".into(),
        via: String::new(),
        stack: frames(&raw.stack, &modules, &mut session.symbolizer),
        block: None,
        told: 0,
        leaked_bytes: 0,
        indirect: false,
        signal: 0,
        filler: None,
        fatal: false,
    }
}

//! The results as Markdown: means first, then each workload, then what was not measured.

use super::results::base;
use super::{BASE, Results, Row};
use std::fmt;

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = &self.machine;
        let memory_gib = machine.memory_bytes >> 30;
        writeln!(
            f,
            "{} x {}, {memory_gib} GiB, Linux {}, {}; {} rounds{}",
            machine.cpus,
            machine.cpu,
            machine.kernel,
            machine.libc,
            self.rounds,
            if self.quick { ", quick: not to be judged" } else { "" }
        )?;
        self.versions().iter().try_for_each(|line| writeln!(f, "- {line}"))?;
        self.write_means(f)?;
        self.write_programs(f)?;
        self.write_costs(f)?;
        if !self.missing.is_empty() {
            writeln!(f, "\nNot measured:")?;
        }
        for missing in &self.missing {
            writeln!(f, "- {}, {}: {}", missing.workload, missing.subject, missing.reason)?;
        }
        self.write_losses(f)
    }
}

impl Results {
    fn subjects(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !names.contains(&row.subject.as_str()) {
                names.push(&row.subject);
            }
        }
        names
    }

    fn workloads(&self, fits: fn(&Row) -> bool) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for row in self.rows.iter().filter(|row| fits(row)) {
            if !names.contains(&row.workload.as_str()) {
                names.push(&row.workload);
            }
        }
        names
    }

    fn row(&self, workload: &str, subject: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.workload == workload && row.subject == subject)
    }

    fn versions(&self) -> Vec<String> {
        let first = |name: &&str| self.rows.iter().find(|row| row.subject == **name);
        let subjects = self.subjects();
        let rows = subjects.iter().filter_map(first);
        rows.map(|row| format!("{}: {} ({})", row.subject, row.version, row.origin)).collect()
    }

    fn write_means(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.means.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n| geometric mean against {BASE} | time | CPU | peak resident | workloads |"
        )?;
        writeln!(f, "|---|--:|--:|--:|--:|")?;
        self.means.iter().try_for_each(|mean| {
            let (time, cpu, peak) = (mean.time_ratio, mean.cpu_ratio, mean.peak_ratio);
            let (subject, workloads) = (&mean.subject, mean.workloads);
            writeln!(f, "| {subject} | {time:.3} | {cpu:.3} | {peak:.3} | {workloads} |")
        })
    }

    /// Time and peak of each program as ratios to the base.
    fn write_programs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workloads = self.workloads(|row| row.time_ratio.is_some());
        if workloads.is_empty() {
            return Ok(());
        }
        let subjects = self.subjects();
        write!(f, "\n| time / peak resident | {BASE}")?;
        subjects.iter().skip(1).try_for_each(|name| write!(f, " | {name}"))?;
        writeln!(f, " |\n|---|{}", "--:|".repeat(subjects.len()))?;
        for workload in workloads {
            let Some(base) = base(&self.rows, workload) else { continue };
            let (seconds, kib) = (base.time_s.unwrap_or(0.0), base.peak_rss_kb.unwrap_or(0.0));
            write!(f, "| {workload} | {seconds:.3} s, {:.1} MB", kib / 1024.0)?;
            for subject in subjects.iter().skip(1) {
                let row = self.row(workload, subject);
                match row.and_then(|row| Some((row.time_ratio?, row.peak_ratio?))) {
                    Some((time, peak)) => write!(f, " | {time:.2} / {peak:.2}")?,
                    None => write!(f, " | -")?,
                }
            }
            writeln!(f, " |")?;
        }
        Ok(())
    }

    /// Nanoseconds, instructions and KiB as they are.
    fn write_costs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workloads = self.workloads(|row| row.time_ratio.is_none());
        if workloads.is_empty() {
            return Ok(());
        }
        let subjects = self.subjects();
        write!(f, "\n| cost")?;
        subjects.iter().try_for_each(|name| write!(f, " | {name}"))?;
        writeln!(f, " |\n|---|{}", "--:|".repeat(subjects.len()))?;
        for workload in workloads {
            write!(f, "| {workload}")?;
            for subject in &subjects {
                match self.row(workload, subject).and_then(cost) {
                    Some(text) => write!(f, " | {text}")?,
                    None => write!(f, " | -")?,
                }
            }
            writeln!(f, " |")?;
        }
        Ok(())
    }

    /// Programs where ours is more than a quarter slower than the fastest peer, or more than half
    /// fatter than the leanest of those that are not twice as slow as the fastest.
    fn write_losses(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.quick {
            return Ok(());
        }
        for workload in self.workloads(|row| row.time_ratio.is_some()) {
            let Some(ours) = self.row(workload, "heapwright") else { continue };
            let rows = || self.rows.iter().filter(|row| row.workload == workload);
            let ratios = |row: &Row| Some((row.time_ratio?, row.peak_ratio?));
            let fastest = rows().filter_map(|row| row.time_ratio).fold(f64::INFINITY, f64::min);
            let leanest = rows()
                .filter_map(ratios)
                .filter(|(time, _)| *time <= 2.0 * fastest)
                .fold(f64::INFINITY, |least, (_, peak)| least.min(peak));
            let Some((time, peak)) = ratios(ours) else { continue };
            if time > 1.25 * fastest {
                writeln!(f, "- Loss: {workload}: {:.2} times the fastest's time.", time / fastest)?;
            }
            if peak > 1.5 * leanest {
                writeln!(f, "- Loss: {workload}: {:.2} times the leanest's peak.", peak / leanest)?;
            }
        }
        Ok(())
    }
}

fn cost(row: &Row) -> Option<String> {
    if let Some(ns) = row.ns_per_op {
        return Some(format!("{ns:.1} ns"));
    }
    if let Some(instructions) = row.instructions {
        return Some(format!("{instructions:.1}"));
    }
    if let (Some(half), Some(most), Some(tail)) = (row.ns_p50, row.ns_p99, row.ns_p999) {
        return Some(format!("{half:.0}, {most:.0}, {tail:.0} ns"));
    }
    if let (Some(live), Some(resident)) = (row.live_kb, row.end_rss_kb) {
        let (resident, live) = (resident / 1024.0, live / 1024.0);
        return Some(format!("{resident:.1} of {live:.1} MB live: {:.2}", resident / live));
    }
    if let Some(ratio) = row.next_ratio {
        let mut text = format!("{ratio:.2} of the first");
        if let (Some(least), Some(most)) = (row.next_ratio_min, row.next_ratio_max) {
            text += &format!(" ({least:.2} to {most:.2})");
        }
        if let Some(cpu) = row.next_cpu_ratio {
            text += &format!(", CPU {cpu:.2}");
        }
        if let (Some(first), Some(next)) = (row.first_faults, row.next_faults) {
            text += &format!(", faults {:.2}", next / first.max(1.0));
        }
        return Some(text);
    }
    if let (Some(page), Some(held_up)) = (row.us_per_page, row.held_up_us) {
        return Some(format!("{page:.1} us a page freed, held up {held_up:.0} us"));
    }
    if let Some(peak) = row.peak_rss_kb {
        return Some(format!("{:.1} MB peak", peak / 1024.0));
    }
    row.private_dirty_kb.map(|kib| format!("{kib:.0} KiB dirty"))
}

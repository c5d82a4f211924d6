//! The results as Markdown, losses last.

use crate::record_suite::{Results, Row};
use crate::sampled::SAMPLE_BYTES;
use std::fmt;

/// Largest ratio of CPU that recording may cost, by the start of the program's name.
const RATIO_MAX: [(&str, f64); 5] =
    [("python3", 1.6), ("sqlite3", 1.6), ("redis-server", 1.25), ("gcc", 1.25), ("g++", 1.25)];

/// How many times less an event should cost than under heaptrack.
const CHEAPER_MIN: f64 = 5.0;

/// Largest number of bytes of the file for an event.
const BYTES_PER_EVENT_MAX: f64 = 3.0;

/// Nanoseconds that an event may cost that sampling does not take.
const NOT_TAKEN_NS_MAX: f64 = 8.0;

/// Share of complete stacks that counts as full.
const COMPLETE_MIN: f64 = 0.99;

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = &self.machine;
        let memory_gib = machine.memory_bytes >> 30;
        writeln!(
            f,
            "{} x {}, {memory_gib} GiB, Linux {}, {}; {} rounds",
            machine.cpus, machine.cpu, machine.kernel, machine.libc, self.rounds
        )?;
        for (name, version) in &self.versions {
            writeln!(f, "- {name}: {version}")?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "| program | events | tool | CPU | spread | CPU x bare (range) | added ns/event | \
             bytes/event | complete stacks | lost |\n|---|--:|---|--:|--:|--:|--:|--:|--:|--:|"
        )?;
        self.rows.iter().try_for_each(|row| write_row(f, row))?;
        for (name, reason) in &self.missing {
            writeln!(f, "| {name} | | not measured: {reason} | | | | | | | |")?;
        }
        writeln!(f)?;
        match &self.sampled {
            Ok(cost) => {
                write!(
                    f,
                    "Sampled (one in {SAMPLE_BYTES} bytes), {:.1} M events of a loop of malloc and \
                     free that takes {:.1} ns of CPU an event: {:.1} ns added to an event",
                    cost.events as f64 / 1e6,
                    cost.bare_ns,
                    cost.added_ns
                )?;
                match cost.added_instructions {
                    Some(count) => writeln!(f, ", {count:.1} instructions."),
                    None => writeln!(f, " (instructions not counted: valgrind is missing)."),
                }?;
            }
            Err(reason) => writeln!(f, "Sampled: not measured: {reason}.")?,
        }
        writeln!(f)?;
        if self.quick {
            return writeln!(f, "Not judged: the programs did too little, starting is most of it.");
        }
        let losses = self.losses();
        if losses.is_empty() {
            writeln!(f, "Losses: none against the targets.")?;
        }
        losses.iter().try_for_each(|loss| writeln!(f, "- Loss: {loss}."))
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    let (ratio, least, most) = row.cpu_ratio;
    write!(
        f,
        "| {} | {:.2} M | {} | {:.2} s | {:.0} % |",
        row.workload,
        row.events as f64 / 1e6,
        row.subject,
        row.cpu_s,
        row.spread * 100.0
    )?;
    if row.subject == "bare" {
        let rate = row.events as f64 / row.cpu_s.max(1e-9) / 1e6;
        return writeln!(f, " 1, {rate:.1} M events a CPU second | | | | |");
    }
    let stacks =
        row.stacks_complete.map_or("not read".into(), |share| format!("{:.1} %", share * 100.0));
    writeln!(
        f,
        " {ratio:.2} ({least:.2} to {most:.2}) | {:.0} | {:.2} | {stacks} | {} |",
        row.ns_per_op, row.bytes_per_event, row.dropped
    )
}

impl Results {
    /// Where a target is missed or a peer does better, one sentence each.
    pub fn losses(&self) -> Vec<String> {
        let mut losses = Vec::new();
        for ours in self.rows.iter().filter(|row| row.subject == "heapwright") {
            let name = &ours.workload;
            let ratio_max = RATIO_MAX.iter().find(|(program, _)| name.starts_with(program));
            if let Some((_, max)) = ratio_max.filter(|(_, max)| ours.cpu_ratio.0 > *max) {
                losses.push(format!(
                    "{name}: recording takes {:.2} times the CPU, the target is {max}",
                    ours.cpu_ratio.0
                ));
            }
            if ours.bytes_per_event > BYTES_PER_EVENT_MAX {
                losses.push(format!(
                    "{name}: {:.2} bytes per event on disk, the target is {BYTES_PER_EVENT_MAX}",
                    ours.bytes_per_event
                ));
            }
            if let Some(share) = ours.stacks_complete.filter(|&share| share < COMPLETE_MIN) {
                losses.push(format!("{name}: {:.1} % of the stacks are complete", share * 100.0));
            }
            if ours.dropped > 0 {
                losses.push(format!("{name}: {} events were lost", ours.dropped));
            }
            let same = |row: &&Row| row.workload == *name && row.subject == "heaptrack";
            if let Some(theirs) = self.rows.iter().find(same) {
                losses.extend(against(ours, theirs));
            }
        }
        if let Ok(cost) = &self.sampled
            && cost.added_ns > NOT_TAKEN_NS_MAX
        {
            losses.push(format!(
                "sampled: {:.1} ns for an event not taken, the target is {NOT_TAKEN_NS_MAX}",
                cost.added_ns
            ));
        }
        losses
    }
}

/// Where heaptrack does better, or not worse by as much as it should.
fn against(ours: &Row, theirs: &Row) -> Vec<String> {
    let name = &ours.workload;
    let mut losses = Vec::new();
    let cheaper = theirs.ns_per_op / ours.ns_per_op;
    if cheaper < CHEAPER_MIN {
        losses.push(format!(
            "{name}: an event costs {cheaper:.1} times less than under heaptrack, the target is \
             {CHEAPER_MIN}"
        ));
    }
    if theirs.bytes_per_event < ours.bytes_per_event {
        losses.push(format!(
            "{name}: heaptrack's file is smaller, {:.2} bytes per event against {:.2} (it keeps \
             no times, threads and identities)",
            theirs.bytes_per_event, ours.bytes_per_event
        ));
    }
    if theirs.stacks_complete > ours.stacks_complete {
        losses.push(format!("{name}: heaptrack has more complete stacks"));
    }
    losses
}

#[cfg(test)]
mod tests {
    use crate::record_suite::{Results, Row};
    use heapwright_launch::Machine;

    fn row(subject: &'static str, ratio: f64, ns_per_op: f64, bytes_per_event: f64) -> Row {
        Row {
            workload: "redis-server".into(),
            subject,
            cpu_s: ratio,
            spread: 0.0,
            time_s: ratio,
            cpu_ratio: (ratio, ratio, ratio),
            events: 1_000_000,
            dropped: 0,
            ns_per_op,
            bytes_per_event,
            stacks_complete: Some(1.0),
        }
    }

    fn results(rows: Vec<Row>) -> Results {
        Results {
            suite: "record",
            machine: Machine::default(),
            versions: Vec::new(),
            rounds: 1,
            quick: false,
            rows,
            missing: vec![("python3".into(), "python3 is not installed".into())],
            sampled: Err("no C compiler".into()),
        }
    }

    #[test]
    fn missed_targets_are_losses() {
        let ours = row("heapwright", 1.3, 100.0, 2.0);
        let theirs = row("heaptrack", 1.4, 400.0, 0.1);
        let losses = results(vec![ours, theirs]).losses();
        assert_eq!(losses.len(), 3, "{losses:?}");
        assert!(losses[0].contains("1.30 times the CPU"));
        assert!(losses[1].contains("4.0 times less"));
        assert!(losses[2].contains("file is smaller"));
    }

    #[test]
    fn a_missing_program_is_a_row_with_its_reason() {
        let text = results(vec![row("heapwright", 1.1, 50.0, 1.0)]).to_string();
        assert!(text.contains("| python3 | | not measured: python3 is not installed |"), "{text}");
        assert!(text.contains("Losses: none"));
        assert!(text.contains("| redis-server | 1.00 M | heapwright | 1.10 s |"), "{text}");
    }
}

//! Advice about single call sites, judged by programs whose right answers are known (feature
//! `preload-tests`, after `cargo xtask build`).
#![cfg(feature = "preload-tests")]

use heapwright_testkit::site_mix::{KINDS, SiteMix};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

fn heapwright() -> Command {
    heapwright_testkit::heapwright(env!("CARGO_BIN_EXE_heapwright"))
}

/// What came of all sites: how often which answer was given to which right one.
#[derive(Debug, Default)]
struct Judged {
    given: BTreeMap<(&'static str, String), u32>,
    /// Right final answers.
    right: u32,
    /// Right patterns, those that the measurement took back among them.
    recognised: u32,
    all: u32,
    /// Right patterns that the measurement took back: the region was worse than `malloc`.
    taken_back: u32,
    /// Sites with a gain claimed, and those of them with a wrong answer.
    claimed: u32,
    wrongly_claimed: Vec<String>,
}

impl Judged {
    fn program(&mut self, seed: u64, turns: u32) {
        let mix = SiteMix::new(seed, turns);
        let folder = tempfile::tempdir().expect("a directory");
        let program = folder.path().join("mix");
        heapwright_testkit::compile_c(&mix.source, &program, &[]);
        let mut command = heapwright();
        command.args(["advise", "--json", "--on", "system", "--repeats", "1"]);
        command.args(["--confirm", "never", "-o"]).arg(folder.path().join("advice"));
        let output = command.arg("--").arg(&program).output().expect("heapwright starts");
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "seed {seed}: {message}");
        let advice: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
        let sites = advice["sites"].as_array().expect("sites");
        for (name, answer) in &mix.answers {
            let site = sites.iter().find(|site| site["function"] == name.as_str());
            let site = site.unwrap_or_else(|| panic!("seed {seed}: no site {name}"));
            let given = site["recommend"].as_str().expect("a kind").to_owned();
            let is_claimed = !site["predicted"].is_null();
            self.all += 1;
            let why = site["why"].as_str().expect("a sentence");
            let is_taken_back =
                site["proof"] == "loss" && why.contains(&format!("Measured as a {answer}"));
            self.taken_back += u32::from(is_taken_back);
            self.recognised += u32::from(given == *answer || is_taken_back);
            self.right += u32::from(given == *answer);
            self.claimed += u32::from(is_claimed);
            if given != *answer {
                let text = format!("seed {seed}: {name} got {given}: {why}");
                println!("{text}");
                if is_claimed {
                    self.wrongly_claimed.push(text);
                }
            }
            *self.given.entry((answer, given)).or_default() += 1;
        }
    }

    fn show(&self) {
        println!(
            "right answer: given ({} of {} right, {} patterns recognised, {} taken back, {} gains \
             claimed)",
            self.right, self.all, self.recognised, self.taken_back, self.claimed
        );
        for kind in KINDS {
            let row: Vec<String> = KINDS
                .iter()
                .map(|given| self.given.get(&(kind, (*given).to_owned())).copied().unwrap_or(0))
                .map(|count| format!("{count:>8}"))
                .collect();
            println!("{kind:>8}{}", row.concat());
        }
    }
}

#[test]
fn generated_programs_get_their_right_answers() {
    let mut judged = Judged::default();
    for seed in [1, 2] {
        judged.program(seed, 1500);
    }
    judged.show();
    assert_eq!(judged.wrongly_claimed, [""; 0]);
    // Patterns: whether a region is faster here, too, is for a quiet machine to say.
    assert!(judged.recognised * 100 >= judged.all * 95, "{judged:?}");
}

/// The long tier: twelve programs, as the design page shows them.
#[test]
#[ignore = "long tier: a minute and a half"]
fn long_tier_confusion_table_of_twelve_programs() {
    let mut judged = Judged::default();
    for seed in 100..112 {
        judged.program(seed, 6000);
    }
    judged.show();
    assert_eq!(judged.wrongly_claimed, [""; 0]);
    assert!(judged.right * 100 >= judged.all * 95, "{judged:?}");
    assert!(judged.claimed > 0, "no gain at all was found");
}

//! Sampling: estimates without bias.

use heapwright_format::file::Recording;

use crate::recorded::{Facts, is_own, program, record_command, words};

const MEAN: f64 = 4096.0;

/// Blocks and bytes of `size` by the sampled births.
fn estimate(facts: &Facts, size: u64) -> f64 {
    let taken = facts.births.iter().filter(|birth| birth.size == size).count();
    taken as f64 / (1.0 - (-(size as f64) / MEAN).exp())
}

fn estimate_live(facts: &Facts, size: u64) -> f64 {
    let live = facts.live.values().filter(|&&live| live == size).count();
    live as f64 / (1.0 - (-(size as f64) / MEAN).exp())
}

#[test]
fn weighted_samples_give_counts_of_births_and_live_blocks_without_bias() {
    const RUNS: usize = 12;
    let sizes = [(27, 400_000.0), (16 * 64 + 27, 40_000.0), (1024 * 64 + 27, 1_000.0)];
    let mut sums = [[0.0; 2]; 3];
    for _ in 0..RUNS {
        let run = record_command(words(&program("three_sizes"), &[]), |options| {
            options.sample_bytes = MEAN as u64;
        });
        run.expect_whole();
        assert_eq!(run.recording.session().sample_bytes, MEAN as u64);
        let facts = run.facts();
        facts.expect_complete_stacks();
        assert_eq!(facts.matches.unknown_frees, 0, "frees of blocks not taken are not written");
        for (sum, (size, _)) in sums.iter_mut().zip(sizes) {
            sum[0] += estimate(&facts, size);
            sum[1] += estimate_live(&facts, size);
        }
    }
    for (sum, (size, count)) in sums.iter().zip(sizes) {
        let chance = 1.0 - (-(size as f64) / MEAN).exp();
        for (sum, count) in sum.iter().zip([count, count / 4.0]) {
            // Six standard deviations of the mean of all runs: once in a billion tests.
            let spread = ((1.0 - chance) / chance * count / RUNS as f64).sqrt();
            let mean = sum / RUNS as f64;
            assert!((mean - count).abs() <= 6.0 * spread + 0.5, "{size}: {mean} of {count}");
        }
    }
}

#[test]
fn a_wider_mean_makes_a_smaller_recording() {
    let mut bytes = [0, 0];
    for (bytes, mean) in bytes.iter_mut().zip([64, 512 << 10]) {
        let run = record_command(words(&program("three_sizes"), &[]), |options| {
            options.sample_bytes = mean;
        });
        let facts = Facts::of(&Recording::open(run.recording.path()).expect("a recording"), 0);
        assert!(facts.births.iter().any(|birth| is_own(birth.size)));
        *bytes = run.outcome.bytes;
    }
    assert!(bytes[1] * 20 < bytes[0], "{bytes:?}");
}

#[test]
fn resized_blocks_are_sampled_like_others() {
    let run = record_command(words(&program("reallocs"), &[]), |options| options.sample_bytes = 1);
    run.expect_whole();
    let facts = run.facts();
    // Each byte is a sample: every block is taken, a resizing is a death and a birth.
    assert_eq!(facts.resizings.len(), 0);
    assert_eq!(facts.births.iter().filter(|birth| birth.size == 65536 * 64 + 27).count(), 1);
    assert_eq!((facts.own_live(), facts.matches.unknown_frees), (0, 0));
}

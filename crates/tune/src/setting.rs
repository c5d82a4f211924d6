//! A point of the search: a collector and its numbers.

use crate::search::Goal;
use serde::Serialize;
use std::fmt;

/// What a run is given through `HEAPWRIGHT_GC_*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Setting {
    /// The collector's name.
    pub collector: &'static str,
    /// How far the heap may grow over its live bytes, in percent.
    pub growth_percent: usize,
    /// Bytes of the nursery; 0 where the collector has none.
    pub nursery_kib: usize,
    /// Target of a slice; 0 where the collector has none.
    pub slice_us: usize,
}

/// Names of the collectors, the most promising first and the one that uses most memory last: see
/// `search.rs` on second looks.
pub(crate) const COLLECTORS: [&str; 5] =
    ["generational", "mark_sweep", "incremental", "mark_compact", "copying"];
const GROWTHS: [usize; 6] = [120, 150, 200, 300, 450, 700];
const NURSERIES_KIB: [usize; 6] = [512, 1024, 2048, 4096, 8192, 16384];
const SLICES_US: [usize; 5] = [250, 500, 1000, 2500, 5000];

/// Milliseconds that copying a MiB of survivors takes where we measured.
const COPY_MS_PER_MIB: f64 = 0.5;

impl Setting {
    /// The collector with its defaults.
    pub fn of(collector: &'static str) -> Self {
        Self {
            collector,
            growth_percent: 200,
            nursery_kib: if collector == "generational" { 4096 } else { 0 },
            slice_us: if collector == "incremental" { 1000 } else { 0 },
        }
    }

    /// Every setting that a search may come to: for comparing it with trying them all.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for collector in COLLECTORS {
            let first = Self::of(collector);
            let nurseries = if first.nursery_kib > 0 { &NURSERIES_KIB[..] } else { &[0] };
            let slices = if first.slice_us > 0 { &SLICES_US[..] } else { &[0] };
            for growth_percent in GROWTHS {
                for &nursery_kib in nurseries {
                    for &slice_us in slices {
                        all.push(Self { collector, growth_percent, nursery_kib, slice_us });
                    }
                }
            }
        }
        all
    }

    /// Where a search begins with a collector: more memory rarely costs CPU time, and less of it is
    /// rarely worse for memory. Slices and nurseries are such that pauses keep to `pause_ms_max` on
    /// most programs: a slice with room for what cannot be cut, a nursery by what copying all of
    /// it takes.
    pub(crate) fn first(collector: &'static str, goal: Goal, pause_ms_max: Option<f64>) -> Self {
        let growth_percent = match goal {
            Goal::Cpu => 450,
            Goal::Memory => 150,
            Goal::Pause => 200,
        };
        let mut first = Self { growth_percent, ..Self::of(collector) };
        if let Some(pause_ms) = pause_ms_max {
            if first.slice_us > 0 {
                first.slice_us = greatest(&SLICES_US, pause_ms * 1000.0 / 2.0);
            }
            if first.nursery_kib > 0 {
                let kib = pause_ms / COPY_MS_PER_MIB * 1024.0;
                first.nursery_kib = greatest(&NURSERIES_KIB, kib).min(first.nursery_kib);
            }
        }
        first
    }

    /// The variables that a run is started with.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("HEAPWRIGHT_GC_COLLECTOR", self.collector.to_owned()),
            ("HEAPWRIGHT_GC_GROWTH", self.growth_percent.to_string()),
        ];
        if self.nursery_kib > 0 {
            variables.push(("HEAPWRIGHT_GC_NURSERY", format!("{}k", self.nursery_kib)));
            variables.push(("HEAPWRIGHT_GC_NURSERY_GROWTH", "1".to_owned()));
        }
        if self.slice_us > 0 {
            variables.push(("HEAPWRIGHT_GC_SLICE_US", self.slice_us.to_string()));
        }
        variables
    }

    /// The lines of a file for `HEAPWRIGHT_GC_CONFIG`.
    pub fn lines(&self) -> String {
        let mut lines =
            format!("collector = {}\ngrowth = {}\n", self.collector, self.growth_percent);
        if self.nursery_kib > 0 {
            lines += &format!("nursery = {}k\nnursery_growth = 1\n", self.nursery_kib);
        }
        if self.slice_us > 0 {
            lines += &format!("slice_us = {}\n", self.slice_us);
        }
        lines
    }

    /// The settings one step away: each number up and down.
    pub(crate) fn neighbours(&self) -> Vec<Self> {
        let mut found = Vec::new();
        for growth_percent in steps(&GROWTHS, self.growth_percent) {
            found.push(Self { growth_percent, ..self.clone() });
        }
        for nursery_kib in steps(&NURSERIES_KIB, self.nursery_kib) {
            found.push(Self { nursery_kib, ..self.clone() });
        }
        for slice_us in steps(&SLICES_US, self.slice_us) {
            found.push(Self { slice_us, ..self.clone() });
        }
        found
    }
}

/// The greatest of the ascending `values` that is at most `most`, or the least.
fn greatest(values: &[usize], most: f64) -> usize {
    let below = values.iter().rev().find(|value| **value as f64 <= most);
    below.or(values.first()).copied().unwrap_or(0)
}

/// The values beside `value`, the greater first; none if it is not one of them.
fn steps(values: &[usize], value: usize) -> impl Iterator<Item = usize> {
    let at = values.iter().position(|other| *other == value);
    let above = at.and_then(|at| values.get(at + 1));
    let below = at.and_then(|at| values.get(at.checked_sub(1)?));
    above.into_iter().chain(below).copied()
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, heap {} %", self.collector, self.growth_percent)?;
        if self.nursery_kib > 0 {
            write!(f, ", nursery {} KiB", self.nursery_kib)?;
        }
        if self.slice_us > 0 {
            write!(f, ", slice {} us", self.slice_us)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Setting;
    use crate::search::Goal;

    #[test]
    fn a_pause_decides_where_the_search_begins() {
        let first = |collector, pause| Setting::first(collector, Goal::Cpu, pause);
        assert_eq!(first("incremental", None).slice_us, 1000);
        assert_eq!(first("incremental", Some(1.0)).slice_us, 500);
        assert_eq!(first("incremental", Some(0.1)).slice_us, 250);
        assert_eq!(first("generational", Some(1.0)).nursery_kib, 2048);
        assert_eq!(first("generational", Some(100.0)).nursery_kib, 4096);
        assert_eq!(first("mark_sweep", Some(1.0)).nursery_kib, 0);
    }

    #[test]
    fn neighbours_change_one_number_that_the_collector_has() {
        let setting = Setting::of("mark_sweep");
        assert_eq!(setting.neighbours().len(), 2);
        let setting = Setting::of("generational");
        assert_eq!(setting.neighbours().len(), 4);
        assert!(setting.neighbours().iter().all(|other| other.slice_us == 0));
        let lines = "collector = generational\ngrowth = 200\nnursery = 4096k\nnursery_growth = 1\n";
        assert_eq!(setting.lines(), lines);
    }
}

//! The figures for scrapers: OpenMetrics text, version 1.0.

use std::fmt::Write;

use crate::look::Look;

/// `look` as OpenMetrics text, ended by `# EOF`.
pub fn open_metrics(look: &Look) -> String {
    let mut text = String::new();
    let mut gauge = |name: &str, unit: &str, help: &str, value: f64| {
        let name = if unit.is_empty() { name.to_owned() } else { format!("{name}_{unit}") };
        let _ = writeln!(text, "# TYPE heapwright_{name} gauge");
        if !unit.is_empty() {
            let _ = writeln!(text, "# UNIT heapwright_{name} {unit}");
        }
        let _ = writeln!(text, "# HELP heapwright_{name} {help}");
        let _ = writeln!(text, "heapwright_{name} {value}");
    };
    gauge("live", "bytes", "Usable bytes of blocks in use.", look.live as f64);
    gauge("resident", "bytes", "Proportional set size of the process.", look.resident as f64);
    gauge("retained", "bytes", "Resident and free, held by the allocator.", look.retained as f64);
    gauge("committed", "bytes", "Addresses that the allocator uses.", look.committed as f64);
    gauge("largest_free", "bytes", "Longest allocation that fits now.", look.largest_free as f64);
    if let Some(headroom) = look.headroom {
        gauge("headroom", "bytes", "Limit minus what counts towards it.", headroom as f64);
    }
    gauge("external_fragmentation", "ratio", "1 - live / committed.", look.external_fragmentation);
    gauge("resident_over_live", "ratio", "The allocator's share.", look.resident_over_live);
    gauge("merged_windows", "", "Windows that share pages.", look.merged_windows as f64);
    gauge("merge_cpu", "seconds", "CPU time of merging.", look.merge_cpu_s);
    gauge("merge_step_max", "seconds", "Longest time a window was away.", look.merge_step_s_max);
    gauge("threads", "", "Threads that have a heap.", look.threads as f64);
    gauge("figures_age", "seconds", "How old the figures are.", look.age_s);
    let mut parts = |name: &str, help: &str, label: &str, values: &[(String, u64)]| {
        let _ = writeln!(text, "# TYPE heapwright_{name} gauge");
        let _ = writeln!(text, "# UNIT heapwright_{name} bytes");
        let _ = writeln!(text, "# HELP heapwright_{name} {help}");
        for (value_of, value) in values {
            let _ = writeln!(text, "heapwright_{name}{{{label}=\"{value_of}\"}} {value}");
        }
    };
    let purposes: Vec<(String, u64)> = look
        .residence
        .parts()
        .into_iter()
        .map(|(name, bytes)| (name.replace(' ', "_"), bytes))
        .collect();
    parts("resident_part_bytes", "What resident bytes are for.", "purpose", &purposes);
    let class = |bytes: fn(&crate::ClassLook) -> u64| -> Vec<(String, u64)> {
        look.classes.iter().map(|class| (class.slot_bytes.to_string(), bytes(class))).collect()
    };
    parts("class_used_bytes", "Used slots by slot size.", "slot", &class(|one| one.used_bytes));
    parts("class_free_bytes", "Free slots by slot size.", "slot", &class(|one| one.free_bytes));
    let heap = |bytes: fn(&crate::HeapLook) -> u64| -> Vec<(String, u64)> {
        // One name may be that of several heaps: a label is there once.
        let mut sums = std::collections::BTreeMap::new();
        for heap in &look.heaps {
            *sums.entry(escaped(&heap.label())).or_insert(0) += bytes(heap);
        }
        sums.into_iter().collect()
    };
    parts("heap_span_bytes", "Spans by heap.", "heap", &heap(|one| one.span_bytes));
    parts("heap_used_bytes", "Used slots by heap.", "heap", &heap(|one| one.used_bytes));
    parts("heap_large_bytes", "Large blocks by heap.", "heap", &heap(|one| one.large_bytes));
    let node = |bytes: fn(&crate::NodeLook) -> u64| -> Vec<(String, u64)> {
        look.nodes.iter().map(|node| (node.node.to_string(), bytes(node))).collect()
    };
    let live = |one: &crate::NodeLook| one.used_bytes + one.large_bytes;
    parts("node_live_bytes", "Live blocks by NUMA node.", "node", &node(live));
    parts("node_span_bytes", "Spans by NUMA node.", "node", &node(|one| one.span_bytes));
    parts("node_free_bytes", "Free runs by NUMA node.", "node", &node(|one| one.free_bytes));
    let mut counter = |name: &str, unit: &str, help: &str, value: u64| {
        let full = if unit.is_empty() { name.to_owned() } else { format!("{name}_{unit}") };
        let _ = writeln!(text, "# TYPE heapwright_{full} counter");
        if !unit.is_empty() {
            let _ = writeln!(text, "# UNIT heapwright_{full} {unit}");
        }
        let _ = writeln!(text, "# HELP heapwright_{full} {help}");
        let _ = writeln!(text, "heapwright_{full}_total {value}");
    };
    counter("allocated", "bytes", "Handed to the program and its threads' lists.", look.handed);
    counter("purged", "bytes", "Given back to the kernel.", look.purged);
    counter("merge_refusals", "", "Windows that were not merged.", look.merge_refused);
    counter("merged_pages", "", "Pages freed by merging.", look.merged_pages);
    counter("profile_samples", "", "Samples of the heap profile.", look.samples[0]);
    text.push_str("# EOF\n");
    text
}

/// A label's value as the format wants it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::open_metrics;
    use crate::look::{HeapLook, Look};

    #[test]
    fn every_family_is_declared_before_its_values_and_once() {
        let named = |name: &str, used_bytes| HeapLook {
            kind: "zone",
            name: name.to_owned(),
            used_bytes,
            ..HeapLook::default()
        };
        let heaps = vec![named("a \"b\"", 3), named("twice", 1), named("twice", 2)];
        let look = Look { live: 5, headroom: Some(7), heaps, ..Look::default() };
        let text = open_metrics(&look);
        assert!(text.ends_with("# EOF\n"));
        assert!(text.contains("\nheapwright_live_bytes 5\n"));
        assert!(text.contains("\nheapwright_headroom_bytes 7\n"));
        assert!(text.contains("\nheapwright_heap_used_bytes{heap=\"a \\\"b\\\"\"} 3\n"));
        assert!(text.contains("\nheapwright_heap_used_bytes{heap=\"twice\"} 3\n"));
        assert!(text.contains("heapwright_resident_part_bytes{purpose=\"free_runs\"} 0"));
        let families: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let mut names: Vec<&str> =
            families.iter().filter_map(|family| family.split(' ').next()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let family = name.strip_suffix("_total").unwrap_or(name);
            assert!(names.contains(&family), "{line}");
        }
    }
}

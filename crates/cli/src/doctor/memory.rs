//! What the kernel does about memory, each thing tried on a few pages, and its NUMA nodes.

use super::Check;
use heapwright_os::{
    Capability, Found, HugePage, Topology, free_huge_pages, mappings_now, max_mapping_count,
};

/// One check for each capability of the OS layer, the nodes, and what the pools hold.
pub(super) fn all() -> Vec<Check> {
    let mut checks = vec![nodes(), mappings(), pool()];
    checks.extend(Capability::all().iter().map(capability));
    checks
}

fn capability(one: &Capability) -> Check {
    match one.probe() {
        Found::Works => Check::ok(one.name, "tried, works"),
        Found::Refused(errno) => {
            Check::missing(one.name, format!("refused: {errno}"), one.fallback)
        }
        Found::NoEffect => Check::missing(one.name, "accepted, without effect", one.fallback),
    }
}

fn nodes() -> Check {
    let machine = Topology::read();
    let rows: Vec<String> = machine
        .nodes()
        .iter()
        .map(|node| {
            let gib = machine.memory_bytes(node) as f64 / f64::from(1 << 30);
            let cpus = if machine.nodes_with_cpus().contains(node) { "" } else { ", no CPU" };
            let near: Vec<String> =
                machine.nodes().iter().map(|to| machine.distance(node, to).to_string()).collect();
            format!("node {node}: {gib:.1} GiB{cpus}, distances {}", near.join(" "))
        })
        .collect();
    Check::ok("NUMA nodes", rows.join("; "))
}

fn mappings() -> Check {
    let most = max_mapping_count();
    match mappings_now() {
        Some(now) => Check::ok("mappings in use", format!("{now} of {most}, by this process")),
        None => Check::limited(
            "mappings in use",
            "unknown",
            "only mappings of our own are counted, and guards stop at half of the limit",
        ),
    }
}

fn pool() -> Check {
    let count = |page| free_huge_pages(page).map_or_else(|| "no pool".into(), |n| n.to_string());
    let value = format!("2 MiB: {}, 1 GiB: {} free", count(HugePage::Mib2), count(HugePage::Gib1));
    Check::ok("huge page pools", value)
}

//! `test --tier numa`: tests of placement on machines that this one is not.
//!
//! `tools/numa-guest` boots a kernel with several NUMA nodes in an emulator (about 10 s a guest,
//! no rights, no KVM; it downloads some 45 MB of Debian packages the first time) and runs a test
//! binary in it. Every test of `heapwright-os` runs there too: its kernel is older than most, so
//! that the fall-backs are taken.

use crate::shell;
use crate::workspace::Workspace;
use serde_json::Value;
use std::process::Command;

/// A guest: its nodes, of which those beyond the CPUs have memory only.
struct Guest {
    nodes: u32,
    cpus: u32,
    huge_pages: u32,
    giga_pages: u32,
    memory: &'static str,
}

const GUESTS: [Guest; 4] = [
    Guest { nodes: 2, cpus: 4, huge_pages: 32, giga_pages: 0, memory: "2G" },
    Guest { nodes: 4, cpus: 4, huge_pages: 64, giga_pages: 0, memory: "3G" },
    // Nodes 2 and 3 have no CPU.
    Guest { nodes: 4, cpus: 2, huge_pages: 64, giga_pages: 0, memory: "3G" },
    // A page of 1 GiB on each node.
    Guest { nodes: 2, cpus: 2, huge_pages: 32, giga_pages: 2, memory: "8G" },
];

/// Builds the test binaries and runs them in each guest.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    let tool = workspace.root.join("tools/numa-guest");
    let placement = binary(workspace, &["--package", "heapwright-regions", "--test", "placement"])?;
    let malloc = binary(workspace, &["--package", "heapwright-malloc", "--test", "nodes"])?;
    let os = binary(workspace, &["--package", "heapwright-os", "--lib"])?;
    for guest in &GUESTS {
        for program in [&placement, &malloc, &os] {
            let mut command = Command::new(&tool);
            command
                .args(["--nodes", &guest.nodes.to_string(), "--smp", &guest.cpus.to_string()])
                .args(["--gigapages", &guest.giga_pages.to_string()])
                .args(["--hugepages", &guest.huge_pages.to_string(), "--mem", guest.memory])
                .args(["--env", &format!("HEAPWRIGHT_NODES={}", guest.nodes)])
                .args(["--timeout", "300", "--", program, "--test-threads=1"]);
            shell::run(&mut command)?;
        }
    }
    println!("{} guests, every test passed", GUESTS.len());
    Ok(())
}

/// The test binary that Cargo builds for `arguments`.
fn binary(workspace: &Workspace, arguments: &[&str]) -> Result<String, String> {
    let mut command = workspace.cargo("test");
    command.args(arguments).args(["--no-run", "--quiet", "--message-format", "json"]);
    let messages = shell::output(&mut command)?;
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(str::to_owned))
        .ok_or_else(|| format!("cargo built no test for {arguments:?}"))
}

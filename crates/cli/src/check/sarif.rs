//! Findings as SARIF 2.1.0, for code hosts and editors: one result each, with the place where it
//! happened, the places of the block as related ones, and all stacks.
//!
//! Source: OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0", sections
//! 3.27 (result), 3.44 (stack) and 3.45 (stack frame).

use super::finding::{Finding, Frame};
use super::text;
use serde_json::{Value, json};

/// Where the format's schema lies.
const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// The log of one run.
pub(crate) fn log(findings: &[Finding]) -> Value {
    let mut kinds: Vec<&str> = findings.iter().map(|finding| finding.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let rules: Vec<Value> = kinds.iter().map(|kind| json!({ "id": kind })).collect();
    let results: Vec<Value> = findings.iter().map(result).collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "heapwright",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "results": results,
        }],
    })
}

fn result(finding: &Finding) -> Value {
    let mut stacks = vec![stack("what happened", &finding.stack)];
    let mut related = Vec::new();
    if let Some(block) = &finding.block {
        for (title, frames) in
            [("allocated here", &block.alloc_stack), ("freed here", &block.free_stack)]
        {
            if !frames.is_empty() {
                stacks.push(stack(title, frames));
            }
            if let Some(place) = frames.iter().find_map(location) {
                let mut place = place;
                place["message"] = json!({ "text": title });
                related.push(place);
            }
        }
    }
    stacks.retain(|stack| stack["frames"].as_array().is_some_and(|frames| !frames.is_empty()));
    // A leak happened where its block was made.
    let alloc = finding.block.iter().flat_map(|block| &block.alloc_stack);
    let place = finding.stack.iter().chain(alloc).find_map(location);
    let mut result = json!({
        "ruleId": finding.kind,
        "level": if finding.kind == "leak" { "warning" } else { "error" },
        "message": { "text": text::describe(finding).trim_end() },
        "locations": place.into_iter().collect::<Vec<Value>>(),
    });
    // Lists that may not be empty by the schema are left out then.
    for (name, list) in [("relatedLocations", related), ("stacks", stacks)] {
        if !list.is_empty() {
            result[name] = Value::Array(list);
        }
    }
    result
}

/// Where a frame is in the source; none without debug information.
fn location(frame: &Frame) -> Option<Value> {
    if frame.file.is_empty() {
        return None;
    }
    let mut place = json!({ "artifactLocation": { "uri": uri(&frame.file) } });
    if frame.line > 0 {
        place["region"] = json!({ "startLine": frame.line });
    }
    Some(json!({ "physicalLocation": place }))
}

fn stack(title: &str, frames: &[Frame]) -> Value {
    let frames: Vec<Value> = frames
        .iter()
        .map(|frame| {
            let mut place = location(frame).unwrap_or_else(|| json!({}));
            place["logicalLocations"] = json!([{ "fullyQualifiedName": frame.function }]);
            json!({ "module": frame.module, "location": place })
        })
        .collect();
    json!({ "message": { "text": title }, "frames": frames })
}

/// A path as a URI: what must not stand in one is written by its number.
fn uri(path: &str) -> String {
    let mut text = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-~+@=".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text += &format!("%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Block, Finding, Frame};
    use super::{log, uri};

    fn frame(function: &str, line: u32) -> Frame {
        Frame {
            function: function.into(),
            file: "/src/a b.c".into(),
            line,
            module: "prog".into(),
            offset: 16,
        }
    }

    #[test]
    fn a_finding_has_its_place_the_blocks_places_and_all_stacks() {
        let finding = Finding {
            kind: "use-after-free".into(),
            process: 7,
            exe: "/bin/prog".into(),
            thread: 7,
            address: 4096,
            bytes: 1,
            access: "read".into(),
            via: String::new(),
            stack: vec![frame("reads", 3)],
            block: Some(Block {
                start: 4096,
                bytes: 24,
                state: "freed".into(),
                watch: "guarded".into(),
                allocator: "malloc".into(),
                deallocator: "free".into(),
                alloc_thread: 7,
                free_thread: 7,
                alloc_stack: vec![frame("makes", 1)],
                free_stack: vec![frame("frees", 2)],
            }),
            told: 0,
            leaked_bytes: 0,
            indirect: false,
            signal: 11,
            filler: None,
            fatal: true,
        };
        let log = log(&[finding]);
        assert_eq!(log["version"], "2.1.0");
        let result = &log["runs"][0]["results"][0];
        assert_eq!(result["ruleId"], "use-after-free");
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "file:///src/a%20b.c");
        assert_eq!(place["region"]["startLine"], 3);
        let related = |index: usize| {
            result["relatedLocations"][index]["physicalLocation"]["region"]["startLine"].clone()
        };
        assert_eq!((related(0), related(1)), (1.into(), 2.into()));
        assert_eq!(result["stacks"].as_array().map(Vec::len), Some(3));
        assert_eq!(log["runs"][0]["tool"]["driver"]["rules"][0]["id"], "use-after-free");
    }

    #[test]
    fn paths_become_uris() {
        assert_eq!(uri("src/lib.rs"), "src/lib.rs");
        assert_eq!(uri("/a%b"), "file:///a%25b");
    }
}

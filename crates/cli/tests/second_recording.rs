//! `advise --second`: a call site's gain has to show in another recording, too (feature
//! `preload-tests`, after `cargo xtask build`).
#![cfg(feature = "preload-tests")]

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Output;

/// Blocks of 8 bytes: malloc takes 32 for each, a pool 16, so that the gain is one of memory and
/// the same on any machine. With an argument they come from another function.
const SOURCE: &str = r"
#include <stdlib.h>
#define LIVE 300000
static char *kept[LIVE];
__attribute__((noinline)) static char *eight(void) { return malloc(8); }
__attribute__((noinline)) static char *eight_elsewhere(void) { return malloc(8); }
int main(int count, char **arguments) {
    (void)arguments;
    unsigned long state = 7;
    for (int i = 0; i < 2 * LIVE; i++) {
        state ^= state << 13; state ^= state >> 7; state ^= state << 17;
        unsigned long at = i < LIVE ? (unsigned long)i : (state >> 11) % LIVE;
        free(kept[at]);
        char *block = count > 1 ? eight_elsewhere() : eight();
        block[0] = 1;
        kept[at] = block;
    }
    return 0;
}
";

fn heapwright(arguments: &[&str]) -> Output {
    let mut command = heapwright_testkit::heapwright(env!("CARGO_BIN_EXE_heapwright"));
    command.args(arguments).output().expect("it starts")
}

fn program(folder: &Path) -> String {
    let program = folder.join("eights");
    heapwright_testkit::compile_c(SOURCE, &program, &[]);
    program.to_str().expect("a plain path").to_owned()
}

/// The site `eight` in the advice about the program, beside the second recording at `second`.
fn site_beside(second: &str, folder: &Path, program: &str) -> Value {
    let place = folder.join("advice");
    let place = place.to_str().expect("a plain path");
    let output = heapwright(&[
        "advise",
        "--json",
        "--on",
        "system",
        "--repeats",
        "1",
        "--confirm",
        "never",
        "-o",
        place,
        "--second",
        second,
        "--",
        program,
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let advice: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let sites = advice["sites"].as_array().expect("sites");
    let site = sites.iter().find(|site| site["function"] == "eight");
    site.expect("the site").clone()
}

#[test]
fn a_gain_stands_only_where_the_second_recording_shows_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = program(folder.path());
    let second = folder.path().join("second.hwr");
    let second = second.to_str().expect("a plain path");

    assert!(heapwright(&["record", "-o", second, "--", &program]).status.success());
    let site = site_beside(second, folder.path(), &program);
    let why = site["why"].as_str().expect("a sentence");
    assert_eq!((&site["recommend"], &site["proof"]), (&"pool".into(), &"gain".into()), "{why}");
    assert!(why.contains(", and on a second recording;"), "{why}");
    // 16 bytes less for each block, beside the table of pointers that is no allocator's.
    let peak = site["predicted"]["peak_ratio"].as_f64().expect("a measurement");
    assert!((0.3..0.8).contains(&peak), "{peak}");

    // Another run, in which the blocks come from another call: it shows no gain of this one.
    assert!(heapwright(&["record", "-o", second, "--", &program, "elsewhere"]).status.success());
    let site = site_beside(second, folder.path(), &program);
    assert_eq!((&site["proof"], &site["predicted"]), (&"not_upheld".into(), &Value::Null));
    let why = site["why"].as_str().expect("a sentence");
    assert!(why.ends_with("a gain that the second recording does not show."), "{why}");
}

#[test]
fn a_wrong_second_recording_is_named_before_the_program_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name).to_str().expect("a plain path").to_owned();
    let (text, sample, mark) = (place("text.hwr"), place("sample.hwr"), place("it-ran"));
    fs::write(&text, "no recording, but long enough to be looked at by the tool").expect("written");
    let program = program(folder.path());
    let sampled = heapwright(&["record", "--sample", "4K", "-o", &sample, "--", &program]);
    assert!(sampled.status.success(), "{}", String::from_utf8_lossy(&sampled.stderr));
    for (file, wanted) in [
        (place("none.hwr"), "cannot read "),
        (text, "is not a Heapwright recording"),
        (sample, "record again without --sample"),
    ] {
        let output = heapwright(&[
            "advise",
            "-o",
            &place("advice"),
            "--second",
            &file,
            "--",
            "touch",
            &mark,
        ]);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{message}");
        assert!(message.lines().count() == 1 && message.contains(wanted), "{message}");
        assert!(message.contains(&file), "{message}");
        assert!(!Path::new(&mark).exists(), "the program ran");
    }
}

//! One call site of a running program on a region: known again in another run, and the program none
//! the wiser (feature `preload-tests`, after `cargo xtask build`).
#![cfg(feature = "preload-tests")]

use heapwright_advise::Analysis;
use heapwright_format::file::Recording;
use heapwright_replay::RegionKind;
use heapwright_site::{
    FrameKey, Served, SiteCounts, SiteFacts, TABLE_VARIABLE, read_counts, table_words, write_table,
};
use heapwright_symbols::Symbolizer;
use serde_json::Value;
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn heapwright() -> Command {
    heapwright_testkit::heapwright(env!("CARGO_BIN_EXE_heapwright"))
}

/// The object beside the binary.
fn object() -> PathBuf {
    let binary = PathBuf::from(heapwright().get_program());
    let object = binary.with_file_name("libheapwright_sites.so");
    assert!(object.is_file(), "{} is missing; run `cargo xtask build`", object.display());
    object
}

/// A recorded program, and what tells its site `function`.
struct Told {
    folder: tempfile::TempDir,
    program: PathBuf,
    arguments: Vec<String>,
    analysis: Analysis,
    site: u32,
}

impl Told {
    fn new(program: PathBuf, arguments: &[&str], function: &str) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("recording.hwr");
        let mut command = heapwright();
        command.arg("record").arg("-o").arg(&file).arg("--").arg(&program).args(arguments);
        let output = command.output().expect("it starts");
        assert!(output.status.success(), "{output:?}");
        let recording = Recording::open(&file).expect("a recording");
        let process = recording.main_process().expect("a process");
        let analysis = Analysis::new(&recording, process, &mut Symbolizer::new(), &mut |_, _| {})
            .expect("allocations");
        let of_function = analysis.sites.iter().filter(|site| site.function == function);
        let site = of_function.max_by_key(|site| site.allocs).expect("the site").id;
        let arguments = arguments.iter().map(|&text| text.to_owned()).collect();
        Self { folder, program, arguments, analysis, site }
    }

    /// Runs the program with the site served by `served`, and what was counted.
    fn run(&self, served: Served) -> (Output, SiteCounts) {
        let site = &self.analysis.sites[self.site as usize];
        let exe = fs::canonicalize(&self.program).expect("the program");
        let facts = SiteFacts {
            served,
            is_resized: site.realloc_share > 0.0,
            capacity_bytes: 64 << 20,
            size_min: site.sizes.min as usize,
            size_max: site.sizes.max as usize,
            exe: FrameKey::of_file(exe.as_os_str().as_encoded_bytes()),
        };
        let paths = self.analysis.site_paths(self.site);
        let mut words = vec![0; table_words(paths.len())];
        write_table(&mut words, &facts, &paths);
        let table = self.folder.path().join("table");
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        fs::write(&table, bytes).expect("written");
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env("LD_PRELOAD", object()).env(TABLE_VARIABLE, &table);
        let output = command.output().expect("it starts");
        let bytes = fs::read(&table).expect("readable");
        let words: Vec<u64> =
            bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        (output, read_counts(&words))
    }

    fn bare(&self) -> Output {
        Command::new(&self.program).args(&self.arguments).output().expect("it starts")
    }
}

const POOL: Served = Served::Region(RegionKind::Pool);

/// Threads, frees by others, resizes, alignments, a fork, blocks alive at the end: every run is at
/// other addresses.
#[test]
fn a_program_does_the_same_whatever_serves_its_site() {
    for sizes in ["1", "7"] {
        let program = heapwright_testkit::programs::compile("one_site");
        let told = Told::new(program, &[sizes], "take");
        let bare = told.bare();
        assert!(bare.status.success(), "{bare:?}");
        let allocs = told.analysis.sites[told.site as usize].allocs;
        for served in iter::once(Served::Allocator).chain(RegionKind::ALL.map(Served::Region)) {
            let (output, counts) = told.run(served);
            assert_eq!((&output.stdout, output.status), (&bare.stdout, bare.status), "{served:?}");
            assert!(output.stderr.is_empty(), "{served:?}: {output:?}");
            assert_eq!(counts.processes, 1);
            assert!(counts.blocks >= allocs, "{served:?}: {counts:?} of {allocs}");
            // Of five ways one asks for an alignment that a pool of these sizes does not have.
            let refused_max = if served == POOL { counts.blocks / 2 } else { 0 };
            assert!(counts.refused <= refused_max, "{served:?}: {counts:?}");
        }
    }
}

/// Two callers of one function that allocates: the site is one of them, so the direct caller does
/// not tell it.
const TWO_CALLERS: &str = r#"
#include <stdio.h>
#include <stdlib.h>
static void *kept[64];
__attribute__((noinline)) static void *xmalloc(size_t n) { void *p = malloc(n); __asm__(""); return p; }
__attribute__((noinline)) static void one(int i) { free(kept[i % 64]); kept[i % 64] = xmalloc(40); }
__attribute__((noinline)) static void *other(void) { void *p = xmalloc(4000); __asm__(""); return p; }
int main(void) {
    for (int i = 0; i < 30000; i++) { one(i); if (i % 3 == 0) free(other()); }
    printf("done\n");
    return 0;
}
"#;

#[test]
fn a_site_behind_a_wrapper_is_told_from_the_wrapper_s_other_callers() {
    let folder = tempfile::tempdir().expect("a directory");
    let program = folder.path().join("two_callers");
    heapwright_testkit::compile_c(TWO_CALLERS, &program, &[]);
    let told = Told::new(program, &[], "one");
    for served in [Served::Allocator, POOL] {
        let (output, counts) = told.run(served);
        assert_eq!(output.stdout, b"done\n");
        assert_eq!((counts.blocks, counts.refused), (30_000, 0), "{served:?}");
    }
}

/// Another executable under the same environment is left alone.
#[test]
fn a_process_that_is_not_meant_passes_straight_through() {
    let folder = tempfile::tempdir().expect("a directory");
    let program = folder.path().join("two_callers");
    heapwright_testkit::compile_c(TWO_CALLERS, &program, &[]);
    let mut told = Told::new(program, &[], "one");
    let copy = folder.path().join("copy");
    fs::copy(&told.program, &copy).expect("copied");
    let meant = std::mem::replace(&mut told.program, PathBuf::from("/bin/sh"));
    told.arguments = vec!["-c".into(), copy.display().to_string()];
    let (output, counts) = told.run(POOL);
    assert_eq!((output.stdout.as_slice(), counts.blocks), (&b"done\n"[..], 0));
    assert!(meant.is_file());
}

/// A program whose blocks are used often between birth and death, as it is and with that site
/// changed by hand to a pool; both print the same.
const USED_OFTEN: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
struct spark { struct spark *next; double x, y, dx, dy; int life; };
static unsigned long seed = 1;
static unsigned draw(unsigned n) {
    seed = seed * 6364136223846793005ul + 1442695040888963407ul;
    return (unsigned)(seed >> 33) % n;
}
#ifdef BY_HAND
static struct spark *dead;
static char *fresh, *end;
static struct spark *make(void) {
    struct spark *spark = dead;
    if (spark) { dead = spark->next; return spark; }
    if (fresh + 48 > end) {
        fresh = mmap(0, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        end = fresh + (4 << 20) / 48 * 48;
    }
    spark = (struct spark *)fresh;
    fresh += 48;
    return spark;
}
static void drop(struct spark *spark) { spark->next = dead; dead = spark; }
#else
__attribute__((noinline)) static struct spark *make(void) {
    struct spark *spark = malloc(sizeof *spark);
    __asm__("");
    return spark;
}
static void drop(struct spark *spark) { free(spark); }
#endif
#define OTHERS 60000
static char *others[OTHERS];
int main(int count, char **arguments) {
    int frames = atoi(arguments[count - 1]);
    struct spark *all = 0;
    double sum = 0;
    for (int i = 0; i < OTHERS; i++) others[i] = malloc(16 + draw(200));
    for (int frame = 0; frame < frames; frame++) {
        for (int i = 0; i < 300; i++) {
            struct spark *spark = make();
            spark->x = draw(1000); spark->y = draw(1000);
            spark->dx = draw(10); spark->dy = draw(10);
            spark->life = 10 + draw(40);
            spark->next = all;
            all = spark;
            unsigned at = draw(OTHERS);
            free(others[at]);
            others[at] = malloc(16 + draw(200));
        }
        for (struct spark **link = &all; *link;) {
            struct spark *spark = *link;
            spark->x += spark->dx;
            spark->y += spark->dy;
            sum += spark->x * spark->y;
            if (--spark->life == 0) { *link = spark->next; drop(spark); } else link = &spark->next;
        }
    }
    printf("%.0f\n", sum);
    return 0;
}
"#;

/// CPU seconds of a program that has ended, by the kernel's account of our children.
fn cpu_s(program: &Path, frames: &str) -> (f64, Vec<u8>) {
    let mut command = heapwright();
    command.args(["compare", "--json", "--on", "system", "--runs", "5", "--"]);
    let output = command.arg(program).arg(frames).output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let compared: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let bare = Command::new(program).arg(frames).output().expect("it starts");
    (compared["rows"][0]["figures"]["cpu_s"]["median"].as_f64().expect("seconds"), bare.stdout)
}

/// Printed side by side; what is asserted is wide, since time is no promise.
#[test]
fn what_the_program_itself_shows_is_foreseen_where_a_replay_cannot_see_it() {
    let folder = tempfile::tempdir().expect("a directory");
    let (before, after) = (folder.path().join("before"), folder.path().join("after"));
    heapwright_testkit::compile_c(USED_OFTEN, &before, &["-O2"]);
    heapwright_testkit::compile_c(USED_OFTEN, &after, &["-O2", "-DBY_HAND"]);
    let frames = "1000";
    let mut command = heapwright();
    command.args(["advise", "--json", "--on", "system", "--repeats", "1", "--confirm", "always"]);
    command.arg("-o");
    command.arg(folder.path().join("advice")).args(["--cmd-stdout", "/dev/null", "--"]);
    let output = command.arg(&before).arg(frames).output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let advice: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let sites = advice["sites"].as_array().expect("sites");
    let site = sites.iter().find(|site| site["function"] == "make").expect("the site");
    let ((before_s, before_text), (after_s, after_text)) =
        (cpu_s(&before, frames), cpu_s(&after, frames));
    assert_eq!(before_text, after_text);
    let predicted = &site["predicted"];
    println!(
        "foreseen by run {}, by replay {}; measured after the change {:.3}\n{}",
        predicted["by_run"],
        predicted["by_replay"],
        after_s / before_s,
        site["why"]
    );
    assert_eq!(site["recommend"], "pool", "{site}");
    let why = site["why"].as_str().expect("a sentence");
    assert!(!why.contains("Not measured"), "{why}");
    if predicted["source"] == "run" {
        let ratio = predicted["time_ratio"].as_f64().expect("a ratio");
        assert!((0.2..1.0).contains(&ratio), "{ratio}");
    }
    let left = fs::read_dir(folder.path().join("advice")).expect("the directory");
    let tables = left.filter(|entry| {
        entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().ends_with(".table"))
    });
    assert_eq!(tables.count(), 0, "tables go with the runs");
}

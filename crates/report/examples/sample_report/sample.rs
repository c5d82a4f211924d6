//! Invented figures in the shape of a server's: requests, a cache that grows, a burst.
//!
//! The same arguments give the same report, so tests can rely on it. Nothing here was measured.

use heapwright_advise::schema::{
    Advice, AllocatorPoint, AllocatorRow, Blame, Flame, Fragmentation, FragmentationClass,
    FragmentationPoint, HistogramBar, LivePoint, Machine, Overhead, Predicted, ProcessInfo,
    RecordingInfo, ReportData, RunFigures, Site, Sizes, StackFrame, Verdict,
};
use std::collections::HashMap;

const MIB: f64 = 1024.0 * 1024.0;
const DURATION_S: f64 = 184.0;
const EVENTS: u64 = 16_412_337;
const TIMELINE_POINTS: usize = 400;

/// A small generator (xorshift), so that the sample needs no crate for chance.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    /// From 0 to 1.
    fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// A report with about so many call sites and at most so many nodes in its flame graph.
pub fn report(site_count: usize, flame_nodes: usize) -> ReportData {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let sites = sites(site_count, &mut chance);
    let flame = flame(&sites, flame_nodes, &mut chance);
    let mut leaks: Vec<Site> =
        sites.iter().filter(|site| site.live_at_end_bytes > 0).take(40).cloned().collect();
    leaks.sort_by_key(|site| std::cmp::Reverse(site.live_at_end_bytes));
    let mut temporaries: Vec<Site> =
        sites.iter().filter(|site| site.temporary_share > 0.5).take(40).cloned().collect();
    let temporary = |site: &Site| (site.temporary_share * site.allocs as f64) as u64;
    temporaries.sort_by_key(|site| std::cmp::Reverse(temporary(site)));
    let blame = leaks.iter().take(12).map(|site| Blame {
        site: site.clone(),
        live_bytes: site.live_at_end_bytes,
        pinned_bytes: site.live_at_end_bytes * 5 / 2 + 4096,
        releasable_bytes: site.live_at_end_bytes * 7 / 5,
    });
    let blame: Vec<Blame> = blame.collect();
    let allocators = allocators(&mut chance);
    let advice = Advice {
        schema: 1,
        heapwright_version: "0.1.0".into(),
        machine: Machine {
            cpu: "Example CPU, 3.0 GHz".into(),
            cpus: 8,
            memory_bytes: 32 << 30,
            kernel: "6.12.0".into(),
            libc: "glibc 2.41".into(),
            architecture: "x86_64".into(),
        },
        command: ["/usr/bin/shop-server", "--listen", "127.0.0.1:8080", "--cache", "256M"]
            .map(String::from)
            .to_vec(),
        exit_status: Some(0),
        overhead: Overhead { method: "estimated".into(), native_s: 61.7, recorded_s: 70.4 },
        processes: processes(),
        recording: recording(),
        verdict: verdict(&allocators),
        allocators,
        fragmentation: Some(fragmentation(&blame)),
        fragmentation_blame: blame,
        sites,
        leaks,
        temporaries,
        notes: vec![
            "0.4 % of the stacks end early: libcrypto was built without unwind tables.".into(),
            "Replay does not see how the program touches its memory; the runs do.".into(),
        ],
    };
    ReportData {
        advice,
        flame,
        size_histogram: histogram(4..=20, 7.0, 2.2, 0),
        lifetime_histogram: histogram(5..=31, 13.0, 4.5, 7),
    }
}

/// For `heapwright`, from the runs.
fn verdict(rows: &[AllocatorRow]) -> Verdict {
    let row = rows.iter().find(|row| row.name == "heapwright").expect("it is in the sample");
    let run = row.run.as_ref().expect("every row but the failed one was run");
    let less = |ratio: f64| (100.0 * (1.0 - ratio)).round();
    Verdict {
        change: true,
        allocator: row.name.clone(),
        reason: format!(
            "The program takes {} % less CPU time than under the system’s allocator and holds \
             {} % less memory at its peak: the memory of the burst goes back to the system.",
            less(run.time_ratio),
            less(run.peak_rss_ratio),
        ),
        time_ratio: run.time_ratio,
        peak_rss_ratio: run.peak_rss_ratio,
        confidence: "high".into(),
        repeats: 7,
        confirmed_by: "run".into(),
    }
}

/// What resident memory is for, with the blamed part as the blame has it.
fn fragmentation(blame: &[Blame]) -> Fragmentation {
    let pinned_bytes: u64 = blame.iter().map(|one| one.pinned_bytes).sum();
    let live_bytes: u64 = blame.iter().map(|one| one.live_bytes).sum();
    let class = |shift: u32| FragmentationClass {
        class_bytes: 16 << shift,
        blocks: 90_000 >> shift,
        live_bytes: live_bytes >> (shift / 2 + 1),
        pinned_bytes: pinned_bytes >> (shift + 1),
        internal: 0.04,
        external: 0.6 / f64::from(shift + 1),
        largest_free_bytes: 4096 << shift,
    };
    let classes: Vec<FragmentationClass> = (0..9).map(class).collect();
    let point = |at: u64| FragmentationPoint {
        events: EVENTS * (at + 1) / 32,
        time_s: DURATION_S * (at + 1) as f64 / 32.0,
        resident_bytes: (at + 1) * (8 << 20),
        pinned_bytes: pinned_bytes * at / 32,
        empty_bytes: at * at * 65_536,
        internal: 0.03,
        external: 0.1 + at as f64 / 64.0,
        largest_free_bytes: at << 19,
        classes: Vec::new(),
    };
    Fragmentation {
        allocator: "system".into(),
        moment: "worst".into(),
        events: EVENTS * 3 / 4,
        time_s: DURATION_S * 0.75,
        resident_bytes: live_bytes + live_bytes / 25 + pinned_bytes + (24 << 20),
        requested_bytes: live_bytes,
        slack_bytes: live_bytes / 25,
        pinned_bytes,
        empty_bytes: 24 << 20,
        internal: 0.04,
        external: 0.55,
        largest_free_bytes: 12 << 20,
        classes,
        series: (0..32).map(point).collect(),
        ..Fragmentation::default()
    }
}

fn processes() -> Vec<ProcessInfo> {
    [("/usr/bin/shop-server", 0.982), ("/usr/bin/shop-worker", 0.014), ("/bin/sh", 0.004)]
        .into_iter()
        .enumerate()
        .map(|(i, (exe, share))| ProcessInfo {
            pid: 4101 + i as u32 * 7,
            exe: exe.into(),
            name: exe.rsplit('/').next().unwrap_or(exe).into(),
            events: (EVENTS as f64 * share / 0.982) as u64,
            share,
            chosen: i == 0,
        })
        .collect()
}

/// Live MiB at a part of the run: a cache that fills, a burst in the middle, waves of requests.
fn live_mib(part: f64) -> f64 {
    let cache = 160.0 * (1.0 - (-part * 5.0).exp());
    let burst = if (0.42..0.56).contains(&part) {
        260.0 * ((part - 0.42) / 0.14 * std::f64::consts::PI).sin().powf(0.6)
    } else {
        0.0
    };
    18.0 + cache + burst + 9.0 * (part * 70.0).sin().abs() + 4.0 * (part * 311.0).sin()
}

/// Events run ahead of time in the burst.
fn events_at(part: f64) -> u64 {
    let ahead = if part > 0.42 { ((part - 0.42) / 0.14).min(1.0) * 0.2 } else { 0.0 };
    ((part * 0.8 + ahead) * EVENTS as f64) as u64
}

fn recording() -> RecordingInfo {
    let points: Vec<LivePoint> = (0..=TIMELINE_POINTS)
        .map(|i| {
            let part = i as f64 / TIMELINE_POINTS as f64;
            LivePoint {
                time_s: part * DURATION_S,
                events: events_at(part),
                live_bytes: (live_mib(part) * MIB) as u64,
            }
        })
        .collect();
    RecordingInfo {
        events: EVENTS,
        bytes: 41_803_264,
        threads: 12,
        dropped: 0,
        stacks_complete: 0.996,
        duration_s: DURATION_S,
        peak_live_bytes: points.iter().map(|p| p.live_bytes).max().unwrap_or(0),
        end_live_bytes: points.last().map_or(0, |p| p.live_bytes),
        allocs: EVENTS * 46 / 100,
        allocated_bytes: 9_871_234_560,
        timeline: points,
        own_allocator: None,
    }
}

fn allocators(chance: &mut Chance) -> Vec<AllocatorRow> {
    // Name, version, origin, ns, share of freed memory kept, bytes held per live byte.
    let peers = [
        ("system", "glibc 2.41", "libc", 41.3, 0.93, 1.34),
        ("heapwright", "0.1.0", "own", 32.2, 0.06, 1.05),
        ("mimalloc", "2.2.4", "crates.io", 30.9, 0.45, 1.23),
        ("jemalloc", "5.3.0", "crates.io", 37.8, 0.28, 1.13),
        ("rpmalloc", "1.4.5", "crates.io", 34.4, 0.86, 1.26),
    ];
    let mut rows: Vec<AllocatorRow> = peers
        .into_iter()
        .map(|(name, version, origin, ns, kept, held)| {
            let timeline = resident(kept, held, chance);
            let peak = timeline.iter().map(|p| p.rss_kb).max().unwrap_or(0);
            let mean = timeline.iter().map(|p| p.rss_kb).sum::<u64>() / timeline.len() as u64;
            let time_ratio = ns / 41.3;
            AllocatorRow {
                name: name.into(),
                version: version.into(),
                origin: origin.into(),
                failure: String::new(),
                ns_per_op: ns,
                spread: 0.02 + 0.05 * chance.part(),
                time_ratio,
                peak_rss_kb: peak,
                mean_rss_kb: mean,
                end_rss_kb: timeline.last().map_or(0, |p| p.rss_kb),
                page_faults: peak / 4 + chance.below(30_000) as u64,
                internal_fragmentation: 0.05 + 0.07 * chance.part(),
                external_fragmentation: 1.0 - 1.0 / held,
                largest_free_bytes: (name == "heapwright").then_some(6 << 20),
                timeline,
                run: Some(RunFigures {
                    cpu_s: 61.7 * (0.6 + 0.4 * time_ratio),
                    wall_s: 184.2 + chance.part(),
                    spread: 0.01 + 0.02 * chance.part(),
                    peak_rss_kb: peak + 34_000,
                    time_ratio: 0.6 + 0.4 * time_ratio,
                    peak_rss_ratio: 1.0,
                    repeats: 7,
                    same_output: true,
                }),
            }
        })
        .collect();
    let system_peak = rows[0].run.as_ref().map_or(1, |run| run.peak_rss_kb) as f64;
    for run in rows.iter_mut().filter_map(|row| row.run.as_mut()) {
        run.peak_rss_ratio = run.peak_rss_kb as f64 / system_peak;
    }
    rows.push(AllocatorRow {
        name: "libtcmalloc.so.4".into(),
        origin: "/usr/lib/libtcmalloc.so.4".into(),
        failure: "It was killed by signal 11 after 1,203,551 of 16,412,337 events.".into(),
        ..AllocatorRow::default()
    });
    rows
}

/// A resident series: what is live, held loosely, and part of what was live before.
fn resident(kept: f64, held: f64, chance: &mut Chance) -> Vec<AllocatorPoint> {
    let mut high = 0.0f64;
    (0..=TIMELINE_POINTS / 2)
        .map(|i| {
            let part = i as f64 / (TIMELINE_POINTS / 2) as f64;
            let live = live_mib(part);
            let needed = live * held;
            high = (high * 0.9995).max(needed);
            let rss = needed + (high - needed) * kept + chance.part();
            AllocatorPoint {
                events: events_at(part),
                time_s: part * DURATION_S,
                rss_kb: (rss * 1024.0) as u64,
                live_kb: (live * 1024.0) as u64,
                internal: 0.04 + 0.03 * held * (1.0 - part * 0.3),
                external: 1.0 - live / rss,
            }
        })
        .collect()
}

const MODULES: [(&str, &str, &str); 8] = [
    ("shop::http", "src/http/mod.rs", "shop-server"),
    ("shop::cache", "src/cache.rs", "shop-server"),
    ("shop::orders", "src/orders/mod.rs", "shop-server"),
    ("shop::render", "src/render/template.rs", "shop-server"),
    ("serde_json::de", "serde_json/src/de.rs", "shop-server"),
    ("hyper::proto::h1", "hyper/src/proto/h1/conn.rs", "shop-server"),
    ("sqlite3", "sqlite3.c", "libsqlite3.so.0"),
    ("icu_74", "common/unistr.cpp", "libicuuc.so.74"),
];
const VERBS: [&str; 12] = [
    "parse", "insert", "grow", "clone", "render", "read", "decode", "push", "intern", "collect",
    "format", "resize",
];
const THINGS: [&str; 12] = [
    "header", "row", "entry", "buffer", "path", "item", "session", "token", "page", "node",
    "value", "string",
];

fn frame(chance: &mut Chance, module: usize) -> StackFrame {
    let (path, file, binary) = MODULES[module];
    let (verb, thing) = (chance.pick(&VERBS), chance.pick(&THINGS));
    let function = match module {
        6 => format!("sqlite3{}{}", capital(verb), capital(thing)),
        7 => format!(
            "icu_74::UnicodeString::{verb}{}(icu_74::UnicodeString const&, int)",
            capital(thing)
        ),
        _ if chance.below(4) == 0 => {
            format!("<{path}::{} as core::iter::Iterator>::{verb}", capital(thing))
        }
        _ => format!("{path}::{verb}_{thing}"),
    };
    StackFrame {
        module: binary.into(),
        build_id: format!("{:016x}", 0x5eed_0000_0000_0000u64 + module as u64),
        offset: 0x1000 + chance.below(1 << 21) as u64,
        function,
        file: file.into(),
        line: 10 + chance.below(900) as u32,
    }
}

fn capital(word: &str) -> String {
    word[..1].to_uppercase() + &word[1..]
}

fn plain(function: &str, file: &str, line: u32, offset: u64) -> StackFrame {
    StackFrame {
        module: "shop-server".into(),
        build_id: "5eed000000000000".into(),
        offset,
        function: function.into(),
        file: file.into(),
        line,
    }
}

/// Stacks that share their beginnings, as a program's do: a new one leaves an older one halfway.
fn stacks(count: usize, chance: &mut Chance) -> Vec<Vec<StackFrame>> {
    let roots = [
        vec![
            plain("_start", "", 0, 0x40),
            plain("shop_server::main", "src/main.rs", 31, 0x9a0),
            plain("shop::http::Server::run", "src/http/mod.rs", 118, 0xb20),
        ],
        vec![
            plain("clone3", "", 0, 0x60),
            plain(
                "std::thread::Builder::spawn_unchecked_",
                "library/std/src/thread/mod.rs",
                564,
                0xd10,
            ),
            plain("shop::background::refresh", "src/background.rs", 77, 0xe04),
        ],
    ];
    let mut stacks: Vec<Vec<StackFrame>> = Vec::with_capacity(count);
    while stacks.len() < count {
        let root = &roots[usize::from(chance.below(5) == 0)];
        let mut stack = match stacks.len() {
            0..3 => root.clone(),
            n => {
                let other = &stacks[chance.below(n)];
                let keep = 3 + chance.below(other.len() - 2);
                other[..keep.min(other.len())].to_vec()
            }
        };
        for _ in 0..1 + chance.below(6) {
            let module = chance.below(MODULES.len());
            stack.push(frame(chance, module));
        }
        if stack.len() <= 40 {
            stacks.push(stack);
        }
    }
    stacks
}

fn sites(count: usize, chance: &mut Chance) -> Vec<Site> {
    let stacks = stacks(count, chance);
    let mut sites: Vec<Site> =
        stacks.into_iter().enumerate().map(|(rank, stack)| site(rank, stack, chance)).collect();
    sites.sort_by_key(|site| std::cmp::Reverse(site.bytes));
    for (id, site) in sites.iter_mut().enumerate() {
        site.id = id as u32;
    }
    sites
}

fn site(rank: usize, mut stack: Vec<StackFrame>, chance: &mut Chance) -> Site {
    stack.reverse();
    let bytes = (1.4e9 / (rank as f64 + 1.5).powf(1.15) * (0.4 + chance.part())) as u64 + 64;
    let median = 16u64 << chance.below(9);
    let distinct = [1, 1, 2, 5, 23, 65][chance.below(6)];
    let (min, max) = if distinct == 1 { (median, median) } else { (median / 2, median * 6) };
    let allocs = bytes / median + 1;
    let recommend =
        ["general", "general", "linear", "stack", "pool", "slab", "buddy"][chance.below(7)];
    let lasts = chance.below(6) == 0;
    let temporary_share = if lasts { 0.0 } else { chance.part().powi(3) };
    let share = |n: u64, part: f64| (n as f64 * part) as u64;
    let proven = recommend != "general" && chance.below(3) == 0;
    Site {
        id: 0,
        function: stack[0].function.clone(),
        file: stack[0].file.clone(),
        line: stack[0].line,
        stack,
        allocs,
        bytes,
        sizes: Sizes { min, median, max, distinct },
        threads: 1 + chance.below(12) as u32,
        same_thread_share: 1.0 - chance.part().powi(4),
        live_at_peak_bytes: share(bytes, if lasts { 0.11 } else { 0.012 } * chance.part()),
        live_at_end_bytes: if lasts { share(bytes, 0.06 * chance.part()) } else { 0 },
        live_at_end_blocks: if lasts { allocs / 30 + 1 } else { 0 },
        lifetime_median_bytes: 1u64 << (6 + chance.below(if lasts { 25 } else { 15 })),
        temporary_share,
        lifo_share: chance.part(),
        batch_share: chance.part(),
        realloc_share: chance.part().powi(5),
        kind: ["malloc", "new", "realloc", "calloc"][chance.below(4)].into(),
        recommend: recommend.into(),
        why: why(recommend, distinct, allocs),
        proof: match recommend {
            "general" => "",
            _ if proven => "gain",
            _ => ["no_gain", "not_measured"][chance.below(2)],
        }
        .into(),
        predicted: proven.then(|| Predicted {
            time_ratio: 0.9 + 0.1 * chance.part(),
            peak_ratio: 0.92 + 0.1 * chance.part(),
            worst_case_held_bytes: bytes / 500,
            ..Predicted::default()
        }),
    }
}

fn why(recommend: &str, distinct: u32, allocs: u64) -> String {
    match recommend {
        "linear" => "91 % of its blocks die together in batches of 140 on one thread.".into(),
        "stack" => "99.4 % of the frees are last in, first out, on the allocating thread.".into(),
        "pool" => format!("{allocs} blocks of one size come and go on one thread."),
        "slab" => format!("{distinct} sizes come and go, and other threads free them."),
        "buddy" => "Large blocks whose sizes are near powers of two.".into(),
        _ => "Sizes and lifetimes vary; nothing simpler than malloc fits.".into(),
    }
}

/// The tree of all stacks; beyond the sites' own, made-up leaves fill it to about `node_count`.
fn flame(sites: &[Site], node_count: usize, chance: &mut Chance) -> Flame {
    let mut tree = Tree::new();
    for site in sites {
        let names = site.stack.iter().rev().map(|frame| frame.function.as_str());
        let temporary = (site.allocs as f64 * site.temporary_share) as u64;
        tree.add(names, [site.bytes, site.allocs, site.live_at_peak_bytes, temporary]);
    }
    while tree.flame.parent.len() < node_count && !sites.is_empty() {
        let site = &sites[chance.below(sites.len())];
        let module = chance.below(MODULES.len());
        let leaf = frame(chance, module).function;
        let names = site.stack.iter().rev().map(|frame| frame.function.as_str());
        let bytes = 1 + chance.below(40_000) as u64;
        tree.add(names.chain([leaf.as_str()]), [bytes, bytes / 64 + 1, bytes / 90, bytes / 200]);
    }
    tree.flame.pruned_share = 0.004;
    tree.flame
}

struct Tree {
    flame: Flame,
    name_index: HashMap<String, u32>,
    child: HashMap<(u32, u32), u32>,
}

impl Tree {
    fn new() -> Self {
        let mut tree =
            Self { flame: Flame::default(), name_index: HashMap::new(), child: HashMap::new() };
        tree.node(0, "");
        tree
    }

    fn node(&mut self, parent: u32, name: &str) -> u32 {
        let flame = &mut self.flame;
        let name = *self.name_index.entry(name.to_owned()).or_insert_with(|| {
            flame.names.push(name.to_owned());
            flame.names.len() as u32 - 1
        });
        *self.child.entry((parent, name)).or_insert_with(|| {
            flame.parent.push(parent);
            flame.name.push(name);
            for column in
                [&mut flame.bytes, &mut flame.count, &mut flame.peak, &mut flame.temporary]
            {
                column.push(0);
            }
            flame.parent.len() as u32 - 1
        })
    }

    fn add<'n>(&mut self, names: impl Iterator<Item = &'n str>, values: [u64; 4]) {
        let mut at = 0;
        self.count(at, values);
        for name in names {
            at = self.node(at, name);
            self.count(at, values);
        }
    }

    fn count(&mut self, node: u32, [bytes, count, peak, temporary]: [u64; 4]) {
        let node = node as usize;
        self.flame.bytes[node] += bytes;
        self.flame.count[node] += count;
        self.flame.peak[node] += peak;
        self.flame.temporary[node] += temporary;
    }
}

/// Bars over powers of two around a centre, with a second hill `second` powers above.
fn histogram(
    powers: std::ops::RangeInclusive<u32>,
    centre: f64,
    width: f64,
    second: u32,
) -> Vec<HistogramBar> {
    powers
        .map(|power| {
            let hill = |middle: f64| (-((f64::from(power) - middle) / width).powi(2)).exp();
            let weight = hill(centre) + 0.3 * hill(centre + f64::from(second));
            let count = (2_300_000.0 * weight) as u64;
            HistogramBar {
                low: 1 << power,
                high: 2 << power,
                count,
                bytes: if second == 0 { count * (3 << power) / 2 } else { count * 190 },
            }
        })
        .collect()
}

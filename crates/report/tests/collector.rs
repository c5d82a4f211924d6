//! Snapshots and logs of collectors, as the heap writes them, are read, summed up and shown.

use heapwright_gc::{Config, Gc, GcCell, Heap, Snapshot, Trace, rootable};
use heapwright_report::{CollectorError, CollectorReport};

#[derive(Trace)]
struct Leaf(u64);

#[derive(Trace)]
struct List<'gc> {
    leaf: Gc<'gc, Leaf>,
    next: GcCell<Option<Gc<'gc, List<'gc>>>>,
}

/// Holds a list and a table beside it.
#[derive(Trace)]
struct Owner<'gc> {
    list: Option<Gc<'gc, List<'gc>>>,
    numbers: Gc<'gc, [u64]>,
}

type Root = rootable!['gc => Option<Gc<'gc, Owner<'gc>>>];

const LENGTH: u64 = 1000;

fn snapshot() -> String {
    let mut heap = Heap::<Root>::new(Config::default(), |mu| {
        let mut list = None;
        for number in 0..LENGTH {
            let leaf = mu.alloc(Leaf(number)).expect("room");
            list = Some(mu.alloc(List { leaf, next: GcCell::new(list) }).expect("room"));
        }
        let numbers = mu.alloc_slice(100, |_| Ok(0)).expect("room");
        Some(mu.alloc(Owner { list, numbers }).expect("room"))
    })
    .expect("addresses");
    let mut json = String::new();
    Snapshot::of(&mut heap).write_json(&mut json).expect("a string takes everything");
    json
}

const LOG: &str = r#"another line of the program
{"gc":"generational","time_s":1.000,"cpu_s":0.900,"peak_mib":12.5,"collections":3,"slices":0,"hurried":0,"refusals":0,"conflicts":0,"pause_ms":{"p50":1.000,"p99":4.000,"max":4.000},"gap_ms_max":5.000,"overhead_at_least":1.010,"mmu":{"1":0.000,"5":0.100},"timeline":[["minor",10.000,1.000,1.000],["full",500.000,5.000,4.000],["minor",900.000,1.000,1.000]]}
"#;

#[test]
fn types_retain_what_goes_with_all_of_them_once() {
    let mut report = CollectorReport::default();
    report.add("web.json", &snapshot()).expect("a snapshot");
    let one = &report.snapshots[0];
    assert_eq!(one.objects, 2 * LENGTH + 2);
    let row = |name: &str| {
        one.types.iter().find(|row| row.name.contains(name)).unwrap_or_else(|| panic!("{name}"))
    };
    let (owner, list, leaf, numbers) = (row("::Owner"), row("::List"), row("::Leaf"), row("[u64]"));
    assert_eq!((owner.count, owner.retained_bytes), (1, one.bytes), "all of it");
    assert_eq!((list.count, leaf.count, numbers.count), (LENGTH, LENGTH, 1));
    // Each node dominates the next, so that its own and all that follow would be counted again.
    assert_eq!(list.retained_bytes, list.bytes + leaf.bytes);
    assert_eq!(leaf.retained_bytes, leaf.bytes);
    assert_eq!(one.bytes, owner.bytes + list.bytes + leaf.bytes + numbers.bytes);
    // A list is one holder, by its first node; whoever holds a leaf is in it.
    let [first, second, third, fourth, ..] = &one.largest[..] else { panic!("many objects") };
    assert!(first.name == owner.name && first.dominators.is_empty());
    assert!(second.name == list.name && second.dominators == [owner.name.clone()]);
    assert_eq!(second.retained_bytes, list.retained_bytes);
    assert_eq!((&third.name, &fourth.name), (&numbers.name, &leaf.name));
    assert_eq!(fourth.dominators, [list.name.clone(), owner.name.clone()]);
    assert_eq!(one.tree.branches[0].name, first.name);
}

#[test]
fn text_and_page_show_types_dominators_and_every_pause() {
    let mut report = CollectorReport::default();
    report.add("web.json", &snapshot()).expect("a snapshot");
    report.add("gc.log", LOG).expect("a log among other lines");
    let text = report.to_string();
    assert!(text.contains("generational: 1.000 s") && text.contains("max 4.000 ms"), "{text}");
    let column = |line: &&str| line.starts_with("  |");
    let line: Vec<char> = text.lines().find(column).expect("a timeline").chars().collect();
    assert_eq!((line[3], line[3 + 36], line[3 + 64]), ('▂', '█', '▂'), "{text}");
    assert!(text.contains("List<'_> < collector::Owner") && text.contains("[u64]"), "{text}");
    let page = report.html();
    assert_eq!(page.matches("<line class=\"minor\"").count(), 2);
    assert_eq!(page.matches("<line class=\"full\"").count(), 1);
    assert!(page.contains("5 ms: 10 %") && page.contains("<details open>"));
    assert!(page.len() < 100_000, "{} bytes: branches are cut", page.len());
}

#[test]
fn what_is_no_snapshot_and_no_log_is_refused_with_a_reason() {
    let object = |dominator: usize| {
        format!(
            r#"{{"type":"<b>","array":false,"bytes":8,"retained_bytes":8,"dominator":{dominator},"references":[]}}"#
        )
    };
    let objects = |dominators: &[usize]| {
        let all: Vec<String> = dominators.iter().map(|one| object(*one)).collect();
        format!("{{\"objects\":[{}],\"types\":[]}}", all.join(","))
    };
    let mut report = CollectorReport::default();
    assert_eq!(report.add("a", " \n"), Err(CollectorError::Empty));
    assert_eq!(report.add("a", &objects(&[])), Err(CollectorError::Empty));
    assert_eq!(report.add("a", &objects(&[0, 7])), Err(CollectorError::Dominators), "nobody");
    assert_eq!(report.add("a", &objects(&[0, 2, 1])), Err(CollectorError::Dominators), "a circle");
    for text in ["text", "{\"gc\":\"copying\"}", "{\"objects\":[{]}"] {
        assert!(matches!(report.add("a", text), Err(CollectorError::Format(_))), "{text:?}");
    }
    assert!(report.snapshots.is_empty() && report.heaps.is_empty());
    report.add("<i>", &objects(&[0, 0, 1])).expect("a snapshot");
    let page = report.html();
    assert!(!page.contains("<b>") && !page.contains("<i>") && page.contains("&lt;b>"), "{page}");
}

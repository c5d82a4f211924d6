//! The file itself: nothing hostile in it as it stands, nothing from elsewhere, never too big.

#[path = "../examples/sample_report/sample.rs"]
mod sample;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use heapwright_advise::schema::{ReportData, StackFrame};
use std::io::Read;

fn rendered(data: &ReportData) -> String {
    let mut page = Vec::new();
    heapwright_report::render(data, &mut page).expect("a vector takes everything");
    String::from_utf8(page).expect("the page is UTF-8")
}

/// The JSON that the page will read.
fn payload(page: &str) -> serde_json::Value {
    let (_, rest) = page.split_once("id=\"report-data\">").expect("the page has its data");
    let (data, _) = rest.split_once("</script>").expect("and the element ends");
    let packed = STANDARD.decode(data).expect("base64");
    let mut json = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut json).expect("gzip");
    serde_json::from_str(&json).expect("JSON")
}

#[test]
fn the_figures_survive_the_packing() {
    let data = sample::report(120, 900);
    let json = payload(&rendered(&data));
    // Through text as well: reading a number back may move its last bit.
    let text = serde_json::to_string(&data.advice).expect("it is plain data");
    let advice: serde_json::Value = serde_json::from_str(&text).expect("and JSON");
    for part in ["verdict", "allocators", "recording", "overhead", "machine", "notes", "command"] {
        assert_eq!(json["advice"][part], advice[part], "{part}");
    }
    assert_eq!(json["flame"], serde_json::to_value(&data.flame).expect("it is plain data"));
    let sites = json["sites"].as_array().expect("a list");
    assert_eq!(sites.len(), 120, "leaks, temporaries and blame point into the sites");
    for (site, packed) in data.advice.sites.iter().zip(sites) {
        let text = |key: &str| &json["strings"][packed[key].as_u64().expect("an index") as usize];
        assert_eq!(*text("function"), site.function);
        assert_eq!(*text("why"), site.why);
        assert_eq!(packed["bytes"], site.bytes);
        assert_eq!(packed["stack"].as_array().map(Vec::len), Some(site.stack.len()));
    }
    let leaks: Vec<_> = data.advice.leaks.iter().map(|site| u64::from(site.id)).collect();
    assert_eq!(json["leaks"], serde_json::json!(leaks), "ids of the sample are places");
}

#[test]
fn hostile_names_never_stand_in_the_file() {
    let mut data = sample::report(3, 20);
    let hostile = "</script><script>hostile_marker()</script><!--{{DATA}}\u{202e}";
    data.advice.sites[0].function = hostile.into();
    data.advice.command = vec![hostile.into()];
    data.advice.verdict.reason = hostile.into();
    data.flame.names[1] = hostile.into();
    let page = rendered(&data);
    assert!(!page.contains("hostile_marker"));
    assert_eq!(
        page.matches("</script>").count(),
        rendered(&ReportData::default()).matches("</script>").count()
    );
    let json = payload(&page);
    let reason = json["advice"]["verdict"]["reason"].as_str().expect("a text");
    assert!(reason.starts_with("</script><script>hostile_marker"));
    assert!(reason.ends_with('\u{fffd}'), "the direction override is shown, not obeyed");
}

#[test]
fn the_page_asks_nobody_for_anything() {
    let page = rendered(&ReportData::default());
    assert!(page.contains("default-src 'none'"));
    for fetched in ["src=\"http", "href=\"http", "url(http", "@import", "<link"] {
        assert!(!page.contains(fetched), "{fetched}");
    }
}

#[test]
fn figures_that_are_no_numbers_do_not_stop_it() {
    let mut data = sample::report(3, 20);
    data.advice.verdict.time_ratio = f64::NAN;
    data.advice.allocators[0].ns_per_op = f64::INFINITY;
    assert!(payload(&rendered(&data))["advice"]["verdict"]["time_ratio"].is_null());
}

/// Makes every stack 40 frames deep, of 30,000 long names that compress badly.
fn with_long_stacks(mut data: ReportData) -> ReportData {
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    let frames: Vec<StackFrame> = (0..30_000)
        .map(|_| StackFrame {
            module: format!("libpart{}.so", next() % 40),
            build_id: String::new(),
            offset: next() as u64,
            function: format!(
                "std::map<ns{}::Key{:x}, std::vector<Item{:x}>>::operator[](Arg{:x} const&)",
                next() % 50,
                next() % 5000,
                next() % 5000,
                next(),
            ),
            file: format!("/build/src/part{}/file{}.cpp", next() % 60, next() % 900),
            line: (next() % 3000) as u32,
        })
        .collect();
    for site in &mut data.advice.sites {
        site.stack = (0..40).map(|_| frames[next() % frames.len()].clone()).collect();
    }
    data.flame.names = frames.iter().map(|frame| frame.function.clone()).collect();
    let name_count = data.flame.names.len();
    data.flame.name.iter_mut().for_each(|name| *name = (next() % name_count) as u32);
    data
}

#[test]
fn a_large_report_stays_under_ten_megabytes() {
    let data = sample::report(5000, 50_000);
    assert_eq!(data.advice.sites.len(), 5000);
    assert!(data.flame.parent.len() >= 50_000);
    for data in [data.clone(), with_long_stacks(data)] {
        let bytes = rendered(&data).len();
        println!("{bytes} bytes");
        assert!(bytes < 10_000_000, "{bytes} bytes");
    }
}

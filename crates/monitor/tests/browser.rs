//! The live page in a real browser: it loads clean and shows what the process says.
//!
//! Needs chromium and chromedriver, hence behind the feature `browser-tests`.
#![cfg(feature = "browser-tests")]

mod program;
#[path = "../../report/tests/webdriver/mod.rs"]
#[allow(dead_code, reason = "the report's tests use more of it")]
mod webdriver;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use heapwright_monitor::Server;
use program::Program;
use webdriver::Browser;

#[test]
fn the_page_follows_the_process() {
    let program = Program::start("one_size", &[]);
    let mut server = Server::new(None, program.directories());
    let address = server.listen_on_loopback(0).expect("a free port");
    let is_over = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_over);
    let thread = std::thread::spawn(move || server.run(&|| asked.load(Ordering::Relaxed)));
    let browser = Browser::start(1300, 1000, false);
    browser.run(&format!("location.href = 'http://{address}/'"));
    browser.wait("Number(document.documentElement.dataset.looks) >= 3");
    let exact = |key: &str| {
        let script = format!("return document.querySelector('[data-key=\"{key}\"]').title");
        let text = browser.run(&script);
        text.as_str().and_then(|text| text.parse::<f64>().ok()).unwrap_or_else(|| panic!("{key}"))
    };
    assert!(browser.text("#now").starts_with("watched_program: "));
    assert!(exact("live") >= program.live_bytes as f64);
    assert!(exact("resident") > exact("live"));
    assert_eq!(exact("threads"), 1.0);
    assert!(browser.text("#parts").contains("free in spans"));
    assert!(browser.text("#classes").contains("208"));
    let squares = browser.run("return document.querySelectorAll('#map rect').length");
    assert!(squares.as_u64().is_some_and(|count| count > 100), "{squares}");
    let live = exact("live");
    for _ in 0..8 {
        program.step("more");
    }
    browser.wait(&format!(
        "Number(document.querySelector('[data-key=\"live\"]').title) > {}",
        live + 7.0 * 1024.0 * 1024.0
    ));
    drop(program);
    browser.wait("document.getElementById('now').textContent === 'No process is watched'");
    let complaints = browser.complaints();
    // A look that was under way when the process ended is answered by 404.
    assert!(complaints.iter().all(|one| one.contains("404")), "{complaints:?}");
    is_over.store(true, Ordering::Relaxed);
    thread.join().expect("it ends");
}

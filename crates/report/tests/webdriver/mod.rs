//! A small WebDriver client: one driver process, one browser, blocking requests.
//!
//! Only what the tests of the page need. The protocol is JSON over HTTP on the loopback; the
//! driver answers with `Content-Length` and keeps the connection, of which we use one each.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a page may take before a test gives up; no measure of speed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser without a window, gone when dropped.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser with a fresh profile and a window of this size. With `phone`, the page
    /// has exactly this size, even where a window could not be so narrow.
    pub fn start(width: u32, height: u32, phone: bool) -> Self {
        let program = std::env::var("CHROMEDRIVER").unwrap_or_else(|_| "chromedriver".into());
        let mut driver = Command::new(&program)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{program}: {e}; install chromium-driver"));
        let mut lines = BufReader::new(driver.stdout.take().expect("it is piped")).lines();
        let port = loop {
            let line = lines.next().expect("the driver says its port").expect("and in UTF-8");
            if let Some((_, port)) = line.split_once("successfully on port ") {
                break port.trim_end_matches('.').parse().expect("a port is a number");
            }
        };
        let profile = tempfile::tempdir().expect("a directory for the profile");
        let mut args: Vec<String> = "--headless --no-sandbox --disable-gpu --disable-quic \
             --no-first-run --disable-background-networking --disable-component-update \
             --disable-sync --disable-dev-shm-usage"
            .split_whitespace()
            .map(String::from)
            .collect();
        args.push(format!("--user-data-dir={}", profile.path().display()));
        args.push(format!("--window-size={width},{height}"));
        let mut options = json!({ "args": args });
        if phone {
            options["mobileEmulation"] = json!({ "deviceMetrics":
                { "width": width, "height": height, "pixelRatio": 1, "touch": true } });
        }
        let mut browser = Self { driver, port, session: String::new(), _profile: profile };
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" } } } });
        let made = browser.request("POST", "/session", &wanted);
        browser.session = format!("/session/{}", made["sessionId"].as_str().expect("an id"));
        browser
    }

    /// Opens a file and waits until the page says it is drawn; its own milliseconds to there.
    pub fn open(&self, file: &Path) -> u64 {
        let address = format!("file://{}", file.display());
        self.request("POST", &self.at("/url"), &json!({ "url": address }));
        self.wait(
            "document.documentElement.dataset.ready || document.documentElement.dataset.failed",
        );
        let ready = self.run("return document.documentElement.dataset.ready || null");
        ready.as_str().and_then(|ms| ms.parse().ok()).expect("the page could read its data")
    }

    /// Runs a script in the page; what it returns.
    pub fn run(&self, script: &str) -> Value {
        let call = json!({ "script": script, "args": [] });
        self.request("POST", &self.at("/execute/sync"), &call)
    }

    /// The text of the first element, or an empty one.
    pub fn text(&self, selector: &str) -> String {
        let selector = Value::from(selector);
        let script = format!("return document.querySelector({selector})?.textContent ?? ''");
        self.run(&script).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression is true.
    pub fn wait(&self, expression: &str) {
        let started = Instant::now();
        while self.run(&format!("return Boolean({expression})")) != Value::Bool(true) {
            assert!(started.elapsed() < PATIENCE, "never true: {expression}");
            sleep(Duration::from_millis(20));
        }
    }

    /// Clicks as a mouse would, at a point of the element (from its centre).
    pub fn click_at(&self, selector: &str, x: i64, y: i64) {
        let found = json!({ "using": "css selector", "value": selector });
        let element = self.request("POST", &self.at("/element"), &found);
        let moves = json!([
            { "type": "pointerMove", "duration": 0, "origin": element, "x": x, "y": y },
            { "type": "pointerDown", "button": 0 },
            { "type": "pointerUp", "button": 0 },
        ]);
        self.act(json!({ "type": "pointer", "id": "mouse", "actions": moves }));
    }

    /// Clicks the middle of an element.
    pub fn click(&self, selector: &str) {
        let place = Value::from(selector);
        self.run(&format!(
            "document.querySelector({place}).scrollIntoView({{block: 'center', behavior: 'instant'}})"
        ));
        self.click_at(selector, 0, 0);
    }

    /// Presses and releases keys, one after the other.
    pub fn keys(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })))
            .collect();
        self.act(json!({ "type": "key", "id": "keys", "actions": strokes }));
    }

    /// What the console has said, errors and warnings; and forgets it.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.request("POST", &self.at("/se/log"), &json!({ "type": "browser" }));
        let entries = log.as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| entry["message"].as_str().unwrap_or("?").to_owned()).collect()
    }

    fn act(&self, actions: Value) {
        self.request("POST", &self.at("/actions"), &json!({ "actions": [actions] }));
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.session)
    }

    fn request(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the driver listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time above nought is allowed");
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.port,
            body.len(),
        )
        .expect("the driver reads");
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("the driver answers");
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().expect("a length is a number");
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer).expect("as many bytes as were promised");
        let mut answer: Value = serde_json::from_slice(&answer).expect("the driver speaks JSON");
        let value = answer["value"].take();
        assert!(value.get("error").is_none(), "{method} {path}: {value}");
        value
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.request("DELETE", &self.session, &Value::Null);
        }
        // The driver ends the browser it started when it is asked to end.
        if TcpStream::connect(("127.0.0.1", self.port))
            .and_then(|mut stream| {
                stream.write_all(b"GET /shutdown HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")?;
                stream.read_to_end(&mut Vec::new())
            })
            .is_err()
        {
            let _ = self.driver.kill();
        }
        let _ = self.driver.wait();
    }
}

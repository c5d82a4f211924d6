//! Looks over HTTP, as a scraper reads them.

mod program;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use heapwright_monitor::{ServeError, Server};
use program::{PATIENCE, Program};
use serde_json::Value;

/// A server that ends with the value.
struct Serving {
    is_over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Serving {
    fn start(server: Server) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || server.run(&|| asked.load(Ordering::Relaxed)));
        Self { is_over, thread: Some(thread) }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it ends");
        }
    }
}

/// Status line, head and body of the answer to a GET.
fn get(mut stream: impl Read + Write, host: &str, path: &str) -> (String, Vec<u8>) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("it listens");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    (String::from_utf8_lossy(&answer[..end]).into_owned(), answer.split_off(end))
}

fn tcp(address: std::net::SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    stream
}

#[test]
fn the_loopback_serves_looks_and_nothing_else() {
    let program = Program::start("one_size", &[]);
    let mut server = Server::new(None, program.directories());
    let address = server.listen_on_loopback(0).expect("a free port");
    assert!(address.ip().is_loopback());
    let _serving = Serving::start(server);
    let host = address.to_string();
    let (head, body) = get(tcp(address), &host, "/processes.json");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let list: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(list[0]["pid"], program.pid());
    let path = format!("/look.json?process={}", program.pid());
    let (head, body) = get(tcp(address), &host, &path);
    assert!(head.contains("Content-Security-Policy: default-src 'none'"), "{head}");
    assert!(!head.contains("Access-Control-Allow-Origin"), "no other page may read it");
    let look: Value = serde_json::from_slice(&body).expect("JSON");
    assert!(look["live"].as_u64().expect("bytes") >= program.live_bytes);
    assert_eq!(look["residence"]["total"], look["resident"]);
    for (path, host, status) in [
        ("/look.json?process=1", host.as_str(), "404"),
        ("/profile.pb.gz", host.as_str(), "404"),
        ("/look.json", "attacker.example", "403"),
    ] {
        let (head, _) = get(tcp(address), host, path);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {head}");
    }
}

#[test]
fn the_socket_serves_metrics_and_profiles_to_its_owner() {
    let sampled = [("HEAPWRIGHT_PROFILE", "1"), ("HEAPWRIGHT_PROFILE_RATE", "32K")];
    let program = Program::start("one_size", &sampled);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("metrics.sock");
    // A socket that an earlier server left.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("made"));
    let mut server = Server::new(Some("watched_program".into()), program.directories());
    server.listen_on_socket(&path).expect("the old one is nobody's");
    let mode = std::fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let serving = Serving::start(server);
    let connect = || {
        let stream = UnixStream::connect(&path).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        stream
    };
    let (head, body) = get(connect(), "localhost", "/metrics");
    assert!(head.contains("application/openmetrics-text"), "{head}");
    let text = String::from_utf8(body).expect("text");
    assert!(text.contains("heapwright_live_bytes ") && text.ends_with("# EOF\n"));
    let (head, body) = get(connect(), "localhost", "/profile.pb.gz");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body[..2], [0x1f, 0x8b], "gzip");
    let mut second = Server::new(None, program.directories());
    let error = second.listen_on_socket(&path).expect_err("it is served");
    assert!(matches!(error, ServeError::Taken(_)));
    drop(serving);
    assert!(!path.exists());
    std::fs::write(&path, "mine").expect("written");
    assert!(matches!(second.listen_on_socket(&path), Err(ServeError::Taken(_))));
}

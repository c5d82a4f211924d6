//! What each path answers.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use heapwright_report::STYLE_SHEETS;
use serde::Serialize;

use super::request::HttpRequest;
use crate::look::Look;
use crate::metrics::open_metrics;
use crate::pprof_export::pprof;
use crate::processes::watched_processes;
use crate::raw_profile::RawProfile;
use crate::{MonitorError, Request, Watched};

/// Looks kept for rates; more processes than this have rates at every other look only.
const LOOKS_MAX: usize = 64;
/// How long a profile may take.
const PATIENCE: Duration = Duration::from_secs(10);

const PAGE: &str = include_str!("../../assets/watch.html");
const SCRIPT: &str = include_str!("../../assets/watch.js");
const OWN_STYLE: &str = include_str!("../../assets/watch.css");

/// Who can ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Programs of this machine, browsers among them: looks only.
    Loopback,
    /// Whoever may open the socket: profiles, too.
    Socket,
}

/// A whole answer.
pub(super) struct Answer {
    pub(super) status: &'static str,
    pub(super) kind: &'static str,
    pub(super) body: Vec<u8>,
}

/// What is watched.
#[derive(Debug)]
pub(super) struct Subject {
    /// The one process that is shown; none for all of this user's.
    only: Option<String>,
    directories: Vec<PathBuf>,
    looks: Mutex<HashMap<u32, Look>>,
}

#[derive(Serialize)]
struct Listed {
    pid: u32,
    name: String,
}

impl Answer {
    fn text(status: &'static str, message: impl Into<String>) -> Self {
        let body = message.into().into_bytes();
        Self { status, kind: "text/plain; charset=utf-8", body }
    }

    fn file(kind: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status: "200 OK", kind, body: body.into() }
    }

    fn json(value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::file("application/json", body),
            Err(error) => Self::text("500 Internal Server Error", error.to_string()),
        }
    }
}

impl From<MonitorError> for Answer {
    fn from(error: MonitorError) -> Self {
        let status = match &error {
            MonitorError::Exited(_) | MonitorError::NoSuchName(_) => "404 Not Found",
            MonitorError::OtherUser { .. } => "403 Forbidden",
            _ => "503 Service Unavailable",
        };
        Self::text(status, error.to_string())
    }
}

impl Subject {
    pub(super) fn new(only: Option<String>, directories: Vec<PathBuf>) -> Self {
        Self { only, directories, looks: Mutex::new(HashMap::new()) }
    }

    /// The answer to `request`, which came by way of `reach`.
    pub(super) fn answer(&self, request: &HttpRequest, reach: Reach) -> Answer {
        if request.method != "GET" && request.method != "HEAD" {
            return Answer::text("405 Method Not Allowed", "only GET: nothing can be changed here");
        }
        if reach == Reach::Loopback && !is_loopback(&request.host) {
            return Answer::text("403 Forbidden", "ask for 127.0.0.1 or localhost");
        }
        let found = match request.path.as_str() {
            "/" => Ok(Answer::file("text/html; charset=utf-8", PAGE)),
            "/watch.js" => Ok(Answer::file("text/javascript; charset=utf-8", SCRIPT)),
            "/watch.css" => {
                let style = format!("{}\n{OWN_STYLE}", STYLE_SHEETS.join("\n"));
                Ok(Answer::file("text/css; charset=utf-8", style))
            }
            "/processes.json" => Ok(Answer::json(&self.list())),
            "/look.json" => self.look(request).map(|look| {
                #[derive(Serialize)]
                struct Whole<'a> {
                    #[serde(flatten)]
                    look: &'a Look,
                    reading: String,
                }
                Answer::json(&Whole { look: &look, reading: look.reading() })
            }),
            "/metrics" => self.look(request).map(|look| {
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                Answer::file(kind, open_metrics(&look))
            }),
            "/profile.pb.gz" if reach == Reach::Socket => self.profile(request),
            _ => return Answer::text("404 Not Found", "there is no such page"),
        };
        found.unwrap_or_else(Answer::from)
    }

    fn list(&self) -> Vec<Listed> {
        let found = watched_processes(&self.directories).into_iter();
        found
            .map(|process| Listed { pid: process.pid, name: process.name })
            .filter(|process| {
                let is_it =
                    |only: &String| *only == process.name || *only == process.pid.to_string();
                self.only.as_ref().is_none_or(is_it)
            })
            .collect()
    }

    fn open(&self, request: &HttpRequest) -> Result<Watched, MonitorError> {
        let listed = self.list();
        let wanted = match &request.process {
            // What is not listed is not there, whoever asks.
            Some(wanted) => listed
                .iter()
                .find(|process| process.pid.to_string() == *wanted || process.name == *wanted)
                .ok_or_else(|| MonitorError::NoSuchName(wanted.clone()))?,
            None => listed
                .first()
                .ok_or_else(|| MonitorError::NoSuchName(self.only.clone().unwrap_or_default()))?,
        };
        Watched::open(&wanted.pid.to_string(), &self.directories)
    }

    fn look(&self, request: &HttpRequest) -> Result<Look, MonitorError> {
        let watched = self.open(request)?;
        let mut looks = self.looks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let look = Look::at(&watched, looks.get(&watched.pid()))?;
        if looks.len() >= LOOKS_MAX {
            looks.clear();
        }
        looks.insert(watched.pid(), look.clone());
        Ok(look)
    }

    fn profile(&self, request: &HttpRequest) -> Result<Answer, MonitorError> {
        let watched = self.open(request)?;
        let figures = watched.read()?.figures;
        if figures.profile_rate_bytes == 0 && figures.sample_count == 0 {
            watched.ask(Request::ProfileOn, PATIENCE)?;
            return Ok(Answer::text(
                "503 Service Unavailable",
                "sampling has begun; ask again when some memory was allocated",
            ));
        }
        watched.ask(Request::Profile, PATIENCE)?;
        let path = watched.profile_path();
        let text = std::fs::read_to_string(&path)
            .map_err(|error| MonitorError::Io { path: path.clone(), error })?;
        let profile = RawProfile::parse(&text).map_err(|_| MonitorError::Damaged(path.clone()))?;
        let mut body = Vec::new();
        pprof(&profile, None).write(&mut body).map_err(|error| MonitorError::Io { path, error })?;
        Ok(Answer::file("application/octet-stream", body))
    }
}

/// Whether a host header names this machine by a name that no resolver decides.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(name, "127.0.0.1" | "localhost")
}

#[cfg(test)]
mod tests {
    use super::{Reach, Subject, is_loopback};
    use crate::serve::request::HttpRequest;

    fn ask(method: &str, path: &str, host: &str, reach: Reach) -> &'static str {
        let subject = Subject::new(None, Vec::new());
        let request = HttpRequest {
            method: method.into(),
            path: path.into(),
            process: None,
            host: host.into(),
        };
        subject.answer(&request, reach).status
    }

    #[test]
    fn only_reading_only_from_here() {
        let own = "127.0.0.1:8000";
        assert_eq!(ask("GET", "/", own, Reach::Loopback), "200 OK");
        assert_eq!(ask("GET", "/processes.json", own, Reach::Loopback), "200 OK");
        assert_eq!(ask("GET", "/look.json", own, Reach::Loopback), "404 Not Found");
        assert_eq!(ask("POST", "/", own, Reach::Loopback), "405 Method Not Allowed");
        assert_eq!(ask("GET", "/../etc/passwd", own, Reach::Loopback), "404 Not Found");
        assert_eq!(ask("GET", "/profile.pb.gz", own, Reach::Loopback), "404 Not Found");
        assert_eq!(ask("GET", "/", "evil.example", Reach::Loopback), "403 Forbidden");
        assert_eq!(ask("GET", "/metrics", "", Reach::Socket), "404 Not Found");
        for name in ["localhost", "localhost:1", "127.0.0.1"] {
            assert!(is_loopback(name));
        }
        for name in ["", "127.0.0.1.evil.example", "localhost.evil:80", "evil:127"] {
            assert!(!is_loopback(name), "{name}");
        }
    }
}

//! Listening and answering.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::answer::{Reach, Subject};
use super::request;

/// Connections answered at the same time; more are closed at once.
const CONNECTIONS_MAX: usize = 16;
/// A connection that says nothing for so long is closed.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How often the listener looks whether it is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Why there is no server.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// The port cannot be had.
    Port(u16, io::Error),
    /// The socket cannot be made.
    Socket(PathBuf, io::Error),
    /// There is something at the path, and it is no socket that nobody serves.
    Taken(PathBuf),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port, error) => {
                write!(f, "port {port} of 127.0.0.1: {error}; choose another with --port")
            }
            Self::Socket(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Taken(path) => write!(
                f,
                "{} exists and is no socket left behind; choose another with --socket",
                path.display()
            ),
        }
    }
}

impl std::error::Error for ServeError {}

/// Serves looks until it is told to stop.
#[derive(Debug)]
pub struct Server {
    subject: Arc<Subject>,
    tcp: Option<TcpListener>,
    unix: Option<(UnixListener, PathBuf)>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// A server of the process `only` (PID or name; none for all of this user's) whose pages are in
    /// `directories`. It listens nowhere yet.
    pub fn new(only: Option<String>, directories: Vec<PathBuf>) -> Self {
        Self {
            subject: Arc::new(Subject::new(only, directories)),
            tcp: None,
            unix: None,
            connections: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// Listens on `port` of 127.0.0.1 (0: one that is free); the address.
    ///
    /// # Errors
    /// [`ServeError::Port`].
    pub fn listen_on_loopback(&mut self, port: u16) -> Result<SocketAddr, ServeError> {
        let failed = |error| ServeError::Port(port, error);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        self.tcp = Some(listener);
        Ok(address)
    }

    /// Listens on a Unix socket at `path`, which only this user can open; removed at the end.
    ///
    /// # Errors
    /// [`ServeError::Taken`], [`ServeError::Socket`].
    pub fn listen_on_socket(&mut self, path: &Path) -> Result<(), ServeError> {
        let failed = |error| ServeError::Socket(path.to_owned(), error);
        if let Ok(facts) = fs::symlink_metadata(path) {
            if !facts.file_type().is_socket() || UnixStream::connect(path).is_ok() {
                return Err(ServeError::Taken(path.to_owned()));
            }
            fs::remove_file(path).map_err(failed)?;
        }
        // Bound where nobody else can look, so that it never has other rights at its own place.
        let private = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&private).map_err(failed)?;
        let made = bind_private(&private.join("s"), path);
        let _ = fs::remove_dir_all(&private);
        self.unix = Some((made.map_err(failed)?, path.to_owned()));
        Ok(())
    }

    /// Answers until `is_over` says so (asked every 50 ms). Errors of single connections end
    /// those.
    pub fn run(self, is_over: &dyn Fn() -> bool) {
        while !is_over() {
            let mut is_idle = true;
            if let Some(Ok((stream, _))) = self.tcp.as_ref().map(TcpListener::accept) {
                is_idle = false;
                let is_ready = stream.set_nonblocking(false).is_ok()
                    && stream.set_read_timeout(Some(SILENCE_MAX)).is_ok()
                    && stream.set_write_timeout(Some(SILENCE_MAX)).is_ok();
                if is_ready {
                    self.serve(stream, Reach::Loopback);
                }
            }
            if let Some(Ok((stream, _))) = self.unix.as_ref().map(|(unix, _)| unix.accept()) {
                is_idle = false;
                let is_ready = stream.set_nonblocking(false).is_ok()
                    && stream.set_read_timeout(Some(SILENCE_MAX)).is_ok()
                    && stream.set_write_timeout(Some(SILENCE_MAX)).is_ok();
                if is_ready {
                    self.serve(stream, Reach::Socket);
                }
            }
            if is_idle {
                thread::sleep(LOOK_EVERY);
            }
        }
        if let Some((_, path)) = &self.unix {
            let _ = fs::remove_file(path);
        }
    }

    fn serve(&self, mut stream: impl Read + Write + Send + 'static, reach: Reach) {
        // Relaxed: a count and nothing else.
        if self.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let subject = Arc::clone(&self.subject);
        let connections = Arc::clone(&self.connections);
        thread::spawn(move || {
            // Whoever hangs up in the middle has had enough.
            let _ = converse(&mut stream, &subject, reach);
            connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn bind_private(private: &Path, path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(private)?;
    listener.set_nonblocking(true)?;
    fs::set_permissions(private, fs::Permissions::from_mode(0o600))?;
    fs::rename(private, path)?;
    Ok(listener)
}

/// One request and its answer.
fn converse(stream: &mut (impl Read + Write), subject: &Subject, reach: Reach) -> io::Result<()> {
    let Some(request) = request::read(stream)? else {
        return stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    };
    let answer = subject.answer(&request, reach);
    let head = format!(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
         Cross-Origin-Resource-Policy: same-origin\r\nX-Frame-Options: DENY\r\n\
         Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'\r\n\r\n",
        answer.status,
        answer.kind,
        answer.body.len(),
    );
    stream.write_all(head.as_bytes())?;
    if request.method != "HEAD" {
        stream.write_all(&answer.body)?;
    }
    stream.flush()
}

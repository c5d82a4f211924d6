//! `heapwright serve`: live figures as a web page on the loopback, and on a Unix socket.

use crate::console::Console;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use clap::Args;
use heapwright_monitor::{Server, directories};
use serde::Serialize;
use std::path::PathBuf;

/// Whom, and where.
#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// The one process to show [default: all watched ones of this user]
    #[arg(value_name = "PID|NAME")]
    process: Option<String>,
    /// Port of 127.0.0.1 [default: one that is free; with --socket none]
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// A Unix socket for scrapers: /metrics, /look.json, /profile.pb.gz
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// What `--json` prints, when it begins to serve.
#[derive(Debug, Serialize)]
struct ServeResult<'a> {
    schema: u32,
    heapwright_version: &'static str,
    address: Option<String>,
    socket: Option<&'a PathBuf>,
}

pub(crate) fn run(options: &ServeOptions, console: &Console) -> Result<u8, Failure> {
    let mut server = Server::new(options.process.clone(), directories());
    let mut address = None;
    if let Some(path) = &options.socket {
        server.listen_on_socket(path).map_err(Failure::ours)?;
    }
    if options.socket.is_none() || options.port.is_some() {
        let listens = server.listen_on_loopback(options.port.unwrap_or(0));
        address = Some(format!("http://{}/", listens.map_err(Failure::ours)?));
    }
    let interrupt = Interrupt::listen()?;
    if console.json() {
        let heapwright_version = env!("CARGO_PKG_VERSION");
        let socket = options.socket.as_ref();
        console.print_json(&ServeResult { schema: 1, heapwright_version, address, socket })?;
    } else {
        if let Some(address) = &address {
            console.print(address)?;
        }
        if let Some(path) = &options.socket {
            console.print(&format!(
                "curl --unix-socket {} http://localhost/metrics",
                path.display()
            ))?;
        }
    }
    server.run(&|| interrupt.asked());
    Ok(0)
}

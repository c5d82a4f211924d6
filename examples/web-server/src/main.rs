//! An HTTP server over hyper and tokio under its own load generator.
//!
//! Each request makes a report of some hundred rows out of short strings and small vectors.
//! `web-server --malloc` makes them with `String` and `Vec`; `web-server --ours` in a request
//! arena that is reset when the answer is sent, and kept warm for the next request. Both give the
//! same answers.

mod load;
mod malloc;
mod ours;
mod report;

use heapwright_testkit::{Latencies, resident_kib};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;

/// Makes the answer to a request; the variants differ in where its memory comes from.
trait Handler {
    /// The report that `query` asks for.
    fn answer(&self, query: &str) -> Bytes;
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (variant, requests) = match words[..] {
        [variant] => (variant, Ok(20_000)),
        [variant, "--requests", count] => (variant, count.parse::<u64>()),
        _ => ("", Ok(0)),
    };
    let (Ok(requests @ 1..), true) = (requests, ["--malloc", "--ours"].contains(&variant)) else {
        eprintln!("usage: web-server --malloc|--ours [--requests N]");
        return ExitCode::from(2);
    };
    let handler: Rc<dyn Handler> = match variant {
        "--malloc" => Rc::new(malloc::MallocHandler),
        _ => Rc::new(ours::ArenaHandler::default()),
    };
    match run(handler, requests) {
        Ok((times, sum)) => {
            println!("requests: {}, {}", times.count(), times.summary());
            println!("resident: {} KiB", resident_kib().unwrap_or(0));
            println!("check sum: {sum:016x}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("web-server: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until the load generator has had its answers.
fn run(handler: Rc<dyn Handler>, requests: u64) -> Result<(Latencies, u64), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = tokio::net::TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (ended, end) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            // The receiver is there until it has the result.
            let _ = ended.send(load::generate(address, requests));
        });
        let server = tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let handler = Rc::clone(&handler);
                tokio::task::spawn_local(serve(stream, handler));
            }
        });
        let result = end.await?;
        server.abort();
        Ok(result?)
    })
}

/// One connection, as many requests as it brings.
async fn serve(stream: tokio::net::TcpStream, handler: Rc<dyn Handler>) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let handler = Rc::clone(&handler);
        async move {
            let mut response = match request.uri().query() {
                Some(query) => Response::new(Full::new(handler.answer(query))),
                None => Response::new(Full::new(Bytes::from_static(b"no query\n"))),
            };
            if request.uri().path() != "/report" {
                *response.status_mut() = StatusCode::NOT_FOUND;
            }
            Ok::<_, Infallible>(response)
        }
    });
    // A client that goes away in the middle is its own affair.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

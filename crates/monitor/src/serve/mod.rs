//! Looks over HTTP: on the loopback as a web page and JSON, on a Unix socket for scrapers.
//!
//! Read-only: `GET` and `HEAD` of a handful of paths. A page of another site that points a
//! browser at us gets nothing: requests have to name the loopback as their host, and answers
//! allow no origin. The web side cannot even have a profile written; the socket, which only its
//! owner can open, can.

mod answer;
mod request;
mod server;

pub use answer::Reach;
pub use server::{ServeError, Server};

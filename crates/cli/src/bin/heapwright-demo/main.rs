//! A bundled program with a server's memory shape, for `heapwright demo`.
//!
//! Four request threads parse, look up and answer; each owns a shard of a cache that evicts
//! values of mixed sizes. What they log goes through queues to two background threads, which
//! free it in batches. In the middle a burst of sessions comes and goes; one session in
//! sixteen stays. A table loaded at the start lives to the end.
//!
//! The work is fixed by `--requests` and `--seed`, not by time, and the checksum printed at the
//! end is the same under every allocator. It uses the global allocator of std (libc's malloc).

mod cache;
mod journal;
mod random;
mod request;
mod session;

use cache::Cache;
use journal::{Entry, Journal};
use random::Random;
use session::Sessions;
use std::process::ExitCode;
use std::thread;

/// Request threads.
const WORKERS: u64 = 4;
/// Requests of a run, when nothing else is asked for: about 4.5 million events.
const REQUESTS_DEFAULT: u64 = 16_000;
/// Bytes of values that one shard of the cache may hold.
const CACHE_SHARD_BYTES: usize = 4 << 20;
/// Sessions of the burst at each thread.
const BURST_SESSIONS: u64 = 6_000;

/// What to do, from the command line.
struct Options {
    requests: u64,
    seed: u64,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!(
                "heapwright-demo: {message}; usage: heapwright-demo [--requests N] [--seed N]"
            );
            return ExitCode::from(2);
        }
    };
    let table = load_table(options.seed);
    let journal = Journal::start();
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (options, sender) = ((options.requests, options.seed), journal.sender(worker));
            let table = &table;
            (worker, options, sender, table)
        })
        .collect();
    let answered = thread::scope(|scope| {
        let running: Vec<_> = workers
            .into_iter()
            .map(|(worker, (requests, seed), sender, table)| {
                scope.spawn(move || serve(worker, requests / WORKERS, seed, &sender, table))
            })
            .collect();
        running.into_iter().map(|thread| thread.join().expect("a request thread")).collect()
    });
    let answered: Vec<u64> = answered;
    let logged = journal.finish();
    let sum = answered.iter().fold(logged.checksum, |sum, part| sum.wrapping_add(*part));
    println!("requests {} journal {} checksum {sum:016x}", options.requests, logged.entries);
    ExitCode::SUCCESS
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { requests: REQUESTS_DEFAULT, seed: 1 };
    while let Some(flag) = arguments.next() {
        let target = match flag.as_str() {
            "--requests" => &mut options.requests,
            "--seed" => &mut options.seed,
            _ => return Err(format!("unknown argument `{flag}`")),
        };
        let value = arguments.next().ok_or_else(|| format!("{flag} needs a number"))?;
        *target = value.parse().map_err(|_| format!("{flag}: `{value}` is not a number"))?;
    }
    Ok(options)
}

/// The routes and texts that a server loads once and keeps.
fn load_table(seed: u64) -> Vec<String> {
    let mut random = Random::new(seed);
    (0..20_000).map(|route| request::text(&mut random, route, 40, 160)).collect()
}

/// One request thread: half its requests, the burst, the other half.
fn serve(worker: u64, requests: u64, seed: u64, sender: &journal::Sender, table: &[String]) -> u64 {
    let mut random = Random::new(seed ^ (worker + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut cache = Cache::new(CACHE_SHARD_BYTES);
    let mut sum = answer_all(requests / 2, worker, &mut random, &mut cache, sender, table);
    let mut sessions = Sessions::burst(BURST_SESSIONS, &mut random);
    sum = sum.wrapping_add(sessions.checksum());
    sessions.end_most();
    sum = sum.wrapping_add(answer_all(
        requests - requests / 2,
        worker,
        &mut random,
        &mut cache,
        sender,
        table,
    ));
    sum.wrapping_add(sessions.checksum())
}

fn answer_all(
    requests: u64,
    worker: u64,
    random: &mut Random,
    cache: &mut Cache,
    sender: &journal::Sender,
    table: &[String],
) -> u64 {
    let mut sum = 0u64;
    for number in 0..requests {
        let request = request::Request::parse(random, table);
        let answer = request.answer(cache);
        sum = sum.wrapping_mul(31).wrapping_add(random::checksum(&answer));
        sender.send(Entry::new(worker, number, &request, answer.len()));
    }
    sum
}

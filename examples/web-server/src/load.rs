//! The load: some connections at once, each asking again as soon as it is answered.

use heapwright_testkit::{Latencies, Random};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

const CONNECTIONS: u64 = 8;

/// Sends `requests` requests in all; what each took, and a sum over all answers.
pub(crate) fn generate(address: SocketAddr, requests: u64) -> io::Result<(Latencies, u64)> {
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let share = requests / CONNECTIONS + u64::from(number < requests % CONNECTIONS);
            std::thread::spawn(move || client(address, number, share))
        })
        .collect();
    let mut all = (Latencies::default(), 0);
    for client in clients {
        let ended = client.join().map_err(|_| io::Error::other("a client panicked"))?;
        let (times, sum) = ended?;
        all.0.merge(&times);
        all.1 ^= sum;
    }
    Ok(all)
}

fn client(address: SocketAddr, number: u64, requests: u64) -> io::Result<(Latencies, u64)> {
    let mut times = Latencies::default();
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let random = &mut Random::new(number);
    let (mut body, mut sum) = (Vec::new(), 0u64);
    for request in 0..requests {
        let rows = random.log_uniform(10, 800);
        let seed = number << 32 | request;
        let text = format!("GET /report?seed={seed}&rows={rows} HTTP/1.1\r\nhost: test\r\n\r\n");
        let answered = times.time(|| {
            stream.write_all(text.as_bytes())?;
            read_answer(&mut answers, &mut body)
        });
        answered?;
        let lines = body.iter().filter(|byte| **byte == b'\n').count() as u64;
        if lines != rows {
            return Err(io::Error::other(format!("{lines} rows instead of {rows}")));
        }
        sum = body.iter().fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
    }
    Ok((times, sum))
}

/// Reads head and body of one answer.
fn read_answer(answers: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> io::Result<()> {
    let mut line = String::new();
    answers.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200") {
        return Err(io::Error::other(format!("answered {line:?}")));
    }
    let mut length = 0;
    loop {
        line.clear();
        answers.read_line(&mut line)?;
        let head = line.trim_end().to_ascii_lowercase();
        if head.is_empty() {
            break;
        }
        if let Some(number) = head.strip_prefix("content-length:") {
            length = number.trim().parse().map_err(io::Error::other)?;
        }
    }
    body.resize(length, 0);
    answers.read_exact(body)
}

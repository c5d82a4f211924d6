//! Reading one request.

use std::io::{self, Read};

/// A head that is longer is no request of ours.
const HEAD_BYTES_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 64;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HttpRequest {
    pub(super) method: String,
    pub(super) path: String,
    /// What follows `process=` in the query, with `%` undone; none when it is missing.
    pub(super) process: Option<String>,
    pub(super) host: String,
}

/// Reads a request's head; none when it is none.
pub(super) fn read(stream: &mut impl Read) -> io::Result<Option<HttpRequest>> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while head.len() < HEAD_BYTES_MAX {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(None);
        }
        head.extend_from_slice(&buffer[..count]);
        match parse(&head) {
            Parsed::Whole(request) => return Ok(Some(request)),
            Parsed::Part => {}
            Parsed::Wrong => return Ok(None),
        }
    }
    Ok(None)
}

enum Parsed {
    Whole(HttpRequest),
    Part,
    Wrong,
}

fn parse(head: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Parsed::Part,
        Err(_) => return Parsed::Wrong,
    }
    let target = request.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let wanted = query.split('&').find_map(|pair| pair.strip_prefix("process="));
    let host = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("host"));
    Parsed::Whole(HttpRequest {
        method: request.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        process: wanted.map(undo_percent),
        host: host.map_or(String::new(), |host| String::from_utf8_lossy(host.value).into_owned()),
    })
}

fn undo_percent(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut result = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let pair = text.get(index + 1..index + 3).filter(|_| bytes[index] == b'%');
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                result.push(byte);
                index += 3;
            }
            None => {
                result.push(bytes[index]);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&result).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{HttpRequest, read};

    #[test]
    fn requests_are_read_and_rubbish_is_not() {
        let text = b"GET /look.json?x=1&process=my%20server HTTP/1.1\r\nHOST: localhost:1\r\n\r\n";
        let request = read(&mut &text[..]).expect("read").expect("a request");
        let expected = HttpRequest {
            method: "GET".into(),
            path: "/look.json".into(),
            process: Some("my server".into()),
            host: "localhost:1".into(),
        };
        assert_eq!(request, expected);
        for wrong in [&b""[..], b"GET / HT", b"\x16\x03\x01\x02\x00", &[b'a'; 20_000]] {
            assert_eq!(read(&mut &wrong[..]).expect("read"), None);
        }
    }
}

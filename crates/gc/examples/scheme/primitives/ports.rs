//! Ports. Those that the library's procedures leave out are put in by the library.

use super::{Primitive, arg, char_arg, index, of, range, value};
use crate::interpreter::error::{Error, Outcome};
use crate::interpreter::machine::Machine;
use crate::interpreter::ports::{self, BINARY, INPUT, OPEN, OUTPUT};
use crate::interpreter::text::print::{Labels, print_with};
use crate::interpreter::text::read::Reader;
use crate::interpreter::value::{
    EOF, Kind, TRUE, Word, boolean, bytes, char_count, character, chars, count, is_kind, len,
    set_bytes, text,
};

pub static ALL: &[Primitive] = &[
    value("port?", 1, 1, |m, at, _| Ok(boolean(is_kind(arg(m, at), Kind::Port)))),
    value("input-port?", 1, 1, |m, at, _| Ok(boolean(ports::has(arg(m, at), INPUT)))),
    value("output-port?", 1, 1, |m, at, _| Ok(boolean(ports::has(arg(m, at), OUTPUT)))),
    value("binary-port?", 1, 1, |m, at, _| Ok(boolean(ports::has(arg(m, at), BINARY)))),
    value("input-port-open?", 1, 1, |m, at, _| Ok(boolean(ports::has(arg(m, at), INPUT | OPEN)))),
    value("output-port-open?", 1, 1, |m, at, _| Ok(boolean(ports::has(arg(m, at), OUTPUT | OPEN)))),
    value("eof-object", 0, 0, |_, _, _| Ok(EOF)),
    value("eof-object?", 1, 1, |m, at, _| Ok(boolean(arg(m, at) == EOF))),
    value("%console-ports", 0, 0, |m, _, _| {
        let ports = m.console_ports()?;
        Ok(m.memory.list(&ports)?)
    }),
    value("open-input-string", 1, 1, |m, at, _| {
        let content = text(of(m, at, Kind::String, "open-input-string")?);
        m.open_bytes(INPUT, content.as_bytes())
    }),
    value("open-input-bytevector", 1, 1, |m, at, _| {
        m.open_bytes(INPUT | BINARY, bytes(of(m, at, Kind::Bytevector, "open-input-bytevector")?))
    }),
    value("open-output-string", 0, 0, |m, _, _| m.open_bytes(OUTPUT, &[])),
    value("open-output-bytevector", 0, 0, |m, _, _| m.open_bytes(OUTPUT | BINARY, &[])),
    value("get-output-string", 1, 1, |m, at, _| {
        let content = ports::text(port(m, at, OUTPUT, "get-output-string")?)?;
        Ok(m.memory.string(content)?)
    }),
    value("get-output-bytevector", 1, 1, |m, at, _| {
        let content = ports::contents(port(m, at, OUTPUT | BINARY, "get-output-bytevector")?);
        Ok(m.memory.bytes(Kind::Bytevector, content)?)
    }),
    value("open-input-file", 1, 1, |m, at, _| {
        let name = text(of(m, at, Kind::String, "open-input-file")?);
        m.open_input_file(&name, 0)
    }),
    value("open-binary-input-file", 1, 1, |m, at, _| {
        let name = text(of(m, at, Kind::String, "open-binary-input-file")?);
        m.open_input_file(&name, BINARY)
    }),
    value("open-output-file", 1, 1, |m, at, _| {
        let name = text(of(m, at, Kind::String, "open-output-file")?);
        m.open_output_file(&name, 0)
    }),
    value("open-binary-output-file", 1, 1, |m, at, _| {
        let name = text(of(m, at, Kind::String, "open-binary-output-file")?);
        m.open_output_file(&name, BINARY)
    }),
    value("close-port", 1, 1, |m, at, _| {
        let port = of(m, at, Kind::Port, "close-port")?;
        m.close(port)
    }),
    value("%flush", 1, 1, |m, at, _| {
        let port = port(m, at, OUTPUT, "flush-output-port")?;
        m.flush(port)
    }),
    value("file-exists?", 1, 1, |m, at, _| {
        let name = text(of(m, at, Kind::String, "file-exists?")?);
        Ok(boolean(std::path::Path::new(&name).exists()))
    }),
    value("delete-file", 1, 1, |m, at, _| {
        let name = text(of(m, at, Kind::String, "delete-file")?);
        let gone = std::fs::remove_file(&name);
        gone.map_err(|error| Error::File(format!("{name}: {error}")))?;
        Ok(TRUE)
    }),
    value("%write", 2, 2, |m, at, _| show(m, at, false, Labels::Cycles)),
    value("%write-shared", 2, 2, |m, at, _| show(m, at, false, Labels::Shared)),
    value("%write-simple", 2, 2, |m, at, _| show(m, at, false, Labels::None)),
    value("%display", 2, 2, |m, at, _| show(m, at, true, Labels::Cycles)),
    value("%write-char", 2, 2, |m, at, _| {
        let one = char_arg(m, at, "write-char")?;
        let port = port(m, at + 1, OUTPUT, "write-char")?;
        m.put(port, one.encode_utf8(&mut [0; 4]).as_bytes())
    }),
    value("%write-string", 2, 4, |m, at, count| {
        let string = of(m, at, Kind::String, "write-string")?;
        let (from, to) = range(m, at + 2, at + count, char_count(string), "write-string")?;
        let part: String = chars(string).skip(from).take(to - from).collect();
        let port = port(m, at + 1, OUTPUT, "write-string")?;
        m.put(port, part.as_bytes())
    }),
    value("%write-u8", 2, 2, |m, at, _| {
        let byte = index(m, at, 256, "write-u8")? as u8;
        let port = port(m, at + 1, OUTPUT | BINARY, "write-u8")?;
        m.put(port, &[byte])
    }),
    value("%write-bytevector", 2, 4, |m, at, count| {
        let all = bytes(of(m, at, Kind::Bytevector, "write-bytevector")?);
        let (from, to) = range(m, at + 2, at + count, all.len(), "write-bytevector")?;
        let port = port(m, at + 1, OUTPUT | BINARY, "write-bytevector")?;
        m.put(port, &all[from..to])
    }),
    value("%read", 1, 1, |m, at, _| {
        let port = filled(m, at, INPUT, "read")?;
        let content = ports::text(port)?;
        let mut reader = Reader::new(content);
        let datum = reader.next(&mut m.memory)?.unwrap_or(EOF);
        m.advance(port, content.len() - reader.rest_bytes());
        Ok(datum)
    }),
    value("%read-char", 1, 1, |m, at, _| {
        let port = filled(m, at, INPUT, "read-char")?;
        let Some(one) = first_char(port)? else { return Ok(EOF) };
        m.advance(port, one.len_utf8());
        Ok(character(one))
    }),
    value("%peek-char", 1, 1, |m, at, _| {
        Ok(first_char(filled(m, at, INPUT, "peek-char")?)?.map_or(EOF, character))
    }),
    value("%read-line", 1, 1, |m, at, _| {
        let port = filled(m, at, INPUT, "read-line")?;
        let content = ports::text(port)?;
        if content.is_empty() {
            return Ok(EOF);
        }
        let line = content.split_once('\n').map_or(content, |(line, _)| line);
        let result = m.memory.string(line)?;
        m.advance(port, (line.len() + 1).min(content.len()));
        Ok(result)
    }),
    value("%read-string", 2, 2, |m, at, _| {
        let wanted = index(m, at, usize::MAX, "read-string")?;
        let port = filled(m, at + 1, INPUT, "read-string")?;
        let content = ports::text(port)?;
        let end = content.char_indices().nth(wanted).map_or(content.len(), |(end, _)| end);
        if end == 0 && wanted > 0 {
            return Ok(EOF);
        }
        let result = m.memory.string(&content[..end])?;
        m.advance(port, end);
        Ok(result)
    }),
    value("%read-u8", 1, 1, |m, at, _| {
        let port = port(m, at, INPUT | BINARY, "read-u8")?;
        let Some(byte) = ports::contents(port).first() else { return Ok(EOF) };
        m.advance(port, 1);
        Ok(count((*byte).into()))
    }),
    value("%peek-u8", 1, 1, |m, at, _| {
        let port = port(m, at, INPUT | BINARY, "peek-u8")?;
        Ok(ports::contents(port).first().map_or(EOF, |byte| count((*byte).into())))
    }),
    value("%read-bytevector", 2, 2, |m, at, _| {
        let wanted = index(m, at, usize::MAX, "read-bytevector")?;
        let port = port(m, at + 1, INPUT | BINARY, "read-bytevector")?;
        let content = ports::contents(port);
        let end = wanted.min(content.len());
        if end == 0 && wanted > 0 {
            return Ok(EOF);
        }
        let result = m.memory.bytes(Kind::Bytevector, &content[..end])?;
        m.advance(port, end);
        Ok(result)
    }),
    value("%read-bytevector!", 2, 4, |m, at, count_given| {
        let to = of(m, at, Kind::Bytevector, "read-bytevector!")?;
        let port = port(m, at + 1, INPUT | BINARY, "read-bytevector!")?;
        let (from, end) = range(m, at + 2, at + count_given, len(to), "read-bytevector!")?;
        let content = ports::contents(port);
        let part = &content[..content.len().min(end - from)];
        if part.is_empty() && end > from {
            return Ok(EOF);
        }
        set_bytes(to, from, part);
        m.advance(port, part.len());
        Ok(count(part.len()))
    }),
];

fn port(m: &Machine, at: usize, flags: usize, name: &str) -> Outcome {
    m.checked(arg(m, at), flags, name)
}

/// An input port with something to read, if there is more.
fn filled(m: &mut Machine, at: usize, flags: usize, name: &str) -> Outcome {
    let port = port(m, at, flags, name)?;
    m.fill(port)?;
    Ok(port)
}

fn show(m: &mut Machine, at: usize, display: bool, labels: Labels) -> Outcome {
    let port = port(m, at + 1, OUTPUT, "write")?;
    let shown = print_with(arg(m, at), display, labels);
    m.put(port, shown.as_bytes())
}

/// The character that comes next; only its bytes are looked at.
fn first_char(port: Word) -> Result<Option<char>, Error> {
    let content = ports::contents(port);
    let len = match content.first() {
        None => return Ok(None),
        Some(first) if first.is_ascii() => 1,
        Some(first) => first.leading_ones() as usize,
    };
    let one = content.get(..len).and_then(|part| std::str::from_utf8(part).ok());
    let one = one.ok_or_else(|| Error::fault("is no text", "a port"))?;
    Ok(one.chars().next())
}

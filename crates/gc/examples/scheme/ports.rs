//! Ports: objects with a buffer in the heap; those of files have a number in the roots' table.
//!
//! What is read lies in the buffer from the beginning: a string's or a file's contents. What is
//! written to a string grows in the buffer; what is written to a file goes there at once.

use super::error::Error;
use super::machine::Machine;
use super::value::{Kind, UNSPECIFIED, Word, as_small, bytes, count, get, is_kind, len, set_bytes};
use std::fs::File;
use std::io::{BufRead, BufWriter, Write};

pub const INPUT: usize = 1;
pub const OUTPUT: usize = 2;
pub const BINARY: usize = 4;
pub const OPEN: usize = 8;
/// The standard input or output of the process, as the machine shows it.
const CONSOLE: usize = 16;
const ERRORS: usize = 32;
const FILE: usize = 64;

/// The words of a port.
const FLAGS: usize = 0;
const BUFFER: usize = 1;
/// What is read or written of the buffer.
const POSITION: usize = 2;
const FILE_NUMBER: usize = 3;

fn number(port: Word, index: usize) -> usize {
    as_small(get(port, index)).expect("a port's word is a number") as usize
}

pub fn has(word: Word, flags: usize) -> bool {
    is_kind(word, Kind::Port) && number(word, FLAGS) & flags == flags
}

/// What has been written, or is left to be read.
pub fn contents<'a>(port: Word) -> &'a [u8] {
    let buffer = bytes(get(port, BUFFER));
    let position = number(port, POSITION);
    if has(port, OUTPUT) { &buffer[..position] } else { &buffer[position..] }
}

/// What is left to be read, as text.
pub fn text<'a>(port: Word) -> Result<&'a str, Error> {
    std::str::from_utf8(contents(port)).map_err(|_| Error::fault("is no text", "a port"))
}

impl Machine {
    fn port(&self, flags: usize, buffer: Word, file: usize) -> Result<Word, Error> {
        let words = [count(flags | OPEN), buffer, count(0), count(file)];
        Ok(self.memory.words(Kind::Port, words.len(), |index| words[index])?)
    }

    /// The three ports of the process: input, output, errors.
    pub fn console_ports(&self) -> Result<[Word; 3], Error> {
        let empty = self.memory.bytes(Kind::Bytevector, &[])?;
        Ok([
            self.port(INPUT | CONSOLE, empty, 0)?,
            self.port(OUTPUT | CONSOLE, empty, 0)?,
            self.port(OUTPUT | CONSOLE | ERRORS, empty, 0)?,
        ])
    }

    pub fn open_bytes(&self, flags: usize, content: &[u8]) -> Result<Word, Error> {
        let buffer = self.memory.bytes(Kind::Bytevector, content)?;
        self.port(flags, buffer, 0)
    }

    pub fn open_input_file(&self, name: &str, flags: usize) -> Result<Word, Error> {
        let failed = |error: std::io::Error| Error::File(format!("{name}: {error}"));
        let content = std::fs::read(name).map_err(failed)?;
        self.open_bytes(INPUT | flags, &content)
    }

    pub fn open_output_file(&mut self, name: &str, flags: usize) -> Result<Word, Error> {
        let empty = self.memory.bytes(Kind::Bytevector, &[])?;
        let number = self.memory.roots.files.iter().position(Option::is_none);
        let number = number.unwrap_or(self.memory.roots.files.len());
        let port = self.port(OUTPUT | FILE | flags, empty, number)?;
        let file = File::create(name).map_err(|error| Error::File(format!("{name}: {error}")))?;
        if number == self.memory.roots.files.len() {
            self.memory.roots.files.push(None);
        }
        self.memory.roots.files[number] = Some((port, BufWriter::new(file)));
        Ok(port)
    }

    /// `port`, which has to be open and have the flags.
    pub fn checked(&self, port: Word, flags: usize, name: &str) -> Result<Word, Error> {
        if !has(port, flags) {
            return Err(Error::fault("is no such port", name));
        }
        if has(port, OPEN) { Ok(port) } else { Err(Error::fault("the port is closed", name)) }
    }

    pub fn close(&mut self, port: Word) -> Result<Word, Error> {
        if has(port, OPEN | FILE) {
            // Dropped with what it still has to write.
            self.memory.roots.files[number(port, FILE_NUMBER)] = None;
        }
        let flags = number(port, FLAGS) & !OPEN;
        self.memory.set(port, FLAGS, count(flags));
        Ok(UNSPECIFIED)
    }

    pub fn flush(&mut self, port: Word) -> Result<Word, Error> {
        if has(port, FILE) {
            let slot = &mut self.memory.roots.files[number(port, FILE_NUMBER)];
            let (_, file) = slot.as_mut().ok_or_else(|| Error::fault("is closed", "a file"))?;
            file.flush().map_err(|error| Error::File(error.to_string()))?;
        }
        if has(port, CONSOLE) {
            self.show_output();
        }
        Ok(UNSPECIFIED)
    }

    /// Passes on what the program has written, if the machine has a console.
    pub fn show_output(&mut self) {
        if self.has_console {
            print!("{}", std::mem::take(&mut self.output));
            // Nobody reads any more: nothing to tell anybody.
            let _ = std::io::stdout().flush();
        }
    }

    pub fn put(&mut self, port: Word, new: &[u8]) -> Result<Word, Error> {
        if has(port, FILE) {
            let slot = &mut self.memory.roots.files[number(port, FILE_NUMBER)];
            let (_, file) = slot.as_mut().ok_or_else(|| Error::fault("is closed", "a file"))?;
            file.write_all(new).map_err(|error| Error::File(error.to_string()))?;
        } else if has(port, CONSOLE | ERRORS) && self.has_console {
            eprint!("{}", String::from_utf8_lossy(new));
        } else if has(port, CONSOLE) {
            self.output.push_str(&String::from_utf8_lossy(new));
            if self.output.len() > 4096 {
                self.show_output();
            }
        } else {
            let (mut buffer, position) = (get(port, BUFFER), number(port, POSITION));
            let end = position + new.len();
            if end > len(buffer) {
                let mut larger = vec![0; end.max(2 * len(buffer)).max(32)];
                larger[..position].copy_from_slice(&bytes(buffer)[..position]);
                buffer = self.memory.bytes(Kind::Bytevector, &larger)?;
                self.memory.set(port, BUFFER, buffer);
            }
            set_bytes(buffer, position, new);
            self.memory.set(port, POSITION, count(end));
        }
        Ok(UNSPECIFIED)
    }

    /// Goes on by `read` bytes.
    pub fn advance(&self, port: Word, read: usize) {
        self.memory.set(port, POSITION, count(number(port, POSITION) + read));
    }

    /// Fills an empty buffer of the console with its next line.
    pub fn fill(&mut self, port: Word) -> Result<(), Error> {
        if !has(port, CONSOLE) || !contents(port).is_empty() || !self.has_console {
            return Ok(());
        }
        self.show_output();
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        read.map_err(|error| Error::File(error.to_string()))?;
        let buffer = self.memory.bytes(Kind::Bytevector, line.as_bytes());
        // The line would be lost if the step were tried again after a collection.
        let buffer = buffer.map_err(|_| Error::OutOfMemory)?;
        self.memory.set(port, BUFFER, buffer);
        self.memory.set(port, POSITION, count(0));
        Ok(())
    }
}

//! Bytevectors.

use super::{ANY, Primitive, index, of, range, test, value};
use crate::interpreter::error::{Error, Outcome};
use crate::interpreter::machine::Machine;
use crate::interpreter::value::{Kind, UNSPECIFIED, bytes, count, len, set_bytes};

pub static ALL: &[Primitive] = &[
    value("bytevector?", 1, 1, |m, at, _| test(m, at, Kind::Bytevector)),
    value("make-bytevector", 1, 2, |m, at, count| {
        let len = index(m, at, usize::MAX >> 16, "make-bytevector")?;
        let fill = if count == 2 { byte(m, at + 1)? } else { 0 };
        Ok(m.memory.bytes(Kind::Bytevector, &vec![fill; len])?)
    }),
    value("bytevector", 0, ANY, |m, at, count| {
        let all: Result<Vec<u8>, Error> = (0..count).map(|index| byte(m, at + index)).collect();
        Ok(m.memory.bytes(Kind::Bytevector, &all?)?)
    }),
    value("bytevector-length", 1, 1, |m, at, _| {
        Ok(count(len(bytevector(m, at, "bytevector-length")?)))
    }),
    value("bytevector-u8-ref", 2, 2, |m, at, _| {
        let all = bytes(bytevector(m, at, "bytevector-u8-ref")?);
        Ok(count(all[index(m, at + 1, all.len(), "bytevector-u8-ref")?].into()))
    }),
    value("bytevector-u8-set!", 3, 3, |m, at, _| {
        let to = bytevector(m, at, "bytevector-u8-set!")?;
        let place = index(m, at + 1, len(to), "bytevector-u8-set!")?;
        set_bytes(to, place, &[byte(m, at + 2)?]);
        Ok(UNSPECIFIED)
    }),
    value("bytevector-copy", 1, 3, |m, at, count| {
        Ok(m.memory.bytes(Kind::Bytevector, part(m, at, count, "bytevector-copy")?)?)
    }),
    value("bytevector-copy!", 3, 5, |m, at, count| {
        let to = bytevector(m, at, "bytevector-copy!")?;
        let from = part(m, at + 2, count - 2, "bytevector-copy!")?;
        let place = index(m, at + 1, len(to) + 1, "bytevector-copy!")?;
        if from.len() > len(to) - place {
            return Err(Error::fault("does not fit", "bytevector-copy!"));
        }
        set_bytes(to, place, from);
        Ok(UNSPECIFIED)
    }),
    value("bytevector-append", 0, ANY, |m, at, count| {
        let mut all = Vec::new();
        for index in 0..count {
            all.extend_from_slice(bytes(bytevector(m, at + index, "bytevector-append")?));
        }
        Ok(m.memory.bytes(Kind::Bytevector, &all)?)
    }),
    value("utf8->string", 1, 3, |m, at, count| {
        let all = part(m, at, count, "utf8->string")?;
        let all =
            std::str::from_utf8(all).map_err(|_| Error::fault("is no text", "utf8->string"))?;
        Ok(m.memory.string(all)?)
    }),
];

fn bytevector(m: &Machine, at: usize, name: &str) -> Outcome {
    of(m, at, Kind::Bytevector, name)
}

fn byte(m: &Machine, at: usize) -> Result<u8, Error> {
    Ok(index(m, at, 256, "a byte")? as u8)
}

/// The bytes of the bytevector at `at` in the range that the arguments after it tell.
fn part(m: &Machine, at: usize, count: usize, name: &str) -> Result<&'static [u8], Error> {
    let all = bytes(bytevector(m, at, name)?);
    let (from, to) = range(m, at + 1, at + count, all.len(), name)?;
    Ok(&all[from..to])
}

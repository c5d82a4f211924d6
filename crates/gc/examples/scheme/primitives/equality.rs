//! `eq?`, `eqv?` and `equal?`.

use super::{Primitive, arg, value};
use crate::interpreter::numbers::Number;
use crate::interpreter::value::{Kind, Word, boolean, bytes, get, kind, len};
use std::collections::HashSet;

pub static ALL: &[Primitive] = &[
    value("eq?", 2, 2, |m, at, _| Ok(boolean(arg(m, at) == arg(m, at + 1)))),
    value("eqv?", 2, 2, |m, at, _| Ok(boolean(eqv(arg(m, at), arg(m, at + 1))))),
    value("equal?", 2, 2, |m, at, _| Ok(boolean(equal(arg(m, at), arg(m, at + 1))))),
];

/// Pairs of objects that are compared before those that were compared are remembered.
const FREE_STEPS: usize = 1000;

pub fn eqv(a: Word, b: Word) -> bool {
    if a == b {
        return true;
    }
    match (kind(a), kind(b)) {
        (Some(Kind::Flonum | Kind::Bignum | Kind::Ratio | Kind::Complex), Some(_)) => {
            let (a, b) = (Number::of(a), Number::of(b));
            a.zip(b).is_some_and(|(a, b)| a.is_same(&b))
        }
        _ => false,
    }
}

/// Whether both look the same. Without recursion; circular data is the same if no difference is
/// found on the way round.
pub fn equal(a: Word, b: Word) -> bool {
    let mut left = vec![(a, b)];
    let (mut steps, mut compared) = (0, HashSet::new());
    while let Some((a, b)) = left.pop() {
        if eqv(a, b) {
            continue;
        }
        match (kind(a), kind(b)) {
            (Some(Kind::Pair), Some(Kind::Pair)) | (Some(Kind::Vector), Some(Kind::Vector))
                if len(a) == len(b) =>
            {
                steps += 1;
                if steps < FREE_STEPS || compared.insert((a, b)) {
                    left.extend((0..len(a)).rev().map(|index| (get(a, index), get(b, index))));
                }
            }
            (Some(Kind::String), Some(Kind::String))
            | (Some(Kind::Bytevector), Some(Kind::Bytevector))
                if bytes(a) == bytes(b) => {}
            _ => return false,
        }
    }
    true
}

//! Characters.

use super::{ANY, Primitive, arg, chain, char_arg, value};
use crate::interpreter::error::Error;
use crate::interpreter::text::names::{changed, digit_value, fold};
use crate::interpreter::value::{FALSE, as_character, as_small, boolean, character, count};

fn folded(one: char) -> char {
    changed(changed(one, char::to_uppercase), char::to_lowercase)
}

pub static ALL: &[Primitive] = &[
    value("char?", 1, 1, |m, at, _| Ok(boolean(as_character(arg(m, at)).is_some()))),
    value("char->integer", 1, 1, |m, at, _| Ok(count(char_arg(m, at, "char->integer")? as usize))),
    value("integer->char", 1, 1, |m, at, _| {
        let number = as_small(arg(m, at)).and_then(|number| u32::try_from(number).ok());
        let one = number.and_then(char::from_u32);
        one.map(character).ok_or_else(|| Error::fault("is no character", "integer->char"))
    }),
    value("char=?", 1, ANY, |m, at, n| {
        chain(m, at, n, |m, at| char_arg(m, at, "char=?"), char::eq)
    }),
    value("char<?", 1, ANY, |m, at, n| {
        chain(m, at, n, |m, at| char_arg(m, at, "char<?"), char::lt)
    }),
    value("char>?", 1, ANY, |m, at, n| {
        chain(m, at, n, |m, at| char_arg(m, at, "char>?"), char::gt)
    }),
    value("char<=?", 1, ANY, |m, at, n| {
        chain(m, at, n, |m, at| char_arg(m, at, "char<=?"), char::le)
    }),
    value("char>=?", 1, ANY, |m, at, n| {
        chain(m, at, n, |m, at| char_arg(m, at, "char>=?"), char::ge)
    }),
    value("char-upcase", 1, 1, |m, at, _| {
        Ok(character(changed(char_arg(m, at, "char-upcase")?, char::to_uppercase)))
    }),
    value("char-downcase", 1, 1, |m, at, _| {
        Ok(character(changed(char_arg(m, at, "char-downcase")?, char::to_lowercase)))
    }),
    value("char-foldcase", 1, 1, |m, at, _| {
        Ok(character(folded(char_arg(m, at, "char-foldcase")?)))
    }),
    value("%string-foldcase", 1, 1, |m, at, _| {
        let string = super::of(m, at, crate::interpreter::value::Kind::String, "string-foldcase")?;
        Ok(m.memory.string(&fold(crate::interpreter::value::chars(string)))?)
    }),
    value("char-alphabetic?", 1, 1, |m, at, _| {
        Ok(boolean(char_arg(m, at, "char-alphabetic?")?.is_alphabetic()))
    }),
    value("char-numeric?", 1, 1, |m, at, _| {
        Ok(boolean(digit_value(char_arg(m, at, "char-numeric?")?).is_some()))
    }),
    value("char-whitespace?", 1, 1, |m, at, _| {
        Ok(boolean(char_arg(m, at, "char-whitespace?")?.is_whitespace()))
    }),
    value("char-upper-case?", 1, 1, |m, at, _| {
        Ok(boolean(char_arg(m, at, "char-upper-case?")?.is_uppercase()))
    }),
    value("char-lower-case?", 1, 1, |m, at, _| {
        Ok(boolean(char_arg(m, at, "char-lower-case?")?.is_lowercase()))
    }),
    value("digit-value", 1, 1, |m, at, _| {
        let digit = digit_value(char_arg(m, at, "digit-value")?);
        Ok(digit.map_or(FALSE, |digit| count(digit as usize)))
    }),
];

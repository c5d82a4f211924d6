//! Names of characters, and characters by their properties.

/// Characters that have names. The first name of a character is the one that is written.
const NAMES: &[(&str, char)] = &[
    ("alarm", '\x07'),
    ("backspace", '\x08'),
    ("delete", '\x7f'),
    ("escape", '\x1b'),
    ("newline", '\n'),
    ("null", '\0'),
    ("nul", '\0'),
    ("return", '\r'),
    ("space", ' '),
    ("tab", '\t'),
];

/// The character that comes after `#\`.
pub fn character_of(name: &str) -> Option<char> {
    let mut chars = name.chars();
    if let (Some(one), None) = (chars.next(), chars.next()) {
        return Some(one);
    }
    let hex = name.strip_prefix(['x', 'X']).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let named = NAMES.iter().find(|(other, _)| *other == name).map(|(_, one)| *one);
    named.or_else(|| hex.and_then(char::from_u32))
}

/// What comes after `#\` for a character.
pub fn name_of(one: char) -> String {
    match NAMES.iter().find(|(_, other)| *other == one) {
        Some((name, _)) => (*name).to_owned(),
        None if one.is_control() => format!("x{:x}", one as u32),
        None => one.to_string(),
    }
}

/// Where the decimal digits of scripts begin; ten follow each other.
/// Source: Unicode Character Database, general category Nd.
const ZEROS: &[u32] = &[
    0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66,
    0xde6, 0xe50, 0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90,
    0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10,
    0x104a0,
];

/// The value of a decimal digit of any script.
pub fn digit_value(one: char) -> Option<u32> {
    let number = one as u32;
    ZEROS.iter().find(|zero| (**zero..**zero + 10).contains(&number)).map(|zero| number - zero)
}

/// `text` without differences of case.
pub fn fold(text: impl Iterator<Item = char>) -> String {
    // By way of the upper case, where what has two lower cases is one.
    text.flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// What `change` makes of a character, if that is one character again; else itself.
pub fn changed<I: Iterator<Item = char>>(one: char, change: fn(char) -> I) -> char {
    let mut after = change(one);
    match (after.next(), after.next()) {
        (Some(other), None) => other,
        _ => one,
    }
}

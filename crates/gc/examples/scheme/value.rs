//! Values: one word each, a small integer, an immediate or a reference; and what lies behind a
//! reference.
//!
//! ```text
//!  ...xxx1  small integer, 63 bits        ...000  reference to a payload
//!  ...010   immediate: empty list, booleans, characters and so on
//!  ...110   procedure of the machine, by number
//! ```
//!
//! # Invariants
//! - V1: a word with the tag of a reference is a payload of the machine's heap, and its object is
//!   initialised. Words are kept over a safepoint in [`crate::interpreter::roots::Roots`] only.

use super::numbers::Integer;
use heapwright_gc::ObjectRef;
use heapwright_gc::vm::Layout;
use std::ptr::{NonNull, without_provenance, without_provenance_mut};

/// A value of the language.
pub type Word = *mut u8;

const IMMEDIATE: usize = 0b010;
const PRIMITIVE: usize = 0b110;
const TAG: usize = 0b111;

const fn immediate(number: usize) -> Word {
    without_provenance_mut(number << 8 | IMMEDIATE)
}

pub const NIL: Word = immediate(0);
pub const FALSE: Word = immediate(1);
pub const TRUE: Word = immediate(2);
pub const UNSPECIFIED: Word = immediate(3);
pub const UNDEFINED: Word = immediate(4);
pub const EOF: Word = immediate(5);
const CHARACTER: usize = 1 << 24;

/// Bytes of a character in a string.
pub const CHAR_BYTES: usize = 4;

/// What a reference leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Kind {
    Pair,
    Vector,
    /// A code number, then the captured values.
    Closure,
    /// One word that a closure shares with its maker.
    Box,
    /// The frames as small integers, then the stack.
    Continuation,
    /// Several results.
    Values,
    /// A type, then the fields.
    Record,
    /// A name, then the names of the fields.
    RecordType,
    /// A value, and a converter of new ones.
    Parameter,
    /// See [`crate::interpreter::ports`].
    Port,
    /// A name that a macro inserted, and the number of the scope that it stands for.
    Identifier,
    /// The number of a library.
    Environment,
    /// Two integers.
    Ratio,
    /// Two real numbers.
    Complex,
    /// Characters of four bytes, so that each can be replaced.
    String,
    /// UTF-8.
    Symbol,
    Flonum,
    /// A word of four bytes for the sign, then the digits of an integer.
    Bignum,
    Bytevector,
}

const KINDS: [Kind; 19] = [
    Kind::Pair,
    Kind::Vector,
    Kind::Closure,
    Kind::Box,
    Kind::Continuation,
    Kind::Values,
    Kind::Record,
    Kind::RecordType,
    Kind::Parameter,
    Kind::Port,
    Kind::Identifier,
    Kind::Environment,
    Kind::Ratio,
    Kind::Complex,
    Kind::String,
    Kind::Symbol,
    Kind::Flonum,
    Kind::Bignum,
    Kind::Bytevector,
];

// `kind_of` indexes the table by a head's number.
const _: () = assert!(KINDS[KINDS.len() - 1] as usize == KINDS.len() - 1);

impl Kind {
    /// Whether the payload is bytes instead of words.
    #[inline]
    fn is_raw(self) -> bool {
        self as usize >= Self::String as usize
    }
}

/// The head of an object with `len` words or bytes: four bits of the collectors', eight of the
/// kind, and the length.
#[inline]
pub fn head(kind: Kind, len: usize) -> *const u8 {
    without_provenance(len << 12 | (kind as usize) << 4)
}

#[inline]
fn kind_of(object: ObjectRef) -> Kind {
    KINDS[object.head().addr() >> 4 & 255]
}

#[inline]
fn len_of(object: ObjectRef) -> usize {
    object.head().addr() >> 12
}

/// The layout of this machine's objects.
pub enum Words {}

// SAFETY: heads are made by `head` and not changed; words of an object are initialised right after
// it was made, and `decode` takes only words with the tag of a reference (V1).
unsafe impl Layout for Words {
    #[inline]
    fn payload_bytes(object: ObjectRef) -> usize {
        if kind_of(object).is_raw() { len_of(object) } else { len_of(object) * 8 }
    }

    #[inline]
    fn fields(object: ObjectRef) -> Option<(NonNull<Word>, usize)> {
        let has_fields = !kind_of(object).is_raw();
        has_fields.then(|| (object.payload().cast(), len_of(object)))
    }

    #[inline]
    fn has_references(object: ObjectRef) -> bool {
        !kind_of(object).is_raw()
    }

    #[inline]
    fn decode(word: Word) -> Option<NonNull<u8>> {
        if word.addr() & TAG == 0 { NonNull::new(word) } else { None }
    }

    #[inline]
    fn encode(_old: Word, payload: NonNull<u8>) -> Word {
        payload.as_ptr()
    }
}

/// The object behind `word`, if it is a reference.
#[inline]
pub fn object(word: Word) -> Option<ObjectRef> {
    // SAFETY: V1.
    Words::decode(word).map(|payload| unsafe { ObjectRef::new(payload) })
}

/// The kind of object behind `word`.
#[inline]
pub fn kind(word: Word) -> Option<Kind> {
    object(word).map(kind_of)
}

/// How many words or bytes the object behind `word` has; 0 if it is no reference.
#[inline]
pub fn len(word: Word) -> usize {
    object(word).map_or(0, len_of)
}

/// The place of word `index` of an object of words.
///
/// # Panics
/// If the object has none.
#[inline]
pub fn place(word: Word, index: usize) -> NonNull<Word> {
    let (first, count) = object(word).and_then(Words::fields).expect("an object of words");
    assert!(index < count, "word {index} of {count}");
    // SAFETY: below the count.
    unsafe { first.add(index) }
}

/// Word `index` of the object behind `word`.
#[inline]
pub fn get(word: Word, index: usize) -> Word {
    // SAFETY: `place` checked the index; the word is initialised (V1).
    unsafe { place(word, index).read() }
}

/// The bytes of an object of bytes. The caller allocates nothing that could move while it has
/// them: no safepoint comes.
pub fn bytes<'a>(word: Word) -> &'a [u8] {
    let found = object(word).filter(|found| kind_of(*found).is_raw()).expect("an object of bytes");
    // SAFETY: as many bytes are initialised (V1), and nothing moves before the next safepoint.
    unsafe { std::slice::from_raw_parts(found.payload().as_ptr(), len_of(found)) }
}

/// Replaces bytes of an object of bytes from `at` on. They hold no references: no barrier.
///
/// # Panics
/// If they do not lie in the object.
pub fn set_bytes(word: Word, at: usize, new: &[u8]) {
    let found = object(word).filter(|found| kind_of(*found).is_raw()).expect("an object of bytes");
    assert!(
        at + new.len() <= len_of(found),
        "bytes {at} to {} of {}",
        at + new.len(),
        len_of(found)
    );
    // SAFETY: inside the payload, as just checked.
    let place = unsafe { found.payload().add(at) };
    // SAFETY: as many bytes; `ptr::copy` allows both to be of one object.
    unsafe { place.copy_from(NonNull::from(new).cast(), new.len()) };
}

/// How many characters a string has.
#[inline]
pub fn char_count(string: Word) -> usize {
    len(string) / CHAR_BYTES
}

/// Character `index` of a string.
pub fn char_at(string: Word, index: usize) -> char {
    to_char(&bytes(string)[index * CHAR_BYTES..][..CHAR_BYTES])
}

/// The characters of a string.
pub fn chars<'a>(string: Word) -> impl DoubleEndedIterator<Item = char> + 'a {
    bytes(string).chunks_exact(CHAR_BYTES).map(to_char)
}

fn to_char(bytes: &[u8]) -> char {
    let number = u32::from_ne_bytes(bytes.try_into().expect("four bytes"));
    char::from_u32(number).expect("strings hold characters")
}

/// The text of a string, a symbol or the symbol that an identifier began as.
pub fn text(word: Word) -> String {
    match kind(word) {
        Some(Kind::String) => chars(word).collect(),
        Some(Kind::Identifier) => text(get(word, 0)),
        _ => String::from_utf8_lossy(bytes(word)).into_owned(),
    }
}

/// The integer behind a word of the kind.
pub fn bignum(word: Word) -> Integer {
    let mut parts = bytes(word)
        .chunks_exact(4)
        .map(|part| u32::from_ne_bytes(part.try_into().expect("four bytes")));
    let is_negative = parts.next() == Some(1);
    Integer::new(is_negative, parts.collect())
}

#[inline]
pub fn is_kind(word: Word, wanted: Kind) -> bool {
    kind(word) == Some(wanted)
}

#[inline]
pub fn boolean(value: bool) -> Word {
    if value { TRUE } else { FALSE }
}

/// A small integer; those beyond 63 bits do not fit.
#[inline]
pub fn small(value: i64) -> Option<Word> {
    let fits = value << 1 >> 1 == value;
    fits.then(|| without_provenance_mut((value << 1) as usize | 1))
}

/// A small integer that is known to fit.
pub const fn of_small(value: i64) -> Word {
    without_provenance_mut((value << 1) as usize | 1)
}

/// A number that counts something in memory.
pub fn count(value: usize) -> Word {
    without_provenance_mut(value << 1 | 1)
}

#[inline]
pub fn as_small(word: Word) -> Option<i64> {
    (word.addr() & 1 == 1).then_some(word.addr() as i64 >> 1)
}

#[inline]
pub fn as_flonum(word: Word) -> Option<f64> {
    is_kind(word, Kind::Flonum)
        .then(|| f64::from_ne_bytes(bytes(word).try_into().expect("eight bytes")))
}

pub fn character(value: char) -> Word {
    immediate(CHARACTER | value as usize)
}

pub fn as_character(word: Word) -> Option<char> {
    let number = word.addr() >> 8;
    let is_character = word.addr() & TAG == IMMEDIATE && number & CHARACTER != 0;
    if is_character { char::from_u32((number & !CHARACTER) as u32) } else { None }
}

pub fn primitive(number: usize) -> Word {
    without_provenance_mut(number << 3 | PRIMITIVE)
}

pub fn as_primitive(word: Word) -> Option<usize> {
    (word.addr() & TAG == PRIMITIVE).then_some(word.addr() >> 3)
}

/// The items of a proper list; none if it is no list, or a circular one.
pub fn list(mut word: Word) -> Option<Vec<Word>> {
    let mut items = Vec::new();
    // Brent: a pair that comes again after twice as many steps as before.
    let mut seen = NIL;
    while is_kind(word, Kind::Pair) {
        if word == seen {
            return None;
        }
        if items.len().is_power_of_two() {
            seen = word;
        }
        items.push(get(word, 0));
        word = get(word, 1);
    }
    (word == NIL).then_some(items)
}

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
    String,
    Symbol,
    Flonum,
}

const KINDS: [Kind; 10] = [
    Kind::Pair,
    Kind::Vector,
    Kind::Closure,
    Kind::Box,
    Kind::Continuation,
    Kind::Values,
    Kind::Record,
    Kind::String,
    Kind::Symbol,
    Kind::Flonum,
];

impl Kind {
    /// Whether the payload is bytes instead of words.
    fn is_raw(self) -> bool {
        matches!(self, Self::String | Self::Symbol | Self::Flonum)
    }
}

/// The head of an object with `len` words or bytes: four bits of the collectors', four of the
/// kind, and the length.
pub fn head(kind: Kind, len: usize) -> *const u8 {
    without_provenance(len << 8 | (kind as usize) << 4)
}

fn kind_of(object: ObjectRef) -> Kind {
    KINDS[object.head().addr() >> 4 & 15]
}

fn len_of(object: ObjectRef) -> usize {
    object.head().addr() >> 8
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
pub fn object(word: Word) -> Option<ObjectRef> {
    // SAFETY: V1.
    Words::decode(word).map(|payload| unsafe { ObjectRef::new(payload) })
}

/// The kind of object behind `word`.
pub fn kind(word: Word) -> Option<Kind> {
    object(word).map(kind_of)
}

/// How many words or bytes the object behind `word` has; 0 if it is no reference.
pub fn len(word: Word) -> usize {
    object(word).map_or(0, len_of)
}

/// The place of word `index` of an object of words.
///
/// # Panics
/// If the object has none.
pub fn place(word: Word, index: usize) -> NonNull<Word> {
    let (first, count) = object(word).and_then(Words::fields).expect("an object of words");
    assert!(index < count, "word {index} of {count}");
    // SAFETY: below the count.
    unsafe { first.add(index) }
}

/// Word `index` of the object behind `word`.
pub fn get(word: Word, index: usize) -> Word {
    // SAFETY: `place` checked the index; the word is initialised (V1).
    unsafe { place(word, index).read() }
}

/// The bytes of a string or symbol. The caller allocates nothing while it has them.
pub fn bytes<'a>(word: Word) -> &'a [u8] {
    let found = object(word).filter(|found| kind_of(*found).is_raw()).expect("an object of bytes");
    // SAFETY: as many bytes are initialised (V1), and nothing moves before the next safepoint.
    unsafe { std::slice::from_raw_parts(found.payload().as_ptr(), len_of(found)) }
}

/// The text of a string or symbol.
pub fn text(word: Word) -> String {
    String::from_utf8_lossy(bytes(word)).into_owned()
}

pub fn is_kind(word: Word, wanted: Kind) -> bool {
    kind(word) == Some(wanted)
}

pub fn boolean(value: bool) -> Word {
    if value { TRUE } else { FALSE }
}

/// A small integer; those beyond 63 bits do not fit.
pub fn small(value: i64) -> Option<Word> {
    let fits = value << 1 >> 1 == value;
    fits.then(|| without_provenance_mut((value << 1) as usize | 1))
}

/// A number that counts something in memory.
pub fn count(value: usize) -> Word {
    without_provenance_mut(value << 1 | 1)
}

pub fn as_small(word: Word) -> Option<i64> {
    (word.addr() & 1 == 1).then_some(word.addr() as i64 >> 1)
}

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

/// The items of a proper list; none if it is no list.
pub fn list(mut word: Word) -> Option<Vec<Word>> {
    let mut items = Vec::new();
    while is_kind(word, Kind::Pair) {
        items.push(get(word, 0));
        word = get(word, 1);
    }
    (word == NIL).then_some(items)
}

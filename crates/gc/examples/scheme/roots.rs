//! The machine's roots, and making objects.

use super::numbers::Integer;
use super::value::{self, Kind, NIL, Word, Words, head};
use crate::store::Store;
use heapwright_gc::vm;
use heapwright_gc::{Config, Field, HeapError, LimitReached, ObjectRef, Visitor};
use std::collections::HashMap;
use std::fs::File;
use std::io::BufWriter;
use std::ptr::NonNull;

/// Everything outside the heap that refers into it.
#[derive(Default)]
pub struct Roots {
    pub stack: Vec<Word>,
    pub globals: Vec<Word>,
    pub constants: Vec<Word>,
    /// Held weakly: a symbol that only this table knows goes.
    symbols: HashMap<Box<[u8]>, Word>,
    /// Files that ports write to, by the number in the port. Held weakly: when a port goes, its
    /// file is closed.
    pub files: Vec<Option<(Word, BufWriter<File>)>>,
}

// SAFETY: the words of the three tables are shown, and no others are used after a safepoint;
// `settle` drops dead symbols and ports and follows the others.
unsafe impl vm::Roots for Roots {
    fn trace<V: Visitor>(&mut self, visitor: &mut V) {
        for word in self.stack.iter_mut().chain(&mut self.globals).chain(&mut self.constants) {
            // SAFETY: a value (V1), in a table that nobody touches during a collection.
            visitor.visit(unsafe { Field::new(NonNull::from(word)) });
        }
    }

    fn settle(&mut self, fate: &mut dyn FnMut(ObjectRef) -> Option<ObjectRef>) {
        self.symbols.retain(|_, symbol| {
            let now = value::object(*symbol).and_then(&mut *fate);
            now.is_some_and(|now| {
                *symbol = now.payload().as_ptr();
                true
            })
        });
        for slot in &mut self.files {
            let now = slot.as_ref().and_then(|(port, _)| value::object(*port)).and_then(&mut *fate);
            match (slot.as_mut(), now) {
                (Some((port, _)), Some(now)) => *port = now.payload().as_ptr(),
                _ => *slot = None,
            }
        }
    }
}

/// A heap with its roots.
pub struct Memory {
    heap: Store<Words>,
    pub roots: Roots,
    /// The numbers of constants that are no references.
    fixed: HashMap<Word, u32>,
}

impl Memory {
    pub fn new(config: Config) -> Result<Self, HeapError> {
        Ok(Self { heap: Store::new(config)?, roots: Roots::default(), fixed: HashMap::new() })
    }

    pub fn heap(&self) -> &Store<Words> {
        &self.heap
    }

    /// A collection may run here: words outside the roots are lost.
    #[inline]
    pub fn safepoint(&mut self) {
        // SAFETY: objects are initialised as they are made, and all callers keep what they need
        // in the roots (V1).
        unsafe { self.heap.safepoint(&mut self.roots) };
    }

    /// A full collection runs here.
    pub fn collect(&mut self) {
        // SAFETY: as in `safepoint`.
        unsafe { self.heap.collect(&mut self.roots) };
    }

    pub fn verify(&mut self) -> (usize, usize) {
        self.heap.verify(&mut self.roots)
    }

    pub fn symbol_count(&self) -> usize {
        self.roots.symbols.len()
    }

    fn alloc(&self, kind: Kind, len: usize, payload: usize) -> Result<ObjectRef, LimitReached> {
        // SAFETY: both callers fill the payload at once.
        unsafe { self.heap.alloc(head(kind, len), payload) }
    }

    /// A new object of `len` words, which `word` makes from their index; it makes no objects.
    pub fn words(
        &self,
        kind: Kind,
        len: usize,
        mut word: impl FnMut(usize) -> Word,
    ) -> Result<Word, LimitReached> {
        let payload = self.alloc(kind, len, len * 8)?.payload();
        for index in 0..len {
            // SAFETY: inside the payload.
            let place = unsafe { payload.cast::<Word>().add(index) };
            // SAFETY: as above; nobody else knows the object yet.
            unsafe { place.write(word(index)) };
        }
        Ok(payload.as_ptr())
    }

    /// A new object with a copy of `bytes`.
    pub fn bytes(&self, kind: Kind, bytes: &[u8]) -> Result<Word, LimitReached> {
        let payload = self.alloc(kind, bytes.len(), bytes.len())?.payload();
        // SAFETY: the payload has as many bytes and is new, so that it does not overlap.
        unsafe { payload.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        Ok(payload.as_ptr())
    }

    pub fn cons(&self, first: Word, rest: Word) -> Result<Word, LimitReached> {
        self.words(Kind::Pair, 2, |index| if index == 0 { first } else { rest })
    }

    pub fn list(&self, items: &[Word]) -> Result<Word, LimitReached> {
        self.list_with(items, NIL)
    }

    pub fn list_with(&self, items: &[Word], rest: Word) -> Result<Word, LimitReached> {
        items.iter().rev().try_fold(rest, |rest, item| self.cons(*item, rest))
    }

    pub fn string(&self, text: &str) -> Result<Word, LimitReached> {
        self.string_of(text.chars())
    }

    /// A string of the characters that the iterator gives; it makes no objects.
    pub fn string_of(&self, chars: impl Iterator<Item = char>) -> Result<Word, LimitReached> {
        let bytes: Vec<u8> = chars.flat_map(|one| (one as u32).to_ne_bytes()).collect();
        self.bytes(Kind::String, &bytes)
    }

    pub fn bignum(&self, number: &Integer) -> Result<Word, LimitReached> {
        let sign = u32::from(number.is_negative());
        let parts = [sign].into_iter().chain(number.digits().iter().copied());
        self.bytes(Kind::Bignum, &parts.flat_map(u32::to_ne_bytes).collect::<Vec<u8>>())
    }

    /// A number of two parts.
    pub fn numbers(&self, kind: Kind, parts: [Word; 2]) -> Result<Word, LimitReached> {
        self.words(kind, 2, |index| parts[index])
    }

    pub fn flonum(&self, value: f64) -> Result<Word, LimitReached> {
        self.bytes(Kind::Flonum, &value.to_ne_bytes())
    }

    /// The one symbol with this name.
    pub fn symbol(&mut self, name: &str) -> Result<Word, LimitReached> {
        if let Some(symbol) = self.roots.symbols.get(name.as_bytes()) {
            if let Some(symbol) = value::object(*symbol) {
                self.heap.revive(symbol);
            }
            return Ok(*symbol);
        }
        let symbol = self.bytes(Kind::Symbol, name.as_bytes())?;
        self.roots.symbols.insert(name.as_bytes().into(), symbol);
        Ok(symbol)
    }

    /// Stores a word into an object of words, with the barrier.
    pub fn set(&self, object: Word, index: usize, word: Word) {
        // SAFETY: `place` checks that it is a field of an object; the word is a value (V1).
        unsafe { self.heap.write(value::place(object, index), word) };
    }

    /// Keeps `word` for ever; returns its number among the constants.
    pub fn constant(&mut self, word: Word) -> u32 {
        // Small integers and the like are kept once.
        if value::object(word).is_none() {
            let next = self.roots.constants.len() as u32;
            let number = *self.fixed.entry(word).or_insert(next);
            if number < next {
                return number;
            }
        }
        self.roots.constants.push(word);
        (self.roots.constants.len() - 1) as u32
    }
}

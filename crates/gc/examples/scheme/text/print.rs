//! Printer: data to text, without recursion along lists; labels for what is shared or circular.

use super::names::name_of;
use crate::interpreter::numbers::{self, Number};
use crate::interpreter::value::{
    EOF, FALSE, Kind, NIL, TRUE, UNDEFINED, UNSPECIFIED, Word, as_character, as_primitive,
    as_small, bytes, chars, get, kind, len, text,
};
use std::collections::{HashMap, HashSet};
use std::fmt::Write;

/// How deep nested data is printed; deeper ones are cut.
const DEPTH_MAX: usize = 300;

/// What gets a label.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    None,
    /// What contains itself.
    Cycles,
    /// What is there more than once.
    Shared,
}

/// `word` as text: as a program writes it, or as `display` shows it.
pub fn print(word: Word, display: bool) -> String {
    print_with(word, display, Labels::Cycles)
}

pub fn print_with(word: Word, display: bool, labels: Labels) -> String {
    let numbers = match labels {
        Labels::None => HashMap::new(),
        _ => find_labels(word, labels).into_iter().map(|word| (word, None)).collect(),
    };
    let mut printer = Printer { out: String::new(), display, numbers, used: 0 };
    printer.print(word, 0);
    printer.out
}

struct Printer {
    out: String,
    display: bool,
    /// Objects that have labels; their numbers, as soon as they have been printed.
    numbers: HashMap<Word, Option<usize>>,
    used: usize,
}

impl Printer {
    fn print(&mut self, word: Word, depth: usize) {
        let fixed = [
            (NIL, "()"),
            (TRUE, "#t"),
            (FALSE, "#f"),
            (UNSPECIFIED, "#<unspecified>"),
            (UNDEFINED, "#<undefined>"),
            (EOF, "#<eof>"),
        ];
        if let Some((_, name)) = fixed.iter().find(|(one, _)| *one == word) {
            return self.out.push_str(name);
        }
        if depth > DEPTH_MAX {
            return self.out.push_str("...");
        }
        if self.label(word) {
            return;
        }
        // Writing into a `String` cannot fail.
        let _ = match (as_small(word), as_character(word), kind(word)) {
            (Some(number), ..) => write!(self.out, "{number}"),
            (_, Some(one), _) if self.display => write!(self.out, "{one}"),
            (_, Some(one), _) => write!(self.out, "#\\{}", name_of(one)),
            (.., Some(Kind::Symbol)) if self.display => write!(self.out, "{}", text(word)),
            (.., Some(Kind::Symbol)) => return self.symbol(&text(word)),
            (.., Some(Kind::Identifier)) => return self.print(get(word, 0), depth + 1),
            (.., Some(Kind::String)) if self.display => write!(self.out, "{}", text(word)),
            (.., Some(Kind::String)) => return self.quoted(chars(word), '"'),
            (.., Some(Kind::Pair)) => return self.list(word, depth),
            (.., Some(Kind::Vector)) => return self.items("#(", word, 0, ")", depth),
            (.., Some(Kind::Values)) => return self.items("", word, 0, "", depth),
            (.., Some(Kind::Record)) => {
                let _ = write!(self.out, "#<{}", text(get(get(word, 0), 0)));
                let space = if len(word) > 1 { " " } else { "" };
                return self.items(space, word, 1, ">", depth);
            }
            (.., Some(Kind::Bytevector)) => {
                let all: Vec<String> = bytes(word).iter().map(u8::to_string).collect();
                write!(self.out, "#u8({})", all.join(" "))
            }
            (.., Some(Kind::Closure | Kind::Continuation | Kind::Parameter)) => {
                write!(self.out, "#<procedure>")
            }
            (.., Some(Kind::Port)) => write!(self.out, "#<port>"),
            (.., Some(Kind::Environment)) => write!(self.out, "#<environment>"),
            (.., Some(Kind::RecordType)) => write!(self.out, "#<type {}>", text(get(word, 0))),
            _ if as_primitive(word).is_some() => write!(self.out, "#<procedure>"),
            _ => match Number::of(word) {
                Some(number) => write!(self.out, "{}", numbers::show(&number, 10)),
                None => write!(self.out, "#<object>"),
            },
        };
    }

    /// Prints the label of an object that has one; whether that was all.
    fn label(&mut self, word: Word) -> bool {
        let Some(number) = self.numbers.get_mut(&word) else { return false };
        let _ = match number {
            Some(number) => write!(self.out, "#{number}#"),
            None => {
                *number = Some(self.used);
                self.used += 1;
                let _ = write!(self.out, "#{}=", self.used - 1);
                return false;
            }
        };
        true
    }

    fn list(&mut self, mut word: Word, depth: usize) {
        self.out.push('(');
        loop {
            self.print(get(word, 0), depth + 1);
            word = get(word, 1);
            if kind(word) != Some(Kind::Pair) || self.numbers.contains_key(&word) {
                break;
            }
            self.out.push(' ');
        }
        if word != NIL {
            self.out.push_str(" . ");
            self.print(word, depth + 1);
        }
        self.out.push(')');
    }

    fn items(&mut self, before: &str, word: Word, from: usize, after: &str, depth: usize) {
        self.out.push_str(before);
        for index in from..len(word) {
            self.out.push_str(if index > from { " " } else { "" });
            self.print(get(word, index), depth + 1);
        }
        self.out.push_str(after);
    }

    fn symbol(&mut self, name: &str) {
        let special =
            |one: char| one.is_whitespace() || one.is_control() || "()\";'`,|\\".contains(one);
        let folded = name.to_ascii_lowercase();
        let is_almost_number =
            ["+inf.0", "-inf.0", "+nan.0", "-nan.0"].iter().any(|one| folded.starts_with(one));
        let needs_bars = name.is_empty()
            || name == "."
            || name.starts_with('#')
            || name.contains(special)
            || is_almost_number
            || numbers::parse(name, 10).is_some();
        match needs_bars {
            true => self.quoted(name.chars(), '|'),
            false => self.out.push_str(name),
        }
    }

    fn quoted(&mut self, text: impl Iterator<Item = char>, quote: char) {
        self.out.push(quote);
        for one in text {
            match one {
                '\n' => self.out.push_str("\\n"),
                '\t' => self.out.push_str("\\t"),
                '\r' => self.out.push_str("\\r"),
                '\x07' => self.out.push_str("\\a"),
                '\x08' => self.out.push_str("\\b"),
                '\\' => self.out.push_str("\\\\"),
                one if one == quote => self.out.extend(['\\', one]),
                one if one.is_control() => {
                    let _ = write!(self.out, "\\x{:x};", one as u32);
                }
                one => self.out.push(one),
            }
        }
        self.out.push(quote);
    }
}

/// A step of the walk: into an object, or out of it.
enum Step {
    In(Word),
    Out(Word),
}

/// The objects that get labels.
fn find_labels(word: Word, labels: Labels) -> HashSet<Word> {
    let (mut found, mut seen, mut inside) = (HashSet::new(), HashSet::new(), HashSet::new());
    let mut left = vec![Step::In(word)];
    while let Some(step) = left.pop() {
        let word = match step {
            Step::In(word) => word,
            Step::Out(word) => {
                inside.remove(&word);
                continue;
            }
        };
        if !matches!(kind(word), Some(Kind::Pair | Kind::Vector | Kind::Record | Kind::Values)) {
            continue;
        }
        if !seen.insert(word) {
            if labels == Labels::Shared || inside.contains(&word) {
                found.insert(word);
            }
            continue;
        }
        inside.insert(word);
        left.push(Step::Out(word));
        left.extend((0..len(word)).rev().map(|index| Step::In(get(word, index))));
    }
    found
}

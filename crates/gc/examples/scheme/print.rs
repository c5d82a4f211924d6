//! Printer: data to text, without recursion along lists.

use super::value::{
    EOF, FALSE, Kind, NIL, TRUE, UNDEFINED, UNSPECIFIED, Word, as_character, as_flonum,
    as_primitive, as_small, get, kind, len, text,
};
use std::fmt::Write;

/// How deep nested data is printed; deeper ones are cut, so that cycles end.
const DEPTH_MAX: usize = 200;
const LENGTH_MAX: usize = 100_000;

/// `word` as text: as a program writes it, or as `display` shows it.
pub fn print(word: Word, display: bool) -> String {
    let mut out = String::new();
    print_to(&mut out, word, display, 0);
    out
}

fn print_to(out: &mut String, word: Word, display: bool, depth: usize) {
    let fixed = [
        (NIL, "()"),
        (TRUE, "#t"),
        (FALSE, "#f"),
        (UNSPECIFIED, "#<unspecified>"),
        (UNDEFINED, "#<undefined>"),
        (EOF, "#<eof>"),
    ];
    if let Some((_, name)) = fixed.iter().find(|(one, _)| *one == word) {
        return out.push_str(name);
    }
    if depth > DEPTH_MAX {
        return out.push_str("...");
    }
    // Writing into a `String` cannot fail.
    let _ = match (as_small(word), as_flonum(word), as_character(word), kind(word)) {
        (Some(number), ..) => write!(out, "{number}"),
        (_, Some(number), ..) => write!(out, "{number:?}"),
        (_, _, Some(one), _) if display => write!(out, "{one}"),
        (_, _, Some(one), _) => write!(out, "#\\{}", name_of(one)),
        (.., Some(Kind::Symbol)) => write!(out, "{}", text(word)),
        (.., Some(Kind::String)) if display => write!(out, "{}", text(word)),
        (.., Some(Kind::String)) => write!(out, "{:?}", text(word)),
        (.., Some(Kind::Pair)) => return print_list(out, word, display, depth),
        (.., Some(Kind::Vector)) => {
            out.push_str("#(");
            for index in 0..len(word) {
                out.push_str(if index > 0 { " " } else { "" });
                print_to(out, get(word, index), display, depth + 1);
            }
            write!(out, ")")
        }
        (.., Some(Kind::Values)) => {
            for index in 0..len(word) {
                out.push_str(if index > 0 { " " } else { "" });
                print_to(out, get(word, index), display, depth + 1);
            }
            Ok(())
        }
        (.., Some(Kind::Record)) => {
            out.push_str("#<");
            print_to(out, get(word, 0), true, depth + 1);
            for index in 1..len(word) {
                out.push(' ');
                print_to(out, get(word, index), display, depth + 1);
            }
            write!(out, ">")
        }
        (.., Some(Kind::Closure | Kind::Continuation)) => write!(out, "#<procedure>"),
        _ if as_primitive(word).is_some() => write!(out, "#<procedure>"),
        _ => write!(out, "#<object>"),
    };
}

fn print_list(out: &mut String, mut word: Word, display: bool, depth: usize) {
    out.push('(');
    for index in 0.. {
        if index > LENGTH_MAX {
            out.push_str(" ...");
            break;
        }
        out.push_str(if index > 0 { " " } else { "" });
        print_to(out, get(word, 0), display, depth + 1);
        word = get(word, 1);
        if kind(word) != Some(Kind::Pair) {
            break;
        }
    }
    if word != NIL && kind(word) != Some(Kind::Pair) {
        out.push_str(" . ");
        print_to(out, word, display, depth + 1);
    }
    out.push(')');
}

fn name_of(one: char) -> String {
    match one {
        ' ' => "space".into(),
        '\n' => "newline".into(),
        '\t' => "tab".into(),
        '\0' => "nul".into(),
        _ => one.to_string(),
    }
}

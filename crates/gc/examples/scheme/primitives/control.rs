//! Procedures, records, parameters, environments and the process.

use super::{ANY, Primitive, arg, control, index, of, store, test, value};
use crate::interpreter::error::{Error, Outcome};
use crate::interpreter::machine::Machine;
use crate::interpreter::syntax::Libraries;
use crate::interpreter::text::print::print;
use crate::interpreter::value::{
    FALSE, Kind, TRUE, UNSPECIFIED, as_primitive, as_small, boolean, count, get, is_kind, kind,
    len, list,
};
use std::time::{SystemTime, UNIX_EPOCH};

pub static ALL: &[Primitive] = &[
    control("apply", 2, ANY, |m, from, count| m.apply(from, count)),
    control("%call/cc", 1, 1, |m, from, _| m.call_with_continuation(from)),
    control("%call-with-values", 2, 2, |m, from, _| m.spread(from)),
    control("eval", 1, 2, |m, from, count| m.eval_form(from, count)),
    value("values", 0, ANY, |m, at, count| match count {
        1 => Ok(arg(m, at)),
        _ => Ok(m.memory.words(Kind::Values, count, |index| arg(m, at + index))?),
    }),
    value("procedure?", 1, 1, |m, at, _| {
        let made = [Kind::Closure, Kind::Continuation, Kind::Parameter];
        let is_made = kind(arg(m, at)).is_some_and(|kind| made.contains(&kind));
        Ok(boolean(is_made || as_primitive(arg(m, at)).is_some()))
    }),
    value("%accepts?", 2, 2, |m, at, _| {
        let arguments = index(m, at + 1, usize::MAX, "case-lambda")?;
        Ok(boolean(m.accepts(arg(m, at), arguments)))
    }),
    value("%unhandled", 1, 1, |m, at, _| Err(Error::Unhandled(print(arg(m, at), true)))),
    value("%record-type", 2, 2, |m, at, _| {
        Ok(m.memory.words(Kind::RecordType, 2, |index| arg(m, at + index))?)
    }),
    value("%record-fields", 1, 1, |m, at, _| {
        Ok(get(of(m, at, Kind::RecordType, "a record's type")?, 1))
    }),
    value("%field-index", 2, 2, |m, at, _| {
        let fields = list(get(of(m, at, Kind::RecordType, "a record's type")?, 1));
        let place = fields.and_then(|all| all.iter().position(|name| *name == arg(m, at + 1)));
        let place = place.ok_or_else(|| Error::fault("is no field", &print(arg(m, at + 1), false)));
        Ok(count(place? + 1))
    }),
    value("%record", 1, ANY, |m, at, count| {
        Ok(m.memory.words(Kind::Record, count, |index| arg(m, at + index))?)
    }),
    value("%record?", 2, 2, |m, at, _| {
        let is_record = is_kind(arg(m, at), Kind::Record);
        Ok(boolean(is_record && get(arg(m, at), 0) == arg(m, at + 1)))
    }),
    value("%record-ref", 3, 3, |m, at, _| {
        Ok(get(record(m, at)?, index(m, at + 2, len(arg(m, at)), "a field")?))
    }),
    value("%record-set!", 4, 4, |m, at, _| {
        let record = record(m, at)?;
        store(m, record, index(m, at + 2, len(record), "a field")?, at + 3)
    }),
    value("%parameter", 2, 2, |m, at, _| {
        Ok(m.memory.words(Kind::Parameter, 2, |index| arg(m, at + index))?)
    }),
    value("%parameter?", 1, 1, |m, at, _| test(m, at, Kind::Parameter)),
    value("%parameter-converter", 1, 1, |m, at, _| {
        Ok(get(of(m, at, Kind::Parameter, "parameterize")?, 1))
    }),
    value("%parameter-set!", 2, 2, |m, at, _| {
        store(m, of(m, at, Kind::Parameter, "parameterize")?, 0, at + 1)
    }),
    value("interaction-environment", 0, 0, |m, _, _| m.environment_of(Libraries::PROGRAM)),
    value("environment", 0, ANY, |m, at, count| {
        let sets = m.memory.roots.stack[at..at + count].to_vec();
        m.new_environment(&sets)
    }),
    value("features", 0, 0, |m, _, _| {
        let names = Libraries::FEATURES.iter().map(|name| m.memory.symbol(name));
        let names = names.collect::<Result<Vec<_>, _>>()?;
        Ok(m.memory.list(&names)?)
    }),
    value("exit", 0, 1, |m, at, count| {
        let status = match (count, arg_or_true(m, at, count)) {
            (0, _) | (_, TRUE) => 0,
            (_, FALSE) => 1,
            (_, word) => as_small(word).map_or(1, |status| status as i32 & 255),
        };
        Err(Error::Exit(status))
    }),
    value("command-line", 0, 0, |m, _, _| {
        let words = std::env::args().map(|word| m.memory.string(&word));
        let words = words.collect::<Result<Vec<_>, _>>()?;
        Ok(m.memory.list(&words)?)
    }),
    value("get-environment-variable", 1, 1, |m, at, _| {
        let name = of(m, at, Kind::String, "get-environment-variable")?;
        match std::env::var(crate::interpreter::value::text(name)) {
            Ok(found) => Ok(m.memory.string(&found)?),
            Err(_) => Ok(FALSE),
        }
    }),
    value("get-environment-variables", 0, 0, |m, _, _| {
        let mut all = Vec::new();
        for (name, found) in std::env::vars_os() {
            let [name, found] = [name, found].map(|one| m.memory.string(&one.to_string_lossy()));
            all.push(m.memory.cons(name?, found?)?);
        }
        Ok(m.memory.list(&all)?)
    }),
    value("current-second", 0, 0, |m, _, _| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(m.memory.flonum(now.as_secs_f64())?)
    }),
    value("current-jiffy", 0, 0, |m, _, _| Ok(count(m.began.elapsed().as_micros() as usize))),
    value("jiffies-per-second", 0, 0, |_, _, _| Ok(count(1_000_000))),
    value("collect", 0, 0, |m, _, _| {
        m.wants_collection = true;
        Ok(UNSPECIFIED)
    }),
];

fn arg_or_true(m: &Machine, at: usize, count: usize) -> crate::interpreter::value::Word {
    if count == 0 { TRUE } else { arg(m, at) }
}

fn record(m: &Machine, at: usize) -> Outcome {
    let word = of(m, at, Kind::Record, "a field")?;
    let is_it = get(word, 0) == arg(m, at + 1);
    if is_it { Ok(word) } else { Err(Error::fault("is another record", "a field")) }
}

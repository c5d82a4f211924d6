//! The stack machine: runs code, calls procedures, and lets the collector in at calls.

use super::emit::{Code, Emitter, Op, STORED};
use super::error::{Error, Outcome};
use super::primitives::{self, Body, Primitive};
use super::roots::Memory;
use super::syntax::{Expander, Libraries};
use super::text::print::print;
use super::text::read::Reader;
use super::value::{
    FALSE, Kind, UNDEFINED, Word, as_primitive, as_small, count, get, kind, len, list, primitive,
};
use heapwright_gc::Config;
use std::rc::Rc;
use std::time::Instant;

/// Values and frames on the stack at most.
const STACK_LEN_MAX: usize = 1 << 20;
/// More than that while a handler looks at the fault of too many.
const HANDLER_STACK_LEN: usize = 10_000;

/// What handling a full heap may use: pieces of this size, and how many. In pieces, since what a
/// large object leaves free is of no use to small ones where a collector keeps them apart.
const RESERVE_PIECE_BYTES: usize = 4 << 10;
const RESERVE_PIECES: usize = 32;

/// The library, in the order in which it is built.
const LIBRARY: [&str; 4] = [
    include_str!("library/syntax.scm"),
    include_str!("library/base.scm"),
    include_str!("library/control.scm"),
    include_str!("library/ports.scm"),
];

/// Where a procedure goes on.
#[derive(Clone, Copy)]
struct Frame {
    code: usize,
    at: usize,
    base: usize,
}

/// A Scheme system: a heap, its roots, code and the state of a run.
pub struct Machine {
    pub memory: Memory,
    /// What the program has displayed.
    pub output: String,
    /// Whether output goes to the process's, and input comes from there.
    pub has_console: bool,
    pub began: Instant,
    libraries: Libraries,
    primitives: Vec<&'static Primitive>,
    codes: Vec<Rc<Code>>,
    frames: Vec<Frame>,
    now: Frame,
    stack_len_max: usize,
    /// Set by the program: a full collection at the next step.
    pub wants_collection: bool,
    /// Memory for handling that the heap is full; false when it is used up. Among the constants.
    reserve: u32,
    /// Where the last value of a program is, among the globals: a root, since forms are compiled
    /// after a safepoint.
    last: u32,
    hooks: Hooks,
}

/// Variables of the library that the machine uses, by their numbers.
struct Hooks {
    handlers: u32,
    raise: u32,
    fault: u32,
    /// The condition that stands for a full heap.
    full: u32,
}

impl Machine {
    /// A machine with its library.
    pub fn new(config: Config) -> Result<Self, Error> {
        let mut memory =
            Memory::new(config).map_err(|error| Error::Unhandled(error.to_string()))?;
        let mut libraries = Libraries::new();
        let primitives = primitives::all();
        for (index, one) in primitives.iter().enumerate() {
            let number = libraries.system(&mut memory, one.name);
            memory.roots.globals[number as usize] = primitive(index);
        }
        let mut hook = |name| libraries.system(&mut memory, name);
        let hooks = Hooks {
            handlers: hook("%handlers"),
            raise: hook("raise"),
            fault: hook("%fault"),
            full: hook("%full"),
        };
        let last = hook("%last");
        let reserve = memory.roots.constants.len() as u32;
        memory.roots.constants.push(FALSE);
        let mut machine = Self {
            memory,
            output: String::new(),
            has_console: false,
            began: Instant::now(),
            libraries,
            primitives,
            codes: Vec::new(),
            frames: Vec::new(),
            now: Frame { code: 0, at: 0, base: 0 },
            stack_len_max: STACK_LEN_MAX,
            wants_collection: false,
            reserve,
            last,
            hooks,
        };
        for text in LIBRARY {
            machine.eval_in(text, Libraries::SYSTEM)?;
        }
        machine.libraries.import_all(Libraries::SYSTEM, Libraries::PROGRAM);
        Ok(machine)
    }

    /// Runs every form of `text`; the value of the last one as text.
    pub fn eval(&mut self, text: &str) -> Result<String, Error> {
        self.eval_in(text, Libraries::PROGRAM)?;
        Ok(print(self.memory.roots.globals[self.last as usize], false))
    }

    fn eval_in(&mut self, text: &str, library: usize) -> Result<(), Error> {
        let mut reader = Reader::new(text);
        let last = self.last as usize;
        self.memory.roots.globals[last] = STORED;
        while let Some(entry) = self.compile(&mut reader, library)? {
            self.memory.roots.globals[last] = self.run(entry)?;
        }
        Ok(())
    }

    /// The next form as code; a full heap is collected once.
    fn compile(&mut self, reader: &mut Reader<'_>, library: usize) -> Result<Option<usize>, Error> {
        self.stop();
        self.memory.safepoint();
        if self.memory.roots.constants[self.reserve as usize] == FALSE {
            let reserve = self.retry(|this| {
                let piece = || this.memory.bytes(Kind::Bytevector, &[0; RESERVE_PIECE_BYTES]);
                let pieces = (0..RESERVE_PIECES).map(|_| piece());
                let pieces = pieces.collect::<Result<Vec<_>, _>>()?;
                Ok(this.memory.list(&pieces)?)
            })?;
            self.memory.roots.constants[self.reserve as usize] = reserve;
        }
        let before = reader.clone();
        let next = |this: &mut Self, reader: &mut Reader<'_>| {
            let form = reader.next(&mut this.memory)?;
            form.map(|form| this.compile_form(form, library)).transpose()
        };
        match next(self, reader) {
            Err(Error::Full) => {
                self.memory.collect();
                *reader = before;
                next(self, reader)
            }
            result => result,
        }
    }

    fn compile_form(&mut self, form: Word, library: usize) -> Result<usize, Error> {
        let mut expander = Expander::new(&mut self.memory, &mut self.libraries);
        let tree = expander.program(form, library)?;
        let assigned = std::mem::take(&mut expander.assigned);
        drop(expander);
        let emitter = Emitter::new(&mut self.memory, &mut self.codes, assigned);
        Ok(emitter.top_level(&tree))
    }

    /// `(eval form [environment])`: calls the code of the form in place of the callee.
    pub fn eval_form(&mut self, from: usize, arguments: usize) -> Result<(), Error> {
        let library = match arguments {
            1 => Libraries::PROGRAM,
            _ => {
                let environment = self.memory.roots.stack[from + 2];
                if kind(environment) != Some(Kind::Environment) {
                    return Err(Error::fault("is no environment", &print(environment, false)));
                }
                as_small(get(environment, 0)).expect("an environment has a number") as usize
            }
        };
        let closure = self.retry(|this| {
            let code = this.compile_form(this.memory.roots.stack[from + 1], library)?;
            Ok(this.memory.words(Kind::Closure, 1, |_| count(code))?)
        })?;
        self.memory.roots.stack.truncate(from);
        self.push(closure);
        self.call(0)
    }

    pub fn environment_of(&self, library: usize) -> Outcome {
        Ok(self.memory.words(Kind::Environment, 1, |_| count(library))?)
    }

    /// An environment with what the import sets name.
    pub fn new_environment(&mut self, sets: &[Word]) -> Outcome {
        let library = self.libraries.open();
        Expander::new(&mut self.memory, &mut self.libraries).import(sets, library)?;
        self.environment_of(library)
    }

    /// Forgets the last run.
    fn stop(&mut self) {
        self.stack_len_max = STACK_LEN_MAX;
        self.frames.clear();
        self.memory.roots.stack.clear();
    }

    fn run(&mut self, entry: usize) -> Outcome {
        self.memory.roots.stack.push(UNDEFINED);
        self.now = Frame { code: entry, at: 0, base: 0 };
        let mut code = self.codes[entry].clone();
        loop {
            let here = self.now.code;
            let op = code.ops[self.now.at];
            self.now.at += 1;
            match self.step(op) {
                Ok(None) => {}
                Ok(Some(result)) => return Ok(result),
                Err(Error::Full) => {
                    // The reserve is what handling it may use.
                    let reserve = &mut self.memory.roots.constants[self.reserve as usize];
                    if std::mem::replace(reserve, FALSE) == FALSE {
                        return Err(Error::OutOfMemory);
                    }
                    self.memory.collect();
                    let condition = self.memory.roots.globals[self.hooks.full as usize];
                    self.raise(self.hooks.raise, &[condition], Error::OutOfMemory)?;
                }
                Err(error) => {
                    // The numbers are those of the library's predicates.
                    let (message, class) = match &error {
                        Error::Fault(message) => (message, 0),
                        Error::File(message) => (message, 1),
                        Error::Syntax(message) => (message, 2),
                        _ => return Err(error),
                    };
                    let text = self.memory.string(message);
                    let text = text.map_err(|_| Error::OutOfMemory)?;
                    self.raise(self.hooks.fault, &[text, count(class)], error)?;
                }
            }
            if self.now.code != here {
                code = self.codes[self.now.code].clone();
            }
        }
    }

    /// Calls the library's `procedure` with a condition, in place of the step that failed; it does
    /// not return. Without a handler the run ends with `error`.
    fn raise(&mut self, procedure: u32, condition: &[Word], error: Error) -> Result<(), Error> {
        let global = |number: u32| self.memory.roots.globals[number as usize];
        let has_handler = kind(global(self.hooks.handlers)) == Some(Kind::Pair);
        let callee = global(procedure);
        if !has_handler || kind(callee) != Some(Kind::Closure) {
            return Err(error);
        }
        self.push(callee);
        self.memory.roots.stack.extend(condition);
        self.stack_len_max = STACK_LEN_MAX + HANDLER_STACK_LEN;
        self.call(condition.len())
    }

    #[inline]
    fn push(&mut self, word: Word) {
        self.memory.roots.stack.push(word);
    }

    #[inline]
    fn top(&mut self) -> &mut Word {
        self.memory.roots.stack.last_mut().expect("the emitter counts values")
    }

    #[inline]
    fn slot(&mut self, slot: u32) -> &mut Word {
        &mut self.memory.roots.stack[self.now.base + slot as usize]
    }

    #[inline]
    fn captured(&mut self, index: u32) -> Word {
        get(*self.slot(0), index as usize + 1)
    }

    /// Does one step; returns the result if it was the last.
    #[inline]
    fn step(&mut self, op: Op) -> Result<Option<Word>, Error> {
        match op {
            Op::Constant(number) => self.push(self.memory.roots.constants[number as usize]),
            Op::Slot(slot) => {
                let word = *self.slot(slot);
                self.push(word);
            }
            Op::SlotBox(slot) => {
                let word = get(*self.slot(slot), 0);
                self.push(defined(word)?);
            }
            Op::Captured(index) => {
                let word = self.captured(index);
                self.push(word);
            }
            Op::CapturedBox(index) => {
                let word = get(self.captured(index), 0);
                self.push(defined(word)?);
            }
            Op::Global(number) => {
                let word = self.memory.roots.globals[number as usize];
                if word == UNDEFINED {
                    return Err(Error::fault("is not defined", self.libraries.name(number)));
                }
                self.push(word);
            }
            Op::SetSlotBox(slot) => {
                let cell = *self.slot(slot);
                self.store(cell);
            }
            Op::SetCapturedBox(index) => {
                let cell = self.captured(index);
                self.store(cell);
            }
            Op::SetGlobal(number) if self.memory.roots.globals[number as usize] == UNDEFINED => {
                return Err(Error::fault("is not defined", self.libraries.name(number)));
            }
            Op::SetGlobal(number) | Op::Define(number) => {
                let word = std::mem::replace(self.top(), STORED);
                self.memory.roots.globals[number as usize] = word;
            }
            Op::MakeBox(slot) => {
                let cell = self.retry(|this| {
                    let word = *this.slot(slot);
                    Ok(this.memory.words(Kind::Box, 1, |_| word)?)
                })?;
                *self.slot(slot) = cell;
            }
            Op::Jump(to) => self.now.at = to as usize,
            Op::JumpIfFalse(to) => {
                if self.memory.roots.stack.pop() == Some(FALSE) {
                    self.now.at = to as usize;
                }
            }
            Op::Close(code, captured) => {
                let from = self.memory.roots.stack.len() - captured as usize;
                let closure = self.retry(|this| {
                    let Memory { roots, .. } = &this.memory;
                    let word = |index| match index {
                        0 => count(code as usize),
                        _ => roots.stack[from + index - 1],
                    };
                    Ok(this.memory.words(Kind::Closure, captured as usize + 1, word)?)
                })?;
                self.memory.roots.stack.truncate(from);
                self.push(closure);
            }
            Op::Call(arguments) => self.call(arguments as usize)?,
            Op::TailCall(arguments) => {
                let from = self.memory.roots.stack.len() - arguments as usize - 1;
                if kind(self.memory.roots.stack[from]) != Some(Kind::Closure) {
                    // A return follows.
                    self.call(arguments as usize)?;
                    return Ok(None);
                }
                self.safepoint();
                let (code, count) = self.prepare(from, arguments as usize)?;
                // The arguments take the place of this frame's, which is not needed any more.
                let base = self.now.base;
                self.memory.roots.stack.copy_within(from.., base);
                self.memory.roots.stack.truncate(base + count + 1);
                (self.now.code, self.now.at) = (code, 0);
            }
            Op::Return => return Ok(self.ret()),
            Op::Drop => drop(self.memory.roots.stack.pop()),
            Op::Slide(below) => {
                let word = *self.top();
                let len = self.memory.roots.stack.len() - below as usize;
                self.memory.roots.stack.truncate(len);
                *self.top() = word;
            }
        }
        Ok(None)
    }

    fn store(&mut self, cell: Word) {
        let word = std::mem::replace(self.top(), STORED);
        self.memory.set(cell, 0, word);
    }

    /// Ends the frame with the value on top; returns it if it was the last frame.
    fn ret(&mut self) -> Option<Word> {
        let word = *self.top();
        let base = self.now.base;
        self.memory.roots.stack.truncate(base);
        match self.frames.pop() {
            Some(frame) => {
                self.now = frame;
                self.push(word);
                None
            }
            None => Some(word),
        }
    }

    /// Everything that is used afterwards is on the stack here.
    #[inline]
    fn safepoint(&mut self) {
        if self.wants_collection {
            self.wants_collection = false;
            self.memory.collect();
        } else {
            self.memory.safepoint();
        }
    }

    /// Calls what lies below the `arguments` on top of the stack; the result takes their place.
    pub fn call(&mut self, arguments: usize) -> Result<(), Error> {
        self.safepoint();
        let from = self.memory.roots.stack.len() - arguments - 1;
        let callee = self.memory.roots.stack[from];
        if let Some(number) = as_primitive(callee) {
            let one = self.primitives[number];
            if arguments < one.least || arguments > one.most {
                return Err(Error::fault("wrong number of arguments", one.name));
            }
            match one.body {
                Body::Value(body) => {
                    let result = self.retry(|this| body(this, from + 1, arguments))?;
                    self.memory.roots.stack.truncate(from);
                    self.push(result);
                    return Ok(());
                }
                Body::Control(body) => return body(self, from, arguments),
            }
        }
        match kind(callee) {
            Some(Kind::Closure) => {
                if self.memory.roots.stack.len() > self.stack_len_max {
                    return Err(Error::Fault("the recursion is too deep".into()));
                }
                let (code, _) = self.prepare(from, arguments)?;
                self.frames.push(self.now);
                self.now = Frame { code, at: 0, base: from };
                Ok(())
            }
            Some(Kind::Continuation) => self.resume(from, arguments),
            Some(Kind::Parameter) if arguments == 0 => {
                *self.top() = get(callee, 0);
                Ok(())
            }
            _ => Err(Error::fault("is no procedure", &print(callee, false))),
        }
    }

    /// Whether a procedure takes as many arguments.
    pub fn accepts(&self, procedure: Word, arguments: usize) -> bool {
        if let Some(number) = as_primitive(procedure) {
            let one = self.primitives[number];
            return (one.least..=one.most).contains(&arguments);
        }
        if kind(procedure) != Some(Kind::Closure) {
            return true;
        }
        let code = &self.codes[as_small(get(procedure, 0)).expect("a closure has a code") as usize];
        arguments == code.parameters || arguments > code.parameters && code.has_rest
    }

    /// Checks and arranges the arguments of the closure at `from`; returns its code and how many
    /// values are above it then.
    fn prepare(&mut self, from: usize, arguments: usize) -> Result<(usize, usize), Error> {
        let callee = self.memory.roots.stack[from];
        let number = as_small(get(callee, 0)).expect("a closure has a code") as usize;
        let (parameters, has_rest) = (self.codes[number].parameters, self.codes[number].has_rest);
        if arguments < parameters || arguments > parameters && !has_rest {
            return Err(Error::Fault(format!(
                "a procedure of {parameters} arguments was given {arguments}"
            )));
        }
        if !has_rest {
            return Ok((number, parameters));
        }
        let first = from + 1 + parameters;
        let rest = self.retry(|this| Ok(this.memory.list(&this.memory.roots.stack[first..])?))?;
        self.memory.roots.stack.truncate(first);
        self.push(rest);
        Ok((number, parameters + 1))
    }

    /// Runs `f`, and again after a collection if the heap was full. What it uses is in the roots.
    #[inline]
    fn retry(&mut self, mut f: impl FnMut(&mut Self) -> Outcome) -> Outcome {
        match f(self) {
            Err(Error::Full) => {
                self.memory.collect();
                f(self)
            }
            result => result,
        }
    }

    /// `(%call/cc procedure)`: calls it with what remains to be done.
    pub fn call_with_continuation(&mut self, from: usize) -> Result<(), Error> {
        let frames: Vec<Frame> = self.frames.iter().copied().chain([self.now]).collect();
        let words = 1 + 3 * frames.len();
        let made = self.retry(|this| {
            let Memory { roots, .. } = &this.memory;
            Ok(this.memory.words(Kind::Continuation, words + from, |index| match index {
                0 => count(frames.len()),
                _ if index < words => {
                    let Frame { code, at, base } = frames[(index - 1) / 3];
                    count([code, at, base][(index - 1) % 3])
                }
                _ => roots.stack[index - words],
            })?)
        })?;
        let procedure = self.memory.roots.stack[from + 1];
        self.memory.roots.stack.truncate(from);
        self.memory.roots.stack.extend([procedure, made]);
        self.call(1)
    }

    /// Goes on where the continuation was made.
    fn resume(&mut self, from: usize, arguments: usize) -> Result<(), Error> {
        let result = match arguments {
            1 => self.memory.roots.stack[from + 1],
            _ => self.retry(|this| {
                let Memory { roots, .. } = &this.memory;
                let word = |index| roots.stack[from + 1 + index];
                Ok(this.memory.words(Kind::Values, arguments, word)?)
            })?,
        };
        let made = self.memory.roots.stack[from];
        let number = |index: usize| as_small(get(made, index)).expect("a number") as usize;
        self.frames.clear();
        for frame in 0..number(0) {
            let [code, at, base] = [1, 2, 3].map(|part| number(3 * frame + part));
            self.frames.push(Frame { code, at, base });
        }
        self.now = self.frames.pop().expect("the one that called");
        self.stack_len_max = STACK_LEN_MAX;
        let stack = &mut self.memory.roots.stack;
        stack.clear();
        stack.extend((1 + 3 * number(0)..len(made)).map(|index| get(made, index)));
        self.push(result);
        Ok(())
    }

    /// `(apply procedure argument ... list)`.
    pub fn apply(&mut self, from: usize, arguments: usize) -> Result<(), Error> {
        let last = *self.top();
        let items = list(last).ok_or_else(|| Error::fault("is no list", &print(last, false)))?;
        let stack = &mut self.memory.roots.stack;
        stack.remove(from);
        stack.pop();
        stack.extend(&items);
        self.call(arguments - 2 + items.len())
    }

    /// `(%call-with-values values procedure)`.
    pub fn spread(&mut self, from: usize) -> Result<(), Error> {
        let [made, procedure] = [1, 2].map(|index| self.memory.roots.stack[from + index]);
        self.memory.roots.stack.truncate(from);
        self.push(procedure);
        if kind(made) != Some(Kind::Values) {
            self.push(made);
            return self.call(1);
        }
        (0..len(made)).for_each(|index| self.push(get(made, index)));
        self.call(len(made))
    }
}

fn defined(word: Word) -> Outcome {
    if word == UNDEFINED {
        return Err(Error::Fault("a variable is used before its definition".into()));
    }
    Ok(word)
}

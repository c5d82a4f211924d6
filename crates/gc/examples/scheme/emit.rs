//! Emitter: trees to code for the stack machine. Closures copy what they capture; a variable that
//! is assigned lies in a box, so that all copies see it.

use super::roots::Memory;
use super::syntax::{Lambda, Tree};
use super::value::UNSPECIFIED;
use std::collections::HashMap;
use std::rc::Rc;

/// One step of the machine. Slots count from the callee of the frame, which is slot 0.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Constant(u32),
    Slot(u32),
    SlotBox(u32),
    Captured(u32),
    CapturedBox(u32),
    Global(u32),
    SetSlotBox(u32),
    SetCapturedBox(u32),
    SetGlobal(u32),
    Define(u32),
    /// Puts the value of a slot into a box, and that into the slot.
    MakeBox(u32),
    Jump(u32),
    JumpIfFalse(u32),
    /// Makes a closure of a code and as many captured values.
    Close(u32, u32),
    Call(u32),
    TailCall(u32),
    Return,
    Drop,
    /// Drops as many values below the top.
    Slide(u32),
}

/// The code of one procedure.
#[derive(Debug)]
pub struct Code {
    pub ops: Vec<Op>,
    pub parameters: usize,
    pub has_rest: bool,
}

/// A procedure being emitted.
#[derive(Default)]
struct Frame {
    ops: Vec<Op>,
    slots: HashMap<usize, u32>,
    captured: Vec<usize>,
    /// Values on the stack above the callee, itself included.
    depth: u32,
}

pub struct Emitter<'a> {
    memory: &'a mut Memory,
    codes: &'a mut Vec<Rc<Code>>,
    assigned: Vec<bool>,
    frames: Vec<Frame>,
}

impl<'a> Emitter<'a> {
    pub fn new(memory: &'a mut Memory, codes: &'a mut Vec<Rc<Code>>, assigned: Vec<bool>) -> Self {
        Self { memory, codes, assigned, frames: Vec::new() }
    }

    /// The number of the code that runs `tree`.
    pub fn top_level(mut self, tree: &Tree) -> usize {
        self.frames.push(Frame { depth: 1, ..Frame::default() });
        self.emit(tree, true);
        self.finish(0, false).0
    }

    fn finish(&mut self, parameters: usize, has_rest: bool) -> (usize, Vec<usize>) {
        let frame = self.frames.pop().expect("one is being emitted");
        self.codes.push(Rc::new(Code { ops: frame.ops, parameters, has_rest }));
        (self.codes.len() - 1, frame.captured)
    }

    fn frame(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("one is being emitted")
    }

    fn push(&mut self, op: Op) {
        self.frame().ops.push(op);
    }

    fn here(&mut self) -> u32 {
        self.frame().ops.len() as u32
    }

    /// Pushes the word of a variable: its value, or its box.
    fn load(&mut self, variable: usize) -> Op {
        let frame = self.frame();
        if let Some(slot) = frame.slots.get(&variable) {
            return Op::Slot(*slot);
        }
        let known = frame.captured.iter().position(|one| *one == variable);
        let index = known.unwrap_or_else(|| {
            frame.captured.push(variable);
            frame.captured.len() - 1
        });
        Op::Captured(index as u32)
    }

    fn emit(&mut self, tree: &Tree, is_tail: bool) {
        match tree {
            Tree::Constant(word) => {
                let number = self.memory.constant(*word);
                self.push(Op::Constant(number));
            }
            Tree::Local(variable) => {
                let op = match self.load(*variable) {
                    Op::Slot(slot) if self.assigned[*variable] => Op::SlotBox(slot),
                    Op::Captured(index) if self.assigned[*variable] => Op::CapturedBox(index),
                    op => op,
                };
                self.push(op);
            }
            Tree::Global(number) => self.push(Op::Global(*number)),
            Tree::SetLocal(variable, value) => {
                self.emit(value, false);
                let op = match self.load(*variable) {
                    Op::Slot(slot) => Op::SetSlotBox(slot),
                    Op::Captured(index) => Op::SetCapturedBox(index),
                    op => op,
                };
                self.push(op);
            }
            Tree::SetGlobal(number, value) => {
                self.emit(value, false);
                self.push(Op::SetGlobal(*number));
            }
            Tree::Define(number, value) => {
                self.emit(value, false);
                self.push(Op::Define(*number));
            }
            Tree::If(parts) => return self.choose(parts, is_tail),
            Tree::Sequence(trees) => {
                let (last, before) = trees.split_last().expect("a sequence has a last form");
                for tree in before {
                    self.emit(tree, false);
                    self.push(Op::Drop);
                    self.frame().depth -= 1;
                }
                return self.emit(last, is_tail);
            }
            Tree::Lambda(lambda) => self.lambda(lambda),
            Tree::Let(bound, body) => return self.bind(bound, body, is_tail),
            Tree::Call(callee, arguments) => {
                self.emit(callee, false);
                for argument in arguments {
                    self.emit(argument, false);
                }
                let count = arguments.len() as u32;
                self.frame().depth -= count + 1;
                self.push(if is_tail { Op::TailCall(count) } else { Op::Call(count) });
                if is_tail {
                    self.push(Op::Return);
                }
                self.frame().depth += 1;
                return;
            }
        }
        self.frame().depth += u32::from(!is_store(tree));
        if is_tail {
            self.push(Op::Return);
        }
    }

    fn choose(&mut self, [test, then, other]: &[Tree; 3], is_tail: bool) {
        self.emit(test, false);
        let branch = self.here() as usize;
        self.push(Op::JumpIfFalse(0));
        self.frame().depth -= 1;
        self.emit(then, is_tail);
        let jump = self.here() as usize;
        if !is_tail {
            self.push(Op::Jump(0));
        }
        let otherwise = self.here();
        self.frame().ops[branch] = Op::JumpIfFalse(otherwise);
        self.frame().depth -= 1;
        self.emit(other, is_tail);
        if !is_tail {
            let end = self.here();
            self.frame().ops[jump] = Op::Jump(end);
        }
    }

    fn bind(&mut self, bound: &[(usize, Tree)], body: &Tree, is_tail: bool) {
        for (variable, value) in bound {
            self.emit(value, false);
            let slot = self.frame().depth - 1;
            self.frame().slots.insert(*variable, slot);
            if self.assigned[*variable] {
                self.push(Op::MakeBox(slot));
            }
        }
        self.emit(body, is_tail);
        let count = bound.len() as u32;
        if !is_tail && count > 0 {
            self.push(Op::Slide(count));
        }
        self.frame().depth -= count;
    }

    fn lambda(&mut self, lambda: &Lambda) {
        let depth = 1 + lambda.parameters.len() as u32;
        self.frames.push(Frame { depth, ..Frame::default() });
        for (slot, variable) in (1..).zip(&lambda.parameters) {
            self.frame().slots.insert(*variable, slot);
            if self.assigned[*variable] {
                self.push(Op::MakeBox(slot));
            }
        }
        self.emit(&lambda.body, true);
        let parameters = lambda.parameters.len() - usize::from(lambda.has_rest);
        let (code, captured) = self.finish(parameters, lambda.has_rest);
        for variable in &captured {
            let op = self.load(*variable);
            self.push(op);
        }
        self.push(Op::Close(code as u32, captured.len() as u32));
    }
}

/// Whether the step of `tree` replaces the value on top instead of pushing one.
fn is_store(tree: &Tree) -> bool {
    matches!(tree, Tree::SetLocal(..) | Tree::SetGlobal(..) | Tree::Define(..))
}

/// What a store leaves on the stack.
pub const STORED: super::value::Word = UNSPECIFIED;

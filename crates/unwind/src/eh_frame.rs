//! From an address to its rule, by the unwind table of its module.
//!
//! Source: DWARF 5, section 6.4; LSB Core, "Exception Frames" (.eh_frame, .eh_frame_hdr).

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EhFrameOffset, EndianSlice, Expression,
    FrameDescriptionEntry, NativeEndian, Operation, ParsedEhFrameHdr, Pointer, Register,
    RegisterRule, UnwindContext, UnwindContextStorage, UnwindExpression, UnwindSection,
    UnwindTableRow, X86_64,
};

use crate::elf::{Image, bytes_at};
use crate::rule::{Kind, Rule};

type Slice = EndianSlice<'static, NativeEndian>;
type Fde = FrameDescriptionEntry<Slice>;

/// Room for the rows of one evaluation, inside the context instead of on the heap.
pub(crate) struct InContext;

impl UnwindContextStorage<usize> for InContext {
    /// All registers of the ABI (17) with room to spare; more is an error of gimli's.
    type Rules = [(Register, RegisterRule<usize>); 32];
    type Stack = [UnwindTableRow<usize, Self>; 6];
}

/// The scratch memory of an evaluation, some 7 KiB.
pub(crate) type Context = UnwindContext<usize, InContext>;

/// Where the unwind table of a module lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnwindTable {
    header: usize,
    header_end: usize,
    frames: usize,
    frames_end: usize,
}

impl UnwindTable {
    /// The table of a module that has none.
    pub(crate) const NONE: Self = Self { header: 0, header_end: 0, frames: 0, frames_end: 0 };

    /// Finds the table of a module; [`UnwindTable::NONE`] when there is none that can be used.
    ///
    /// # Safety
    /// - The module is mapped as `image` says.
    pub(crate) unsafe fn locate(image: &Image) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::try_locate(image) }.unwrap_or(Self::NONE)
    }

    /// # Safety
    /// - As for `locate`.
    unsafe fn try_locate(image: &Image) -> Option<Self> {
        if image.eh_frame_hdr == 0 {
            return None;
        }
        let mut table = Self {
            header: image.eh_frame_hdr,
            header_end: image.eh_frame_hdr_end,
            frames: 0,
            frames_end: 0,
        };
        // SAFETY: the module is mapped, by the caller.
        let header = unsafe { table.parse_header() }?;
        table.frames = match header.eh_frame_ptr() {
            Pointer::Direct(address) => usize::try_from(address).ok()?,
            Pointer::Indirect(_) => return None,
        };
        // SAFETY: the caller's promise.
        table.frames_end = unsafe { image.readable_end(table.frames) }?;
        Some(table)
    }

    /// # Safety
    /// - The module of this table is still mapped.
    unsafe fn parse_header(&self) -> Option<ParsedEhFrameHdr<Slice>> {
        // SAFETY: a part of a loaded, readable segment, by `Image`.
        let bytes = unsafe { bytes_at(self.header, self.header_end - self.header) };
        EhFrameHdr::new(bytes, NativeEndian).parse(&self.bases(), 8).ok()
    }

    fn bases(&self) -> BaseAddresses {
        BaseAddresses::default()
            .set_eh_frame_hdr(self.header as u64)
            .set_eh_frame(self.frames as u64)
    }

    /// The rule for the instruction at `address`; none when the table does not cover it.
    ///
    /// 0.5 to 2 us: a binary search and the evaluation of one entry.
    ///
    /// # Safety
    /// - The module of this table is still mapped.
    pub(crate) unsafe fn rule(&self, context: &mut Context, address: usize) -> Option<Rule> {
        if self.header == 0 {
            return None;
        }
        // SAFETY: the caller's promise.
        let header = unsafe { self.parse_header() }?;
        // SAFETY: a part of a loaded, readable segment, by `locate`.
        let bytes = unsafe { bytes_at(self.frames, self.frames_end - self.frames) };
        let frames = EhFrame::new(bytes, NativeEndian);
        let bases = self.bases();
        let entry = self.entry(&header, &frames, address)?;
        if !entry.contains(address as u64) {
            return None;
        }
        if entry.is_signal_trampoline() {
            return Some(special_rule(address + 1).unwrap_or(Rule::UNSUPPORTED));
        }
        let row = entry.unwind_info_for_address(&frames, &bases, context, address as u64).ok();
        Some(row.and_then(|row| pack(row, &frames, address)).unwrap_or(Rule::UNSUPPORTED))
    }

    fn entry(
        &self,
        header: &ParsedEhFrameHdr<Slice>,
        frames: &EhFrame<Slice>,
        address: usize,
    ) -> Option<Fde> {
        let bases = self.bases();
        let Some(table) = header.table() else {
            // No sorted table: look at every entry.
            return frames.fde_for_address(&bases, address as u64, EhFrame::cie_from_offset).ok();
        };
        let Pointer::Direct(entry) = table.lookup(address as u64, &bases).ok()? else {
            return None;
        };
        let offset = usize::try_from(entry).ok()?.checked_sub(self.frames)?;
        let offset = EhFrameOffset(offset);
        frames.fde_from_offset(&bases, offset, EhFrame::cie_from_offset).ok()
    }
}

/// The rule for a return to `pc`, in code that is special in a way that no table tells: a signal
/// handler's return, or the end of a coroutine of `makecontext`.
pub(crate) fn special_rule(pc: usize) -> Option<Rule> {
    /// `mov $15, %rax; syscall`, which asks the kernel to restore the context.
    const RESTORE: &[u8] = &[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];
    const RESTORE_SHORT: &[u8] = &[0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05];
    /// `mov %rbx, %rsp; mov (%rsp), %rdi; test`: glibc's `__start_context`, where the function
    /// of a coroutine returns to. Its stack begins there.
    const NEXT_CONTEXT: &[u8] = &[0x48, 0x89, 0xdc, 0x48, 0x8b, 0x3c, 0x24, 0x48, 0x85];
    if !heapwright_os::is_readable(pc) || !heapwright_os::is_readable(pc + 1) {
        return None;
    }
    // SAFETY: both probes together cover nine bytes; code of a mapped module does not change.
    let code = unsafe { bytes_at(pc, RESTORE.len()) };
    if code == RESTORE || code.starts_with(RESTORE_SHORT) {
        Some(Rule::SIGNAL)
    } else {
        (code == NEXT_CONTEXT).then_some(Rule::OUTERMOST)
    }
}

/// Packs a row; none when it says something that a packed rule cannot.
fn pack(
    row: &UnwindTableRow<usize, InContext>,
    frames: &EhFrame<Slice>,
    address: usize,
) -> Option<Rule> {
    match row.register(X86_64::RA) {
        Some(RegisterRule::Offset(-8)) => {}
        Some(RegisterRule::Undefined) => return Some(Rule::OUTERMOST),
        _ => return None,
    }
    let fp = row.register(X86_64::RBP);
    match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            let kind = match *register {
                X86_64::RSP => Kind::StackPointer,
                X86_64::RBP => Kind::FramePointer,
                _ => return None,
            };
            Rule::new(kind, *offset, fp_below_cfa(fp)?)
        }
        CfaRule::Expression(expression) => {
            let cfa = expression.get(frames).ok()?;
            if let Some(below) = realigned(cfa) {
                let saved_at = match fp {
                    Some(RegisterRule::Expression(at)) => expression_of(&at, frames)?,
                    _ => return None,
                };
                return (fp_offset(saved_at) == Some(0))
                    .then(|| Rule::new(Kind::Realigned, below, 0))?;
            }
            // The stubs of the procedure linkage table: the offset depends on the address.
            let at_zero = evaluate(cfa, 0, address)?;
            let above = evaluate(cfa, 1 << 32, address)?;
            (above.wrapping_sub(at_zero) == 1 << 32)
                .then(|| Rule::new(Kind::StackPointer, at_zero, fp_below_cfa(fp)?))?
        }
    }
}

fn expression_of(
    expression: &UnwindExpression<usize>,
    frames: &EhFrame<Slice>,
) -> Option<Expression<Slice>> {
    expression.get(frames).ok()
}

/// Bytes between the CFA and the slot that holds the caller's frame pointer, 0 when that
/// register is unchanged.
fn fp_below_cfa(rule: Option<RegisterRule<usize>>) -> Option<i64> {
    match rule {
        None | Some(RegisterRule::SameValue | RegisterRule::Undefined) => Some(0),
        Some(RegisterRule::Offset(offset)) if offset < 0 => offset.checked_neg(),
        _ => None,
    }
}

/// `below` when the expression is "the word `below` bytes below the frame pointer".
fn realigned(expression: Expression<Slice>) -> Option<i64> {
    let mut operations = expression.operations(ENCODING);
    let offset = match operations.next().ok()?? {
        Operation::RegisterOffset { register: X86_64::RBP, offset, .. } => offset,
        _ => return None,
    };
    let is_load =
        matches!(operations.next().ok()??, Operation::Deref { size: 8, space: false, .. });
    (is_load && operations.next().ok()?.is_none()).then(|| offset.checked_neg())?
}

/// The offset when the expression is "frame pointer plus offset".
fn fp_offset(expression: Expression<Slice>) -> Option<i64> {
    let mut operations = expression.operations(ENCODING);
    match (operations.next().ok()??, operations.next().ok()?) {
        (Operation::RegisterOffset { register: X86_64::RBP, offset, .. }, None) => Some(offset),
        _ => None,
    }
}

const ENCODING: gimli::Encoding =
    gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 4 };

/// Evaluates an expression of stack pointer, address and numbers that loads no memory.
fn evaluate(expression: Expression<Slice>, sp: i64, address: usize) -> Option<i64> {
    let mut stack = [0i64; 8];
    let mut depth = 0;
    let mut operations = expression.operations(ENCODING);
    while let Some(operation) = operations.next().ok()? {
        let value = match operation {
            Operation::RegisterOffset { register: X86_64::RSP, offset, .. } => {
                sp.checked_add(offset)?
            }
            Operation::RegisterOffset { register: X86_64::RA, offset, .. } => {
                i64::try_from(address).ok()?.checked_add(offset)?
            }
            Operation::UnsignedConstant { value } => i64::try_from(value).ok()?,
            Operation::SignedConstant { value } => value,
            Operation::PlusConstant { value } => {
                depth = usize::checked_sub(depth, 1)?;
                stack[depth].checked_add_unsigned(value)?
            }
            _ => {
                let [left, right] = *stack.get(usize::checked_sub(depth, 2)?..depth)? else {
                    return None;
                };
                depth -= 2;
                match operation {
                    Operation::Plus => left.checked_add(right)?,
                    Operation::And => left & right,
                    Operation::Shl => left.checked_shl(u32::try_from(right).ok()?)?,
                    Operation::Ge => i64::from(left >= right),
                    _ => return None,
                }
            }
        };
        *stack.get_mut(depth)? = value;
        depth += 1;
    }
    (depth == 1).then_some(stack[0])
}

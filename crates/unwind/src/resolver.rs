//! The slow half of a look-up: from an address that the cache does not know to its rule.
//!
//! # Invariants
//! - I2 (see `rule_cache`): all writes to the cache happen here, under the lock.
//! - I6 (design/unwinding#I6): a module's memory is read only under the lock and only while no
//!   other thread is between [`modules_unloading`] and [`modules_unloaded`].

use core::mem::MaybeUninit;

use heapwright_os::{monotonic_ns, thread_pointer};
use heapwright_sync::atomic::{AtomicU32, Ordering};

use crate::eh_frame::{Context, special_rule};
use crate::few_rules::FewRules;
use crate::lock::Owned;
use crate::modules::{LineBuffer, Module, ModuleTable, Place};
use crate::rule::Rule;
use crate::rule_cache::RuleCache;

/// After reading the mappings in vain, this many times the time it took must pass before an
/// unknown address has them read again: at most 5 % of the time goes there.
const REST_FACTOR: u64 = 20;

pub(crate) static CACHE: RuleCache = RuleCache::new();
static RESOLVER: Owned<Resolver> = Owned::new(Resolver::new());
/// Counts of changes, on one cache line: every capture asks for both.
#[repr(align(64))]
struct Generations {
    /// Of those that make rules invalid which were true before.
    rules: AtomicU32,
    /// Of those of the list of modules.
    modules: AtomicU32,
}

static GENERATIONS: Generations =
    Generations { rules: AtomicU32::new(1), modules: AtomicU32::new(0) };
/// 1 when the list of modules must not be read any more.
static FROZEN: AtomicU32 = AtomicU32::new(0);

/// Takes the cache's place while [`KEEPS_FEW`] is 1.
static FEW: FewRules = FewRules::new();
static KEEPS_FEW: AtomicU32 = AtomicU32::new(0);

/// The answer for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// Step by this rule.
    Rule(Rule),
    /// No code is known there.
    NotCode,
    /// The resolver could not be had in time.
    Busy,
}

/// All zeroes at the start, so that it takes no room in the program's file.
struct Resolver {
    tables: [ModuleTable; 2],
    current: usize,
    buffer: LineBuffer,
    context: MaybeUninit<Context>,
    context_ready: bool,
    /// Nothing was loaded since the mappings were read, as far as we were told; otherwise the
    /// next unknown address has them read again.
    settled: bool,
    /// No reading of the mappings before this time.
    rest_until_ns: u64,
    /// How many threads are unloading, and the thread pointer when it is one.
    unloading: usize,
    unloader: usize,
}

impl Resolver {
    const fn new() -> Self {
        Self {
            tables: [const { ModuleTable::new() }; 2],
            current: 0,
            buffer: LineBuffer::new(),
            context: MaybeUninit::uninit(),
            context_ready: false,
            settled: false,
            rest_until_ns: 0,
            unloading: 0,
            unloader: 0,
        }
    }

    fn may_read_modules(&self) -> bool {
        self.unloading == 0 || (self.unloading == 1 && self.unloader == thread_pointer())
    }

    fn resolve(&mut self, pc: usize) -> Resolved {
        let known = known_rule(pc);
        if known != Rule::EMPTY {
            return Resolved::Rule(known);
        }
        if !self.may_read_modules() {
            return Resolved::Busy;
        }
        let address = pc - 1;
        let mut place = self.tables[self.current].place(address);
        if matches!(place, Place::Nothing) && is_frozen() {
            return Resolved::NotCode;
        }
        if matches!(place, Place::Nothing) && (!self.settled || monotonic_ns() > self.rest_until_ns)
        {
            self.refresh();
            place = self.tables[self.current].place(address);
        }
        let rule = match place {
            Place::Nothing => return Resolved::NotCode,
            Place::Code => Rule::GUESS,
            Place::Module(table) => {
                let context = self.context();
                // SAFETY: nobody unloads (I6), so a module in the table is still mapped.
                let rule = unsafe { table.rule(context, address) };
                rule.or_else(|| special_rule(pc)).unwrap_or(Rule::GUESS_IN_MODULE)
            }
        };
        if keeps_few() {
            FEW.insert(pc, rule)
        } else {
            CACHE.insert(pc, rule)
        }
        Resolved::Rule(rule)
    }

    fn context(&mut self) -> &mut Context {
        if !self.context_ready {
            self.context.write(Context::new_in());
            self.context_ready = true;
        }
        // SAFETY: written just now or before; `context_ready` is set only after that.
        unsafe { self.context.assume_init_mut() }
    }

    /// Reads the mappings into the spare table, and drops what no longer holds.
    fn refresh(&mut self) {
        if is_frozen() {
            return;
        }
        let start_ns = monotonic_ns();
        let spare = 1 - self.current;
        // SAFETY: I6: the callers have made sure that nobody unloads.
        let is_read = unsafe { self.tables[spare].read(&mut self.buffer) };
        let mut is_vain = true;
        self.settled = true;
        if is_read {
            let (old, new) = (&self.tables[self.current], &self.tables[spare]);
            let is_kept = old.is_kept_by(new);
            let is_grown = !new.is_kept_by(old);
            let code_changed = !old.same_code(new);
            self.current = spare;
            if !is_kept || is_grown || code_changed {
                is_vain = false;
                // What was unknown may be known now; what was known may be gone.
                let any = if keeps_few() { FEW.clear(is_kept) } else { CACHE.clear(is_kept) };
                if any {
                    // Release: pairs with the Acquire in `rule_generation`.
                    GENERATIONS.rules.fetch_add(1, Ordering::Release);
                }
            }
            if !is_kept || is_grown {
                // Release: pairs with the Acquire in `module_generation`.
                GENERATIONS.modules.fetch_add(1, Ordering::Release);
            }
        }
        let end_ns = monotonic_ns();
        let rest_ns = if is_vain { (end_ns - start_ns) * REST_FACTOR } else { 0 };
        self.rest_until_ns = end_ns + rest_ns;
    }
}

/// The rule for `pc`, which the cache does not have. 1 to 2 us, more when modules changed.
#[cold]
#[inline(never)]
pub(crate) fn resolve(pc: usize) -> Resolved {
    RESOLVER.with(|resolver| resolver.resolve(pc)).unwrap_or(Resolved::Busy)
}

/// The rule for `pc` if it was stored, or the empty one.
pub(crate) fn known_rule(pc: usize) -> Rule {
    if keeps_few() { FEW.get(pc) } else { CACHE.get(pc) }
}

/// The rule for `pc` if it is in the small table, or the empty one.
pub(crate) fn lookup_few(pc: usize) -> Rule {
    if keeps_few() { FEW.get(pc) } else { Rule::EMPTY }
}

/// Changes whenever a rule that was handed out may have become invalid.
#[inline(always)]
pub(crate) fn rule_generation() -> u32 {
    // Acquire: pairs with the Release in `refresh`; rules looked up after it are newer.
    GENERATIONS.rules.load(Ordering::Acquire)
}

/// Changes whenever the list of modules was found changed; one load. 0: never read.
#[inline]
pub fn module_generation() -> u32 {
    // Acquire: pairs with the Release in `refresh`.
    GENERATIONS.modules.load(Ordering::Acquire)
}

/// Never reads the list of modules or probes memory again: for programs that are about to forbid
/// themselves the system calls that this takes. Unknown addresses, and stacks deeper than those
/// met before, end a walk from then on.
pub fn freeze_modules() {
    FROZEN.store(1, Ordering::Relaxed);
}

/// Keeps rules in 16 KiB from now on, not spread over 512 KiB: for programs whose stacks are walked
/// seldom, where memory counts more than the 20 ns that each unknown frame then takes. Call it
/// before the first capture.
pub fn keep_few_rules() {
    KEEPS_FEW.store(1, Ordering::Relaxed);
}

/// Whether the cache stays empty.
fn keeps_few() -> bool {
    KEEPS_FEW.load(Ordering::Relaxed) != 0
}

/// Whether the kernel must not be asked any more.
pub(crate) fn is_frozen() -> bool {
    FROZEN.load(Ordering::Relaxed) != 0
}

/// Tells that modules may have been loaded: call before and after `dlopen`. Some 20 ns.
///
/// The list is read again only when an address turns up that no known module covers, so an
/// unchanged list costs nothing.
pub fn modules_loaded() {
    RESOLVER.with(|resolver| resolver.settled = false);
}

/// Reads the list of modules now; call once at start-up, where reading it costs least. Some 20
/// to 100 us. False when another thread is at it, or the list cannot be read.
pub fn refresh_modules() -> bool {
    let refreshed = RESOLVER.with(|resolver| {
        let may_read = resolver.may_read_modules();
        if may_read {
            resolver.context();
            resolver.refresh();
        }
        may_read && resolver.tables[resolver.current].modules().next().is_some()
    });
    refreshed == Some(true)
}

/// Tells that the calling thread is about to unload modules: call right before `dlclose`, and
/// [`modules_unloaded`] right after it.
///
/// In between, other threads find only rules that are in the cache already, and report stacks
/// that need others as truncated.
pub fn modules_unloading() {
    RESOLVER.with(|resolver| {
        resolver.unloading += 1;
        resolver.unloader = thread_pointer();
    });
}

/// Tells that the unloading announced by [`modules_unloading`] is over. Some 50 to 150 us.
pub fn modules_unloaded() {
    RESOLVER.with(|resolver| {
        resolver.unloading = resolver.unloading.saturating_sub(1);
        resolver.settled = false;
        if resolver.unloading == 0 {
            resolver.refresh();
        }
    });
}

/// Calls `visit` for each known module in order of address, with the list locked, and returns
/// the generation that it belongs to; none when the list could not be had.
///
/// `visit` must not capture: it would find the list locked and report a truncated stack.
pub fn visit_modules(mut visit: impl FnMut(Module<'_>)) -> Option<u32> {
    RESOLVER.with(|resolver| {
        resolver.tables[resolver.current].modules().for_each(&mut visit);
        module_generation()
    })
}

/// Makes the resolver usable in a child after `fork`: call there before any capture.
///
/// # Safety
/// - The process has only the calling thread, and that thread is in no other call of this crate.
pub unsafe fn reset_after_fork() {
    // SAFETY: whoever was inside does not exist in the child. A table being read was the spare
    // one, the context is reset by each use, the cache's entries are single words.
    unsafe { RESOLVER.break_open() };
    RESOLVER.with(|resolver| {
        resolver.unloading = 0;
        resolver.settled = false;
    });
}

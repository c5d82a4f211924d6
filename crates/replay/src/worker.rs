//! The worker process: one run of a plan, on the allocator that was preloaded.

use std::ffi::{CStr, OsString, c_char};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{FromRawFd, RawFd};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::time::Duration;

use crate::engine::{Board, Engine, NullHeap, PlanView, ProcessHeap, Stocktaker};
use crate::result::Text;
use crate::site::SiteRoute;
use crate::sys;

/// First argument of a worker: it tells `heapwright` to call [`worker_main`].
pub const WORKER_ARGUMENT: &str = "__replay-worker";

/// Words with a bit for each sample: more samples than any plan has.
const SAMPLE_WORDS_MAX: usize = 1024;

/// Exit status of a worker that says on the board why it gave up.
const GAVE_UP: i32 = 3;

/// Where a worker says why it gives up.
static BOARD: OnceLock<Board> = OnceLock::new();

/// What one run is to do, as the worker's arguments say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// Descriptor of the plan.
    pub(crate) plan: RawFd,
    /// Descriptor of the result.
    pub(crate) result: RawFd,
    /// Process id of the parent.
    pub(crate) parent: u32,
    /// What to replay on.
    pub(crate) subject: Subject,
    /// Whether memory is measured, else time.
    pub(crate) is_memory: bool,
    /// Milliseconds that a memory run on the recorded clock may take; 0 for one that does not keep to it.
    pub(crate) pace_ms: u64,
    /// The call site that a region serves, if one is to.
    pub(crate) route: Option<SiteRoute>,
    /// Descriptor of the file that stock is written to, if any is to be taken; the samples at
    /// which are the file's first words, a bit each.
    pub(crate) stock: Option<RawFd>,
}

/// What to replay on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Nothing: the same stores without an allocator.
    Null,
    /// libc's own allocator.
    System,
    /// The allocator that was preloaded.
    Preloaded,
}

impl Order {
    /// As arguments.
    pub(crate) fn to_arguments(self) -> [String; 9] {
        let subject = match self.subject {
            Subject::Null => "null",
            Subject::System => "system",
            Subject::Preloaded => "preloaded",
        };
        let kind = if self.is_memory { "memory" } else { "time" };
        [
            WORKER_ARGUMENT.to_owned(),
            self.plan.to_string(),
            self.result.to_string(),
            self.parent.to_string(),
            subject.to_owned(),
            kind.to_owned(),
            self.pace_ms.to_string(),
            self.route.map_or_else(|| "-".to_owned(), SiteRoute::to_argument),
            self.stock.map_or_else(|| "-".to_owned(), |fd| fd.to_string()),
        ]
    }

    fn from_arguments(arguments: &[OsString]) -> Option<Self> {
        let [plan, result, parent, subject, kind, pace_ms, route, stock] = arguments else {
            return None;
        };
        let subject = match subject.to_str()? {
            "null" => Subject::Null,
            "system" => Subject::System,
            "preloaded" => Subject::Preloaded,
            _ => return None,
        };
        Some(Self {
            plan: plan.to_str()?.parse().ok()?,
            result: result.to_str()?.parse().ok()?,
            parent: parent.to_str()?.parse().ok()?,
            subject,
            is_memory: kind == "memory",
            pace_ms: pace_ms.to_str()?.parse().ok()?,
            route: match route.to_str()? {
                "-" => None,
                text => Some(SiteRoute::from_argument(text)?),
            },
            stock: match stock.to_str()? {
                "-" => None,
                text => Some(text.parse().ok()?),
            },
        })
    }
}

/// The whole life of a worker. `arguments` are those after [`WORKER_ARGUMENT`].
///
/// Not for users: `heapwright` calls it in the processes that [`crate::replay`] starts.
pub fn worker_main(arguments: &[OsString]) -> ! {
    let Some(order) = Order::from_arguments(arguments) else {
        eprintln!("{WORKER_ARGUMENT} is for heapwright's own use; see: heapwright replay --help");
        std::process::exit(125);
    };
    if !sys::die_with_parent(order.parent) {
        std::process::exit(GAVE_UP);
    }
    let plan_file = inherited(order.plan);
    let result_file = inherited(order.result);
    let board = match Board::map(&result_file) {
        Ok(board) => *BOARD.get_or_init(|| board),
        Err(error) => {
            eprintln!("the result cannot be mapped: {error}");
            std::process::exit(GAVE_UP);
        }
    };
    if order.subject != Subject::Null {
        board.set_text(Text::Version, &version(order.subject));
    }
    let checked = check_allocator(order.subject);
    let knows_usable = checked.unwrap_or_else(|why| give_up(&why));
    let plan = PlanView::map(&plan_file, order.is_memory)
        .unwrap_or_else(|error| give_up(&error.to_string()));
    let plan: &'static PlanView = Box::leak(Box::new(plan));
    if plan.has_aligned && order.subject == Subject::Preloaded && !serves(c"posix_memalign") {
        give_up("it lacks posix_memalign, which the program needs");
    }
    match order.subject {
        Subject::Null => {
            let bytes = NullHeap::arena_bytes(plan.slot_count);
            let arena = sys::map(None, bytes, true).unwrap_or_else(|error| {
                give_up(&format!("memory for the null run cannot be had: {error}"))
            });
            // SAFETY: just mapped with so many bytes, a power of two, and never unmapped.
            let heap = unsafe { NullHeap::new(arena, bytes) };
            run(plan, heap, board, order, false);
        }
        Subject::System | Subject::Preloaded => {
            run(plan, ProcessHeap, board, order, knows_usable);
        }
    }
    std::process::exit(0)
}

fn run<H: crate::engine::Heap>(
    plan: &'static PlanView,
    heap: H,
    board: Board,
    order: Order,
    knows_usable: bool,
) {
    let is_memory = order.is_memory;
    board.set(crate::result::Field::KnowsUsable, u64::from(knows_usable));
    let engine = Engine::new(plan, heap, board, is_memory, knows_usable, exhausted, give_up);
    let mut engine =
        engine.unwrap_or_else(|error| give_up(&format!("no memory to replay: {error}")));
    let routed = engine.route(order.route);
    routed.unwrap_or_else(|error| give_up(&format!("no memory for the site's region: {error}")));
    if let Some(fd) = order.stock {
        let prepared = stocktaker(fd).and_then(|taker| engine.take_stock_by(taker));
        prepared.unwrap_or_else(|error| give_up(&format!("stock cannot be taken: {error}")));
    }
    if order.pace_ms > 0 {
        engine.keep_pace(Duration::from_millis(order.pace_ms));
    }
    if is_memory {
        engine.run::<true>();
    } else {
        engine.run::<false>();
    }
}

/// Reads from the file which samples are wanted; the records follow there.
fn stocktaker(fd: RawFd) -> io::Result<Stocktaker> {
    let mut file = inherited(fd);
    let mut word = [0; 8];
    file.read_exact(&mut word)?;
    let count = (u64::from_ne_bytes(word) as usize).min(SAMPLE_WORDS_MAX);
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        file.read_exact(&mut word)?;
        samples.push(u64::from_ne_bytes(word));
    }
    Ok(Stocktaker::new(file, samples))
}

/// A descriptor that the parent opened for us.
fn inherited(fd: RawFd) -> File {
    // SAFETY: the parent made it for this process alone; only this file owns it. A wrong
    // number fails at the first use.
    unsafe { File::from_raw_fd(fd) }
}

fn give_up(why: &str) -> ! {
    if let Some(board) = BOARD.get() {
        board.set_text(Text::Failure, why);
    }
    std::process::exit(GAVE_UP)
}

fn exhausted(is_region: bool, size: usize) -> ! {
    let what = if is_region { "the region had no room for" } else { "null was given for" };
    give_up(&format!("{what} {size} bytes"))
}

/// The object that serves `name`: where it begins.
fn object(name: &CStr) -> Option<(usize, &'static CStr)> {
    sys::object_of(sys::symbol(name)?)
}

/// Whether `name` comes from the object that `malloc` comes from.
fn serves(name: &CStr) -> bool {
    match (object(c"malloc"), object(name)) {
        (Some(malloc), Some(other)) => malloc.0 == other.0,
        _ => false,
    }
}

/// Sees to it that the right allocator is there; whether it tells usable sizes.
fn check_allocator(subject: Subject) -> Result<bool, String> {
    let Some(malloc) = object(c"malloc") else {
        return Err("malloc is in no loaded object".to_owned());
    };
    let libc = object(c"gnu_get_libc_version").or_else(|| object(c"getenv"));
    let is_libc = libc.is_some_and(|libc| libc.0 == malloc.0);
    match subject {
        Subject::Null | Subject::System => {}
        Subject::Preloaded if is_libc => {
            return Err("it was loaded but does not replace malloc (or the loader refused it); \
                        it needs to export malloc, free, calloc and realloc"
                .to_owned());
        }
        Subject::Preloaded => {
            for name in [c"free", c"calloc", c"realloc"] {
                if !serves(name) {
                    let name = name.to_string_lossy();
                    return Err(format!("it replaces malloc but not {name}"));
                }
            }
        }
    }
    Ok(serves(c"malloc_usable_size"))
}

/// Version of the allocator, as far as it says one.
fn version(subject: Subject) -> String {
    if subject == Subject::System {
        return format!("glibc {}", sys::libc_version());
    }
    if let Some(text) = sys::symbol(c"heapwright_peer_version") {
        // "mimalloc 2.1.7": the name is known, the number is wanted.
        let text = c_text(text.cast());
        return match text.rsplit_once(' ') {
            Some((_, number)) if number.starts_with(|c: char| c.is_ascii_digit()) => number.into(),
            _ => text,
        };
    }
    jemalloc_version().or_else(mimalloc_version).unwrap_or_default()
}

/// A C string that an allocator exports: the array itself, or a pointer to it.
fn c_text(symbol: NonNull<c_char>) -> String {
    // SAFETY: by contract the symbol is a `const char[]`, ended by zero.
    let text = unsafe { CStr::from_ptr(symbol.as_ptr()) };
    text.to_string_lossy().into_owned()
}

fn jemalloc_version() -> Option<String> {
    type Mallctl = unsafe extern "C" fn(
        *const c_char,
        *mut *const c_char,
        *mut usize,
        *const c_char,
        usize,
    ) -> i32;
    let mallctl = sys::symbol(c"mallctl")?;
    // SAFETY: jemalloc's function of this name has this type.
    let mallctl = unsafe { std::mem::transmute::<NonNull<std::ffi::c_void>, Mallctl>(mallctl) };
    let mut text = std::ptr::null();
    let mut bytes = size_of::<*const c_char>();
    // SAFETY: "version" gives one pointer to a constant string.
    let result =
        unsafe { mallctl(c"version".as_ptr(), &raw mut text, &raw mut bytes, std::ptr::null(), 0) };
    let text = NonNull::new(text.cast_mut()).filter(|_| result == 0)?;
    let text = c_text(text);
    Some(text.split('-').next().unwrap_or_default().to_owned())
}

fn mimalloc_version() -> Option<String> {
    let version = sys::symbol(c"mi_version")?;
    // SAFETY: mimalloc's function of this name takes nothing and gives a number.
    let version = unsafe {
        std::mem::transmute::<NonNull<std::ffi::c_void>, extern "C" fn() -> i32>(version)
    };
    let number = version();
    // Two digits each for minor and patch since 3.0 and 2.2; one each before.
    Some(match number {
        10_000.. => format!("{}.{}.{}", number / 10_000, number / 100 % 100, number % 100),
        _ => format!("{}.{}.{}", number / 100, number / 10 % 10, number % 10),
    })
}

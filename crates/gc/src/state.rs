//! The part of a heap that only its slow paths see.

use core::ptr::NonNull;

use crate::system::{monotonic_ns, page_bytes, thread_cpu_ns};

use crate::config::Config;
use crate::control::Controller;
use crate::dynamic_root::RootTable;
use crate::finalise::Finals;
use crate::identity::Identities;
use crate::memory::{Reserve, Table};
use crate::model::Model;
use crate::object::ObjectRef;
use crate::plan::{AnyPlan, Common, DropCursor, Grant, Layout, Plan};
use crate::space::{AddressRange, GIVEN_BYTES_MAX, LARGE_BYTES};
use crate::weak::Pairs;
use crate::write_log::Logged;
use crate::{HeapError, Refusal, Statistics};

pub(crate) struct State<M: Model> {
    pub(crate) plan: AnyPlan<M>,
    pub(crate) common: Common<M>,
    pub(crate) dynamic: RootTable,
    pub(crate) refusal: Option<Refusal>,
    /// When the heap was made, and the CPU time of its thread then.
    pub(crate) begin_ns: u64,
    pub(crate) begin_cpu_ns: u64,
    /// What is older than the nursery, and the nursery.
    pub(crate) tenured: AddressRange,
    pub(crate) nursery: AddressRange,
    /// Keeps the heap's addresses; last, so that it goes last.
    memory: Reserve,
}

impl<M: Model> State<M> {
    pub(crate) fn new(config: &Config) -> Result<Self, HeapError> {
        let config = config.clone().clamped();
        let Layout { memory, plan, large, tenured, nursery } = Layout::<M>::new(&config)?;
        let dynamic = RootTable::new()?;
        let common = Common {
            shared: dynamic.share(),
            large,
            drops: Table::new(),
            young_drops_from: 0,
            drop_cursor: DropCursor { kept: 0, next: 0 },
            finals: Finals::new(),
            table: 0,
            identities: Identities::new(),
            pauses: Table::new(),
            pairs: Pairs::new(),
            mark: 0,
            logged: Logged::new(),
            statistics: Statistics::default(),
            controller: Controller::new(&config),
            trigger_bytes: config.trigger_after(0, config.growth_percent),
            near_limit_bytes: config.near_limit_after(0),
            cursor: core::ptr::null_mut(),
            is_urgent: false,
            config,
        };
        Ok(Self {
            plan,
            common,
            dynamic,
            refusal: None,
            begin_ns: monotonic_ns(),
            begin_cpu_ns: thread_cpu_ns(),
            tenured,
            nursery,
            memory,
        })
    }

    /// The heap's first address, with the provenance of all of it.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.memory.start()
    }

    /// Bytes in use.
    pub(crate) fn occupied_bytes(&self) -> usize {
        self.plan.occupied_bytes() + self.common.other_bytes()
    }

    /// Whether there is something to do after this mutation.
    pub(crate) fn is_due(&self) -> bool {
        self.plan.is_due(&self.common)
            || self.common.config.stress
            || self.common.finals.has_queue()
    }

    /// Whether `bytes` more are within the limit.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let held = self.occupied_bytes().checked_add(self.plan.reserve_bytes());
        let wanted = held.and_then(|held| held.checked_add(bytes));
        wanted.is_some_and(|wanted| wanted <= self.common.config.limit_bytes)
    }

    /// Memory for `bytes`, or notes the refusal.
    pub(crate) fn grant(&mut self, cursor: *mut u8, bytes: usize) -> Option<Grant> {
        // What is given out may be more than what is asked for.
        let given_bytes = match bytes {
            0..=LARGE_BYTES => GIVEN_BYTES_MAX,
            _ => bytes.checked_next_multiple_of(page_bytes()).unwrap_or(usize::MAX),
        };
        let grant = if !self.has_room(given_bytes) {
            None
        } else if bytes > LARGE_BYTES {
            self.common.large.place(bytes).map(Grant::Single)
        } else {
            self.plan.grant(cursor, bytes)
        };
        if grant.is_none() {
            self.refuse(bytes);
        }
        grant
    }

    /// Whole pages for an object that never moves, or notes the refusal.
    pub(crate) fn grant_pinned(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        let has_room = self.has_room(bytes.next_multiple_of(page_bytes()));
        let place = if has_room { self.common.large.place(bytes) } else { None };
        if place.is_none() {
            self.refuse(bytes);
        }
        place
    }

    pub(crate) fn refuse(&mut self, requested_bytes: usize) {
        self.common.is_urgent = true;
        self.common.statistics.refusals += 1;
        self.refusal = Some(Refusal {
            requested_bytes,
            occupied_bytes: self.occupied_bytes(),
            limit_bytes: self.common.config.limit_bytes,
        });
    }

    /// Registers a new object where its size or type needs it. Tells whether there was room.
    pub(crate) fn register(
        &mut self,
        object: ObjectRef,
        has_drop: bool,
        total_bytes: usize,
        is_large: bool,
    ) -> bool {
        if has_drop && self.common.drops.try_push(object).is_err() {
            return false;
        }
        !is_large || self.common.large.add(object, M::start(object), total_bytes).is_some()
    }

    /// Runs the destructors of all objects.
    pub(crate) fn drop_all(&mut self) {
        let drops = self.common.take_drops();
        while let Some(object) = drops.pop() {
            // SAFETY: the heap goes away, so nobody uses the payload again, and the object has
            // left the table, so this happens once.
            unsafe { M::drop_payload(object) };
        }
    }
}

//! What the crew shares of one worker, and the policies that say where a runnable goes.

use super::lifo::Lifo;
use super::local::Local;
use super::task::Task;
use super::theft::Worth;
use crate::cores::Cores;
use crate::sync::{AtomicPtr, AtomicUsize, Counter, Padded};
use crossbeam_deque::{Injector, Steal, Stealer};
use std::io;
use std::ptr;

/// Where a runnable actor is queued. Nothing else differs between the policies, so that they can be
/// compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Policy {
    /// At the worker that made it runnable; idle workers steal. The policy to use.
    #[default]
    Stealing,
    /// Always at the worker that the actor's id hashes to: static sharding. No worker helps
    /// another.
    Sharded,
    /// In one queue that all workers take from.
    SharedQueue,
}

/// Worker k's place, as the others see it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(super) lifo: Padded<Lifo>,
    pub(super) stealer: Stealer<Task>,
    /// What only this worker may run.
    pub(super) inbox: Injector<Task>,
    /// What is its holder's alone; from the holder's arrival to the end of the crew.
    pub(super) local: AtomicPtr<Local>,
    pub(crate) counters: Padded<Counters>,
    /// Where whoever works here is pinned, if anywhere.
    core: Option<usize>,
    /// Actors kept here.
    pub(super) residents: AtomicUsize,
    /// The sentinel has seen that what waits here is stuck: the number of turns before the one it is stuck behind.
    stuck_at: Counter,
}

/// No turn has this number.
const NOT_STUCK: u64 = u64::MAX;

impl Slot {
    pub(super) fn new(stealer: Stealer<Task>, core: Option<usize>) -> Self {
        Slot {
            lifo: Padded(Lifo::new()),
            stealer,
            inbox: Injector::new(),
            local: AtomicPtr::new(ptr::null_mut()),
            counters: Padded::default(),
            core,
            residents: AtomicUsize::new(0),
            stuck_at: Counter::with(NOT_STUCK),
        }
    }

    /// How long its holder will take to get to all that waits in its queue, in nanoseconds: a guess, from its last turns.
    pub(super) fn backlog_ns(&self) -> u64 {
        self.stealer.len() as u64 * self.counters.mean_turn_ns.get()
    }

    /// Is that so long that siblings should take some of it?
    pub(super) fn wants_thieves(&self, worth: &Worth) -> bool {
        if cfg!(heist_steps) {
            return !self.stealer.is_empty(); // by a clock that counts its readings no turn is long
        }
        self.backlog_ns() > worth.ns() || (self.is_stuck() && !self.stealer.is_empty())
    }

    /// By the sentinel: what waits here must not wait for the end of the turn that goes on, whatever it is worth.
    pub(super) fn mark_stuck(&self, turns: u64) {
        self.stuck_at.set(turns);
    }

    /// By the sentinel: no longer.
    pub(super) fn unmark(&self) {
        self.stuck_at.set(NOT_STUCK);
    }

    /// Returns `true` if the sentinel's last look found it stuck.
    pub(super) fn is_marked(&self) -> bool {
        self.stuck_at.get() != NOT_STUCK
    }

    /// Returns `true` while the turn goes on behind which the sentinel saw work stuck.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck_at.get() == self.counters.turns.get()
    }

    /// Pins the calling thread to this place's core, if it has one: for whoever takes the place.
    pub(crate) fn pin_here(&self) -> io::Result<()> {
        self.core.map_or(Ok(()), |core| Cores::only(core).bind_this_thread())
    }
}

/// Written by the worker only, but for `clock_due`.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) turns: Counter,
    /// The turn after which the clock is read again; others may make it earlier: see [`pace`](super::pace).
    pub(super) clock_due: Counter,
    pub(crate) busy_ns: Counter,
    pub(crate) parked_ns: Counter,
    pub(crate) steals_tried: Counter,
    pub(crate) steals: Counter,
    pub(crate) stolen_items: Counter,
    pub(crate) lifo_hits: Counter,
    pub(crate) injector_takes: Counter,
    pub(crate) parks: Counter,
    pub(crate) wakes: Counter,
    pub(crate) sentinel_catches: Counter,
    /// What its last turns took in the mean, but for single long ones.
    pub(super) mean_turn_ns: Counter,
}

/// `Retry` from an injector means that somebody else got something: try again, it is not for long.
pub(super) fn retry(mut steal: impl FnMut() -> Steal<Task>) -> Option<Task> {
    loop {
        match steal() {
            Steal::Success(task) => return Some(task),
            Steal::Empty => return None,
            Steal::Retry => crate::sync::spin_hint(),
        }
    }
}

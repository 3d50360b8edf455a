//! The shared side of a worker, and the policies that say where a runnable goes.

use super::lifo::Lifo;
use super::runnable::Runnable;
use super::steal_threshold::StealThreshold;
use super::worker::Worker;
use crate::cores::Cores;
use crate::sync::{AtomicPtr, AtomicUsize, Counter, Padded};
use crossbeam_deque::{Injector, Steal, Stealer, Worker as LocalQueue};
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

/// A worker's slot, as other threads see it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(super) lifo: Padded<Lifo>,
    pub(super) stealer: Stealer<Runnable>,
    /// The pinned queue, for its length only.
    pinned: Stealer<Runnable>,
    /// Runnables that only this worker may run.
    pub(super) inbox: Injector<Runnable>,
    /// State for the slot's holder only. Set from the first holder's arrival to the end of the
    /// crew.
    pub(super) worker: AtomicPtr<Worker>,
    pub(crate) counters: Padded<Counters>,
    /// Core to which the holder is pinned, if any.
    core: Option<usize>,
    /// Number of actors bound to this worker.
    pub(super) pinned_actors: AtomicUsize,
    /// Set by the sentinel while work here is stuck: the number of turns before the turn that it is
    /// stuck behind.
    stuck_at: Counter,
}

/// A number that no turn has.
const NOT_STUCK: u64 = u64::MAX;

impl Slot {
    pub(super) fn new(
        stealer: Stealer<Runnable>,
        pinned: Stealer<Runnable>,
        core: Option<usize>,
    ) -> Self {
        Slot {
            lifo: Padded(Lifo::new()),
            stealer,
            pinned,
            inbox: Injector::new(),
            worker: AtomicPtr::new(ptr::null_mut()),
            counters: Padded::default(),
            core,
            pinned_actors: AtomicUsize::new(0),
            stuck_at: Counter::starting_at(NOT_STUCK),
        }
    }

    /// Returns the number of runnables that wait here. A snapshot.
    pub(super) fn waiting_runnables(&self) -> usize {
        let bound = self.inbox.len() + self.pinned.len();
        bound + self.stealer.len() + usize::from(!self.lifo.is_empty())
    }

    /// Returns how long the holder will take to get to all work in its queue, in nanoseconds: a
    /// guess from its last turns.
    pub(super) fn backlog_ns(&self) -> u64 {
        self.stealer.len() as u64 * self.counters.mean_turn_ns.get()
    }

    /// Sets the mean turn, for a test.
    #[cfg(all(test, not(heist_loom)))]
    pub(crate) fn pretend_mean_turn(&self, ns: u64) {
        self.counters.mean_turn_ns.set(ns);
    }

    /// Returns `true` if the backlog is so long that siblings should take some of it.
    pub(super) fn wants_thieves(&self, steal_threshold: &StealThreshold) -> bool {
        if cfg!(heist_steps) {
            // By a clock that counts its readings no turn is long.
            return !self.stealer.is_empty();
        }
        self.backlog_ns() > steal_threshold.as_ns() || (self.is_stuck() && !self.stealer.is_empty())
    }

    /// Marks the waiting work as stuck: it must not wait for the end of the current turn, whatever
    /// it is worth. Called by the sentinel.
    pub(super) fn mark_stuck(&self, turns: u64) {
        self.stuck_at.set(turns);
    }

    /// Removes the mark. Called by the sentinel.
    pub(super) fn clear_stuck(&self) {
        self.stuck_at.set(NOT_STUCK);
    }

    /// Returns `true` if the sentinel's last look found the work stuck.
    pub(super) fn is_marked(&self) -> bool {
        self.stuck_at.get() != NOT_STUCK
    }

    /// Returns `true` while the turn goes on behind which the sentinel saw stuck work.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck_at.get() == self.counters.turns.get()
    }

    /// Pins the calling thread to the slot's core, if it has one. Called by a thread that takes the
    /// slot.
    pub(crate) fn pin_here(&self) -> io::Result<()> {
        self.core.map_or(Ok(()), |core| Cores::single_core(core).bind_this_thread())
    }
}

/// Counts of a worker. Only the worker writes them, except for `clock_due`.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) turns: Counter,
    /// The turn after which the clock is read again. Other threads may make it earlier: see
    /// [`pace`](super::pace).
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
    /// Mean length of the last turns, without single long ones.
    pub(super) mean_turn_ns: Counter,
}

/// Number of turns between two readings of the clock, from which the mean turn is computed.
pub(super) const CLOCK_EVERY: u32 = 32;

/// Value of `clock_due` that asks for a reading of the clock now, since outside work waits.
pub(super) const HURRY: u64 = 1;

/// Steals until the result is certain. `Retry` from an injector means that another thread got
/// something, so the loop is short.
pub(super) fn steal_until_certain(mut steal: impl FnMut() -> Steal<Runnable>) -> Option<Runnable> {
    loop {
        match steal() {
            Steal::Success(task) => return Some(task),
            Steal::Empty => return None,
            Steal::Retry => crate::sync::spin_hint(),
        }
    }
}

/// Out of line, so that the `pop` of every turn, in `next`, is inlined.
#[inline(never)]
pub(super) fn pop_cold(queue: &LocalQueue<Runnable>) -> Option<Runnable> {
    queue.pop()
}

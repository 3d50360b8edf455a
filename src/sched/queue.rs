//! What the crew shares of one worker, and the policies that say where a runnable goes.

use super::lifo::Lifo;
use super::local::Local;
use super::task::Task;
use crate::sync::{AtomicPtr, Counter, Padded};
use crossbeam_deque::{Injector, Steal, Stealer};
use std::ptr;

/// Where a runnable goes. Nothing else differs, so that the policies can be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Policy {
    /// To the worker that made it ready; idle workers steal. The one to use.
    #[default]
    Stealing,
    /// To the worker that the actor's id hashes to, always: static sharding.
    Sharded,
    /// To one queue that all workers take from.
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
}

impl Slot {
    pub(super) fn new(stealer: Stealer<Task>) -> Self {
        Slot {
            lifo: Padded(Lifo::new()),
            stealer,
            inbox: Injector::new(),
            local: AtomicPtr::new(ptr::null_mut()),
            counters: Padded::default(),
        }
    }
}

/// Written by the worker only.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) turns: Counter,
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

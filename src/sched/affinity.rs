//! Bound runnables, which must run in one place whatever the policy.
//!
//! | bound to | it waits in | taken by |
//! |---|---|---|
//! | worker k | its inbox, if another thread made it ready; else its pinned queue | worker k only |
//! | a thread of its own | that thread's [home](super::dedicated) | that thread only |
//!
//! The pinned queue is a local queue that no sibling can see. Worker k empties the inbox into the
//! pinned queue. While other work waits, the pinned queue has every second turn, so neither
//! starves. Bound runnables have no LIFO slot, since the sentinel may take from it. No sibling is
//! woken for them, since none could help. So bound work is P4's exception: it waits for as long as
//! the worker's turns take.
//!
//! A blocking worker leaves bound work at the slot: a spare gets the slot with pinned queue and
//! inbox. Without a spare, a wait inside a handler is refused while any actor is bound to the
//! worker, as for all workers under `Sharded`: the awaited actor might wait behind the handler. So
//! each slot counts the actors bound to it.
//!
//! Unbound runnables pay with a look at the table when they become ready, and a look at an empty
//! queue every few turns.

use super::queue::pop_cold;
use super::runnable::{Affinity, Runnable};
use super::scheduler::Scheduler;
use super::worker::Worker;
use crate::sync::Ordering::Relaxed;
use crossbeam_deque::Steal;
use std::sync::Arc;

impl Scheduler {
    /// Counts an actor bound to this worker, before it is spawned.
    pub(crate) fn add_pinned(&self, home: usize) {
        // Relaxed: `has_work_of_its_own` need not see an actor that is bound while it looks.
        self.slots[home].pinned_actors.fetch_add(1, Relaxed);
    }

    /// Counts out an actor that has ended, or was not spawned after all.
    pub(crate) fn remove_pinned(&self, home: usize) {
        self.slots[home].pinned_actors.fetch_sub(1, Relaxed);
    }

    /// Sends a bound runnable to its place, from any thread.
    #[cold]
    pub(super) fn send_bound(&self, task: Runnable) {
        match task.affinity() {
            &Affinity::Worker(home) => self.push_to_worker(home, task),
            // Cloned, since the borrowed home goes with the runnable.
            Affinity::Thread(home) => self.push_to_dedicated(&Arc::clone(home), task),
            Affinity::Any => unreachable!("it is bound"),
        }
    }
}

impl Worker {
    /// Like `send_bound`, on a worker. A worker wakes no thread for its own bound work.
    #[cold]
    pub(super) fn push_bound(&self, task: Runnable) {
        match task.affinity() {
            Affinity::Worker(home) if *home == self.index => {
                self.push_pinned(task);
            }
            _ => self.scheduler().send_bound(task),
        }
    }

    /// Puts a runnable into the pinned queue, which has every second turn.
    pub(super) fn push_pinned(&self, task: Runnable) {
        self.pinned_queue.push(task);
        self.has_pinned.set(true);
    }

    /// Takes bound work that other threads have sent.
    pub(super) fn take_inbox(&self) -> Option<Runnable> {
        self.empty_inbox().then(|| self.pop_pinned()).flatten()
    }

    /// Moves a part of the inbox into the pinned queue. Returns `false` if the inbox is empty.
    pub(super) fn empty_inbox(&self) -> bool {
        let inbox = &self.slot().inbox;
        while !inbox.is_empty() {
            match inbox.steal_batch(&self.pinned_queue) {
                Steal::Success(()) => {
                    self.has_pinned.set(true);
                    return true;
                }
                Steal::Empty => return false,
                Steal::Retry => crate::sync::spin_hint(),
            }
        }
        false
    }

    /// Takes from the pinned queue.
    pub(super) fn pop_pinned(&self) -> Option<Runnable> {
        let task = pop_cold(&self.pinned_queue);
        self.has_pinned.set(!self.pinned_queue.is_empty());
        task
    }

    /// Returns what runs next while bound work waits: bound and other work in turns.
    #[cold]
    pub(super) fn next_alternating(&self) -> Option<Runnable> {
        let others = || {
            pop_cold(&self.queue)
                .or_else(|| self.slot().lifo.take_next())
                .or_else(|| self.take_injected())
        };
        if self.ran_pinned_last.replace(false)
            && let Some(task) = others()
        {
            return Some(task);
        }
        self.ran_pinned_last.set(true);
        self.pop_pinned()
    }
}

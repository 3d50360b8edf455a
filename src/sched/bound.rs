//! Bound runnables, which must run in one place whatever the policy.
//!
//! | bound to | it waits in | taken by |
//! |---|---|---|
//! | worker k | its inbox, if another thread made it ready; else its kept queue | worker k only |
//! | a thread of its own | that thread's [home](super::apart) | that thread only |
//!
//! The kept queue is a local queue that no sibling can see. Worker k empties the inbox into the
//! kept queue. While other work waits, the kept queue has every second turn, so neither starves.
//! Bound runnables have no LIFO slot, since the sentinel may take from it. No sibling is woken for
//! them, since none could help. So bound work is P4's exception: it waits for as long as the
//! worker's turns take.
//!
//! A blocking worker leaves bound work at the slot: a spare gets the slot with kept queue and
//! inbox. Without a spare, a wait inside a handler is refused while any actor is bound to the
//! worker, as for all workers under `Sharded`: the awaited actor might wait behind the handler. So
//! each slot counts the actors bound to it.
//!
//! Unbound runnables pay with a look at the table when they become ready, and a look at an empty
//! queue every few turns.

use super::Scheduler;
use super::apart::Home;
use super::local::Local;
use super::task::Task;
use crate::sync::Ordering::Relaxed;
use crossbeam_deque::{Steal, Worker};
use std::sync::Arc;

/// The place where a runnable must run.
#[derive(Clone, Debug, Default)]
pub(crate) enum Bound {
    /// Wherever the policy says.
    #[default]
    Nowhere,
    /// On this worker.
    Worker(usize),
    /// On the thread that sleeps at this home.
    Thread(Arc<Home>),
}

impl Scheduler {
    /// Counts an actor bound to this worker, before it is spawned.
    pub(crate) fn move_in(&self, home: usize) {
        self.slots[home].residents.fetch_add(1, Relaxed);
    }

    /// Counts out an actor that has ended, or was not spawned after all.
    pub(crate) fn move_out(&self, home: usize) {
        self.slots[home].residents.fetch_sub(1, Relaxed);
    }

    /// Sends a bound runnable to its place, from any thread.
    #[cold]
    pub(super) fn send_bound(&self, task: Task) {
        match task.bound() {
            &Bound::Worker(home) => self.send_home(home, task),
            Bound::Thread(home) => self.leave_at(&Arc::clone(home), task),
            Bound::Nowhere => unreachable!("it is bound"),
        }
    }
}

impl Local {
    /// Like `send_bound`, on a worker. A worker wakes no thread for its own bound work.
    #[cold]
    pub(super) fn push_bound(&self, task: Task) {
        match task.bound() {
            Bound::Worker(home) if *home == self.index => {
                self.push_kept(task);
            }
            _ => self.scheduler().send_bound(task),
        }
    }

    /// Puts a runnable into the kept queue, which has every second turn.
    pub(super) fn push_kept(&self, task: Task) {
        self.kept.push(task);
        self.keeps.set(true);
    }

    /// Takes bound work that other threads have sent.
    pub(super) fn take_inbox(&self) -> Option<Task> {
        self.empty_inbox().then(|| self.pop_kept()).flatten()
    }

    /// Moves a part of the inbox into the kept queue. Returns `false` if the inbox is empty.
    pub(super) fn empty_inbox(&self) -> bool {
        let inbox = &self.slot().inbox;
        while !inbox.is_empty() {
            match inbox.steal_batch(&self.kept) {
                Steal::Success(()) => {
                    self.keeps.set(true);
                    return true;
                }
                Steal::Empty => return false,
                Steal::Retry => crate::sync::spin_hint(),
            }
        }
        false
    }

    /// Takes from the kept queue.
    pub(super) fn pop_kept(&self) -> Option<Task> {
        let task = pop(&self.kept);
        self.keeps.set(!self.kept.is_empty());
        task
    }

    /// Returns what runs next while bound work waits: bound and other work in turns.
    #[cold]
    pub(super) fn next_of_both(&self) -> Option<Task> {
        let others = || pop(&self.queue).or_else(|| self.slot().lifo.take()).or_else(|| self.take_injected());
        if self.kept_last.replace(false)
            && let Some(task) = others()
        {
            return Some(task);
        }
        self.kept_last.set(true);
        self.pop_kept()
    }
}

/// Out of line, so that the `pop` of every turn, in `next`, is inlined.
#[inline(never)]
pub(super) fn pop(queue: &Worker<Task>) -> Option<Task> {
    queue.pop()
}

//! Runnables that must run in one place, whatever the policy says.
//!
//! | bound to | it waits in | who takes it |
//! |---|---|---|
//! | worker k | worker k's inbox, if another thread made it ready; its kept queue, if worker k did | worker k only |
//! | a thread of its own | that thread's [home](super::apart) | that thread only |
//!
//! The kept queue is a local queue that no sibling can see: worker k empties its inbox into it, and gives it every second
//! turn while other work waits, so that neither starves. There is no LIFO slot for what is kept, since the sentinel may
//! take what is in there; and no sibling is woken for it, since none could help. So it is P4's exception: kept work waits
//! for as long as its worker's turns take.
//!
//! A worker that blocks takes its kept work along: a spare gets its slot, the kept queue and the inbox included. If no spare
//! is to be had, a wait inside a handler is refused while anything is kept on its worker, as it is for all workers under
//! `Sharded`: what it waits for might wait behind it. So each slot counts the actors that are kept there.
//!
//! Whoever is not bound pays for this with a look at its table when it becomes ready, and with a look at an empty queue
//! every few turns.

use super::Scheduler;
use super::apart::Home;
use super::local::Local;
use super::task::Task;
use crate::sync::Ordering::Relaxed;
use crossbeam_deque::{Steal, Worker};
use std::sync::Arc;

/// Where a runnable must run.
#[derive(Clone, Debug, Default)]
pub(crate) enum Bound {
    /// Where the policy says.
    #[default]
    Nowhere,
    /// On this worker.
    Worker(usize),
    /// On the thread whose home this is.
    Thread(Arc<Home>),
}

impl Scheduler {
    /// An actor that is kept on this worker is about to be spawned.
    pub(crate) fn move_in(&self, home: usize) {
        self.slots[home].residents.fetch_add(1, Relaxed);
    }

    /// It has ended, or was not spawned after all.
    pub(crate) fn move_out(&self, home: usize) {
        self.slots[home].residents.fetch_sub(1, Relaxed);
    }

    /// Sends a bound runnable where it belongs, from whatever thread.
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
    /// The same on a worker, which wakes nobody for what it keeps itself.
    #[cold]
    pub(super) fn push_bound(&self, task: Task) {
        match task.bound() {
            Bound::Worker(home) if *home == self.index => {
                self.push_kept(task);
            }
            _ => self.scheduler().send_bound(task),
        }
    }

    /// Puts a runnable behind what only this worker may run, which has every second turn.
    pub(super) fn push_kept(&self, task: Task) {
        self.kept.push(task);
        self.keeps.set(true);
    }

    /// What only this worker may run, and others have sent.
    pub(super) fn take_inbox(&self) -> Option<Task> {
        self.empty_inbox().then(|| self.pop_kept()).flatten()
    }

    /// Takes some of the inbox in. False: there was nothing.
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

    pub(super) fn pop_kept(&self) -> Option<Task> {
        let task = pop(&self.kept);
        self.keeps.set(!self.kept.is_empty());
        task
    }

    /// Kept work waits, and has every second turn.
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

/// Kept apart, so that the one that is called every turn is inlined there.
#[inline(never)]
pub(super) fn pop(queue: &Worker<Task>) -> Option<Task> {
    queue.pop()
}

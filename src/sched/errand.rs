//! Errands: user code that the scheduler itself has to call, as a runnable of its own.
//!
//! Wakers of finished waits, and destructors of timers that were cancelled or could not be
//! delivered, belong to no actor's turn. Both may still block, panic or send. So a worker never
//! calls them between two turns, where it holds duties for others (the alarm, the list of
//! sleepers): it makes an errand of them and pushes that like any runnable. An errand therefore
//! runs in the main loop: its worker counts as awake, siblings may steal it, and its thread may
//! leave its slot while it blocks.
//!
//! An errand holds any number of chores. Each run takes one chore, and pushes the errand back
//! *before* that chore if more are left: a slow chore holds up neither the actors in the queue nor
//! the other chores, which a sibling may take.
//!
//! # Wakers in a turn
//!
//! A turn may have to wake several waiters: senders that have room for their messages now, waiters
//! for an actor's end. Any of these wakers may block, so none of them may stand in another's way.
//! The wakers of threads that block in this crate are woken on the spot, since these neither block
//! nor run user code. For all others:
//!
//! | function | the waking thread | for |
//! |---|---|---|
//! | [`Scheduler::wake_after_turn`] | an errand; on a dedicated thread as below | turns that go on |
//! | [`Scheduler::wake_with_help`] | the thread itself, and an errand at the same time | ends |
//!
//! An errand needs a free worker, and there may be none: all may block until a waiter was told. So
//! a thread that has nothing else to do wakes its waiters itself. The errand then finds only those
//! wakers that a blocking one would hold up.
//!
//! # Where errands wait
//!
//! An errand waits where every worker finds it once the crew stops, so it never waits in a LIFO
//! slot, in an inbox or in a pinned queue ([`Scheduler::push_errand`]):
//!
//! | policy | in a worker's local queue | in the injector |
//! |---|---|---|
//! | `Stealing` | what that worker owes | what other threads owe |
//! | `Sharded`, `SharedQueue` | the wakers of the last worker to park, for a moment | all others |
//!
//! Under `Sharded` the injector holds errands only. A worker takes them one at a time, because no
//! sibling could steal what waits in its local queue behind an errand that blocks.
//!
//! # The crew's end
//!
//! No errand is left behind at the crew's end. A thread that owes errands from elsewhere pushes
//! them before the crew is told to stop (see
//! [`QuiescenceWaiters::end_all_waits`](super::quiescence::QuiescenceWaiters::end_all_waits)).
//!
//! No errand waits behind one that blocks either, as long as any worker is free. A waker may block
//! until another waker has run. So no worker ends before every chore of the crew has begun
//! ([`OwedChores`](super::chores::OwedChores)): a worker that has nothing to do takes errands from
//! the local queues of its siblings, under every policy, and looks again while an errand is on its
//! way from one queue to another. Such a move never takes long, since it runs no user code. By then
//! all actors have ended, so all that waits there are errands.
//!
//! Why a worker that reads 0 has missed no chore: each chore is counted before
//!
//! - the crew is told to stop, which this worker has acquired
//!   ([`QuiescenceWaiters::end_all_waits`](super::quiescence::QuiescenceWaiters::end_all_waits)
//!   takes the tickets' lock, under which wakers are counted), or
//! - this worker sees the table of timers empty, under its lock, which [`Scheduler::fire_timers`]
//!   takes inside a counted [visit](super::chores::OwedChores::begin_visit).
//!
//! Loom model: `models::errands`. Needed orderings: `cargo xtask weaken errand`, a row for
//! each count.

use super::crew_thread::{self, Current};
use super::dedicated;
use super::queue::Policy;
use super::runnable::{After, Runnable, RunnableHeader, RunnableVtable};
use super::scheduler::Scheduler;
use super::worker::Worker;
use crate::sync::Mutex;
use crate::user::{self, Site};
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::Waker;

#[derive(Debug)]
#[repr(C)]
struct Errand<T> {
    header: RunnableHeader,
    /// The chores left to do, the next one last.
    chores: Vec<T>,
    each: fn(T),
    site: Site,
}

impl Scheduler {
    /// Makes a runnable that calls `each` for each of the chores, in their order, and counts them
    /// as owed. Returns `None` if there are none. The runnable must be run.
    pub(super) fn make_errand<T: Send + 'static>(
        &self,
        site: Site,
        mut chores: Vec<T>,
        each: fn(T),
    ) -> Option<Runnable> {
        if chores.is_empty() {
            return None;
        }
        self.errands.add_chores(chores.len());
        chores.reverse();
        let header = RunnableHeader { vtable: Errand::<T>::VTABLE };
        Some(Errand::into_task(Box::new(Errand { header, chores, each, site })))
    }

    /// Has waiters woken without holding up the current turn: by an errand. A dedicated thread
    /// wakes them itself, [with help](Self::wake_with_help), since its actor's progress must not
    /// depend on a free worker. Called in a turn of this crew.
    pub(crate) fn wake_after_turn(&self, wakers: Vec<Waker>) {
        let wakers = self.wake_blocked_threads(wakers);
        if dedicated::is_dedicated_thread(self) {
            self.wake_in_parallel(wakers);
        } else {
            self.wake_all(wakers);
        }
    }

    /// Wakes waiters here, and lets workers help: a waker that blocks holds up the caller, but no
    /// other waker as long as a worker is free.
    #[inline]
    pub(crate) fn wake_with_help(&self, wakers: Vec<Waker>) {
        // Most actors end without a waiter.
        if !wakers.is_empty() {
            self.wake_some_with_help(wakers);
        }
    }

    #[cold]
    fn wake_some_with_help(&self, wakers: Vec<Waker>) {
        self.wake_in_parallel(self.wake_blocked_threads(wakers));
    }

    /// Wakes the threads that block in this crate, and returns all other wakers.
    fn wake_blocked_threads(&self, wakers: Vec<Waker>) -> Vec<Waker> {
        let (threads, others): (Vec<_>, _) =
            wakers.into_iter().partition(|waker| std::ptr::eq(waker.vtable(), self.thread_waker));
        threads.into_iter().for_each(user::wake_waker);
        others
    }

    /// Wakes through wakers here and in an errand, each by the first thread that gets to it.
    fn wake_in_parallel(&self, wakers: Vec<Waker>) {
        let helpers = wakers.len().saturating_sub(1);
        if wakers.is_empty() {
            return;
        }
        let left = Arc::new(Mutex::new(VecDeque::from(wakers)));
        let _listed = crew_thread::is_crew_thread(self).then(|| self.actorless.list_here());
        // Outside the crew there may be no worker any more, and an errand would be left behind.
        if helpers > 0 && crew_thread::is_crew_thread(self) {
            // One chore fewer than wakers, since this thread takes at least one.
            let chores = vec![Arc::clone(&left); helpers];
            if let Some(errand) = self.make_errand(Site::Waker, chores, |left| _ = wake_next(&left))
            {
                self.push_errand(errand);
            }
        }
        while wake_next(&left) {}
    }

    /// Has wakers run by a worker. Called on any thread.
    pub(super) fn wake_all(&self, wakers: Vec<Waker>) {
        if let Some(errand) = self.make_errand(Site::Waker, wakers, Waker::wake) {
            self.push_errand(errand);
        }
    }

    /// Has user code run by a worker, in an errand. Called inside a runnable of this crew, so the
    /// crew does not end before.
    pub(crate) fn run_as_errand(&self, site: Site, f: impl FnOnce() + Send + 'static) {
        let chores: Vec<Box<dyn FnOnce() + Send>> = vec![Box::new(f)];
        if let Some(errand) = self.make_errand(site, chores, |f| f()) {
            self.push_errand(errand);
        }
    }

    /// Pushes an errand, from whatever thread, behind all that waits there.
    pub(super) fn push_errand(&self, errand: Runnable) {
        Worker::with(self, |worker| match worker {
            Some(worker) if self.policy == Policy::Stealing => worker.push_back(errand),
            None if self.is_forked() => {} // the errand is forgotten
            _ => self.inject(errand),
        });
    }
}

/// Wakes through the next waker. Returns `false` if none was left.
fn wake_next(left: &Mutex<VecDeque<Waker>>) -> bool {
    // A statement of its own, so that the lock is released before user code runs.
    let next = left.lock().pop_front();
    let any = next.is_some();
    next.into_iter().for_each(user::wake_waker);
    any
}

impl<T: Send + 'static> Errand<T> {
    const VTABLE: &'static RunnableVtable =
        &RunnableVtable { run: Self::run_next_chore, key: Self::key, bound: None };

    fn into_task(self: Box<Self>) -> Runnable {
        // SAFETY: the box is given up to the one task made here, which `run` takes back; chores are
        // `Send`.
        unsafe { Runnable::from_raw(NonNull::from(Box::leak(self)).cast()) }
    }

    /// Runs the next chore.
    ///
    /// # Safety
    /// `at` is the header of an errand, and the caller gives up the runnable.
    unsafe fn run_next_chore(at: NonNull<RunnableHeader>) -> After {
        // SAFETY: the header is the first field of the errand that `into_task` leaked, and nobody
        // else has its runnable.
        let mut errand = unsafe { Box::from_raw(at.cast::<Self>().as_ptr()) };
        let (each, site) = (errand.each, errand.site);
        let chore = errand.chores.pop();
        let _listed = Worker::with_any(|worker| {
            let scheduler = worker.expect("only workers run errands").scheduler();
            if !errand.chores.is_empty() {
                scheduler.push_errand(errand.into_task());
            }
            scheduler.errands.begin_chore();
            scheduler.actorless.list_here()
        });
        // Always: no errand is made, or pushed back, without a chore.
        if let Some(chore) = chore {
            let _current = Current::of_no_actor();
            user::run_contained(site, || each(chore));
        }
        After::Errand
    }

    /// Any worker may run it, so nobody asks for its home.
    unsafe fn key(_: NonNull<RunnableHeader>) -> u64 {
        unreachable!("an errand belongs to no shard")
    }
}

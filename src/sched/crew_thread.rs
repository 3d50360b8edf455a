//! Members: threads of the crew, with or without a worker.
//!
//! A *member* is a thread of one crew that runs turns. Most of the time it holds a worker's slot
//! (the state there is [`Worker`]). A member may have given up the slot in the middle of a turn
//! ([`spares`](super::spares)). The differences:
//!
//! | | a member with a slot | a member without | any other thread |
//! |---|---|---|---|
//! | is of the crew: may send while draining, may not wait for the crew | yes | yes | no |
//! | makes runnables ready in | its own queue | the injector, or their home's inbox | the same |
//! | has memory from | its worker's heap | a stripe's | a stripe's |
//! | counts in | its worker's tally | the shared one | the shared one, and at the gate |
//! | holds up quiescence | until its slot is parked | until its turn is over | while at the gate |
//!
//! To other threads a [dedicated thread](super::dedicated) is like a member that never has a slot.
//!
//! So only three questions are asked of a thread: its slot ([`Worker::with`]), its crew
//! ([`is_crew_thread`]), and its current turn ([`current_actor`]).
//!
//! A guard sets each answer and takes it back. [`CrewGuard`] and
//! [`DedicatedGuard`](super::dedicated::DedicatedGuard) restore the previous state; [`Current`]
//! finds none. A thread that [works already](works_already) is refused as a member, since the first
//! crew would lose it.

use super::dedicated;
use super::idle::vacant::Watched;
use super::scheduler::{Scheduler, WorkerInit};
use super::spares::{Assignment, Recruit, Spare};
use super::turn_rates::TurnRates;
use super::worker::{Arrives, Worker, WorkerData};
use crate::user;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;

thread_local! {
    static CREW_THREAD: Cell<*const CrewThread<'static>> = const { Cell::new(ptr::null()) };
    static CURRENT: Cell<*const ()> = const { Cell::new(ptr::null()) };
}

/// A member's own state, on its own stack.
pub(crate) struct CrewThread<'a> {
    pub(super) scheduler: &'a Scheduler,
    pub(super) recruit: &'a Recruit<'a>,
    /// Where the member waits while it is a spare.
    pub(super) spare: Arc<Spare>,
    /// Whether the member blocks, or is about to. Blocking inside of that changes nothing.
    pub(super) blocking: Cell<bool>,
    /// Whether the member is starting a spare before it blocks, which runs user code.
    pub(super) recruiting: Cell<bool>,
    here: PhantomData<*const ()>,
}

/// The calling thread is a member while this lives. Dropping it restores the thread's previous
/// state.
pub(super) struct CrewGuard {
    thread: *const CrewThread<'static>,
    worker: *const Worker,
    #[expect(dead_code, reason = "dropped with it")]
    scopes: user::ScopesAside,
}

impl Drop for CrewGuard {
    fn drop(&mut self) {
        CREW_THREAD.set(self.thread);
        Worker::restore_slot(self.worker);
    }
}

impl<'a> CrewThread<'a> {
    pub(super) fn new(
        scheduler: &'a Scheduler,
        spare: Arc<Spare>,
        recruit: &'a Recruit<'a>,
    ) -> Self {
        let (blocking, recruiting) = (Cell::new(false), Cell::new(false));
        CrewThread { scheduler, recruit, spare, blocking, recruiting, here: PhantomData }
    }

    /// Makes the calling thread this member, until the result is dropped.
    ///
    /// # Safety
    /// The result is dropped before `self`.
    pub(super) unsafe fn enter_crew(&self) -> CrewGuard {
        let (thread, worker) = (CREW_THREAD.get(), Worker::current_pointer());
        let before = CrewGuard { thread, worker, scopes: user::ScopesAside::set_aside() };
        CREW_THREAD.set(ptr::from_ref(self).cast());
        Worker::restore_slot(ptr::null());
        before
    }

    /// Calls `f` with the calling thread's member, of any crew.
    pub(super) fn with_current<R>(f: impl FnOnce(Option<&CrewThread<'_>>) -> R) -> R {
        // SAFETY: `CREW_THREAD` is set only while `enter_crew`'s caller keeps the member on the
        // calling thread's stack, and the reference does not outlive `f`.
        f(unsafe { CREW_THREAD.get().as_ref() })
    }
}

/// How a thread joins the crew: as a worker or as a spare.
#[derive(Debug)]
pub(crate) enum Arrival {
    Worker(WorkerInit),
    Spare(Arc<Spare>),
}

impl Scheduler {
    /// Runs a thread of the crew. Returns `true` for a spare that was not needed any more, `false`
    /// if the crew has stopped. `worker_data` returns worker k's data.
    pub(crate) fn run_crew_thread(
        &self,
        arrival: Arrival,
        worker_data: impl FnOnce(usize) -> WorkerData,
        recruit: &Recruit<'_>,
    ) -> bool {
        let (spare, mut call) = match arrival {
            Arrival::Worker(init) => {
                let slot = init.index;
                Worker::install(self, init, worker_data(slot));
                // A worker's thread waits there as a spare once a turn has cost it the slot.
                (Spare::new(), Some(Assignment::Run(slot)))
            }
            Arrival::Spare(spare) => (spare, None),
        };
        let crew_thread = CrewThread::new(self, spare, recruit);
        // SAFETY: declared after `crew_thread`, so dropped before it.
        let _enlisted = unsafe { crew_thread.enter_crew() };
        let mut free = false;
        loop {
            let call = match call.take() {
                Some(first) => first,
                None => {
                    let Some(call) = self.wait_as_spare(&crew_thread.spare, free) else {
                        return true;
                    };
                    self.spares.counts.hand_overs.add_shared(u64::from(call != Assignment::Exit));
                    call
                }
            };
            // From the second call on this thread has come back without a slot.
            free = true;
            let stopped = match call {
                // SAFETY: a thread called to a slot holds the slot.
                Assignment::Run(slot) => unsafe { Worker::hold_slot(self, slot, Arrives::Awake) },
                // SAFETY: a thread called to a slot holds the slot.
                Assignment::Park(slot) => unsafe { Worker::hold_slot(self, slot, Arrives::Lying) },
                // SAFETY: the thread took the slot itself, in `catch_at`.
                Assignment::Catch(slot) => unsafe {
                    Worker::hold_slot(self, slot, Arrives::Catching)
                },
                Assignment::Exit => {
                    self.spares.count_ended();
                    true
                }
                // Neither comes this far: `wait_as_spare` deals with both.
                Assignment::Idle | Assignment::Watch => true,
            };
            if stopped {
                return false;
            }
        }
    }

    /// Runs a spare until it holds a slot, or ends. Meanwhile it may watch, without a slot.
    fn wait_as_spare(&self, spare: &Arc<Spare>, free: bool) -> Option<Assignment> {
        let mut call = self.spares.wait_for_call(spare, free)?;
        while call == Assignment::Watch {
            self.spares.sleeps_timed(spare);
            let mut seen = TurnRates::default();
            call = match self.idle.watch_as_spare(spare, || self.mark_stuck(&mut seen)) {
                Watched::Called(call) => call,
                Watched::Caught(slot) => Assignment::Catch(slot),
                // Not `free`: while the spare watched it was reserved, or another thread has let it
                // go.
                Watched::Over => self.spares.wait_for_call(spare, false)?,
            };
        }
        Some(call)
    }
}

/// Returns `true` if the calling thread belongs to this crew.
pub(crate) fn is_crew_thread(scheduler: &Scheduler) -> bool {
    CrewThread::with_current(|thread| {
        thread.is_some_and(|thread| ptr::eq(thread.scheduler, scheduler))
    }) || dedicated::is_dedicated_thread(scheduler)
}

/// Returns `true` if the calling thread works for any crew: as a member, or as a dedicated thread.
/// A second life inside the first one would block the first.
pub(crate) fn works_already() -> bool {
    CrewThread::with_current(|thread| thread.is_some()) || dedicated::works_already()
}

/// The value of [`CURRENT`] while a runnable runs that is no actor's turn. No actor has this
/// address.
const NOBODY: *const () = ptr::without_provenance(1);

/// The calling thread runs a turn while this lives.
///
/// Turns do not nest, since a thread that [works already](works_already) begins no second life. So
/// there is nothing to restore, which would cost each turn a register.
#[must_use]
pub(crate) struct Current(());

impl Current {
    /// Marks the actor of the current turn. The pointer is opaque here, and compared by the floors
    /// above.
    #[inline]
    pub(crate) fn of_actor<T>(current: NonNull<T>) -> Self {
        Self::set_current(current.as_ptr().cast_const().cast())
    }

    /// Marks a runnable that is no actor's turn.
    pub(super) fn of_no_actor() -> Self {
        Self::set_current(NOBODY)
    }

    #[inline]
    fn set_current(current: *const ()) -> Self {
        debug_assert!(CURRENT.get().is_null(), "a turn inside another");
        CURRENT.set(current);
        Current(())
    }

    /// Marks the rest of a turn as no actor's. Called before the actor's memory may be freed.
    #[inline]
    pub(crate) fn forget_actor() {
        CURRENT.set(NOBODY);
    }
}

impl Drop for Current {
    #[inline]
    fn drop(&mut self) {
        CURRENT.set(ptr::null());
    }
}

/// Returns the actor of the current turn: null between turns, and at the end of a turn once the
/// actor has ended.
#[inline]
pub(crate) fn current_actor() -> *const () {
    Some(CURRENT.get()).filter(|&current| current != NOBODY).unwrap_or(ptr::null())
}

/// Returns `true` if a runnable runs on this thread, an actor's turn or not. Then the thread may
/// leave its slot.
pub(crate) fn in_runnable() -> bool {
    !CURRENT.get().is_null()
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_turn_whose_actor_has_ended_is_nobodys() {
        let actor = 1u64;
        assert!(current_actor().is_null() && !in_runnable());
        let turn = Current::of_actor(NonNull::from(&actor));
        assert_eq!(current_actor(), ptr::from_ref(&actor).cast());
        Current::forget_actor();
        assert!(current_actor().is_null() && in_runnable());
        drop(turn);
        assert!(current_actor().is_null() && !in_runnable());
    }
}

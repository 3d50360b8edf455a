//! Members: threads of the crew, with or without a worker.
//!
//! A *member* is a thread of one crew that runs turns. Most of the time it holds a worker's slot
//! (the state there is [`Worker`]). It may have given up the slot in the middle of a turn
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

use super::Scheduler;
use super::dedicated;
use super::spares::Spare;
use super::worker::Worker;
use crate::user;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;

thread_local! {
    static CREW_THREAD: Cell<*const CrewThread<'static>> = const { Cell::new(ptr::null()) };
    static CURRENT: Cell<*const ()> = const { Cell::new(ptr::null()) };
}

/// Starts a thread for a spare. Returns `false` if there is none. May run user code.
pub(crate) type Recruit<'a> = dyn Fn(Arc<Spare>) -> bool + 'a;

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
    pub(super) fn new(scheduler: &'a Scheduler, spare: Arc<Spare>, recruit: &'a Recruit<'a>) -> Self {
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

/// Returns `true` if the calling thread belongs to this crew.
pub(crate) fn is_crew_thread(scheduler: &Scheduler) -> bool {
    CrewThread::with_current(|thread| thread.is_some_and(|thread| ptr::eq(thread.scheduler, scheduler)))
        || dedicated::is_dedicated_thread(scheduler)
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

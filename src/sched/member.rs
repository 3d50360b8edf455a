//! A thread of the crew, with or without a worker.
//!
//! A *member* is a thread that runs turns of one crew's actors. Most of the time it holds a worker's slot ([`Local`]
//! is what lies there); but it may have given it up in the middle of a turn ([`spares`](super::spares)), and then:
//!
//! | | a member with a slot | a member without | any other thread |
//! |---|---|---|---|
//! | is of the crew: may send and spawn while the executor drains, may not wait for the crew | yes | yes | no |
//! | what it makes runnable goes to | its own queue | the injector, or the inbox of its home | the same |
//! | its memory is from | its worker's heap | a stripe's | a stripe's |
//! | it counts in | its worker's tally | the shared one | the shared one, and at the gate |
//! | quiescence waits for it | until its slot is parked | until its turn is over | while it is at the gate |
//!
//! A [thread apart](super::apart) is to others what a member without a slot is, and never has one.
//!
//! So only these questions are asked of a thread: which slot has it ([`Local::with`]), is it of this crew ([`is_of`]),
//! and whose turn runs on it ([`current`]).
//!
//! Each of the answers is set by a guard that takes it back: [`Enlisted`] and [`apart::Enlisted`] restore what was there before,
//! [`Current`] finds nothing there.
//! A thread that [works already](works_already) is refused as a member, since its first crew would lose it.

use super::Scheduler;
use super::apart;
use super::local::Local;
use super::spares::Spare;
use crate::user;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;

thread_local! {
    static MEMBER: Cell<*const Member<'static>> = const { Cell::new(ptr::null()) };
    static CURRENT: Cell<*const ()> = const { Cell::new(ptr::null()) };
}

/// Starts a thread for a spare; `false` if there is none to be had. May run user code.
pub(crate) type Recruit<'a> = dyn Fn(Arc<Spare>) -> bool + 'a;

/// What a member keeps for itself, on its own stack.
pub(crate) struct Member<'a> {
    pub(super) scheduler: &'a Scheduler,
    pub(super) recruit: &'a Recruit<'a>,
    /// Where it waits while it is a spare.
    pub(super) spare: Arc<Spare>,
    /// It blocks, or is about to: what blocks inside of that is nothing new.
    pub(super) blocking: Cell<bool>,
    /// It is about to block, and starts a spare for that, which runs user code.
    pub(super) recruiting: Cell<bool>,
    here: PhantomData<*const ()>,
}

/// A thread is a member as long as this lives. Dropping it restores what the thread was before.
pub(super) struct Enlisted {
    member: *const Member<'static>,
    local: *const Local,
    #[expect(dead_code, reason = "dropped with it")]
    scopes: user::Apart,
}

impl Drop for Enlisted {
    fn drop(&mut self) {
        MEMBER.set(self.member);
        Local::restore_seat(self.local);
    }
}

impl<'a> Member<'a> {
    pub(super) fn new(scheduler: &'a Scheduler, spare: Arc<Spare>, recruit: &'a Recruit<'a>) -> Self {
        let (blocking, recruiting) = (Cell::new(false), Cell::new(false));
        Member { scheduler, recruit, spare, blocking, recruiting, here: PhantomData }
    }

    /// Makes the calling thread this member, until what it returns is dropped.
    ///
    /// # Safety
    /// It is dropped before `self` goes.
    pub(super) unsafe fn enlist(&self) -> Enlisted {
        let (member, local) = (MEMBER.get(), Local::seat());
        let before = Enlisted { member, local, scopes: user::Apart::begin() };
        MEMBER.set(ptr::from_ref(self).cast());
        Local::restore_seat(ptr::null());
        before
    }

    /// Calls `f` with the member that this thread is, of whatever crew.
    pub(super) fn with<R>(f: impl FnOnce(Option<&Member<'_>>) -> R) -> R {
        // SAFETY: set only while `enlist`'s caller keeps it on this thread's stack, and the reference does not outlive `f`.
        f(unsafe { MEMBER.get().as_ref() })
    }
}

/// Is the calling thread one of this crew?
pub(crate) fn is_of(scheduler: &Scheduler) -> bool {
    Member::with(|member| member.is_some_and(|member| ptr::eq(member.scheduler, scheduler)))
        || apart::is_of(scheduler)
}

/// Returns `true` if the calling thread works for any crew: as a member, or as a thread apart. Such a thread can begin no
/// second life inside the first one, which would wait for it.
pub(crate) fn works_already() -> bool {
    Member::with(|member| member.is_some()) || apart::works_already()
}

/// What [`CURRENT`] says while a runnable runs that is no actor's turn. No actor has this address.
const NOBODY: *const () = ptr::without_provenance(1);

/// The calling thread runs a turn as long as this lives.
///
/// Turns do not nest, since a thread that [works already](works_already) begins no second life. So there is nothing to restore,
/// which would cost each turn a register.
#[must_use]
pub(crate) struct Current(());

impl Current {
    /// Marks whose turn runs on this thread: opaque here, compared by the floors above.
    #[inline]
    pub(crate) fn of<T>(current: NonNull<T>) -> Self {
        Self::begin(current.as_ptr().cast_const().cast())
    }

    /// A runnable that is no actor's turn.
    pub(super) fn nobody() -> Self {
        Self::begin(NOBODY)
    }

    #[inline]
    fn begin(current: *const ()) -> Self {
        debug_assert!(CURRENT.get().is_null(), "a turn inside another");
        CURRENT.set(current);
        Current(())
    }

    /// In a turn, before its actor's memory may go: what the rest of the turn runs is nobody's.
    #[inline]
    pub(crate) fn forget() {
        CURRENT.set(NOBODY);
    }
}

impl Drop for Current {
    #[inline]
    fn drop(&mut self) {
        CURRENT.set(ptr::null());
    }
}

/// Returns whose turn runs on this thread: null between turns, and at the end of one whose actor has ended.
#[inline]
pub(crate) fn current() -> *const () {
    Some(CURRENT.get()).filter(|&current| current != NOBODY).unwrap_or(ptr::null())
}

/// Returns `true` if a runnable runs on this thread, whether or not it is an actor's turn. Then the thread may leave its slot.
pub(crate) fn in_runnable() -> bool {
    !CURRENT.get().is_null()
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_turn_whose_actor_has_ended_is_nobodys() {
        let actor = 1u64;
        assert!(current().is_null() && !in_runnable());
        let turn = Current::of(NonNull::from(&actor));
        assert_eq!(current(), ptr::from_ref(&actor).cast());
        Current::forget();
        assert!(current().is_null() && in_runnable());
        drop(turn);
        assert!(current().is_null() && !in_runnable());
    }
}

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
//! So only these questions are asked of a thread: which slot has it ([`Local::with`]), is it of this crew ([`is_of`]),
//! and whose turn runs on it ([`current`]).

use super::Scheduler;
use super::local::Local;
use super::spares::Spare;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;
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
    here: PhantomData<*const ()>,
}

/// Takes the thread-local pointers away again, whatever happens.
pub(super) struct Enlisted;

impl Drop for Enlisted {
    fn drop(&mut self) {
        MEMBER.set(ptr::null());
        Local::forget_seat();
    }
}

impl<'a> Member<'a> {
    pub(super) fn new(scheduler: &'a Scheduler, spare: Arc<Spare>, recruit: &'a Recruit<'a>) -> Self {
        Member { scheduler, recruit, spare, blocking: Cell::new(false), here: PhantomData }
    }

    /// Makes the calling thread this member, until what it returns is dropped.
    ///
    /// # Safety
    /// It is dropped before `self` goes.
    pub(super) unsafe fn enlist(&self) -> Enlisted {
        MEMBER.set(ptr::from_ref(self).cast());
        Enlisted
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
}

/// Marks whose turn runs on this thread: opaque here, compared by the floors above. Null between turns.
#[inline]
pub(crate) fn set_current(current: *const ()) {
    CURRENT.set(current);
}

/// Whose turn runs on this thread.
#[inline]
pub(crate) fn current() -> *const () {
    CURRENT.get()
}

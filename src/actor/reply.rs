//! The way back: the holder of a `Reply` answers, once.

use crate::cell::core::Core;
use crate::cell::header::Header;
use crate::cell::waits::ActorKey;
use crate::error::AskError;
use crate::id::WaitCycle;
use crate::sched::crew_thread;
use crate::sched::timers::{Key, Timed};
use crate::time::{self, Duration};
use crate::user::{self, Orphan, Orphans};
use crate::variance::Invariant;
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;

/// The functions for the target of an answer. Each function but `wanted`, `forward` and `restore`
/// consumes the pointer.
pub(crate) struct ReplyVtable<R: 'static> {
    pub(crate) answer: unsafe fn(NonNull<()>, Result<R, AskError>),
    pub(crate) wanted: unsafe fn(NonNull<()>) -> bool,
    /// Gives up the right to answer, since the message was not sent.
    pub(crate) cancel: unsafe fn(NonNull<()>),
    /// Records that an actor other than the asked one will answer. Keeps the pointer. Does nothing
    /// if no thread or actor can wait for the answer.
    pub(crate) forward: unsafe fn(NonNull<()>, ActorKey) -> Result<Forwarded, WaitCycle>,
    /// Takes a forward back, after the other actor has refused. Keeps the pointer.
    pub(crate) restore: unsafe fn(NonNull<()>, Forwarded),
}

/// The actor to which a request had been forwarded before, if any.
pub(crate) type Forwarded = Option<ActorKey>;

/// The right to answer one message, once. See [`Receive`](crate::Receive).
///
/// A reply can be kept, sent in a message or moved to another thread. If it is dropped without an
/// answer the asker is told at once, with [`AskError::NoReply`](crate::AskError::NoReply). If the
/// end of an actor dropped it the asker gets that cause, and if a panic inside an actor's turn
/// dropped it, [`AskError::Panicked`](crate::AskError::Panicked).
///
/// The text of a panic is known once the panic has left the handler. If the handler catches the
/// panic instead, the asker gets [`NoReply`](crate::AskError::NoReply) at the handler's next wait
/// or [`blocking`](crate::blocking), and at the latest when the turn ends. If neither comes within
/// about 100 ms a worker tells the asker, as soon as one is free. (The asker is also told then if
/// the unwinding itself takes that long.)
///
/// # Limits
/// A reply that is kept keeps the block of its message, although the message itself was moved out:
/// as many bytes as the message has, or those of a pointer for a message of more than 4 KiB. Answer
/// soon, or put large parts of a message in a [`Box`].
///
/// [`std::mem::forget`] of a reply leaves its asker without an answer. A wait then ends with its
/// timeout only. A callback of [`ask_then`](crate::Context::ask_then) never runs, and keeps its
/// actor until that actor is stopped.
#[doc(alias("ReplySender", "OneshotSender", "RpcReplyPort", "MessageResponse", "deferred"))]
#[must_use = "dropping a reply tells the asker that there is none"]
pub struct Reply<R: 'static> {
    /// `None` if the message was told and not asked.
    to: Option<(NonNull<()>, &'static ReplyVtable<R>)>,
    /// The slot on the other side is made for an `R`.
    answer: Invariant<R>,
}

// SAFETY: the pointer leads to a slot or a callback with `Send` contents, and has no other owner.
unsafe impl<R: Send + 'static> Send for Reply<R> {}
// SAFETY: a shared reference gives access to `wanted`, an atomic load, and to `forward` and
// `restore`, which lock a table.
unsafe impl<R: Send + 'static> Sync for Reply<R> {}

impl<R: 'static> Reply<R> {
    /// Makes the reply of a message that was told.
    pub(crate) fn to_nobody() -> Self {
        Reply { to: None, answer: PhantomData }
    }

    /// # Safety
    /// `to` is the replier's side of a target that `vtable` is made for, and the caller gives it
    /// up.
    pub(crate) unsafe fn new(to: NonNull<()>, vtable: &'static ReplyVtable<R>) -> Self {
        Reply { to: Some((to, vtable)), answer: PhantomData }
    }

    fn into_target(self) -> Option<(NonNull<()>, &'static ReplyVtable<R>)> {
        // Without the drop, which would tell the asker that there is no answer.
        ManuallyDrop::new(self).to
    }

    /// Answers, and wakes the asker. If the asker has given up, drops the answer on this thread.
    #[inline]
    pub fn send(self, answer: R) {
        if let Some((to, vtable)) = self.into_target() {
            // SAFETY: `into_target` consumed the reply, so the pointer is used once.
            unsafe { (vtable.answer)(to, Ok(answer)) };
        }
    }

    /// Returns `true` if an asker still holds the ask. Returns `false` for a message that was told,
    /// and once the [`Ask`](crate::Ask) was dropped or the actor of an
    /// [`ask_then`](crate::Context::ask_then) has stopped: then work for the answer can be saved.
    /// `true` can become `false` at any time.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        // SAFETY: the reply still exists, so the pointer is unused.
        self.to.is_some_and(|(to, vtable)| unsafe { (vtable.wanted)(to) })
    }

    /// Notes that the actor `to` will answer, so a wait for the answer counts as a wait for that
    /// actor.
    ///
    /// # Errors
    /// Fails if that actor waits for the asker.
    pub(crate) fn record_forward(&self, to: ActorKey) -> Result<Forwarded, WaitCycle> {
        match self.to {
            // SAFETY: the reply still exists, so the pointer is unused.
            Some((at, vtable)) => unsafe { (vtable.forward)(at, to) },
            None => Ok(None),
        }
    }

    /// Takes a [`forward`](Self::record_forward) back.
    pub(crate) fn restore_forward(&self, before: Forwarded) {
        if let Some((at, vtable)) = self.to {
            // SAFETY: the reply still exists, so the pointer is unused.
            unsafe { (vtable.restore)(at, before) }
        }
    }

    /// Gives up the right to answer, since the message was not sent.
    pub(crate) fn cancel_ask(self) {
        if let Some((to, vtable)) = self.into_target() {
            // SAFETY: `into_target` consumed the reply, so the pointer is used once.
            unsafe { (vtable.cancel)(to) };
        }
    }

    /// Answers with an error, since the message was not handled.
    pub(crate) fn fail_with(self, error: AskError) {
        if let Some((to, vtable)) = self.into_target() {
            // SAFETY: `into_target` consumed the reply, so the pointer is used once.
            unsafe { (vtable.answer)(to, Err(error)) };
        }
    }
}

impl<R: 'static> Drop for Reply<R> {
    fn drop(&mut self) {
        let Some((to, vtable)) = self.to.take() else { return };
        // A reply may be dropped anywhere, so the scope that would answer late may need a timer.
        DroppedReply { to, vtable }.tell_dropped(Some(watch_for_panic));
    }
}

/// A reply during a handler that returns its answer. Only the handler's code runs between this
/// value and the turn, so the turn catches each panic that drops the value. No timer needs to watch
/// for a panic that the handler caught.
pub(super) struct OwedReply<R: 'static>(pub(super) Reply<R>);

impl<R: 'static> OwedReply<R> {
    #[inline]
    pub(super) fn send(self, answer: R) {
        // Neither this value nor the reply inside is dropped, since the target is used up here.
        if let Some((to, vtable)) = ManuallyDrop::new(self).0.to {
            // SAFETY: the reply is consumed, so the pointer is used once.
            unsafe { (vtable.answer)(to, Ok(answer)) };
        }
    }
}

impl<R: 'static> Drop for OwedReply<R> {
    #[inline]
    fn drop(&mut self) {
        // Taken out, so the drop of the reply inside has nothing to answer.
        if let Some((to, vtable)) = self.0.to.take() {
            DroppedReply { to, vtable }.tell_dropped(None);
        }
    }
}

/// The target of a reply that was dropped unanswered.
struct DroppedReply<R: 'static> {
    to: NonNull<()>,
    vtable: &'static ReplyVtable<R>,
}

// SAFETY: the target belongs to a reply with `Send` answers, and only an error is sent.
unsafe impl<R: 'static> Send for DroppedReply<R> {}

impl<R: 'static> DroppedReply<R> {
    #[cold]
    fn tell_dropped(self, watch: Option<user::OrphanWatch>) {
        // A panic's text is known only after the panic has left the handler. Until then the scope
        // keeps the orphan to answer it later, and there is no cause here.
        let cause = user::cause_of_drop(
            || {
                let DroppedReply { to, vtable } = self;
                // Called at most once, either here or by the scope, so the target is not used
                // twice.
                let late = DroppedReply { to, vtable };
                Box::new(move |error| late.answer_dropped(error)) as Orphan
            },
            watch,
        );
        if let Some(error) = cause {
            self.answer_dropped(error);
        }
    }

    fn answer_dropped(&self, error: AskError) {
        // SAFETY: the target was taken from a reply and is used once, by this call or by the
        // orphan's later call.
        unsafe { (self.vtable.answer)(self.to, Err(error)) };
    }
}

/// How long an asker waits for the text of a panic that may have been caught.
const PATIENCE: Duration = Duration::from_millis(100);

/// Arms a timer, on the executor of the turn that runs here, as the last means to answer the
/// orphans.
fn watch_for_panic(orphans: &Arc<Orphans>) -> Option<Box<dyn Any>> {
    // SAFETY: the turn that runs here keeps its cell, and without a turn the pointer is null.
    let header = unsafe { crew_thread::current_actor().cast::<Header>().as_ref() }?;
    let core = header.core().share();
    // Known only when the timer is armed, under the timers' lock.
    let mut key = Key::NONE;
    let made = |given| -> Box<dyn Timed> {
        key = given;
        Box::new(LateAnswer(Arc::clone(orphans)))
    };
    // Armed whatever the actor's state is, since the orphans must be answered in any case.
    let armed = core.scheduler.arm_timer(time::instant_after(PATIENCE), || true, made);
    armed.then(|| Box::new(PanicWatch { core, key }) as Box<dyn Any>)
}

/// Cancels the timer when it is dropped.
struct PanicWatch {
    core: Arc<Core>,
    key: Key,
}

impl Drop for PanicWatch {
    fn drop(&mut self) {
        // The scope is over and has answered the orphans itself.
        self.core.scheduler.cancel_timer(self.key);
    }
}

/// The entry in the table of timers. The drop answers the remaining orphans, so each is answered
/// whatever becomes of the timer.
struct LateAnswer(Arc<Orphans>);

impl Timed for LateAnswer {
    fn deliver_due(self: Box<Self>) -> Result<(), Box<dyn Timed>> {
        // Comes back as refused. Answering wakes askers, which is user code and must not run under
        // the timers' lock.
        Err(self)
    }

    // The drop that follows answers.
    fn report_undeliverable(self: Box<Self>) {}
}

impl Drop for LateAnswer {
    fn drop(&mut self) {
        self.0.answer_all(&AskError::NoReply);
    }
}

impl<R: 'static> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("wanted", &self.is_wanted()).finish()
    }
}

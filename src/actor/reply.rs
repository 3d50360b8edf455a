//! The way back: whoever holds the `Reply` answers, once.

use crate::error::AskError;
use crate::user::cause_of_drop;
use crate::variance::Invariant;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// Where an answer goes. Each function consumes the pointer but `wanted`.
pub(crate) struct ReplyVtable<R: 'static> {
    pub(crate) answer: unsafe fn(NonNull<()>, Result<R, AskError>),
    pub(crate) wanted: unsafe fn(NonNull<()>) -> bool,
    /// Nobody is to be answered after all.
    pub(crate) cancel: unsafe fn(NonNull<()>),
}

/// The right to answer one message, once. See [`Receive`](crate::Receive).
///
/// It can be kept, sent in a message or moved to another thread. Dropped without an answer it says so at once: the
/// asker gets [`AskError::NoReply`](crate::AskError::NoReply), or, if a panic or the actor's end dropped it, that
/// cause.
#[must_use = "dropping a reply tells the asker that there is none"]
pub struct Reply<R: 'static> {
    /// None: the message was told, not asked.
    to: Option<(NonNull<()>, &'static ReplyVtable<R>)>,
    /// The slot on the other side is made for an `R`.
    answer: Invariant<R>,
}

// SAFETY: the pointer is to a slot or a callback whose contents are Send, and has this one owner.
unsafe impl<R: Send + 'static> Send for Reply<R> {}
// SAFETY: through a shared reference only `wanted` can be called, which is an atomic load.
unsafe impl<R: Send + 'static> Sync for Reply<R> {}

impl<R: 'static> Reply<R> {
    pub(crate) fn nobody() -> Self {
        Reply { to: None, answer: PhantomData }
    }

    /// # Safety
    /// `to` is the replier's side of what `vtable` is made for, given up by the caller.
    pub(crate) unsafe fn new(to: NonNull<()>, vtable: &'static ReplyVtable<R>) -> Self {
        Reply { to: Some((to, vtable)), answer: PhantomData }
    }

    fn into_target(self) -> Option<(NonNull<()>, &'static ReplyVtable<R>)> {
        ManuallyDrop::new(self).to
    }

    /// Answers. The asker wakes up, unless it has gone; then the answer is dropped here.
    #[inline]
    pub fn send(self, answer: R) {
        if let Some((to, vtable)) = self.into_target() {
            // SAFETY: consumed, so this is the one use.
            unsafe { (vtable.answer)(to, Ok(answer)) };
        }
    }

    /// Does anybody still wait? `false` for a message that was told, and after the asker gave up (its timeout passed,
    /// its future was dropped): work for the answer can be saved. It can become `false` at any time.
    #[must_use]
    pub fn wanted(&self) -> bool {
        // SAFETY: not consumed yet.
        self.to.is_some_and(|(to, vtable)| unsafe { (vtable.wanted)(to) })
    }

    /// The message was not sent, so nobody is to be answered.
    pub(crate) fn cancel(self) {
        if let Some((to, vtable)) = self.into_target() {
            // SAFETY: consumed, so this is the one use.
            unsafe { (vtable.cancel)(to) };
        }
    }

    /// The message was not handled.
    pub(crate) fn fail(self, error: AskError) {
        if let Some((to, vtable)) = self.into_target() {
            // SAFETY: consumed, so this is the one use.
            unsafe { (vtable.answer)(to, Err(error)) };
        }
    }
}

impl<R: 'static> Drop for Reply<R> {
    fn drop(&mut self) {
        let Some((to, vtable)) = self.to.take() else { return };
        // SAFETY: taken, so this is the one use: here, or by the turn later.
        let answer = move |error| unsafe { (vtable.answer)(to, Err(error)) };
        if let Some(error) = cause_of_drop(|| Box::new(answer)) {
            answer(error);
        }
    }
}

impl<R: 'static> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("wanted", &self.wanted()).finish()
    }
}

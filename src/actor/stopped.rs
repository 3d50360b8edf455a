//! Waiting for an actor's end: futures, and the wait of a thread.
//!
//! The waker of a wait has an entry in the list of its actor's waiters. The entry goes when the
//! future is dropped, so an abandoned wait leaves nothing behind. The last turn takes the list. The
//! memory of the list is the cell's, so a weak count is enough for a wait.

use super::wait::{self, Awaits};
use crate::cell::counted::{Strong, Weak};
use crate::cell::end;
use crate::cell::header::Header;
use crate::drops;
use crate::error::{StopReason, WaitError};
use crate::sync::WakerKey;
use crate::time::Instant;
use crate::user;
use crate::variance::Invariant;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The end of an actor, to be awaited. From
/// [`ActorRef::wait_stopped_async`](crate::ActorRef::wait_stopped_async).
///
/// The future holds a reference, as an [`ActorRef`](crate::ActorRef) does; [`WeakStopped`] does not
/// keep the actor alive. [`std::mem::forget`] leaks the reference. In a forked child the future
/// never resolves unless the actor had ended before the fork.
#[must_use = "a future does nothing unless it is awaited"]
pub struct Stopped<A> {
    actor: Strong,
    /// The future's entry in the list of waiters, after the first poll.
    key: Option<WakerKey>,
    /// The cell is of type `A`.
    of: Invariant<A>,
}

/// The end of an actor, to be awaited, without keeping the actor alive. From
/// [`WeakRef::wait_stopped_async`](crate::WeakRef::wait_stopped_async) and
/// [`WeakRecipient::wait_stopped_async`](crate::WeakRecipient::wait_stopped_async).
///
/// Until the future is dropped it keeps what a [`WeakRef`](crate::WeakRef) keeps, and
/// [`std::mem::forget`] leaks the same. In a forked child the future never resolves unless the
/// actor had ended before the fork.
///
/// ```
/// # use heist::{Actor, Executor, StopReason};
/// # struct Idle;
/// # impl Actor for Idle {}
/// let executor = Executor::new();
/// let actor = executor.spawn(Idle);
/// let ended = actor.downgrade().wait_stopped_async();
/// drop(actor);   // the last reference
/// assert_eq!(futures::executor::block_on(ended), StopReason::Unreferenced);
/// ```
#[must_use = "a future does nothing unless it is awaited"]
pub struct WeakStopped {
    actor: Weak,
    /// The future's entry in the list of waiters, after the first poll.
    key: Option<WakerKey>,
}

impl<A> Stopped<A> {
    pub(super) fn new(actor: Strong) -> Self {
        Stopped { actor, key: None, of: PhantomData }
    }
}

impl WeakStopped {
    pub(super) fn new(actor: Weak) -> Self {
        WeakStopped { actor, key: None }
    }
}

impl<A> Future for Stopped<A> {
    type Output = StopReason;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<StopReason> {
        let Stopped { actor, key, .. } = &mut *self;
        poll_stopped(actor.header(), key, cx)
    }
}

impl Future for WeakStopped {
    type Output = StopReason;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<StopReason> {
        let WeakStopped { actor, key } = &mut *self;
        poll_stopped(actor.header(), key, cx)
    }
}

/// Enters the waker in the list of waiters, unless the actor has ended. The caller has a count of
/// the cell, of either kind.
fn poll_stopped(
    header: &Header,
    key: &mut Option<WakerKey>,
    cx: &mut Context<'_>,
) -> Poll<StopReason> {
    if header.state.load_snapshot().is_dead() {
        // This step acquires the writes of the last turn, the reason included. The reading
        // above is relaxed.
        let _ = header.state.wait_for_stop();
        return Poll::Ready(end::stop_reason_of(header));
    }
    if header.core().is_forked() {
        // No turn runs in a forked child, so the actor cannot end there.
        return Poll::Pending; // for ever
    }
    // Cloned before the lock is taken, since that is user code.
    let waker = user::clone_waker(cx.waker());
    let mut waiting = header.cold().stop.lock();
    // The flag is set under the lock. The last turn sees the flag, then takes the lock, and so
    // finds this entry.
    if !header.state.wait_for_stop() {
        drop(waiting);
        drops::drop_waker(Some(waker));
        return Poll::Ready(end::stop_reason_of(header));
    }
    let old = waiting.insert_or_replace(key, waker);
    drop(waiting);
    drops::drop_waker(old); // not under the lock
    Poll::Pending
}

/// Removes the entry of a future that is dropped unfinished.
fn remove_entry(header: &Header, key: Option<WakerKey>) {
    if let Some(key) = key
        && !header.core().is_forked()
    {
        // The entry has left the list already if the actor has ended.
        let own = header.cold().stop.lock().remove(key);
        drops::drop_waker(own); // not under the lock
    }
}

/// Blocks until the future of this actor's end is ready, or the instant has passed.
pub(super) fn wait_stopped_until(
    header: &Header,
    stopped: &mut impl Awaits<Output = StopReason>,
    until: Option<Instant>,
) -> Result<StopReason, WaitError> {
    // No thread waits for an actor that has ended, so the call succeeds wherever it is made.
    if !header.state.load_snapshot().is_dead() {
        // First: in a child that was forked in a turn the thread still counts as one of the
        // crew.
        if header.core().is_forked() {
            return Err(WaitError::Forked);
        }
        if header.core().on_crew() {
            return Err(WaitError::OnCrew);
        }
    }
    wait::wait_for(stopped, until)?.ok_or(WaitError::TimedOut)
}

impl<A> Awaits for Stopped<A> {
    fn target(&self) -> &Header {
        self.actor.header()
    }
}

impl Awaits for WeakStopped {
    fn target(&self) -> &Header {
        self.actor.header()
    }
}

impl<A> Drop for Stopped<A> {
    fn drop(&mut self) {
        remove_entry(self.actor.header(), self.key);
    }
}

impl Drop for WeakStopped {
    fn drop(&mut self) {
        remove_entry(self.actor.header(), self.key);
    }
}

impl<A> fmt::Debug for Stopped<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopped")
            .field("actor", &self.actor.header().id().get())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for WeakStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakStopped")
            .field("actor", &self.actor.header().id().get())
            .finish_non_exhaustive()
    }
}

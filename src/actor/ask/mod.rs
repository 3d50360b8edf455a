//! Asking: a message with a way back, and the future of its answer.
//!
//! - [`envelope`]: an ask for which a thread or a task waits; [`kind`]: the tables of all asks;
//!   [`parcel`]: the way into an envelope
//! - [`callback`]: an ask with an answer that is a message to an actor
//! - [`deadline`]: either of them with a deadline
//! - [`forward`]: another actor answers

pub(crate) mod callback;
mod deadline;
pub(crate) mod envelope;
pub(crate) mod forward;
mod kind;
mod parcel;

use super::carried::{Carried, carried};
use super::patience;
use super::refs::ActorRef;
use super::reply::Reply;
use super::wait::{self, Awaits};
use super::{Actor, Receive};
use crate::cell::deliver::{Lane, deliver};
use crate::cell::header::Header;
use crate::drops;
use crate::error::{AskError, SendError};
use crate::mailbox::reply_slot::ReplySlot;
use crate::time::{self, Duration, Instant};
use crate::variance::Invariant;
use envelope::AskEnvelopeHead;
use kind::PlainAsk;
use parcel::{AskParcel, AskWithReplyParcel};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context as TaskContext, Poll, Waker};

/// The answer to come. The message has been sent already.
///
/// An `Ask` is a future for any runtime; [`wait`](Self::wait) and
/// [`wait_timeout`](Self::wait_timeout) block instead. Dropping it withdraws interest in the
/// answer, never the message. [`std::mem::forget`] leaks the answer and, as a leftover reference
/// does, what is left of the executor.
///
/// # Panics
/// Polling it, or waiting for it, panics after it was ready.
///
/// ```
/// # use heist::{Actor, AskError, Context, Executor, Handler};
/// # use std::time::Duration;
/// # struct Doubler;
/// # impl Actor for Doubler {}
/// # impl Handler<u32> for Doubler {
/// #     type Reply = u32;
/// #     fn handle(&mut self, n: u32, _: &mut Context<Self>) -> u32 { 2 * n }
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let executor = Executor::new();
/// let doubler = executor.spawn(Doubler);
/// let (mut one, mut two) = (doubler.ask(1)?, doubler.ask(2)?);   // both are on their way
/// assert_eq!(two.wait()?, 4);
/// assert_eq!(one.wait_timeout(Duration::from_secs(5))?, 2);
/// let awaited = async {
///     doubler.ask(21)?.await.map_err(Box::<dyn std::error::Error + Send + Sync>::from)
/// };
/// assert_eq!(futures::executor::block_on(awaited)?, 42);
/// # Ok(())
/// # }
/// ```
#[must_use = "an answer is on its way; use tell where none is wanted"]
pub struct Ask<R> {
    /// `None` once the answer was taken.
    head: Option<NonNull<AskEnvelopeHead<R>>>,
    /// The slot is made for an `R`.
    answer: Invariant<R>,
}

// SAFETY: an ask is one of the slot's two sides, the answer is `Send`, and nothing in it belongs to
// a thread.
unsafe impl<R: Send> Send for Ask<R> {}
// SAFETY: a shared reference gives no access to the answer.
unsafe impl<R: Send> Sync for Ask<R> {}
impl<R> Unpin for Ask<R> {}
// The answer is written by one step and taken by one step, so no panic leaves half of it.
impl<R> UnwindSafe for Ask<R> {}
impl<R> RefUnwindSafe for Ask<R> {}

impl<R> Ask<R> {
    /// Takes over the asker's side of the slot.
    fn new(head: NonNull<AskEnvelopeHead<R>>) -> Self {
        Ask { head: Some(head), answer: PhantomData }
    }

    fn slot(&self) -> Option<NonNull<ReplySlot<Result<R, AskError>>>> {
        self.head.map(AskEnvelopeHead::slot_ptr)
    }

    /// Returns `true` if the answer is there, or was taken. A wait for an answer that is there
    /// returns at once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        // SAFETY: the asker's side has not released the slot, since `head` is still set.
        self.slot().is_none_or(|slot| unsafe { slot.as_ref() }.is_ready())
    }

    /// Blocks until the answer comes.
    ///
    /// Inside a handler a spare thread takes over this worker's slot
    /// ([`blocking`](crate::blocking)), and the other messages of this actor wait. The wait is
    /// refused for an ask to the actor itself; for an ask to an actor that waits for this one,
    /// directly or through others; and if no spare is left and no thread could run the actor that
    /// is to answer. [`Context::ask_then`](crate::Context::ask_then) blocks no thread.
    ///
    /// A cycle of waits is detected through requests that were
    /// [forwarded](crate::Context::forward), through the shared queue of a pool, and through actors
    /// of other executors. The error [names](AskError::WouldDeadlock) the actors in it.
    ///
    /// # Limits
    /// **Not detected** is that a [`Reply`](crate::Reply) was moved in a message or to another
    /// thread. A wait for it counts as a wait for the actor that was asked, or for the replica that
    /// took the message from a pool's shared queue. So a cycle may be reported where there is none,
    /// and a cycle through the holder of the reply is not detected. Waits of threads outside, of
    /// tasks, and for a mutex are not detected either. Use [`wait_timeout`](Self::wait_timeout)
    /// where such a cycle is possible; [`Handle::waits`](crate::Handle::waits) lists which actor
    /// waits for which.
    ///
    /// **Hold no mutex across a wait** that handlers of other actors lock in the ordinary way. Each
    /// of them blocks its worker, and no spare takes over. Once all workers block, no thread is
    /// left to run the actor that is to answer. Unlock first, or make what the mutex guards the
    /// state of an actor.
    ///
    /// # Errors
    /// Returns why no answer came. After a refusal to wait ([`AskError::WouldDeadlock`],
    /// [`AskError::NoSpare`], [`AskError::Forked`]) the answer may still come: the ask can be
    /// waited for again, elsewhere or later, awaited, or dropped.
    ///
    /// # Panics
    /// Panics if the answer was taken before.
    #[doc(alias("block_on", "recv", "get"))]
    #[track_caller]
    pub fn wait(&mut self) -> Result<R, AskError> {
        self.wait_until(None)
    }

    /// Blocks until the answer comes, for at most `timeout`, counted from this call.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), and [`AskError::TimedOut`]: then the answer may still come.
    ///
    /// # Panics
    /// Panics if the answer was taken before.
    #[track_caller]
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<R, AskError> {
        self.wait_until(time::instant_after(timeout))
    }

    #[track_caller]
    pub(crate) fn wait_until(&mut self, until: Option<Instant>) -> Result<R, AskError> {
        assert!(self.head.is_some(), "an ask was used after its answer was taken");
        // An answer that is there needs no wait, so it is returned even where a wait would be
        // refused.
        if !self.is_ready() {
            // In a forked child nothing answers any more.
            if self.target().core().is_forked() {
                return Err(AskError::Forked);
            }
            return match wait::wait_for(self, until) {
                Ok(Some(answer)) => answer,
                Ok(None) => Err(AskError::TimedOut),
                Err(wait::WaitRefused::WouldDeadlock(cycle)) => Err(AskError::WouldDeadlock(cycle)),
                Err(wait::WaitRefused::NoSpare) => Err(AskError::NoSpare),
            };
        }
        match Pin::new(self).poll(&mut TaskContext::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer,
            Poll::Pending => unreachable!("it was ready"),
        }
    }
}

impl<R> Future for Ask<R> {
    type Output = Result<R, AskError>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let slot = self.slot().expect("an ask was polled after its answer was taken");
        // SAFETY: the asker's side has not released the slot. The poll does so if the answer is
        // there, and `head` is cleared then.
        let poll = unsafe { ReplySlot::poll_answer(slot, cx) };
        if poll.is_ready() {
            // The poll has released the slot, so neither another poll nor the drop may touch it.
            self.head = None;
        }
        poll
    }
}

impl<R> Awaits for Ask<R> {
    fn target(&self) -> &Header {
        let head = self.head.expect("its answer was not taken");
        // SAFETY: the asker's side releases the slot only in a poll or a drop, which need the ask
        // mutably.
        unsafe { head.as_ref() }.target()
    }

    fn ask(&self) -> usize {
        self.head.map_or(0, |head| head.addr().get())
    }

    fn spin(&self, until: Option<Instant>) {
        // Most answers come within microseconds, sooner than a thread could sleep and wake.
        patience::look(until, self.target().core().scheduler.one_processor, || self.is_ready());
    }
}

impl<R> Drop for Ask<R> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot() {
            // SAFETY: the asker's side has not released the slot, and does so here. Answers borrow
            // nothing (`Receive::Reply` is `'static`), so a drop that is put off is sound.
            unsafe {
                if let Some(answer) = ReplySlot::abandon_by_asker(slot) {
                    // The answer came after all, and may own another ask, and so on.
                    drops::drop_value(answer);
                }
            }
        }
    }
}

impl<R> fmt::Debug for Ask<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask").field("ready", &self.is_ready()).finish_non_exhaustive()
    }
}

impl<A: Actor> ActorRef<A> {
    /// Sends a message and returns its answer to come. The message is sent at once, so the order of
    /// calls is the order of messages. Never waits. The returned [`Ask`] can be waited for,
    /// awaited, or dropped.
    ///
    /// # Limits
    /// The answer moves as it is, and is never boxed: one of hundreds of KiB may overflow the
    /// stack, which ends the process. Answer with a [`Box`] then. For the size of the message see
    /// [`tell`](Self::tell).
    ///
    /// # Errors
    /// The message comes back inside the error if the mailbox is full, the actor has stopped, the
    /// executor shuts down, or the process was forked.
    #[doc(alias("call", "request", "rpc", "query"))]
    pub fn ask<M: Send + 'static>(&self, message: M) -> Result<Ask<A::Reply>, SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => self.ask_as::<M, _>(message))
    }

    #[inline]
    pub(crate) fn ask_as<M: Send + 'static, C: Carried<M>>(
        &self,
        message: C,
    ) -> Result<Ask<A::Reply>, SendError<C>>
    where
        A: Receive<M>,
    {
        let asking = AskParcel::<PlainAsk<A, M, C>>::new(message, self.as_ptr());
        // SAFETY: `self` is a strong reference, and the envelope is made for an actor of type `A`.
        match unsafe { deliver(self.as_ptr(), asking, Lane::Ordinary) } {
            Ok(head) => Ok(Ask::new(head)),
            Err((asking, refusal)) => Err(SendError::new(asking.into_carrier(), refusal)),
        }
    }

    /// Sends a message, with `reply` for the answer. If the message is refused, nothing answers.
    pub(crate) fn send_with_reply<M: Send + 'static, C: Carried<M>>(
        &self,
        message: C,
        reply: Reply<A::Reply>,
    ) -> Result<(), SendError<C>>
    where
        A: Receive<M>,
    {
        self.try_send_with_reply::<M, C>(message, reply).map_err(|(message, reply, refusal)| {
            reply.cancel_ask();
            SendError::new(message, refusal)
        })
    }
}

//! Asking: a message with a way back, and the future of its answer.
//!
//! [`slot`]: an ask for whoever waits (a thread or a task); [`callback`]: an ask whose answer is a message to an actor;
//! [`deadline`]: either of them, worth nothing after an instant.

pub(crate) mod callback;
mod deadline;
pub(crate) mod slot;

use super::carried::{Carried, carried};
use super::refs::ActorRef;
use super::reply::Reply;
use super::{Actor, Receive};
use super::{patience, wait};
use crate::cell::envelope::{Lane, deliver};
use crate::drops;
use crate::error::{AskError, SendError};
use crate::mailbox::reply::Slot;
use crate::time::{self, Duration, Instant};
use crate::variance::Invariant;
use slot::{AskedHead, Asking, AskingWith, Plain};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context as TaskContext, Poll, Waker};

/// The answer to come. The message is on its way already, whether or not anybody waits.
///
/// A future of its own, for any runtime; [`wait`](Self::wait) and [`wait_timeout`](Self::wait_timeout) block instead.
/// Dropping it withdraws interest, never the message. Forgetting it ([`std::mem::forget`]) leaks the answer and, as any leftover
/// reference, what is left of the executor. Polling it again after it was ready panics.
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
/// let (one, two) = (doubler.ask(1)?, doubler.ask(2)?);   // both are on their way
/// assert_eq!(two.wait()?, 4);
/// assert_eq!(one.wait_timeout(Duration::from_secs(5))?, 2);
/// let awaited = async { doubler.ask(21)?.await.map_err(Box::<dyn std::error::Error + Send + Sync>::from) };
/// assert_eq!(futures::executor::block_on(awaited)?, 42);
/// # Ok(())
/// # }
/// ```
#[must_use = "an answer is on its way; use tell where none is wanted"]
pub struct Ask<R> {
    /// None once the answer was taken.
    head: Option<NonNull<AskedHead<R>>>,
    /// The slot is made for an `R`.
    answer: Invariant<R>,
}

// SAFETY: one of the slot's two sides, whose answer is Send; nothing in it belongs to a thread.
unsafe impl<R: Send> Send for Ask<R> {}
// SAFETY: a shared reference gives no access to the answer.
unsafe impl<R: Send> Sync for Ask<R> {}
impl<R> Unpin for Ask<R> {}

impl<R> Ask<R> {
    /// Takes over the asker's side of the slot.
    fn new(head: NonNull<AskedHead<R>>) -> Self {
        Ask { head: Some(head), answer: PhantomData }
    }

    fn slot(&self) -> Option<NonNull<Slot<Result<R, AskError>>>> {
        self.head.map(AskedHead::slot)
    }

    /// Is the answer there, so that waiting would return at once?
    #[must_use]
    pub fn is_ready(&self) -> bool {
        // SAFETY: our side has not let go.
        self.slot().is_none_or(|slot| unsafe { slot.as_ref() }.ready())
    }

    /// Blocks until the answer comes.
    ///
    /// Inside a handler a spare thread takes over what this worker had to do ([`blocking`](crate::blocking)), and this
    /// actor's other messages wait. It is refused for an ask to oneself; for one to an actor that waits for this one,
    /// directly or through others; and where there is no spare and nobody would be left to answer.
    /// [`Context::ask_then`](crate::Context::ask_then) needs none of that.
    ///
    /// Who waits for an actor is taken to wait for what that actor does. If it has given the [`Reply`](crate::Reply) away, so
    /// that another one answers, a circle may be seen where there is none.
    ///
    /// # Errors
    /// Why there is no answer. After a refusal the error holds the ask.
    pub fn wait(self) -> Result<R, WaitAskError<R>> {
        self.wait_until(None)
    }

    /// Blocks until the answer comes or the time, counted from now, has passed.
    ///
    /// # Errors
    /// As [`wait`](Self::wait); after [`AskError::TimedOut`] the error holds the ask, to wait on or to drop.
    pub fn wait_timeout(self, timeout: Duration) -> Result<R, WaitAskError<R>> {
        self.wait_until(time::after(timeout))
    }

    pub(crate) fn wait_until(mut self, until: Option<Instant>) -> Result<R, WaitAskError<R>> {
        let Some(head) = self.head else { panic!("an ask was used after its answer was taken") };
        if !self.is_ready() {
            // SAFETY: our side has not let go.
            let target = unsafe { head.as_ref() }.target();
            // SAFETY: the slot's weak count keeps the header.
            if unsafe { target.as_ref() }.core().forked() {
                return Err(WaitAskError { error: AskError::Forked, ask: Some(self) });
            }
            let slot = self.slot();
            // SAFETY: our side lets go only when it is polled and finds the answer, which is after this.
            let ready = || slot.is_none_or(|slot| unsafe { slot.as_ref() }.ready());
            // SAFETY: as above.
            let one_processor = unsafe { target.as_ref() }.core().scheduler.one_processor;
            let spin = || patience::look(until, one_processor, ready);
            let error = match wait::wait_for(&mut self, target, until, spin) {
                Ok(Some(answer)) => return answer.map_err(|error| WaitAskError { error, ask: None }),
                Ok(None) => AskError::TimedOut,
                Err(wait::Refused::WouldDeadlock) => AskError::WouldDeadlock,
                Err(wait::Refused::NoSpare) => AskError::NoSpare,
            };
            return Err(WaitAskError { error, ask: Some(self) });
        }
        match Pin::new(&mut self).poll(&mut TaskContext::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer.map_err(|error| WaitAskError { error, ask: None }),
            Poll::Pending => unreachable!("it was ready"),
        }
    }
}

impl<R> Future for Ask<R> {
    type Output = Result<R, AskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let slot = self.slot().expect("an ask was polled after its answer was taken");
        // SAFETY: our side has not let go; when the answer is there it has, and `head` is cleared.
        let poll = unsafe { Slot::poll(slot, cx) };
        if poll.is_ready() {
            self.head = None;
        }
        poll
    }
}

impl<R> Drop for Ask<R> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot() {
            // SAFETY: our side has not let go, and does so here. Asks are made for answers that borrow nothing (`Receive::Reply`).
            unsafe {
                if let Some(answer) = Slot::abandon(slot) {
                    drops::value(answer);
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

/// Why a blocking wait has no answer. Where one may still come, the ask is inside.
pub struct WaitAskError<R> {
    error: AskError,
    ask: Option<Ask<R>>,
}

impl<R> WaitAskError<R> {
    /// Why.
    #[must_use]
    pub fn error(&self) -> &AskError {
        &self.error
    }

    /// The ask, if its answer may still come: after a timeout or a refusal to wait.
    #[must_use]
    pub fn into_ask(self) -> Option<Ask<R>> {
        self.ask
    }
}

impl<R> From<WaitAskError<R>> for AskError {
    fn from(error: WaitAskError<R>) -> Self {
        error.error
    }
}

impl<R> fmt::Debug for WaitAskError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WaitAskError").field(&self.error).finish()
    }
}

impl<R> fmt::Display for WaitAskError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl<R> Error for WaitAskError<R> {}

impl<A: Actor> ActorRef<A> {
    /// Sends a message and returns its answer to come. The message is sent at once: the order of calls is the order
    /// of messages. Never waits; what it returns can be waited for or awaited, or dropped.
    ///
    /// # Errors
    /// The message comes back inside the error when the mailbox is full, the actor has stopped, or the executor shuts
    /// down.
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
        let asking = Asking::<_, A::Reply, Plain<A, M, C>>::new(message, self.as_ptr());
        // SAFETY: `self` is a strong reference; the envelope is made for an actor of its type.
        match unsafe { deliver(self.as_ptr(), asking, Lane::Ordinary) } {
            Ok(head) => Ok(Ask::new(head)),
            Err((asking, refusal)) => Err(SendError::new(asking.into_message(), refusal)),
        }
    }

    /// Sends a message whose answer goes to `reply`.
    pub(crate) fn send_with_reply<M: Send + 'static, C: Carried<M>>(
        &self,
        message: C,
        reply: Reply<A::Reply>,
    ) -> Result<(), SendError<C>>
    where
        A: Receive<M>,
    {
        let asking = AskingWith::<_, A::Reply, Plain<A, M, C>>::new(message, reply);
        // SAFETY: as above.
        match unsafe { deliver(self.as_ptr(), asking, Lane::Ordinary) } {
            Ok(()) => Ok(()),
            Err((asking, refusal)) => {
                let (message, reply) = asking.into_parts();
                reply.cancel();
                Err(SendError::new(message, refusal))
            }
        }
    }
}

//! Asking all replicas at the same time.

use super::Pool;
use crate::actor::ask::Ask;
use crate::actor::{Actor, Receive};
use crate::error::{AskError, Refusal, SendError};
use crate::time::{self, Duration, Instant};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

impl<A: Actor> Pool<A> {
    /// Asks all replicas the same, at the same time. Never waits. The result can be waited for or
    /// awaited under one timeout, and takes as long as the slowest replica. Dropping the result
    /// makes the broadcast a plain tell.
    ///
    /// A broadcast reaches all replicas of one moment, also while the pool is resized. But it may
    /// then overtake messages by key that this sender has sent before and that are held back: see
    /// [`resize`](Self::resize). A replica with a full mailbox refuses its message, and the others
    /// get theirs.
    ///
    /// ```
    /// # use heist::{Actor, Context, Executor, Handler};
    /// # use std::time::Duration;
    /// # struct Cache { entries: usize }
    /// # impl Actor for Cache {}
    /// #[derive(Clone)]
    /// struct Clear;
    /// impl Handler<Clear> for Cache {
    ///     type Reply = usize;
    ///     fn handle(&mut self, _: Clear, _: &mut Context<Self>) -> usize {
    ///         std::mem::take(&mut self.entries)
    ///     }
    /// }
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let executor = Executor::new();
    /// let caches = executor.pool(3, |index| Cache { entries: 10 * index }).build()?;
    /// let cleared = caches.broadcast(Clear).wait_timeout(Duration::from_secs(5));
    /// assert_eq!(cleared, [Ok(0), Ok(10), Ok(20)]);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("publish", "scatter"))]
    pub fn broadcast<M: Clone + Send + 'static>(&self, message: M) -> Broadcast<A::Reply>
    where
        A: Receive<M>,
    {
        self.broadcast_with(|_| message.clone())
    }

    /// Asks all replicas at the same time, each with the message that `message` makes for its
    /// index. If the pool changes its size meanwhile, `message` is called again.
    #[doc(alias("publish", "scatter", "gather"))]
    pub fn broadcast_with<M: Send + 'static>(
        &self,
        mut message: impl FnMut(usize) -> M,
    ) -> Broadcast<A::Reply>
    where
        A: Receive<M>,
    {
        loop {
            // The messages are made outside the lock, since `message` is user code. So are surplus
            // messages dropped.
            let seen = self.current_roster();
            if seen.stopped {
                let refused =
                    |_| BroadcastState::Over(Err(AskError::Refused(Refusal::PoolStopped)));
                return Broadcast { states: (0..seen.replicas.len()).map(refused).collect() };
            }
            let mut messages: Vec<Option<M>> =
                (0..seen.replicas.len()).map(|i| Some(message(i))).collect();
            let mut refused = Vec::new();
            let states = self.shared.with_same(&seen, |roster| {
                let ask = |(index, message): (usize, &mut Option<M>)| {
                    let message = message.take().expect("made for each replica");
                    match roster.replicas[index].actor.ask(message) {
                        Ok(ask) => BroadcastState::Asked(ask),
                        Err(error) => {
                            let why = error.refusal();
                            refused.push(error);
                            BroadcastState::Over(Err(AskError::Refused(why)))
                        }
                    }
                };
                messages.iter_mut().enumerate().map(ask).collect()
            });
            // Refused messages run user code when they are dropped, so they wait until the lock is
            // released.
            drop::<Vec<SendError<M>>>(refused);
            // `None` if the pool changed between the look and the lock. Then all is done again, so
            // that a broadcast reaches all replicas of one roster, or none.
            if let Some(states) = states {
                return Broadcast { states };
            }
        }
    }
}

/// The answers to come of all replicas, in their order. The replicas have been asked already.
///
/// A `Broadcast` is a future of all outcomes; [`wait`](Self::wait) and
/// [`wait_timeout`](Self::wait_timeout) block instead. Dropping it withdraws interest in the
/// answers, never the messages. [`std::mem::forget`] leaks the answers, as it does with an [`Ask`].
#[must_use = "answers are on their way"]
pub struct Broadcast<R> {
    states: Vec<BroadcastState<R>>,
}

enum BroadcastState<R> {
    Asked(Ask<R>),
    Over(Result<R, AskError>),
    Taken,
}

// The asks are `Unpin` and polled through `Pin::new`, so no field is structurally pinned.
impl<R> Unpin for Broadcast<R> {}

impl<R> Broadcast<R> {
    /// Blocks until every replica has answered, or will not answer. Returns the outcomes in the
    /// order of the replicas.
    ///
    /// Inside a handler each wait may be refused, as in [`Ask::wait`]; then that replica's outcome
    /// is the refusal.
    #[must_use]
    pub fn wait(self) -> Vec<Result<R, AskError>> {
        self.wait_until(None)
    }

    /// Blocks as [`wait`](Self::wait) does, for at most `timeout`, counted from this call. A
    /// replica that has not answered by then has the outcome [`AskError::TimedOut`].
    #[must_use]
    pub fn wait_timeout(self, timeout: Duration) -> Vec<Result<R, AskError>> {
        self.wait_until(time::instant_after(timeout))
    }

    fn wait_until(self, until: Option<Instant>) -> Vec<Result<R, AskError>> {
        // All questions are under way, so waiting for one after the other takes as long as the
        // slowest.
        let outcome = |state| match state {
            BroadcastState::Asked(mut ask) => ask.wait_until(until),
            BroadcastState::Over(outcome) => outcome,
            BroadcastState::Taken => unreachable!("not polled after it was ready"),
        };
        self.states.into_iter().map(outcome).collect()
    }
}

impl<R> Future for Broadcast<R> {
    type Output = Vec<Result<R, AskError>>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut all = true;
        for state in &mut self.states {
            if let BroadcastState::Asked(ask) = state {
                match Pin::new(ask).poll(cx) {
                    // Kept until the last answer is here; a finished ask must not be polled again.
                    Poll::Ready(answer) => *state = BroadcastState::Over(answer),
                    Poll::Pending => all = false,
                }
            }
        }
        if !all {
            return Poll::Pending;
        }
        let mut outcomes = Vec::with_capacity(self.states.len());
        // A loop and no closure, so that a panic names the caller's line.
        for state in &mut self.states {
            match std::mem::replace(state, BroadcastState::Taken) {
                BroadcastState::Over(outcome) => outcomes.push(outcome),
                _ => panic!("a broadcast was polled after it was ready"),
            }
        }
        Poll::Ready(outcomes)
    }
}

impl<R> fmt::Debug for Broadcast<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcast").field("replicas", &self.states.len()).finish_non_exhaustive()
    }
}

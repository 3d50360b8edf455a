//! Sending to a pool: the methods of an `ActorRef`, each with a strategy.

use super::Pool;
use super::life::PoolInner;
use super::roster::Roster;
use super::strategy::Strategy;
use crate::actor::ask::Ask;
use crate::actor::carried::carried;
use crate::actor::refs::ActorRef;
use crate::actor::send::{Packed, Posted, Queued, Returned, open_packed, pack_message};
use crate::actor::wait::{self, Awaits, WaitRefused};
use crate::actor::{Actor, Receive};
use crate::cell::header::Header;
use crate::error::{Refusal, SendError};
use crate::time::{self, Duration, Instant};
use crate::variance::Invariant;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

impl<A: Actor> PoolInner<A> {
    /// Turns the refusal of a closed replica into `PoolStopped` if the pool is stopping.
    fn explain_refusal(&self, refusal: Refusal) -> Refusal {
        if refusal == Refusal::Stopped && self.is_stopping() {
            Refusal::PoolStopped
        } else {
            refusal
        }
    }
}

impl<A: Actor> Pool<A> {
    #[inline]
    fn deliver_chosen<S: Strategy, M, R>(
        &self,
        strategy: &S,
        message: M,
        deliver: impl FnOnce(&ActorRef<A>, M) -> Result<R, SendError<M>>,
    ) -> Result<R, SendError<M>> {
        let result = self.shared.choose_and_deliver(strategy, |picked| match picked {
            Ok(actor) => deliver(actor, message),
            Err(refusal) => Err(SendError::new(message, refusal)),
        });
        match result {
            Ok(done) => Ok(done),
            Err(error) => {
                let refusal = self.shared.explain_refusal(error.refusal());
                Err(SendError::new(error.into_message(), refusal))
            }
        }
    }

    /// Sends a message to one replica. Never waits, wherever it is called.
    ///
    /// # Costs
    /// Those of [`ActorRef::tell`], 5 to 10 ns for a look at the list of replicas, and those of the
    /// strategy.
    ///
    /// # Errors
    /// The message comes back inside the error if that replica's mailbox (or the shared queue) is
    /// full, if there is no such replica, the pool has stopped, the executor shuts down, or the
    /// process was forked.
    #[inline]
    pub fn tell<M: Send + 'static>(
        &self,
        strategy: impl Strategy,
        message: M,
    ) -> Result<(), SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => self.deliver_chosen(&strategy, message, |actor, message| actor.tell_as::<M, _>(message)))
    }

    /// Sends a message to one replica and returns its pending answer; see [`ActorRef::ask`].
    ///
    /// # Errors
    /// As for [`tell`](Self::tell).
    #[inline]
    pub fn ask<M: Send + 'static>(
        &self,
        strategy: impl Strategy,
        message: M,
    ) -> Result<Ask<A::Reply>, SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => self.deliver_chosen(&strategy, message, |actor, message| actor.ask_as::<M, _>(message)))
    }

    /// Sends a message with a deadline to one replica and returns its answer to come; see
    /// [`ActorRef::ask_deadline`].
    ///
    /// # Errors
    /// As for [`tell`](Self::tell).
    pub fn ask_deadline<M: Send + 'static>(
        &self,
        strategy: impl Strategy,
        message: M,
        deadline: Instant,
    ) -> Result<Ask<A::Reply>, SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => {
            self.deliver_chosen(&strategy, message, |actor, message| actor.ask_deadline_as::<M, _>(message, deadline))
        })
    }

    /// Asks as [`ask_deadline`](Self::ask_deadline) does, with a deadline that lies `timeout` after
    /// this call. The wait for the answer is not cut short: see [`Ask::wait_timeout`].
    ///
    /// # Errors
    /// As for [`tell`](Self::tell).
    pub fn ask_timeout<M: Send + 'static>(
        &self,
        strategy: impl Strategy,
        message: M,
        timeout: Duration,
    ) -> Result<Ask<A::Reply>, SendError<M>>
    where
        A: Receive<M>,
    {
        match time::instant_after(timeout) {
            Some(deadline) => self.ask_deadline(strategy, message, deadline),
            // Later than any instant.
            None => self.ask(strategy, message),
        }
    }

    /// Returns the replica for the next message by this strategy, for methods that a pool lacks,
    /// such as [`Context::ask_then`](crate::Context::ask_then) or
    /// [`Context::when_room`](crate::Context::when_room). Returns `None` if the strategy names no
    /// replica, or [the shared queue](super::strategy::SharedQueue), or a key that moves to another
    /// replica now. A replica that the pool removes meanwhile refuses messages.
    #[must_use]
    pub fn choose(&self, strategy: impl Strategy) -> Option<ActorRef<A>> {
        let picked = self.shared.choose_and_deliver(&strategy, |picked| picked.ok().cloned())?;
        // The queue and the holds have cells without an actor, to which no user gets a reference.
        picked.header().supervised().is_some_and(|kept| !kept.is_queue()).then_some(picked)
    }

    /// Sends a message to one replica, and blocks until its mailbox (or the shared queue) has room
    /// for it. The sender that has waited longest comes first.
    ///
    /// If the pool removes that replica meanwhile, the strategy is asked again.
    ///
    /// # Errors
    /// The message comes back inside the error if there is no such replica; if the pool or its
    /// executor stops before or during the wait; and, in a handler, if the wait would be for the
    /// actor itself, would close a cycle of waits, or would leave no thread to run the target.
    pub fn send<M: Send + 'static>(
        &self,
        strategy: impl Strategy,
        message: M,
    ) -> Result<(), SendError<M>>
    where
        A: Receive<M>,
    {
        self.send_until(strategy, message, None)
    }

    /// Sends a message as [`send`](Self::send) does, and blocks for at most `timeout`, counted from
    /// this call.
    ///
    /// # Errors
    /// As for [`send`](Self::send), and [`Refusal::TimedOut`].
    pub fn send_timeout<M: Send + 'static>(
        &self,
        strategy: impl Strategy,
        message: M,
        timeout: Duration,
    ) -> Result<(), SendError<M>>
    where
        A: Receive<M>,
    {
        self.send_until(strategy, message, time::instant_after(timeout))
    }

    fn send_until<S: Strategy, M: Send + 'static>(
        &self,
        strategy: S,
        message: M,
        until: Option<Instant>,
    ) -> Result<(), SendError<M>>
    where
        A: Receive<M>,
    {
        let message = match self.tell(&strategy, message) {
            // The usual case needs neither an envelope nor a place in line.
            Err(error) if error.is_full() => error.into_message(),
            done => return done,
        };
        if self.shared.handle.core().is_forked() {
            return Err(SendError::new(message, Refusal::Forked));
        }
        // The message joins the line first, so that cycle detection knows the target of the wait.
        let mut sending = self.send_async(strategy, message);
        if let Poll::Ready(result) = sending.advance_send(Waker::noop()) {
            return sending.finish_send(result);
        }
        let result = match wait::wait_for(&mut Advancing(&mut sending), until) {
            Ok(Some(result)) => return sending.finish_send(result),
            // The message may have been accepted at the last moment; then `give_up` finds nothing,
            // and the result is `Ok`.
            Ok(None) => sending.give_up(Refusal::TimedOut),
            Err(WaitRefused::WouldDeadlock(_)) => sending.give_up(Refusal::WouldDeadlock),
            Err(WaitRefused::NoSpare) => sending.give_up(Refusal::NoSpare),
        };
        sending.finish_send(result.map_or(Ok(()), Err))
    }

    /// Returns a future that sends a message and waits for room: the awaited form of
    /// [`send`](Self::send). The message joins the line at the first poll. Dropping the future
    /// drops the message, unless that was accepted already; [`PoolSending::cancel`] returns it.
    pub fn send_async<S: Strategy, M: Send + 'static>(
        &self,
        strategy: S,
        message: M,
    ) -> PoolSending<A, S, M>
    where
        A: Receive<M>,
    {
        let (core, timed) = (self.shared.handle.core(), self.shared.is_timed());
        // Packed once, for whichever replica: all replicas have the same executor and the same
        // timing.
        let state = PoolSendState::Fresh(pack_message::<A, M>(message, core, timed));
        PoolSending { pool: self.clone(), strategy, state, message: PhantomData }
    }
}

enum PoolSendState<A> {
    Fresh(Packed<A>),
    Waiting(Queued<A>),
    Done,
}

/// A message on its way to a pool, to be awaited. From [`Pool::send_async`].
///
/// Resolves to `Ok` once the message is in a mailbox, or to an error with the message inside. After
/// [`std::mem::forget`] a message that waits stays in line and is sent when that mailbox has room;
/// if the pool removes the replica before, the message leaks. The strategy leaks too, and so does a
/// handle of the pool: dropping the other handles does not stop the pool then.
///
/// # Panics
/// Polling it panics after it was ready.
#[must_use = "a future does nothing unless it is awaited"]
pub struct PoolSending<A: Actor, S, M> {
    pool: Pool<A>,
    strategy: S,
    state: PoolSendState<A>,
    /// The envelope holds an `M`.
    message: Invariant<M>,
}

// No field is structurally pinned.
impl<A: Actor, S, M> Unpin for PoolSending<A, S, M> {}

impl<A: Receive<M>, S: Strategy, M: Send + 'static> PoolSending<A, S, M> {
    /// Advances as far as possible without blocking.
    #[track_caller]
    fn advance_send(&mut self, waker: &Waker) -> Poll<Result<(), Returned<A>>> {
        let PoolSending { pool, strategy, state, .. } = self;
        loop {
            match state {
                PoolSendState::Fresh(_) if pool.shared.is_forked() => {
                    match std::mem::replace(state, PoolSendState::Done) {
                        PoolSendState::Fresh(packed) => {
                            return Poll::Ready(Err(Returned(packed, Refusal::Forked)));
                        }
                        _ => unreachable!("it was fresh"),
                    }
                }
                PoolSendState::Fresh(packed) => {
                    // The ticket clones the waker, which is user code, so it is made outside the
                    // stripe's lock. The message stays in `state` until it is posted, since a
                    // strategy may panic.
                    let ticket = packed.new_ticket(waker);
                    let posted = pool.shared.choose_and_deliver(&*strategy, |picked| {
                        let PoolSendState::Fresh(packed) =
                            std::mem::replace(state, PoolSendState::Done)
                        else {
                            unreachable!("it was fresh")
                        };
                        match picked {
                            Ok(actor) => Queued::post_or_queue(actor, packed, &ticket),
                            Err(refusal) => Posted::Done(Err(Returned(packed, refusal))),
                        }
                    });
                    match posted {
                        Posted::Waiting(queued) => {
                            *state = PoolSendState::Waiting(queued);
                            return Poll::Pending;
                        }
                        Posted::Done(result) => return Poll::Ready(result),
                    }
                }
                PoolSendState::Waiting(queued) => {
                    let result = ready!(Pin::new(queued).poll(&mut Context::from_waker(waker)));
                    *state = PoolSendState::Done;
                    match result {
                        // The replica has left the pool, or the hold was emptied. The strategy
                        // chooses again.
                        Err(Returned(packed, Refusal::Stopped)) if !pool.shared.is_stopping() => {
                            *state = PoolSendState::Fresh(packed);
                        }
                        result => return Poll::Ready(result),
                    }
                }
                PoolSendState::Done => panic!("a send was polled after it was done"),
            }
        }
    }

    /// Converts a returned message to the sender's error type.
    fn finish_send(&self, result: Result<(), Returned<A>>) -> Result<(), SendError<M>> {
        result.map_err(|Returned(packed, refusal)| {
            // SAFETY: `Pool::send_async` packed an `M` for this future, and `PoolSending` has the
            // same type parameter.
            let message = unsafe { open_packed(packed) };
            SendError::new(message, self.pool.shared.explain_refusal(refusal))
        })
    }

    /// Gives up, and returns the message unless it was accepted. Returns `None` if it was, or if
    /// the message came back in an error already. In a forked child a message that waits is not
    /// returned.
    #[must_use = "the message is lost unless it is used"]
    pub fn cancel(mut self) -> Option<M> {
        let packed = match std::mem::replace(&mut self.state, PoolSendState::Done) {
            PoolSendState::Fresh(packed) => packed,
            PoolSendState::Waiting(mut queued) => queued.withdraw_message()?,
            PoolSendState::Done => return None,
        };
        // SAFETY: `Pool::send_async` packed an `M` for this future, and `PoolSending` has the same
        // type parameter.
        Some(unsafe { open_packed(packed) })
    }

    /// Takes the message back, unless it was accepted.
    fn give_up(&mut self, why: Refusal) -> Option<Returned<A>> {
        match std::mem::replace(&mut self.state, PoolSendState::Done) {
            PoolSendState::Fresh(packed) => Some(Returned(packed, why)),
            PoolSendState::Waiting(mut queued) => queued.give_up(why),
            PoolSendState::Done => None,
        }
    }
}

/// The send as a future with a small output, whatever the message's size.
struct Advancing<'a, A: Actor, S, M>(&'a mut PoolSending<A, S, M>);

impl<A: Receive<M>, S: Strategy, M: Send + 'static> Future for Advancing<'_, A, S, M> {
    type Output = Result<(), Returned<A>>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.advance_send(cx.waker())
    }
}

/// The target is the replica that keeps the message in line. A poll may move the message to another
/// replica; a reference to that replica then replaces the old one.
impl<A: Receive<M>, S: Strategy, M: Send + 'static> Awaits for Advancing<'_, A, S, M> {
    fn target(&self) -> &Header {
        match &self.0.state {
            PoolSendState::Waiting(queued) => queued.target(),
            _ => unreachable!("it is in line while a poll says that it is pending"),
        }
    }
}

impl<A: Receive<M>, S: Strategy, M: Send + 'static> Future for PoolSending<A, S, M> {
    type Output = Result<(), SendError<M>>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = self.advance_send(cx.waker());
        result.map(|result| self.finish_send(result))
    }
}

impl<A: Actor, S, M> fmt::Debug for PoolSending<A, S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolSending").field("pool", &self.pool).finish_non_exhaustive()
    }
}

/// Support for broadcasts, which reach all replicas of one roster, or none.
impl<A: Actor> PoolInner<A> {
    /// Calls `deliver` with the roster, under the stripe's lock, if it is still `seen`.
    pub(super) fn with_same<R>(
        &self,
        seen: &Arc<Roster<A>>,
        deliver: impl FnOnce(&Roster<A>) -> R,
    ) -> Option<R> {
        if self.is_forked() {
            return None;
        }
        // The own stripe is only the fastest: each stripe holds up a change of the roster.
        let roster = self.own_stripe().roster.read();
        Arc::ptr_eq(&roster, seen).then(|| deliver(&roster))
    }
}

//! Sending that waits for room, oldest first.

use super::context::AnyEnvelope;
use super::refs::ActorRef;
use super::tell::{self, Telling};
use super::wait::{self, Refused};
use super::{Actor, Receive};
use crate::cell::core::Core;
use crate::cell::envelope::{Envelope, Lane, Parcel, deliver};
use crate::cell::room::{self, Ticket, TicketNow};
use crate::drops;
use crate::error::{AskError, Refusal, SendError};
use crate::mailbox::state::RoomWait;
use crate::memory::Held;
use crate::time::{self, Duration, Instant};
use crate::user::{self, Site};
use crate::variance::Invariant;
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

impl<A: Actor> ActorRef<A> {
    /// Sends a message. Blocks until there is room in the mailbox. Whoever has waited longest comes first, and no
    /// `tell` slips in between.
    ///
    /// In a handler a spare thread takes over what this worker had to do ([`blocking`](crate::blocking));
    /// [`Context::when_room`](crate::Context::when_room) is the way without.
    ///
    /// # Errors
    /// The message comes back inside the error when the actor has stopped or stops while this waits, when the executor
    /// shuts down, or (in a handler) when the wait would be for oneself, close a circle of waits, or leave nobody to run
    /// anything.
    pub fn send<M: Send + 'static>(&self, message: M) -> Result<(), SendError<M>>
    where
        A: Receive<M>,
    {
        self.send_until(message, None)
    }

    /// Sends a message. Blocks until there is room, for at most `timeout`, counted from this call.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`Refusal::TimedOut`].
    pub fn send_timeout<M: Send + 'static>(&self, message: M, timeout: Duration) -> Result<(), SendError<M>>
    where
        A: Receive<M>,
    {
        self.send_until(message, time::after(timeout))
    }

    fn send_until<M: Send + 'static>(&self, message: M, until: Option<Instant>) -> Result<(), SendError<M>>
    where
        A: Receive<M>,
    {
        let message = match self.tell(message) {
            Err(error) if error.is_full() => error.into_message(),
            done => return done,
        };
        if self.header().core().forked() {
            return Err(SendError::new(message, Refusal::Forked));
        }
        let mut send = self.send_async(message);
        match wait::wait_for(&mut send, self.as_ptr(), until, || ()) {
            Ok(Some(result)) => result,
            Ok(None) => send.give_up(Refusal::TimedOut),
            Err(Refused::WouldDeadlock) => send.give_up(Refusal::WouldDeadlock),
            Err(Refused::NoSpare) => send.give_up(Refusal::NoSpare),
        }
    }

    /// Sends a message, waiting for room if need be: the awaited form of [`send`](Self::send). It takes its place in
    /// line when it is first polled; dropping it drops the message, unless it was accepted already;
    /// [`cancel`](Sending::cancel) gives it back.
    pub fn send_async<M: Send + 'static>(&self, message: M) -> Sending<A, M>
    where
        A: Receive<M>,
    {
        Sending { actor: self.clone(), state: State::Fresh(message), message: PhantomData }
    }
}

enum State<M> {
    Fresh(M),
    Waiting(Arc<Ticket>),
    Done,
}

/// A message on its way into a mailbox, to be awaited.
///
/// Resolves to `Ok` once the message is in the mailbox, or to an error with the message inside.
#[must_use = "a future does nothing unless it is awaited"]
pub struct Sending<A, M: Send + 'static> {
    actor: ActorRef<A>,
    state: State<M>,
    /// The envelope in line is made for an `M`.
    message: Invariant<M>,
}

impl<A, M: Send + 'static> Unpin for Sending<A, M> {}

/// Our own envelope's message, back. `held` is of its actor's pool.
fn reopen<M: Send + 'static>(envelope: AnyEnvelope, held: Held<'_>) -> M {
    // SAFETY: callers got it back from the list or from a refusal: it is the envelope that `poll` made, and unique.
    unsafe { tell::unwrap(envelope, held) }
}

impl<A, M: Send + 'static> Sending<A, M> {
    /// Out of the line, if still in it.
    fn withdraw(&mut self) -> Option<AnyEnvelope> {
        if self.forked() {
            return None; // the line is the parent's, and may be locked for ever
        }
        match std::mem::replace(&mut self.state, State::Done) {
            State::Waiting(ticket) => match room::withdraw(self.actor.header(), &ticket) {
                Some(envelope) => Some(envelope),
                None => match ticket.look(Waker::noop()) {
                    TicketNow::Refused(envelope, _) => Some(envelope),
                    TicketNow::Accepted | TicketNow::Waiting => None,
                },
            },
            State::Fresh(_) | State::Done => None,
        }
    }

    fn forked(&self) -> bool {
        self.actor.header().core().forked()
    }

    fn held(&self) -> Held<'_> {
        self.actor.header().held()
    }

    pub(crate) fn target(&self) -> &ActorRef<A> {
        &self.actor
    }

    /// Gives up, and takes the message back. `None`: it has been accepted, or came back in an error already.
    ///
    /// For a wait with a timeout of the runtime's, that gives back what was not sent:
    ///
    /// ```
    /// # use heist::{Actor, Context, Executor, Handler};
    /// # use std::time::Duration;
    /// # struct Sink;
    /// # impl Actor for Sink {}
    /// # impl Handler<String> for Sink { type Reply = (); fn handle(&mut self, _: String, _: &mut Context<Self>) {} }
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # let executor = Executor::new();
    /// # let sink = executor.spawn(Sink);
    /// # runtime.block_on(async {
    /// let mut sending = sink.send_async("hello".to_string());
    /// match tokio::time::timeout(Duration::from_secs(5), &mut sending).await {
    ///     Ok(sent) => sent?,
    ///     Err(_elapsed) => match sending.cancel() {
    ///         Some(message) => eprintln!("no room in time for {message}"),
    ///         None => {} // it was accepted at the last moment
    ///     },
    /// }
    /// # Ok::<(), heist::SendError<String>>(())
    /// # }).unwrap();
    /// ```
    pub fn cancel(mut self) -> Option<M> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Fresh(message) => Some(message),
            waiting => {
                self.state = waiting;
                self.withdraw().map(|envelope| reopen(envelope, self.held()))
            }
        }
    }

    pub(crate) fn give_up(self, why: Refusal) -> Result<(), SendError<M>> {
        match self.cancel() {
            Some(message) => Err(SendError::new(message, why)),
            None => Ok(()),
        }
    }
}

impl<A: Receive<M>, M: Send + 'static> Sending<A, M> {
    /// The first poll, with the message packed. Runs no user code.
    fn begin(&mut self, mut envelope: AnyEnvelope, ticket: &Arc<Ticket>) -> Poll<Result<(), SendError<M>>> {
        loop {
            // SAFETY: `actor` is a strong reference, and the envelope was made for its type.
            match unsafe { deliver(self.actor.as_ptr(), envelope, Lane::Ordinary) } {
                Ok(_) => return Poll::Ready(Ok(())),
                Err((back, Refusal::Full)) => envelope = back,
                Err((back, refusal)) => {
                    return Poll::Ready(Err(SendError::new(reopen(back, self.held()), refusal)));
                }
            }
            match room::join(self.actor.header(), ticket) {
                RoomWait::Room => {} // since just now: try again
                RoomWait::Closed => {
                    let closing = self.actor.header().core().closing();
                    let refusal = if closing { Refusal::ShuttingDown } else { Refusal::Stopped };
                    return Poll::Ready(Err(SendError::new(reopen(envelope, self.held()), refusal)));
                }
                RoomWait::Waiting => {
                    self.state = State::Waiting(Arc::clone(ticket));
                    return Poll::Pending;
                }
            }
        }
    }
}

/// A message and its place in line, before it is known whose. It is dropped with this, unless it was posted or refused.
pub(crate) struct Packed<'a, A, M> {
    /// None once it is another's.
    envelope: Cell<Option<AnyEnvelope>>,
    held: Held<'a>,
    ticket: Arc<Ticket>,
    types: Invariant<(A, M)>,
}

/// See [`Packed::post`].
pub(crate) enum Posted<A, M: Send + 'static> {
    Done(Result<(), SendError<M>>),
    Waiting(Sending<A, M>),
}

impl<'a, A: Receive<M>, M: Send + 'static> Packed<'a, A, M> {
    /// For an actor of this executor, that is timed or not.
    pub(crate) fn new(message: M, core: &'a Core, timed: bool, waker: Waker) -> Self {
        let telling = Telling::plain::<A>(message);
        let envelope =
            core.with_heap(|heap| if timed { telling.pack_dated(heap) } else { telling.pack(heap) });
        let ticket = Ticket::new(envelope, waker);
        Packed { envelope: Cell::new(Some(envelope)), held: core.held(), ticket, types: PhantomData }
    }

    fn take(&self) -> AnyEnvelope {
        self.envelope.take().expect("a packed message goes one way")
    }

    /// Puts it into the actor's mailbox or in line for it; once. Runs no user code.
    pub(crate) fn post(&self, actor: &ActorRef<A>) -> Posted<A, M> {
        let mut sending = Sending { actor: actor.clone(), state: State::Done, message: PhantomData };
        match sending.begin(self.take(), &self.ticket) {
            Poll::Ready(result) => Posted::Done(result),
            Poll::Pending => Posted::Waiting(sending),
        }
    }

    /// Not posted after all.
    pub(crate) fn refuse(&self, refusal: Refusal) -> SendError<M> {
        SendError::new(reopen(self.take(), self.held), refusal)
    }
}

impl<A, M> Drop for Packed<'_, A, M> {
    fn drop(&mut self) {
        if let Some(envelope) = self.envelope.take() {
            // SAFETY: neither posted nor refused, so the pointer is the only one that is ever used.
            user::contain(Site::Drop, || unsafe {
                Envelope::discard(envelope, AskError::Stopped, self.held);
            });
        }
    }
}

impl<A: Receive<M>, M: Send + 'static> Future for Sending<A, M> {
    type Output = Result<(), SendError<M>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.forked() {
            return match std::mem::replace(&mut this.state, State::Done) {
                State::Fresh(message) => Poll::Ready(Err(SendError::new(message, Refusal::Forked))),
                waiting => {
                    this.state = waiting;
                    Poll::Pending // for ever
                }
            };
        }
        match std::mem::replace(&mut this.state, State::Done) {
            State::Fresh(message) => {
                let envelope = Telling::plain::<A>(message).pack_for(this.actor.header());
                this.begin(envelope, &Ticket::new(envelope, user::clone_waker(cx.waker())))
            }
            State::Waiting(ticket) => match ticket.look(cx.waker()) {
                TicketNow::Waiting => {
                    this.state = State::Waiting(ticket);
                    Poll::Pending
                }
                TicketNow::Accepted => Poll::Ready(Ok(())),
                TicketNow::Refused(envelope, refusal) => {
                    Poll::Ready(Err(SendError::new(reopen(envelope, this.held()), refusal)))
                }
            },
            State::Done => panic!("a send was polled after it was done"),
        }
    }
}

impl<A, M: Send + 'static> Drop for Sending<A, M> {
    fn drop(&mut self) {
        if let State::Fresh(_) = self.state {
            let message = std::mem::replace(&mut self.state, State::Done);
            drops::run(move || drop(message));
        } else if let Some(envelope) = self.withdraw() {
            let actor = self.actor.clone().into_strong();
            drops::run(move || {
                let held = actor.header().held();
                // SAFETY: withdrawn, so the pointer is the only one; the actor's pool is held.
                user::contain(Site::Drop, || unsafe { Envelope::discard(envelope, AskError::Stopped, held) });
            });
        }
    }
}

impl<A, M: Send + 'static> fmt::Debug for Sending<A, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Fresh(_) => "not sent yet",
            State::Waiting(_) => "waiting for room",
            State::Done => "done",
        };
        f.debug_struct("Sending").field("actor", &self.actor).field("state", &state).finish()
    }
}

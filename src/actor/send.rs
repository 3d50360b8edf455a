//! Sending that waits for room, oldest first.

use super::carried::{Carried, carried, is_large};
use super::refs::ActorRef;
use super::tell::TellParcel;
use super::told;
use super::wait::{self, Awaits, WaitRefused};
use super::{Actor, Receive};
use crate::cell::core::Core;
use crate::cell::deliver::{Lane, Parcel, deliver};
use crate::cell::envelope::{AnyEnvelope, Envelope};
use crate::cell::header::Header;
use crate::cell::room::{self, TicketNow};
use crate::cell::room_list::Ticket;
use crate::drops;
use crate::error::{AskError, Refusal, SendError};
use crate::mailbox::state::RoomWait;
use crate::time::{self, Duration, Instant};
use crate::user::{self, Site};
use crate::variance::Invariant;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

impl<A: Actor> ActorRef<A> {
    /// Sends a message, and blocks until the mailbox has room for it. The sender that has waited
    /// longest comes first, and no `tell` overtakes it.
    ///
    /// In a handler a spare thread takes over this worker's slot ([`blocking`](crate::blocking)).
    /// [`Context::when_room`](crate::Context::when_room) blocks no thread.
    ///
    /// # Errors
    /// The message comes back inside the error if the actor has stopped, or stops during the wait;
    /// if the executor shuts down, or the process was forked; and, in a handler, if the wait would
    /// be for the actor's own mailbox, would close a cycle of waits, or would leave no thread to
    /// run the target.
    #[doc(alias("backpressure", "send_blocking", "blocking_send"))]
    pub fn send<M: Send + 'static>(&self, message: M) -> Result<(), SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => self.send_until::<M, _>(message, None))
    }

    /// Sends a message, and blocks until the mailbox has room for it, for at most `timeout`,
    /// counted from this call.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`Refusal::TimedOut`].
    pub fn send_timeout<M: Send + 'static>(
        &self,
        message: M,
        timeout: Duration,
    ) -> Result<(), SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => self.send_until::<M, _>(message, time::instant_after(timeout)))
    }

    pub(crate) fn send_until<M: Send + 'static, C: Carried<M>>(
        &self,
        message: C,
        until: Option<Instant>,
    ) -> Result<(), SendError<C>>
    where
        A: Receive<M>,
    {
        // Most mailboxes have room, so the plain way comes first. Only a refusal for lack of room
        // packs an envelope and waits.
        let message = match self.tell_as::<M, C>(message) {
            Err(error) if error.is_full() => error.into_message(),
            done => return done,
        };
        // In a forked child no turn will ever make room.
        if self.header().core().is_forked() {
            return Err(SendError::new(message, Refusal::Forked));
        }
        let packed = Packed::<A>::new::<M, C>(
            message,
            self.header().core(),
            self.header().stopwatch().is_some(),
        );
        let mut queued = Queued::new(self.clone(), packed);
        let returned = match wait::wait_for(&mut queued, until) {
            Ok(Some(done)) => done.err(),
            Ok(None) => queued.give_up(Refusal::TimedOut),
            Err(WaitRefused::WouldDeadlock(_)) => queued.give_up(Refusal::WouldDeadlock),
            Err(WaitRefused::NoSpare) => queued.give_up(Refusal::NoSpare),
        };
        returned.map_or(Ok(()), |Returned(packed, refusal)| {
            // SAFETY: `packed` was made from a `C` above, and the queue returns that envelope.
            let message = unsafe { packed.open_envelope() };
            Err(SendError::new(message, refusal))
        })
    }

    /// Returns a future that sends a message and waits for room: the awaited form of
    /// [`send`](Self::send). The message takes its place in line at the first poll. Dropping the
    /// future drops a message that was not accepted yet; [`cancel`](Sending::cancel) gives the
    /// message back.
    #[doc(alias("backpressure", "reserve"))]
    pub fn send_async<M: Send + 'static>(&self, message: M) -> Sending<A, M>
    where
        A: Receive<M>,
    {
        let (core, timed) = (self.header().core(), self.header().stopwatch().is_some());
        Sending::new(Queued::new(self.clone(), pack_message::<A, M>(message, core, timed)))
    }
}

/// A message in an envelope that no other code knows, to be [opened](open_packed) or posted. A drop
/// of this value drops the message and contains a panic, so the value may be held wherever user
/// code runs.
#[must_use]
pub(crate) struct Packed<A> {
    form: PackedForm,
    /// The envelope is made for an actor of type `A`.
    actor: Invariant<A>,
}

enum PackedForm {
    /// An envelope, and the core, which keeps the envelope's memory.
    Envelope(AnyEnvelope, Arc<Core>),
    /// The message alone, in a forked child, which leaves the parent's heaps alone. The send will
    /// be refused.
    Plain(Box<dyn Any + Send>),
    /// Nothing any more: the message was opened or posted.
    Gone,
}

// SAFETY: the message is `Send`, and the envelope belongs to this value as long as it is on no
// queue.
unsafe impl<A> Send for Packed<A> {}
// SAFETY: a shared reference gives no access to the message.
unsafe impl<A> Sync for Packed<A> {}

/// Packs a message, in a box if it is large.
pub(crate) fn pack_message<A: Receive<M>, M: Send + 'static>(
    message: M,
    core: &Core,
    timed: bool,
) -> Packed<A> {
    if core.is_forked() {
        Packed { form: PackedForm::Plain(Box::new(message)), actor: PhantomData }
    } else if const { is_large::<M>() } {
        Packed::new::<M, Box<M>>(Box::new(message), core, timed)
    } else {
        Packed::new::<M, M>(message, core, timed)
    }
}

/// Returns the message.
///
/// # Safety
/// [`pack_message`] was given an `M`.
pub(crate) unsafe fn open_packed<A, M: Send + 'static>(mut packed: Packed<A>) -> M {
    // Only looked at: the other form is taken out by `open_envelope`, from the whole value.
    if let PackedForm::Plain(_) = packed.form {
        let PackedForm::Plain(message) = packed.take_form() else { unreachable!("just seen") };
        return *message.downcast().expect("it is an `M`");
    }
    // SAFETY: `pack_message` was given an `M`, and chose between `Box<M>` and `M` by the same
    // condition.
    unsafe {
        if const { is_large::<M>() } {
            *packed.open_envelope::<Box<M>>()
        } else {
            packed.open_envelope::<M>()
        }
    }
}

impl<A> Packed<A> {
    /// Packs a message for an actor of this executor, timed or not.
    fn new<M: Send + 'static, C: Carried<M>>(message: C, core: &Core, timed: bool) -> Self
    where
        A: Receive<M>,
    {
        let telling = TellParcel::for_tell::<A, M>(message);
        let pack = |heap: &_| {
            if timed { telling.into_dated_envelope(heap) } else { telling.into_envelope(heap) }
        };
        Packed::from_envelope(core.with_heap(pack), core)
    }

    /// Takes over an envelope that no other code knows: just packed, or back from the list or a
    /// refusal.
    fn from_envelope(envelope: AnyEnvelope, core: &Core) -> Self {
        Packed { form: PackedForm::Envelope(envelope, core.share()), actor: PhantomData }
    }

    /// Takes the contents, for a single use.
    fn take_form(&mut self) -> PackedForm {
        std::mem::replace(&mut self.form, PackedForm::Gone)
    }

    fn envelope_ptr(&self) -> AnyEnvelope {
        match self.form {
            PackedForm::Envelope(envelope, _) => envelope,
            PackedForm::Plain(_) => unreachable!("refused in a forked child"),
            PackedForm::Gone => unreachable!("it is there until its one use"),
        }
    }

    /// Gives the envelope up to a mailbox, or to the line before one.
    fn into_envelope(mut self) -> AnyEnvelope {
        // What is left behind is `Gone`, so the drop at the end of this function does nothing.
        let envelope = self.envelope_ptr();
        self.take_form();
        envelope
    }

    /// Makes the place in line. Called outside all locks, since cloning a waker is user code.
    pub(crate) fn new_ticket(&self, waker: &Waker) -> Arc<Ticket> {
        Ticket::new(self.envelope_ptr(), user::clone_waker(waker))
    }

    /// Returns the message as it travelled.
    ///
    /// # Safety
    /// The message was packed as a `C`.
    unsafe fn open_envelope<C: Send + 'static>(mut self) -> C {
        match self.take_form() {
            // SAFETY: this is the only pointer to an envelope of a `C`, and the core keeps its
            // memory.
            PackedForm::Envelope(envelope, core) => unsafe {
                told::take_from_envelope(envelope, core.pool_held())
            },
            PackedForm::Plain(_) | PackedForm::Gone => unreachable!("it is in an envelope"),
        }
    }
}

impl<A> Drop for Packed<A> {
    fn drop(&mut self) {
        // A message may own a send, an ask or a reply itself, and so on: see `drops`.
        match self.take_form() {
            PackedForm::Gone => {}
            PackedForm::Plain(message) => {
                drops::run_or_put_off(move || user::run_contained(Site::Drop, || drop(message)))
            }
            PackedForm::Envelope(envelope, core) => drops::run_or_put_off(move || {
                // SAFETY: this is the only pointer to the envelope, and the core keeps its memory.
                user::run_contained(Site::Drop, || unsafe {
                    Envelope::discard_message(envelope, AskError::Stopped, core.pool_held());
                });
            }),
        }
    }
}

/// A message that was not accepted, and the reason.
pub(crate) struct Returned<A>(pub(crate) Packed<A>, pub(crate) Refusal);

enum SendState<A> {
    Fresh(Packed<A>),
    Waiting(Arc<Ticket>),
    Done,
}

/// A message of any type on the way into a mailbox. A future of a few words.
pub(crate) struct Queued<A> {
    actor: ActorRef<A>,
    state: SendState<A>,
}

/// The result of [`Queued::post_or_queue`].
pub(crate) enum Posted<A> {
    Done(Result<(), Returned<A>>),
    Waiting(Queued<A>),
}

impl<A> Queued<A> {
    pub(crate) fn new(actor: ActorRef<A>, packed: Packed<A>) -> Self {
        Queued { actor, state: SendState::Fresh(packed) }
    }

    /// Puts a message into the actor's mailbox or, with its [ticket](Packed::new_ticket), in line
    /// for it. Runs no user code.
    pub(crate) fn post_or_queue(
        actor: &ActorRef<A>,
        packed: Packed<A>,
        ticket: &Arc<Ticket>,
    ) -> Posted<A> {
        // `Done` until the message is in line, so a drop has nothing to withdraw.
        let mut queued = Queued { actor: actor.clone(), state: SendState::Done };
        match queued.send_or_queue(packed, ticket) {
            Poll::Ready(result) => Posted::Done(result),
            Poll::Pending => Posted::Waiting(queued),
        }
    }

    fn forked(&self) -> bool {
        self.core().is_forked()
    }

    fn core(&self) -> &Core {
        self.actor.header().core()
    }

    /// Makes the error for an envelope that came back.
    fn give_back(&self, envelope: AnyEnvelope, refusal: Refusal) -> Returned<A> {
        Returned(Packed::from_envelope(envelope, self.core()), refusal)
    }

    /// Delivers the message or puts it in line, on the first poll. Runs no user code.
    fn send_or_queue(
        &mut self,
        packed: Packed<A>,
        ticket: &Arc<Ticket>,
    ) -> Poll<Result<(), Returned<A>>> {
        // Usually one round. Between a refusal and the look at the line there may be room again.
        let mut envelope = packed.into_envelope();
        loop {
            // SAFETY: `actor` is a strong reference, and the envelope was made for its type.
            match unsafe { deliver(self.actor.as_ptr(), envelope, Lane::Ordinary) } {
                Ok(_) => return Poll::Ready(Ok(())),
                Err((back, Refusal::Full)) => envelope = back,
                Err((back, refusal)) => return Poll::Ready(Err(self.give_back(back, refusal))),
            }
            match room::join_line(self.actor.header(), ticket) {
                RoomWait::Room => {} // room since the refusal: try again
                RoomWait::Closed => {
                    let closing = self.core().is_closing();
                    let refusal = if closing { Refusal::ShuttingDown } else { Refusal::Stopped };
                    return Poll::Ready(Err(self.give_back(envelope, refusal)));
                }
                RoomWait::Waiting => {
                    self.state = SendState::Waiting(Arc::clone(ticket));
                    return Poll::Pending;
                }
            }
        }
    }

    /// Takes the message out of the line, if it is still there. Returns `None` if it was accepted,
    /// or came back in an error already.
    pub(crate) fn withdraw_message(&mut self) -> Option<Packed<A>> {
        match std::mem::replace(&mut self.state, SendState::Done) {
            SendState::Fresh(packed) => Some(packed),
            // The line is the parent's, and may be locked for ever.
            SendState::Waiting(_) if self.forked() => None,
            SendState::Waiting(ticket) => match room::leave_line(self.actor.header(), &ticket) {
                Some(envelope) => Some(Packed::from_envelope(envelope, self.core())),
                // A ticket not in line is settled, so no waker is left in it.
                None => match ticket.poll_state(Waker::noop()) {
                    TicketNow::Refused(envelope, _) => {
                        Some(Packed::from_envelope(envelope, self.core()))
                    }
                    TicketNow::Accepted | TicketNow::Waiting => None,
                },
            },
            SendState::Done => None,
        }
    }

    /// Gives up the wait. Returns the message, unless it was accepted.
    pub(crate) fn give_up(&mut self, why: Refusal) -> Option<Returned<A>> {
        self.withdraw_message().map(|packed| Returned(packed, why))
    }
}

impl<A> Future for Queued<A> {
    type Output = Result<(), Returned<A>>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.forked() {
            // In a forked child no turn takes a message. One that was not sent comes back, and one
            // in the parent's line stays there.
            return match std::mem::replace(&mut self.state, SendState::Done) {
                SendState::Fresh(packed) => Poll::Ready(Err(Returned(packed, Refusal::Forked))),
                waiting => {
                    self.state = waiting;
                    Poll::Pending // for ever
                }
            };
        }
        // The message stays in `state` while the waker is cloned, which is user code and may panic.
        match &self.state {
            SendState::Fresh(packed) => {
                let ticket = packed.new_ticket(cx.waker());
                let SendState::Fresh(packed) = std::mem::replace(&mut self.state, SendState::Done)
                else {
                    unreachable!("it was fresh")
                };
                self.send_or_queue(packed, &ticket)
            }
            SendState::Waiting(ticket) => {
                let result = match ticket.poll_state(cx.waker()) {
                    TicketNow::Waiting => return Poll::Pending,
                    TicketNow::Accepted => Ok(()),
                    TicketNow::Refused(envelope, refusal) => Err(self.give_back(envelope, refusal)),
                };
                self.state = SendState::Done;
                Poll::Ready(result)
            }
            SendState::Done => panic!("a send was polled after it was done"),
        }
    }
}

impl<A> Awaits for Queued<A> {
    fn target(&self) -> &Header {
        self.actor.header()
    }
}

impl<A> Drop for Queued<A> {
    fn drop(&mut self) {
        drop(self.withdraw_message());
    }
}

/// A message on its way into a mailbox, to be awaited. From [`ActorRef::send_async`].
///
/// Resolves to `Ok` once the message is in the mailbox, or to an error with the message inside.
/// After [`std::mem::forget`] a message that waits stays in line and is sent when the mailbox has
/// room; the reference to the actor leaks. In a forked child one that waited never resolves.
/// Polling it panics after it was ready.
#[must_use = "a future does nothing unless it is awaited"]
pub struct Sending<A, M> {
    queued: Queued<A>,
    /// The envelope is made for an `M`.
    message: Invariant<M>,
}

impl<A, M: Send + 'static> Sending<A, M> {
    /// Makes the future of a message that was [packed](pack_message) as an `M`.
    fn new(queued: Queued<A>) -> Self {
        Sending { queued, message: PhantomData }
    }

    /// Gives up, and returns the message. Returns `None` if the message was accepted, came back in
    /// an error, or waited when the process was forked (in the child).
    ///
    /// With a timeout of the runtime's this gives back what was not sent:
    ///
    /// ```
    /// # use heist::{Actor, Context, Executor, Handler};
    /// # use std::time::Duration;
    /// # struct Sink;
    /// # impl Actor for Sink {}
    /// # impl Handler<String> for Sink {
    /// #     type Reply = ();
    /// #     fn handle(&mut self, _: String, _: &mut Context<Self>) {}
    /// # }
    /// # let runtime = tokio::runtime::Builder::new_current_thread()
    /// #     .enable_time()
    /// #     .build()
    /// #     .unwrap();
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
        let packed = self.queued.withdraw_message()?;
        // SAFETY: by the contract of `new` the message was packed as an `M`.
        Some(unsafe { open_packed(packed) })
    }
}

impl<A: Receive<M>, M: Send + 'static> Future for Sending<A, M> {
    type Output = Result<(), SendError<M>>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = Pin::new(&mut self.queued).poll(cx);
        result.map_err(|Returned(packed, refusal)| {
            // SAFETY: by the contract of `new` the message was packed as an `M`.
            SendError::new(unsafe { open_packed(packed) }, refusal)
        })
    }
}

impl<A, M> fmt::Debug for Sending<A, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.queued.state {
            SendState::Fresh(_) => "not sent yet",
            SendState::Waiting(_) => "waiting for room",
            SendState::Done => "done",
        };
        f.debug_struct("Sending").field("actor", &self.queued.actor).field("state", &state).finish()
    }
}

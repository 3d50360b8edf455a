//! The context of a handler.

use super::ask::callback;
use super::carried::{Carried, carried};
use super::handle::Handle;
use super::refs::ActorRef;
use super::spawn::{SpawnBuilder, SpawnError, Spawner};
use super::tell::{self, TellParcel};
use super::{Actor, Receive};
use crate::cell::envelope::{Envelope, Lane, deliver};
use crate::cell::header::{Header, Strong};
use crate::cell::room;
use crate::error::{AskError, Refusal, SendError};
use crate::id::ActorId;
use crate::sched::worker::Worker;
use crate::time::Duration;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// An actor's view of the executor, for the time of one call of its code.
///
/// Everything here is non-blocking. A handler that meets a full mailbox keeps its message and uses
/// [`when_room`](Self::when_room). Long work goes on in steps by [`tell_self`](Self::tell_self). An
/// answer from another actor comes back by [`ask_then`](Self::ask_then). A message for later is
/// armed by [`tell_after`](Self::tell_after), [`tell_at`](Self::tell_at) or
/// [`tell_every`](Self::tell_every).
///
/// ```
/// use heist::{Actor, Context, Executor, Handler, Reply, Receive};
///
/// /// Sums up to `n` in steps, so that other actors get their turns in between.
/// struct Summer { sum: u64, reply: Option<Reply<u64>> }
/// impl Actor for Summer {}
///
/// struct SumTo(u64);
/// impl Receive<SumTo> for Summer {
///     type Reply = u64;
///     fn receive(&mut self, SumTo(n): SumTo, reply: Reply<u64>, ctx: &mut Context<Self>) {
///         self.reply = Some(reply);
///         ctx.tell_self(Step { from: 1, to: n }).expect("nothing else is under way");
///     }
/// }
///
/// struct Step { from: u64, to: u64 }
/// impl Handler<Step> for Summer {
///     type Reply = ();
///     fn handle(&mut self, Step { from, to }: Step, ctx: &mut Context<Self>) {
///         let until = to.min(from + 99);
///         self.sum += (from..=until).sum::<u64>();
///         if until < to {
///             ctx.tell_self(Step { from: until + 1, to }).expect("this one is over");
///         } else if let Some(reply) = self.reply.take() {
///             reply.send(self.sum);
///         }
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let executor = Executor::new();
/// let summer = executor.spawn(Summer { sum: 0, reply: None });
/// assert_eq!(summer.ask(SumTo(1000))?.wait()?, 500_500);
/// # Ok(())
/// # }
/// ```
#[doc(alias("Ctx", "ActorContext"))]
pub struct Context<A> {
    /// Not a counted reference: the turn keeps the actor alive.
    me: ManuallyDrop<ActorRef<A>>,
    /// Makes the context neither `Send` nor `Sync`: a context belongs to a turn, on a thread.
    here: PhantomData<*const ()>,
}

impl<A> Context<A> {
    /// Makes the context. Called in a turn of this actor, with the actor's type `A`.
    #[inline]
    pub(crate) fn new(this: NonNull<Header>) -> Self {
        // SAFETY: `me` owns no count and is never dropped, so no count is released.
        let me = unsafe { ActorRef::from_strong(Strong::from_raw(this)) };
        Context { me: ManuallyDrop::new(me), here: PhantomData }
    }

    pub(super) fn header(&self) -> &Header {
        self.me.header()
    }

    /// Returns a reference to the actor itself. Clone the reference to give it away.
    #[doc(alias("self_ref", "myself", "address", "actor_ref"))]
    #[must_use = "a borrowed reference has no effect"]
    pub fn me(&self) -> &ActorRef<A> {
        &self.me
    }

    /// Returns the actor's own id.
    #[must_use]
    pub fn id(&self) -> ActorId {
        self.header().id()
    }

    /// Returns the index of the worker that this turn runs on, counted from 0. Returns `None` on a
    /// thread that holds no worker's slot: that of a
    /// [dedicated](crate::Handle::spawn_dedicated) actor, and one that lost its slot while it
    /// [blocked](crate::blocking).
    #[must_use]
    pub fn worker(&self) -> Option<usize> {
        // Looked up each time: the thread may have lost its slot while the handler blocked.
        Worker::with(&self.header().core().scheduler, |worker| worker.map(Worker::index))
    }

    /// Returns a handle of the actor's executor.
    pub fn handle(&self) -> Handle {
        Handle::new(self.header().core().share())
    }

    /// Returns how long ago the message in work was accepted in the mailbox; for a timer's message,
    /// how long ago it was due. The age grows while the handler runs. The call reads the clock.
    ///
    /// Returns `None` in [`started`](Actor::started), and unless the actor is timed
    /// ([`SpawnBuilder::timing`], [`ExecutorBuilder::timing`](crate::ExecutorBuilder::timing)).
    ///
    /// ```
    /// # use heist::{Actor, Context, Executor, Handler};
    /// use std::time::Duration;
    ///
    /// struct Quotes { given: u64, too_late: u64 }
    /// impl Actor for Quotes {}
    /// struct Request;
    /// impl Handler<Request> for Quotes {
    ///     type Reply = ();
    ///     fn handle(&mut self, _: Request, ctx: &mut Context<Self>) {
    ///         // A price of last week has no use, so a request that waited long is refused.
    ///         match ctx.message_age() {
    ///             Some(age) if age > Duration::from_millis(50) => self.too_late += 1,
    ///             _ => self.given += 1,
    ///         }
    ///     }
    /// }
    ///
    /// # #[cfg(not(feature = "timing"))]
    /// # fn main() {}
    /// # #[cfg(feature = "timing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let executor = Executor::new();
    /// let quotes = executor.build(Quotes { given: 0, too_late: 0 }).timing(true).spawn();
    /// quotes.ask(Request)?.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn message_age(&self) -> Option<Duration> {
        self.header().stopwatch()?.message_age()
    }

    /// Ends this actor after what it has accepted so far: the same as
    /// [`ctx.me().stop()`](ActorRef::stop).
    pub fn stop(&mut self) {
        self.me.stop();
    }

    /// Spawns an actor on the same executor; see [`Handle::spawn`](crate::Handle::spawn).
    #[must_use = "dropping the last reference ends the actor; see ActorRef::detach"]
    pub fn spawn<B: Actor + Send>(&mut self, actor: B) -> ActorRef<B> {
        Spawner::new(self.header().core()).spawn(actor)
    }

    /// Begins an actor with settings of its own, on the same executor; see
    /// [`Handle::build`](crate::Handle::build).
    pub fn build<B: Actor + Send>(&mut self, actor: B) -> SpawnBuilder<'_, B> {
        SpawnBuilder::begin(Spawner::new(self.header().core()), actor)
    }

    /// Spawns an actor with a thread of its own; see
    /// [`Handle::spawn_dedicated`](crate::Handle::spawn_dedicated).
    ///
    /// # Errors
    /// As [`Handle::spawn_dedicated`](crate::Handle::spawn_dedicated).
    pub fn spawn_dedicated<B, F>(&mut self, factory: F) -> Result<ActorRef<B>, SpawnError<F>>
    where
        B: Actor,
        F: FnOnce() -> B + Send + 'static,
    {
        Spawner::new(self.header().core()).dedicated(factory).try_spawn()
    }

    /// Sends this actor itself a message, behind all that waits, whether or not its mailbox has
    /// room: for long work in steps. Only one such message may be under way at a time.
    ///
    /// # Errors
    /// [`Refusal::Full`] while the message before is under way; [`Refusal::Stopped`] once the actor
    /// stops, [`Refusal::ShuttingDown`] once its executor has closed it. The message comes back
    /// inside the error.
    #[doc(alias("yield", "self_send", "continue"))]
    pub fn tell_self<M: Send + 'static>(&mut self, message: M) -> Result<(), SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => self.tell_self_as::<M, _>(message))
    }

    fn tell_self_as<M: Send + 'static, C: Carried<M>>(&mut self, message: C) -> Result<(), SendError<C>>
    where
        A: Receive<M>,
    {
        let header = self.header();
        // One prepaid message at a time. Otherwise an actor could fill a mailbox beyond its
        // capacity.
        if header.again.get() {
            return Err(SendError::new(message, Refusal::Full));
        }
        // SAFETY: the turn keeps the cell alive, and the envelope is made for this actor.
        match unsafe { deliver(self.me.as_ptr(), TellParcel::for_tell_self::<A, M>(message), Lane::Prepaid) }
        {
            Ok(_) => {
                // Set after the delivery, which may fail. The message cannot be handled before this
                // turn ends.
                header.again.set(true);
                Ok(())
            }
            Err((telling, refusal)) => Err(SendError::new(telling.into_message(), refusal)),
        }
    }

    /// Sends `message` to this actor itself once `target`'s mailbox has fallen to half its
    /// capacity, or `target` has stopped (the next `tell` says which). Sends it at once if that is
    /// the case now. The message is exempt from this actor's capacity. A request that is not
    /// fulfilled yet keeps this actor alive, and `target` accepts no plain `tell` or `ask` before
    /// it has that much room.
    ///
    /// If many actors wait for the same target, their messages come in the order of the requests, a
    /// few at a time: one for each quarter of the capacity that is free, and more after each turn
    /// of the target that leaves room. So the first actors do not find the room taken by the
    /// others, and none waits for an actor that has nothing to send.
    ///
    /// # Limits
    /// Messages that the actor keeps meanwhile lie in its own state, which nothing bounds. Bound
    /// that buffer, or drop messages.
    ///
    /// # Errors
    /// [`Refusal::Full`] if this actor waits for the same target already, and [`Refusal::Forked`] in
    /// a forked child. The message comes back inside the error.
    #[doc(alias("backpressure", "poll_ready"))]
    pub fn when_room<B, M: Send + 'static>(
        &mut self,
        target: &ActorRef<B>,
        message: M,
    ) -> Result<(), SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => self.when_room_as::<B, M, _>(target, message))
    }

    fn when_room_as<B, M: Send + 'static, C: Carried<M>>(
        &mut self,
        target: &ActorRef<B>,
        message: C,
    ) -> Result<(), SendError<C>>
    where
        A: Receive<M>,
    {
        // The list's lock may have been held in the parent.
        if target.header().core().is_forked() {
            return Err(SendError::new(message, Refusal::Forked));
        }
        // Packed now: the notice may be delivered at once, or later by a turn of the target.
        let told = TellParcel::for_room_notice::<A, M>(message).pack_for(self.header());
        let me = ActorRef::clone(&self.me).into_strong();
        room::notify_owner(target.header(), me, told)
            // SAFETY: refused, so the only pointer is this call's again, to an envelope that
            // `notice` made.
            .map_err(|()| {
                SendError::new(
                    unsafe { tell::take_from_envelope(told, self.header().pool_held()) },
                    Refusal::Full,
                )
            })
    }
}

impl<A: Actor> Context<A> {
    /// Asks another actor without waiting. `then` runs in a later turn of this actor, with the
    /// answer or the reason why no answer came. The answer is exempt from this actor's capacity,
    /// and the ask keeps this actor alive until the answer comes.
    ///
    /// If this actor stops first, `then` never runs, and the answer becomes a dead letter.
    ///
    /// # Errors
    /// As [`ActorRef::ask`]; `then` is dropped.
    #[doc(alias("pipe_to", "pipeToSelf", "into_actor", "call"))]
    pub fn ask_then<B, M, F>(&mut self, target: &ActorRef<B>, message: M, then: F) -> Result<(), SendError<M>>
    where
        B: Receive<M>,
        M: Send + 'static,
        F: FnOnce(&mut A, Result<B::Reply, AskError>, &mut Context<A>) + Send + 'static,
    {
        // The callback is both the message's reply and, later, the envelope of the answer. The
        // callback keeps this actor alive until then.
        let reply = callback::reply_by_callback(ActorRef::clone(&self.me), then);
        carried!(message => target.send_with_reply::<M, _>(message, reply))
    }
}

impl<A> fmt::Debug for Context<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("me", &*self.me).finish_non_exhaustive()
    }
}

/// Returns the actor's state and a context, for code that an envelope runs.
///
/// # Safety
/// Called inside a turn of an actor of type `A`. No other reference to its state is alive.
#[inline]
pub(crate) unsafe fn enter<'a, A: Actor>(this: NonNull<Header>) -> (&'a mut A, Context<A>) {
    // SAFETY: the caller is in a turn of an actor of type `A`, and no other reference to its state
    // is alive.
    (unsafe { super::cell_of::CellOf::<A>::state_mut(this) }, Context::new(this))
}

/// An envelope, for code without the message's type.
pub(crate) type AnyEnvelope = NonNull<Envelope>;

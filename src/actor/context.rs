//! What a handler is given besides its message.

use super::ask::callback;
use super::carried::{Carried, carried};
use super::handle::Handle;
use super::refs::ActorRef;
use super::spawn::{SpawnBuilder, SpawnError, Spawner};
use super::tell::{self, Telling};
use super::{Actor, Receive};
use crate::cell::envelope::{Envelope, Lane, deliver};
use crate::cell::header::{Header, Strong};
use crate::cell::room;
use crate::error::{AskError, Refusal, SendError};
use crate::id::ActorId;
use crate::sched::local::Local;
use crate::time::Duration;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// An actor's view of the executor, for the time of one call of its code.
///
/// It can do what is not allowed to wait: a handler that meets a full mailbox keeps its message and goes on by
/// [`when_room`](Self::when_room); long work in steps goes on by [`again`](Self::again); an answer from another actor
/// comes back by [`ask_then`](Self::ask_then); what is to happen later comes by [`tell_after`](Self::tell_after),
/// [`tell_at`](Self::tell_at) or [`tell_every`](Self::tell_every).
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
///         ctx.again(Step { from: 1, to: n }).expect("nothing else is under way");
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
///             ctx.again(Step { from: until + 1, to }).expect("this one is over");
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
#[derive(Debug)]
pub struct Context<A: Actor> {
    /// Not counted: the turn keeps the actor alive.
    me: ManuallyDrop<ActorRef<A>>,
    /// Neither Send nor Sync: it means this turn, on this thread.
    here: PhantomData<*const ()>,
}

impl<A: Actor> Context<A> {
    /// Callers are in a turn of this actor, whose type is `A`.
    #[inline]
    pub(crate) fn new(this: NonNull<Header>) -> Self {
        // SAFETY: never dropped, so the count that it does not own is not let go of.
        let me = unsafe { ActorRef::from_strong(Strong::from_raw(this)) };
        Context { me: ManuallyDrop::new(me), here: PhantomData }
    }

    pub(super) fn header(&self) -> &Header {
        self.me.header()
    }

    /// A reference to the actor itself; clone it to give it away.
    #[must_use]
    pub fn me(&self) -> &ActorRef<A> {
        &self.me
    }

    /// The actor's own id.
    #[must_use]
    pub fn id(&self) -> ActorId {
        self.header().id()
    }

    /// The worker that this turn runs on, counted from 0; `None` on a thread that holds none, as a
    /// [dedicated](crate::Handle::spawn_dedicated) actor's.
    #[must_use]
    pub fn worker(&self) -> Option<usize> {
        Local::with(&self.header().core().scheduler, |local| local.map(Local::index))
    }

    /// The executor, to spawn on and to look at.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(self.header().core().share())
    }

    /// How long ago the message that is being handled was accepted in the mailbox; a tick counts from when it was due. It
    /// grows while the handler runs, and costs a reading of the clock.
    ///
    /// `None` unless the actor is timed ([`SpawnBuilder::timing`], [`Builder::timing`](crate::Builder::timing)), and in
    /// [`started`](Actor::started).
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
    ///         // Nobody wants a price of last week: what has waited for long is not worth the work.
    ///         match ctx.message_age() {
    ///             Some(age) if age > Duration::from_millis(50) => self.too_late += 1,
    ///             _ => self.given += 1,
    ///         }
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let executor = Executor::new();
    /// let quotes = executor.build(Quotes { given: 0, too_late: 0 }).timing(true).spawn();
    /// quotes.ask(Request)?.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn message_age(&self) -> Option<Duration> {
        self.header().stopwatch()?.age()
    }

    /// Ends this actor after what it has accepted so far: the same as `ctx.me().stop()`.
    pub fn stop(&mut self) {
        self.me.stop();
    }

    /// Spawns an actor on the same executor; see [`Handle::spawn`](crate::Handle::spawn).
    #[must_use = "dropping the last reference ends the actor; see ActorRef::detach"]
    pub fn spawn<B: Actor + Send>(&mut self, actor: B) -> ActorRef<B> {
        Spawner::new(self.header().core()).spawn(actor)
    }

    /// Spawns an actor that is not made by default; see [`Handle::build`](crate::Handle::build).
    pub fn build<B: Actor + Send>(&mut self, actor: B) -> SpawnBuilder<'_, B> {
        SpawnBuilder::begin(Spawner::new(self.header().core()), actor)
    }

    /// Spawns an actor with a thread of its own; see [`Handle::spawn_dedicated`](crate::Handle::spawn_dedicated).
    ///
    /// # Errors
    /// As there.
    pub fn spawn_dedicated<B, F>(&mut self, factory: F) -> Result<ActorRef<B>, SpawnError<F>>
    where
        B: Actor,
        F: FnOnce() -> B + Send + 'static,
    {
        Spawner::new(self.header().core()).dedicated(factory).try_spawn()
    }

    /// Sends the actor one message of its own, behind all that waits, whether or not there is room: for long work in
    /// steps. One at a time: it is prepaid by the one before having been handled.
    ///
    /// # Errors
    /// [`Refusal::Full`] while the one before is under way; [`Refusal::Stopped`] once the actor is stopping.
    pub fn again<M: Send + 'static>(&mut self, message: M) -> Result<(), SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => self.again_as::<M, _>(message))
    }

    fn again_as<M: Send + 'static, C: Carried<M>>(&mut self, message: C) -> Result<(), SendError<C>>
    where
        A: Receive<M>,
    {
        let header = self.header();
        if header.again.get() {
            return Err(SendError::new(message, Refusal::Full));
        }
        // SAFETY: the turn keeps the cell alive; the envelope is made for this actor.
        match unsafe { deliver(self.me.as_ptr(), Telling::again::<A, M>(message), Lane::Prepaid) } {
            Ok(_) => {
                header.again.set(true);
                Ok(())
            }
            Err((telling, refusal)) => Err(SendError::new(telling.into_message(), refusal)),
        }
    }

    /// Sends `message` to this actor itself as soon as `target`'s mailbox has fallen to half its capacity, or the
    /// target has stopped (a `tell` will say so); at once if that is so now. It is exempt from this actor's capacity.
    /// While it is awaited it keeps this actor alive, and ordinary messages do not barge into `target` before there is that much room.
    ///
    /// If many actors wait for the same target, their messages come in the order of asking and a few at a time: one for each quarter
    /// of the capacity that is free, and more after each of the target's turns that leaves room. So the first ones do not find
    /// that all the others have filled it up again, and none waits for another one that has nothing to send.
    ///
    /// # Errors
    /// [`Refusal::Full`] if this actor waits for the same target already.
    pub fn when_room<B: Actor, M: Send + 'static>(
        &mut self,
        target: &ActorRef<B>,
        message: M,
    ) -> Result<(), SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => self.when_room_as::<B, M, _>(target, message))
    }

    fn when_room_as<B: Actor, M: Send + 'static, C: Carried<M>>(
        &mut self,
        target: &ActorRef<B>,
        message: C,
    ) -> Result<(), SendError<C>>
    where
        A: Receive<M>,
    {
        let told = Telling::notice::<A, M>(message).pack_for(self.header());
        let me = ActorRef::clone(&self.me).into_strong();
        room::notify_owner(target.header(), me, told)
            // SAFETY: refused, so it is ours again.
            .map_err(|()| SendError::new(unsafe { tell::unwrap(told, self.header().held()) }, Refusal::Full))
    }

    /// Asks another actor without waiting: `then` runs in a later turn of this actor, with the answer or the reason why
    /// there is none. The answer is exempt from this actor's capacity, and keeps this actor alive until it comes.
    ///
    /// # Errors
    /// As [`ActorRef::ask`]; `then` is dropped.
    pub fn ask_then<B, M, F>(&mut self, target: &ActorRef<B>, message: M, then: F) -> Result<(), SendError<M>>
    where
        B: Receive<M>,
        M: Send + 'static,
        F: FnOnce(&mut A, Result<B::Reply, AskError>, &mut Context<A>) + Send + 'static,
    {
        let reply = callback::reply(ActorRef::clone(&self.me), then);
        carried!(message => target.send_with_reply::<M, _>(message, reply))
    }
}

/// The actor's state and a context, for code that an envelope runs.
///
/// # Safety
/// Inside a turn of the actor, whose type is `A`; once at a time.
#[inline]
pub(crate) unsafe fn enter<'a, A: Actor>(this: NonNull<Header>) -> (&'a mut A, Context<A>) {
    // SAFETY: the caller's.
    (unsafe { super::cell_of::CellOf::<A>::state(this) }, Context::new(this))
}

/// So that envelopes can be named without naming the type of what they carry.
pub(crate) type AnyEnvelope = NonNull<Envelope>;

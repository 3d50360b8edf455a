//! The context of a handler.

use super::refs::ActorRef;
use crate::cell::counted::Strong;
use crate::cell::header::Header;
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

    /// Returns how long ago the message in work was accepted in the mailbox; for a timer's message,
    /// how long ago it was due. The age grows while the handler runs. The call reads the clock.
    ///
    /// Returns `None` in [`started`](crate::Actor::started), and unless the actor is timed
    /// ([`SpawnBuilder::timing`](crate::SpawnBuilder::timing),
    /// [`ExecutorBuilder::timing`](crate::ExecutorBuilder::timing)).
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
}

impl<A> fmt::Debug for Context<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("me", &*self.me).finish_non_exhaustive()
    }
}

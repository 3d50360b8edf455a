//! Floor 3: what a user writes and holds: actors, their handlers and context, references, asks and
//! replies.
//!
//! - this file: the traits
//! - [`context`]: the context of a handler
//! - [`refs`]: `ActorRef` and `WeakRef`
//! - [`recipient`]: references by message type
//! - [`tell`], [`ask`], [`send`]: the three ways to send
//! - [`to_self`]: messages of an actor to itself
//! - [`carried`]: how large messages travel
//! - [`reply`]: the way back
//! - [`batch`]: several messages in one call
//! - [`receive`]: how a message reaches its actor
//! - [`timers`]: messages that come later, once or at an interval
//! - [`handle`], [`spawn`]: the way to an executor, and new actors
//! - [`dedicated`]: actors with a thread of their own
//! - [`restart`]: supervised actors
//! - [`managed`]: actors that belong to something, such as a directory
//! - [`cell_of`]: one actor type's cell and table for the lower floors
//! - [`wait`]: blocking and awaited waits
//! - [`patience`]: how a thread waits before it sleeps

pub(crate) mod ask;
pub(crate) mod batch;
pub(crate) mod carried;
pub(crate) mod cell_of;
pub(crate) mod context;
pub(crate) mod dedicated;
pub(crate) mod handle;
pub(crate) mod managed;
mod patience;
mod receive;
pub(crate) mod recipient;
pub(crate) mod refs;
pub(crate) mod reply;
pub(crate) mod restart;
pub(crate) mod send;
pub(crate) mod spawn;
pub(crate) mod spawn_error;
pub(crate) mod stopped;
pub(crate) mod tell;
pub(crate) mod timers;
mod to_self;
mod told;
pub(crate) mod wait;

use crate::error::StopReason;
use batch::Batch;
use context::Context;
use reply::{OwedReply, Reply};

/// A lightweight state machine: its state and, through [`Handler`] and [`Receive`], what it does
/// with each message.
///
/// An actor's code never runs twice at the same time, so it needs no locks. Its turns run on
/// whichever worker has time, so it must be `Send` to be spawned. An actor with
/// [a thread of its own](crate::Handle::spawn_dedicated) need not be.
///
/// # Limits
/// A state of up to 512 KiB can be spawned, replaced and dropped with the default
/// [stack](crate::ExecutorBuilder::stack_size), in debug builds too. A larger one may overflow the
/// stack, which ends the process: keep its large parts in a [`Box`] or a [`Vec`].
///
/// ```
/// use heist::{Actor, Context, Executor, Handler, StopReason};
///
/// struct Greeter { greeted: u32 }
///
/// impl Actor for Greeter {
///     fn stopped(&mut self, reason: &StopReason) {
///         assert_eq!(*reason, StopReason::Stopped);
///     }
/// }
///
/// struct Greet(&'static str);
///
/// impl Handler<Greet> for Greeter {
///     type Reply = String;
///     fn handle(&mut self, Greet(name): Greet, _: &mut Context<Self>) -> String {
///         self.greeted += 1;
///         format!("Hello, {name}, number {}", self.greeted)
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let executor = Executor::new();
/// let greeter = executor.spawn(Greeter { greeted: 0 });
/// assert_eq!(greeter.ask(Greet("Ada"))?.wait()?, "Hello, Ada, number 1");
/// greeter.stop();
/// greeter.wait_stopped()?;
/// # Ok(())
/// # }
/// ```
#[doc(alias("GenServer", "gen_server", "AbstractBehavior", "process"))]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an actor",
    note = "write `impl Actor for {Self} {{}}`; both hooks have default implementations"
)]
pub trait Actor: Sized + 'static {
    /// Runs once, in the actor's first turn, before the first message. A panic here ends the actor,
    /// and [`stopped`](Self::stopped) does not run then. If
    /// [`stop_now`](crate::ActorRef::stop_now) or a shutdown comes before the first turn, neither
    /// runs.
    #[doc(alias("on_start", "pre_start", "init"))]
    fn started(&mut self, ctx: &mut Context<Self>) {
        let _ = ctx;
    }

    /// Runs once, after the last message, if and only if [`started`](Self::started) had returned.
    /// Then the state is dropped, and then [`wait_stopped`](crate::ActorRef::wait_stopped) returns.
    #[doc(alias("on_stop", "post_stop", "terminate", "stopping"))]
    fn stopped(&mut self, reason: &StopReason) {
        let _ = reason;
    }
}

/// Handles messages of type `M`, and answers by returning.
///
/// Handlers are synchronous and should not block: while one runs, its worker does nothing else. A
/// handler that must block does so in [`blocking`](crate::blocking), so that other actors are not
/// held up. After a panic in a handler the actor ends (the replica of a [`Pool`](crate::Pool) gets
/// a new state), its askers get [`AskError::Panicked`](crate::AskError::Panicked), and everything
/// else goes on.
#[diagnostic::on_unimplemented(
    message = "the actor `{Self}` does not handle messages of type `{M}`",
    label = "`{Self}` has no handler for `{M}`",
    note = "write `impl Handler<{M}> for {Self}`, or `impl Receive<{M}> for {Self}` to answer later"
)]
pub trait Handler<M: Send + 'static>: Actor {
    /// The answer to an ask with this message; `()` if there is nothing to answer.
    type Reply: Send + 'static;

    /// Handles one message. The returned value goes to the asker, or is dropped if the message was
    /// told.
    ///
    /// A handler that is written as `async fn` does not compile. `docs/cookbook.md` has the ways to
    /// await in a handler.
    #[doc(alias("handle_message", "handle_call", "handle_cast", "on_message"))]
    fn handle(&mut self, message: M, ctx: &mut Context<Self>) -> Self::Reply;
}

/// Handles messages of type `M`, and answers them at any time and from any thread.
///
/// Every [`Handler<M>`] is a `Receive<M>` that answers at the end of the call. Implement `Receive`
/// itself to answer later or elsewhere: the [`Reply`] can be kept in the state, sent in a message,
/// or moved to another thread. Or implement it to receive
/// [several messages at once](Self::receive_batch).
///
/// ```
/// use heist::{Actor, Context, Executor, Handler, Receive, Reply};
///
/// /// Answers all askers once the door is opened.
/// #[derive(Default)]
/// struct Door { waiting: Vec<Reply<&'static str>> }
/// impl Actor for Door {}
///
/// struct Knock;
/// impl Receive<Knock> for Door {
///     type Reply = &'static str;
///     fn receive(&mut self, _: Knock, reply: Reply<&'static str>, _: &mut Context<Self>) {
///         self.waiting.push(reply);
///     }
/// }
///
/// struct Open;
/// impl Handler<Open> for Door {
///     type Reply = ();
///     fn handle(&mut self, _: Open, _: &mut Context<Self>) {
///         for reply in self.waiting.drain(..) {
///             reply.send("come in");
///         }
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let executor = Executor::new();
/// let door = executor.spawn(Door::default());
/// let mut knock = door.ask(Knock)?;
/// door.tell(Open)?;
/// assert_eq!(knock.wait()?, "come in");
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "the actor `{Self}` does not handle messages of type `{M}`",
    label = "`{Self}` has no handler for `{M}`",
    note = "write `impl Handler<{M}> for {Self}`, or `impl Receive<{M}> for {Self}` to answer later"
)]
pub trait Receive<M: Send + 'static>: Actor {
    /// The answer to an ask with this message.
    type Reply: Send + 'static;

    /// Receives one message, and the [`Reply`] to answer it with.
    ///
    /// If [`BATCH`](Self::BATCH) is more than 1, only [`receive_batch`](Self::receive_batch) calls
    /// this.
    fn receive(&mut self, message: M, reply: Reply<Self::Reply>, ctx: &mut Context<Self>);

    /// The most messages of this type in one [batch](Self::receive_batch). With 1, the default,
    /// each message comes alone. With 0, code that sends such a message does not compile:
    ///
    /// ```compile_fail,E0080
    /// # use heist::{Actor, Context, Executor, Receive, Reply};
    /// # struct Store;
    /// # impl Actor for Store {}
    /// impl Receive<u32> for Store {
    ///     type Reply = ();
    ///     const BATCH: usize = 0;
    ///     fn receive(&mut self, _: u32, _: Reply<()>, _: &mut Context<Self>) {}
    /// }
    /// Executor::new().spawn(Store).tell(1);
    /// ```
    const BATCH: usize = 1;

    /// Receives messages of this type that lie one behind the other at the head of the mailbox,
    /// each with the means to answer it: for work that is done once for many messages, such as a
    /// commit. If [`BATCH`](Self::BATCH) is more than 1 this is called instead of
    /// [`receive`](Self::receive), for single messages too. The default implementation calls
    /// `receive` for each message.
    ///
    /// - **Contents**: the messages that have arrived, up to `BATCH`, in order; a batch never waits
    ///   for more, and ends before a message of another type, and with the turn's budget. Told and
    ///   asked messages mix. Asks after their [deadline](crate::ActorRef::ask_deadline) are left
    ///   out, as dead letters. A timer's message comes as a batch of one, and so does a message
    ///   from a pool's shared queue.
    /// - **Partial use**: messages that are not taken from the iterator stay at the head of the
    ///   mailbox, in order. After [`stop_now`](crate::ActorRef::stop_now) the iterator ends.
    /// - **Panics** are handled as in any handler. Messages that were taken count as handled.
    ///   Replies that were sent are sent; the other askers get
    ///   [`AskError::Panicked`](crate::AskError::Panicked) when the panic (or the end of the state)
    ///   drops their replies. Messages left in the mailbox become dead letters, and their askers
    ///   get the same cause; in a pool the replica's next state handles these messages.
    /// - **Counts**: each message counts by itself, and keeps its place in the mailbox until the
    ///   call returns. Where times are measured, a message is in work from when it is taken until
    ///   the next one is taken; the last one, until the call returns.
    ///
    /// ```
    /// use heist::{Actor, Batch, Context, Executor, Receive, Reply};
    ///
    /// /// Syncs once for all lines that wait, and answers when they are safe.
    /// #[derive(Default)]
    /// struct Journal { lines: Vec<String>, unsynced: Vec<Reply<usize>>, syncs: usize }
    /// impl Actor for Journal {}
    ///
    /// impl Journal {
    ///     fn sync(&mut self) {
    ///         self.syncs += 1;
    ///         self.unsynced.drain(..).for_each(|reply| reply.send(self.syncs));
    ///     }
    /// }
    ///
    /// struct Append(&'static str);
    /// impl Receive<Append> for Journal {
    ///     type Reply = usize; // by which sync
    ///     const BATCH: usize = 256;
    ///
    ///     fn receive(&mut self, line: Append, reply: Reply<usize>, _: &mut Context<Self>) {
    ///         self.lines.push(line.0.to_string());
    ///         // If anything panics the state drops the reply, and the asker gets the cause.
    ///         self.unsynced.push(reply);
    ///     }
    ///
    ///     fn receive_batch(&mut self, batch: Batch<'_, Append, usize>, ctx: &mut Context<Self>) {
    ///         for (line, reply) in batch {
    ///             self.receive(line, reply, ctx);
    ///         }
    ///         self.sync();
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let executor = Executor::new();
    /// let journal = executor.spawn(Journal::default());
    /// let (one, two) = (journal.ask(Append("one"))?, journal.ask(Append("two"))?);
    /// for mut ask in [one, two, journal.ask(Append("three"))?] {
    ///     assert!((1..=3).contains(&ask.wait()?)); // three lines, one sync to three of them
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("group commit", "bulk"))]
    fn receive_batch(&mut self, batch: Batch<'_, M, Self::Reply>, ctx: &mut Context<Self>) {
        for (message, reply) in batch {
            self.receive(message, reply, ctx);
        }
    }
}

impl<A: Handler<M>, M: Send + 'static> Receive<M> for A {
    type Reply = <A as Handler<M>>::Reply;

    #[inline]
    fn receive(&mut self, message: M, reply: Reply<Self::Reply>, ctx: &mut Context<Self>) {
        // A panic of the handler drops `owed` straight into the turn's scope, so no timer is armed
        // for it.
        let owed = OwedReply(reply);
        owed.send(self.handle(message, ctx));
    }
}

//! Floor 3: what a user writes and holds: actors, their handlers and context, references, asks and replies.
//!
//! - this file: the traits; [`context`]: what a handler is given
//! - [`refs`]: `ActorRef`, `WeakRef`; [`recipient`]: references by message type
//! - [`tell`], [`ask`], [`send`]: the three ways to send; [`reply`]: the way back
//! - [`batch`]: several messages in one call
//! - [`timers`]: messages that come later, once or at an interval
//! - [`handle`], [`spawn`]: an executor as its users hold it, and new actors; [`dedicated`]: those with a thread of their own;
//!   [`kept`]: those that have successors
//! - [`member`]: actors that belong to something, such as a directory
//! - [`cell_of`]: one actor type's table for the lower floors; [`wait`]: blocking and awaited waits

pub(crate) mod ask;
pub(crate) mod batch;
pub(crate) mod carried;
pub(crate) mod cell_of;
pub(crate) mod context;
pub(crate) mod dedicated;
pub(crate) mod handle;
pub(crate) mod kept;
pub(crate) mod member;
mod patience;
pub(crate) mod recipient;
pub(crate) mod refs;
pub(crate) mod reply;
pub(crate) mod send;
pub(crate) mod spawn;
pub(crate) mod tell;
pub(crate) mod timers;
pub(crate) mod wait;

use crate::error::StopReason;
use batch::Batch;
use context::Context;
use reply::{Owed, Reply};

/// A lightweight state machine: its state, and (through [`Handler`] and [`Receive`]) what it does with each message.
///
/// An actor's code never runs twice at the same time, so it needs no locks. It must be `Send` to be spawned, since
/// its turns run on whichever worker has time; unless it gets [a thread of its own](crate::Handle::spawn_dedicated).
///
/// A state may be large. Up to 512 KiB it is spawned, made anew and ended with the default
/// [stack](crate::Builder::stack_size), in debug builds too. Beyond that the stack may overflow, which ends the process: keep
/// such a part of the state in a [`Box`] or a [`Vec`].
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
pub trait Actor: Sized + 'static {
    /// Runs once, before the first message, on a worker. A panic here ends the actor; [`stopped`](Self::stopped) does
    /// not run then.
    fn started(&mut self, ctx: &mut Context<Self>) {
        let _ = ctx;
    }

    /// Runs once, after the last message, if and only if [`started`](Self::started) had returned. Then the state is
    /// dropped, and then [`wait_stopped`](crate::ActorRef::wait_stopped) returns.
    fn stopped(&mut self, reason: &StopReason) {
        let _ = reason;
    }
}

/// Handles messages of type `M`, and answers by returning.
///
/// Handlers are synchronous and should not block: while one runs, its worker does nothing else. Those that must block do
/// so in [`blocking`](crate::blocking), so that others are not held up. After a panic in a handler the actor ends (a
/// [`Pool`](crate::Pool)'s replica begins anew), its askers get [`AskError::Panicked`](crate::AskError::Panicked), and everything
/// else goes on.
pub trait Handler<M: Send + 'static>: Actor {
    /// What an ask for this message is answered with; `()` where there is nothing to say.
    type Reply: Send + 'static;

    /// Handles one message. What it returns goes to the asker, or is dropped if the message was told.
    fn handle(&mut self, message: M, ctx: &mut Context<Self>) -> Self::Reply;
}

/// Handles messages of type `M`, and answers when and where it likes.
///
/// Every [`Handler<M>`] is a `Receive<M>` that answers at the end of the call. Implement `Receive` itself to answer
/// later, or from elsewhere: the [`Reply`] can be kept in the state, sent in a message, or moved into another thread. Or
/// to receive [several messages at once](Self::receive_batch).
///
/// ```
/// use heist::{Actor, Context, Executor, Handler, Receive, Reply};
///
/// /// Answers everybody who asked once the door is opened.
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
/// let knock = door.ask(Knock)?;
/// door.tell(Open)?;
/// assert_eq!(knock.wait()?, "come in");
/// # Ok(())
/// # }
/// ```
pub trait Receive<M: Send + 'static>: Actor {
    /// What an ask for this message is answered with.
    type Reply: Send + 'static;

    /// Receives one message, and the means to answer it.
    ///
    /// Where [`BATCH`](Self::BATCH) is more than 1 it is called by [`receive_batch`](Self::receive_batch) only.
    fn receive(&mut self, message: M, reply: Reply<Self::Reply>, ctx: &mut Context<Self>);

    /// How many messages of this type may come in one [batch](Self::receive_batch). 1, the default: each comes alone.
    /// 0 does not compile where such a message is sent:
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

    /// Receives messages of this type that wait one behind the other at the head of the mailbox, each with the means to
    /// answer it: for work that is done once for many, such as a commit. Called instead of [`receive`](Self::receive) where
    /// [`BATCH`](Self::BATCH) is more than 1, for single messages too; what is not overridden receives one after another.
    ///
    /// - **What is in a batch**: what has arrived, up to `BATCH` messages, in order. It is not waited for more. A batch ends
    ///   before a message of another type, and with the turn's budget. Told and asked messages mix. Asks whose
    ///   [deadline](crate::ActorRef::ask_by) has passed are left out, as dead letters. Timers' messages come as batches of
    ///   one, and what a pool's shared queue hands out is not followed by more of it.
    /// - **Half-way**: what is not taken from the iterator stays at the head of the mailbox, in order. After
    ///   [`stop_now`](crate::ActorRef::stop_now) the iterator ends.
    /// - **A panic** is as any handler's. What was taken has been handled: replies that were sent are sent, and the
    ///   other askers get [`AskError::Panicked`](crate::AskError::Panicked) when the panic (or the end of the state)
    ///   drops their replies. What was not taken waits behind the panic: dead letters, whose askers get the same cause;
    ///   or a pool's replica's successor handles it.
    /// - **Counts**: each message counts by itself; it has its place in the mailbox until the call returns. Where times are
    ///   measured a message is in hand from when it is taken until the next one is, and the last one until the call returns.
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
    ///     fn receive(&mut self, Append(line): Append, reply: Reply<usize>, _: &mut Context<Self>) {
    ///         self.lines.push(line.to_string());
    ///         self.unsynced.push(reply); // if anything panics, the state drops it, and the asker gets the cause
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
    /// let asks = [journal.ask(Append("one"))?, journal.ask(Append("two"))?, journal.ask(Append("three"))?];
    /// for ask in asks {
    ///     assert!((1..=3).contains(&ask.wait()?)); // three lines, one sync to three of them
    /// }
    /// # Ok(())
    /// # }
    /// ```
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
        let owed = Owed(reply);
        owed.send(self.handle(message, ctx));
    }
}

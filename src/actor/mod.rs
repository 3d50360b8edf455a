//! Floor 3: what a user writes and holds: actors, their handlers and context, references, asks and replies.
//!
//! - this file: the traits; [`context`]: what a handler is given
//! - [`refs`]: `ActorRef`, `WeakRef`; [`recipient`]: references by message type
//! - [`tell`], [`ask`], [`send`]: the three ways to send; [`reply`]: the way back
//! - [`timers`]: messages that come later, once or at an interval
//! - [`handle`], [`spawn`]: an executor as its users hold it, and new actors; [`dedicated`]: those with a thread of their own;
//!   [`kept`]: those that have successors
//! - [`member`]: actors that belong to something, such as a directory
//! - [`cell_of`]: one actor type's table for the lower floors; [`wait`]: blocking and awaited waits

pub(crate) mod ask;
pub(crate) mod cell_of;
pub(crate) mod context;
pub(crate) mod dedicated;
pub(crate) mod handle;
pub(crate) mod kept;
pub(crate) mod member;
pub(crate) mod recipient;
pub(crate) mod refs;
pub(crate) mod reply;
pub(crate) mod send;
pub(crate) mod spawn;
pub(crate) mod tell;
pub(crate) mod timers;
pub(crate) mod wait;

use crate::error::StopReason;
use context::Context;
use reply::Reply;

/// A lightweight state machine: its state, and (through [`Handler`] and [`Receive`]) what it does with each message.
///
/// An actor's code never runs twice at the same time, so it needs no locks. It must be `Send` to be spawned, since
/// its turns run on whichever worker has time; unless it gets [a thread of its own](crate::Handle::spawn_dedicated).
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
/// later, or from elsewhere: the [`Reply`] can be kept in the state, sent in a message, or moved into another thread.
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
    fn receive(&mut self, message: M, reply: Reply<Self::Reply>, ctx: &mut Context<Self>);
}

impl<A: Handler<M>, M: Send + 'static> Receive<M> for A {
    type Reply = <A as Handler<M>>::Reply;

    #[inline]
    fn receive(&mut self, message: M, reply: Reply<Self::Reply>, ctx: &mut Context<Self>) {
        reply.send(self.handle(message, ctx));
    }
}

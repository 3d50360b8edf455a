//! Events and reports for the embedding program. The crate itself prints nothing.

use crate::id::{ActorId, WaitCycle};
use crate::panics::PanicText;
use std::sync::Arc;

/// Something that an embedding program may want to log. See
/// [`ExecutorBuilder::on_event`](crate::ExecutorBuilder::on_event).
///
/// The hook runs on the thread that saw the event, outside all locks. A panic in it is swallowed.
/// Calls on one thread never nest: an event that the hook causes on its own thread is told after
/// the hook has returned.
///
/// Each event about an actor has the actor's id, its name if it has one, and the Rust type of its
/// state. Events about messages have the messages' Rust type. The text
/// ([`Display`](std::fmt::Display)) says all of it, for a log.
///
/// ```
/// # use heist::{Actor, Context, Event, Executor, Handler};
/// # struct Parser;
/// # impl Actor for Parser {}
/// struct Line(&'static str);
/// impl Handler<Line> for Parser {
///     type Reply = i64;
///     fn handle(&mut self, Line(line): Line, _: &mut Context<Self>) -> i64 {
///         line.parse().expect("a number")
///     }
/// }
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let (builder, events) = Executor::builder().event_channel(100);
/// let executor = builder.build()?;
/// let parser = executor.build(Parser).name("parser").spawn();
/// assert!(parser.ask(Line("x"))?.wait().is_err());
/// let event = events.recv()?;
/// println!("{event}"); // actor parser (Parser 1) panicked in its handler of Line: a number: …
/// let Event::Panicked { name, message_type, .. } = event else { panic!("{event}") };
/// assert_eq!(name.as_deref(), Some("parser"));
/// assert!(message_type.is_some_and(|message| message.ends_with("Line")));
/// # Ok(())
/// # }
/// ```
///
/// # Limits
/// A hook that causes an event on its own thread each time it is called keeps that thread for ever.
/// Let a hook cause no events, or let it count them and stop.
#[doc(alias("EventStream", "SystemEvent"))]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// User code of an actor panicked.
    #[non_exhaustive]
    Panicked {
        /// The actor.
        actor: ActorId,
        /// The name that it was spawned with, if any.
        name: Option<Arc<str>>,
        /// Its Rust type.
        type_name: &'static str,
        /// The Rust type of the message that the code handled or dropped. `None` in a hook, in the
        /// drop of a state and in a factory. In a callback of
        /// [`ask_then`](crate::Context::ask_then), the type of the answer.
        message_type: Option<&'static str>,
        /// The code that panicked.
        place: PanicPlace,
        /// The text of the panic.
        text: PanicText,
    },
    /// Accepted messages were not handled: their actor ended first, or they came too late. Each
    /// dead letter is told once. Messages of different types are told apart.
    #[non_exhaustive]
    DeadLetters {
        /// The actor that the messages were for.
        actor: ActorId,
        /// The name that it was spawned with, if any.
        name: Option<Arc<str>>,
        /// Its Rust type.
        type_name: &'static str,
        /// The Rust type of the messages. For an answer to [`ask_then`](crate::Context::ask_then),
        /// the type of the answer.
        message_type: &'static str,
        /// Why they were not handled.
        reason: DeadLetterReason,
        /// How many messages this event tells of.
        count: u64,
    },
    /// A replica of a pool lost its state, or its next state could not be made. A state is made
    /// now, or after a [backoff](crate::pool::PoolBuilder::backoff).
    ///
    /// Not told if no other state comes: if the pool ends, or a shutdown of the executor allows no
    /// backoff. A shutdown or a stop that begins just after this event may still end the replica.
    #[non_exhaustive]
    Replaced {
        /// The replica. The id stays the same.
        actor: ActorId,
        /// The name that it was spawned with, if any.
        name: Option<Arc<str>>,
        /// Its Rust type.
        type_name: &'static str,
        /// How the state was lost, or why it could not be made.
        cause: ReplicaFailure,
    },
    /// A wait in a handler or hook, or a forward, was refused, since it would have closed a cycle
    /// of waits.
    #[non_exhaustive]
    WaitRefused {
        /// The actors in the cycle, beginning with the one that was refused.
        cycle: WaitCycle,
    },
    /// An actor had not ended at the deadline of its executor's shutdown.
    #[non_exhaustive]
    Stuck {
        /// The actor.
        actor: ActorId,
        /// The name that it was spawned with, if any.
        name: Option<Arc<str>>,
        /// Its Rust type.
        type_name: &'static str,
    },
    /// A spare thread was started: see
    /// [`ExecutorBuilder::max_spares`](crate::ExecutorBuilder::max_spares). Told by a worker, once
    /// one is free.
    #[non_exhaustive]
    SpareStarted {
        /// How many threads there are now besides one for each worker.
        spares: usize,
    },
    /// A spare thread ended, since it had not been needed for a while. Told once for each, by that
    /// thread and as the last that it tells. The ends of the crew's threads in a shutdown are not
    /// told.
    #[non_exhaustive]
    SpareEnded {
        /// How many threads are left besides one for each worker.
        spares: usize,
    },
    /// A spare thread could not be started. For a while no other is started, and a handler that
    /// blocks keeps its worker.
    #[non_exhaustive]
    SpareFailed {
        /// Why it could not be started.
        error: String,
    },
}

/// Which of an actor's code panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PanicPlace {
    /// A handler, a callback, or the drop of what it was given.
    Handler,
    /// [`Actor::started`](crate::Actor::started), or the function of a directory or of a dedicated
    /// actor that makes the state.
    Started,
    /// [`Actor::stopped`](crate::Actor::stopped).
    Stopped,
    /// The drop of the actor's state.
    StateDrop,
    /// The drop of a message that was not handled.
    MessageDrop,
    /// The factory of a pool's replicas, while it made another state for one.
    Factory,
}

/// How a replica of a pool lost its state, or came to have none.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplicaFailure {
    /// The replica was stopped, by [`Context::stop`](crate::Context::stop) or by
    /// [`ActorRef::stop`](crate::ActorRef::stop).
    Stopped,
    /// The replica panicked.
    Panicked(PanicText),
    /// The factory did not make another state: the text of its error or of its panic.
    Factory(String),
}

/// Why an accepted message was not handled.
#[doc(alias("undelivered", "dead letter"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeadLetterReason {
    /// The actor had stopped before the message came, which its owner had prepaid (an answer, a
    /// notice of room) or a timer sent. Or the actor was a pool's replica, and no other state came.
    Stopped,
    /// [`stop_now`](crate::ActorRef::stop_now) was called.
    Killed,
    /// The actor had panicked.
    Panicked,
    /// The executor shut down before the actor came to the message.
    Shutdown,
    /// The message was asked with a deadline, which had passed when its turn came:
    /// [`ask_deadline`](crate::ActorRef::ask_deadline).
    Expired,
    /// The message came from a timer that was due, and was cancelled before its turn came:
    /// [`Timer::cancel`](crate::Timer::cancel).
    Cancelled,
    /// The message was exempt from the capacity, but the mailbox held 2^27 - 1 messages, the most
    /// that any mailbox holds: see [`SpawnBuilder::unbounded`](crate::SpawnBuilder::unbounded).
    Full,
}

/// Dead letters by reason: accepted messages that were not handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct DeadLetterCounts {
    /// [`DeadLetterReason::Stopped`].
    pub stopped: u64,
    /// [`DeadLetterReason::Killed`].
    pub killed: u64,
    /// [`DeadLetterReason::Panicked`].
    pub panicked: u64,
    /// [`DeadLetterReason::Shutdown`].
    pub shutdown: u64,
    /// [`DeadLetterReason::Expired`].
    pub expired: u64,
    /// [`DeadLetterReason::Cancelled`].
    pub cancelled: u64,
    /// [`DeadLetterReason::Full`].
    pub full: u64,
}

impl DeadLetterCounts {
    /// Returns the sum of all counts.
    #[must_use]
    pub fn total(&self) -> u64 {
        let after_its_end = self.stopped + self.killed + self.panicked + self.shutdown;
        after_its_end + self.expired + self.cancelled + self.full
    }
}

/// An actor that had not ended at the deadline of its executor's shutdown: it was in a turn that
/// did not return in time, or waited behind such a turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct UnfinishedActor {
    /// The actor.
    pub id: ActorId,
    /// The name that it was spawned with, if any.
    pub name: Option<Arc<str>>,
    /// Its Rust type.
    pub type_name: &'static str,
}

/// The outcome of a shutdown. Counts cover the executor's whole life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Messages handled.
    pub handled: u64,
    /// Messages accepted and not handled.
    pub dead_letters: DeadLetterCounts,
    /// Actors that had not ended at the deadline; at most 1,000 of them.
    pub unfinished: Vec<UnfinishedActor>,
    /// How many actors had not ended.
    pub unfinished_count: usize,
    /// Names of threads that had not exited at the deadline, although no actor runs there: each is
    /// in a waker, in another piece of user code that is no actor's, or in a destructor of a
    /// thread-local. A thread `heist-shutdown` closes the last of very many actors, or is in the
    /// event hook. In a destructor only threads that heist has started are listed, and not those
    /// of a [`ExecutorBuilder::spawn_handler`](crate::ExecutorBuilder::spawn_handler).
    pub unfinished_threads: Vec<String>,
    /// `true` if all actors have ended and no thread of the crew is left. A thread of a
    /// [`ExecutorBuilder::spawn_handler`](crate::ExecutorBuilder::spawn_handler) is left by then as
    /// soon as its [`WorkerThread::run`](crate::thread::WorkerThread::run) has returned.
    pub complete: bool,
}

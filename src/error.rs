//! Errors, each of which names the remedy and hands back what was refused.

pub use crate::id::{WaitCycle, WaitingActor};

use crate::panics::PanicText;
use std::error::Error;
use std::fmt;

/// Why a message was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The mailbox holds as many messages as it may, or earlier senders wait for room. Of
    /// [`Context::tell_self`](crate::Context::tell_self) and
    /// [`Context::when_room`](crate::Context::when_room): the one before is still under way.
    Full,
    /// The actor stops or has stopped.
    Stopped,
    /// The executor shuts down. Nothing more is accepted from outside, and nothing at all once the
    /// actor is closed.
    ShuttingDown,
    /// No room came before the timeout passed.
    TimedOut,
    /// The wait could never end: the actor would wait for room in its own mailbox, or in that of an
    /// actor that waits for it, directly or through others.
    /// [`Event::WaitRefused`](crate::Event::WaitRefused) names the actors in the cycle.
    WouldDeadlock,
    /// No spare thread is left, and no thread could run the target: all other workers block, or
    /// (under [`Sharded`](crate::Policy::Sharded)) may not run it. More handlers wait at the same
    /// time than [`ExecutorBuilder::max_spares`](crate::ExecutorBuilder::max_spares) allows. Raise
    /// that number, or use [`Context::ask_then`](crate::Context::ask_then) or
    /// [`Context::when_room`](crate::Context::when_room), which need no thread.
    NoSpare,
    /// The process was forked after the executor was built, so the executor's threads are in the
    /// parent process only.
    Forked,
    /// The pool has no replica of this index or id.
    NoReplica,
    /// The pool stops or has stopped.
    PoolStopped,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Full => "the mailbox is full (see send, and Context::when_room in a handler)",
            Refusal::Stopped => "the actor has stopped",
            Refusal::ShuttingDown => "the executor is shutting down",
            Refusal::TimedOut => "there was no room in time",
            Refusal::WouldDeadlock => {
                "an actor cannot wait for itself, or for one that waits for it (see Context::when_room)"
            }
            Refusal::NoSpare => {
                "waiting here would block the last unblocked worker, and there is no spare (see ExecutorBuilder::max_spares)"
            }
            Refusal::Forked => {
                "the executor's threads are in the parent process (make an executor in the child)"
            }
            Refusal::NoReplica => "the pool has no such replica",
            Refusal::PoolStopped => "the pool has stopped",
        })
    }
}

/// A value that can only be moved or borrowed mutably. Threads may therefore share such a value: no
/// thread can look inside.
pub(crate) struct Sealed<T>(pub(crate) T);

// SAFETY: no method gives access to the value through a shared reference.
unsafe impl<T> Sync for Sealed<T> {}

/// A message that was not accepted, and the reason.
///
/// Implements [`Error`] for every message type, so `?` converts it into
/// `Box<dyn Error + Send + Sync>` and similar types.
///
/// ```
/// # use heist::{Actor, Context, Executor, Handler, Refusal};
/// # struct Sink;
/// # impl Actor for Sink {}
/// # impl Handler<String> for Sink {
/// #     type Reply = ();
/// #     fn handle(&mut self, _: String, _: &mut Context<Self>) {}
/// # }
/// # let executor = Executor::new();
/// let sink = executor.spawn(Sink);
/// sink.stop();
/// let error = sink.tell("hello".to_string()).unwrap_err();
/// assert_eq!(error.refusal(), Refusal::Stopped);
/// assert_eq!(error.into_message(), "hello");
/// ```
#[doc(alias("MailboxError", "TrySendError"))]
pub struct SendError<M> {
    message: Sealed<M>,
    refusal: Refusal,
}

impl<M> SendError<M> {
    pub(crate) fn new(message: M, refusal: Refusal) -> Self {
        SendError { message: Sealed(message), refusal }
    }

    /// Returns the reason.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        self.refusal
    }

    /// Returns `true` if the reason is [`Refusal::Full`]: a later try may succeed.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.refusal == Refusal::Full
    }

    /// Returns the message, unchanged.
    #[must_use]
    pub fn into_message(self) -> M {
        self.message.0
    }
}

impl<M> fmt::Debug for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError").field("refusal", &self.refusal).finish_non_exhaustive()
    }
}

impl<M> fmt::Display for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message not sent: {}", self.refusal)
    }
}

impl<M> Error for SendError<M> {}

/// What [`tell_many`](crate::ActorRef::tell_many) could not send: the first message that was
/// refused, and all that follow it.
///
/// ```
/// # use heist::{Actor, Context, Executor, Handler};
/// # struct Sink;
/// # impl Actor for Sink {}
/// # impl Handler<u32> for Sink {
/// #     type Reply = ();
/// #     fn handle(&mut self, _: u32, _: &mut Context<Self>) {}
/// # }
/// # let executor = Executor::new();
/// let sink = executor.spawn(Sink);
/// sink.stop();
/// let error = sink.tell_many([1, 2, 3]).unwrap_err();
/// assert_eq!(error.accepted(), 0);
/// let (refused, rest) = error.into_parts();
/// assert_eq!((refused, rest.collect()), (1, vec![2, 3]));
/// ```
pub struct TellManyError<M, I> {
    unsent: Sealed<(M, I)>,
    accepted: usize,
    refusal: Refusal,
}

impl<M, I> TellManyError<M, I> {
    pub(crate) fn new(accepted: usize, message: M, rest: I, refusal: Refusal) -> Self {
        TellManyError { unsent: Sealed((message, rest)), accepted, refusal }
    }

    /// Returns how many messages were accepted before the refusal.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted
    }

    /// Returns the reason.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        self.refusal
    }

    /// Returns the message that was refused, and the rest of the iterator.
    #[must_use]
    pub fn into_parts(self) -> (M, I) {
        self.unsent.0
    }
}

impl<M, I> fmt::Debug for TellManyError<M, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TellManyError")
            .field("accepted", &self.accepted)
            .field("refusal", &self.refusal)
            .finish_non_exhaustive()
    }
}

impl<M, I> fmt::Display for TellManyError<M, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped sending after {} messages: {}", self.accepted, self.refusal)
    }
}

impl<M, I> Error for TellManyError<M, I> {}

/// Why an ask has no answer: the error of each step of an ask.
///
/// A message that was refused becomes an [`AskError::Refused`] by `?`, so one function may send,
/// wait and await. The conversion drops the message; the [`SendError`] itself hands the message
/// back.
///
/// ```
/// use heist::AskError;
/// # use heist::{Actor, ActorRef, Context, Executor, Handler, Refusal};
/// # struct Doubler;
/// # impl Actor for Doubler {}
/// # impl Handler<u32> for Doubler {
/// #     type Reply = u32;
/// #     fn handle(&mut self, n: u32, _: &mut Context<Self>) -> u32 { 2 * n }
/// # }
///
/// fn doubled(doubler: &ActorRef<Doubler>, n: u32) -> Result<u32, AskError> {
///     doubler.ask(n)?.wait()
/// }
/// async fn doubled_twice(doubler: &ActorRef<Doubler>, n: u32) -> Result<u32, AskError> {
///     let once = doubler.ask(n)?.await?;
///     doubler.ask(once)?.await
/// }
/// # fn main() -> Result<(), AskError> {
/// # let executor = Executor::new();
/// # let doubler = executor.spawn(Doubler);
/// assert_eq!(doubled(&doubler, 1)?, 2);
/// assert_eq!(futures::executor::block_on(doubled_twice(&doubler, 1))?, 4);
/// doubler.stop();
/// assert_eq!(doubled(&doubler, 1), Err(AskError::Refused(Refusal::Stopped)));
/// # Ok(())
/// # }
/// ```
#[doc(alias("CallError", "RequestError"))]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AskError {
    /// The message was not accepted, so the actor never gets it.
    Refused(Refusal),
    /// The actor stopped before it handled the message, or while its state still held the
    /// [`Reply`](crate::Reply).
    Stopped,
    /// The actor panicked: in the handler of this message, before it came to the message, or while
    /// its state still held the [`Reply`](crate::Reply).
    Panicked(PanicText),
    /// The [`Reply`](crate::Reply) was dropped without an answer. If a panic dropped it and the
    /// handler caught that panic, this error comes at the latest when the turn ends, or after about
    /// 100 ms: see [`Reply`](crate::Reply).
    NoReply,
    /// The deadline of the ask passed before the actor came to the message: see
    /// [`ask_deadline`](crate::ActorRef::ask_deadline).
    Expired,
    /// No answer came before the timeout passed.
    TimedOut,
    /// The wait could never end: the actor would wait for itself, or for an actor that waits for
    /// it, directly or through others.
    WouldDeadlock(WaitCycle),
    /// No spare thread is left, and no thread could run the actor that is to answer: all other
    /// workers block, or (under [`Sharded`](crate::Policy::Sharded)) may not run it. More handlers
    /// wait at the same time than
    /// [`ExecutorBuilder::max_spares`](crate::ExecutorBuilder::max_spares) allows. Raise that
    /// number, or use [`Context::ask_then`](crate::Context::ask_then) or
    /// [`Context::when_room`](crate::Context::when_room), which need no thread.
    NoSpare,
    /// The process was forked after the executor was built, so the executor's threads are in the
    /// parent process only.
    Forked,
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AskError::Refused(refusal) => return write!(f, "message not sent: {refusal}"),
            AskError::Stopped => "the actor stopped before it handled the message",
            AskError::Panicked(text) => return write!(f, "the actor panicked: {text}"),
            AskError::NoReply => "the handler gave no reply",
            AskError::Expired => "the deadline passed before the message was handled",
            AskError::TimedOut => "no reply came in time",
            AskError::WouldDeadlock(cycle) => {
                f.write_str("an actor cannot wait for itself, or for one that waits for it")?;
                return write!(f, " (see Context::ask_then; {cycle})");
            }
            AskError::NoSpare => {
                "waiting here would block the last unblocked worker, and there is no spare (see ExecutorBuilder::max_spares)"
            }
            AskError::Forked => {
                "the executor's threads are in the parent process (make an executor in the child)"
            }
        })
    }
}

impl Error for AskError {}

impl AskError {
    /// Returns, after [`WouldDeadlock`](Self::WouldDeadlock), the actors that would wait for one
    /// another.
    #[must_use]
    pub fn cycle(&self) -> Option<&WaitCycle> {
        match self {
            AskError::WouldDeadlock(cycle) => Some(cycle),
            _ => None,
        }
    }
}

impl<M> From<SendError<M>> for AskError {
    fn from(error: SendError<M>) -> Self {
        AskError::Refused(error.refusal)
    }
}

/// The two error layers of an ask with a handler that returns a `Result`: the handler's own error,
/// or no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlatError<E> {
    /// The handler answered with its error.
    Handler(E),
    /// There was no answer.
    Ask(AskError),
}

impl<E> From<AskError> for FlatError<E> {
    fn from(error: AskError) -> Self {
        FlatError::Ask(error)
    }
}

impl<E, M> From<SendError<M>> for FlatError<E> {
    fn from(error: SendError<M>) -> Self {
        FlatError::Ask(error.into())
    }
}

impl<E: fmt::Display> fmt::Display for FlatError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FlatError::Handler(error) => fmt::Display::fmt(error, f),
            FlatError::Ask(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl<E: Error + 'static> Error for FlatError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            FlatError::Handler(error) => error.source(),
            FlatError::Ask(error) => error.source(),
        }
    }
}

/// Joins the two error layers of an answer: `ask.wait().flat()?`.
pub trait Flat<T, E> {
    /// Returns the inner value, or the error of either layer.
    ///
    /// # Errors
    /// Returns the handler's own error, or that of the ask.
    fn flat(self) -> Result<T, FlatError<E>>;
}

impl<T, E> Flat<T, E> for Result<Result<T, E>, AskError> {
    fn flat(self) -> Result<T, FlatError<E>> {
        match self {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(FlatError::Handler(error)),
            Err(error) => Err(FlatError::Ask(error)),
        }
    }
}

/// Why an actor ended.
#[doc(alias("ExitReason", "ActorStopReason"))]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// [`stop`](crate::ActorRef::stop) was called, and the actor handled what it had accepted.
    Stopped,
    /// [`stop_now`](crate::ActorRef::stop_now) was called: messages that waited became dead
    /// letters.
    Killed,
    /// The last reference to the actor was dropped, and no message waited.
    Unreferenced,
    /// The actor panicked: in a handler or hook, or in the drop of its state or of a message.
    Panicked(PanicText),
    /// Its executor shut down.
    Shutdown,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StopReason::Stopped => "stopped",
            StopReason::Killed => "stopped at once",
            StopReason::Unreferenced => "no longer referenced",
            StopReason::Panicked(text) => return write!(f, "panicked: {text}"),
            StopReason::Shutdown => "its executor shut down",
        })
    }
}

/// Why a wait for quiescence, for the end of an actor or pool, or for a shutdown failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitError {
    /// The timeout passed first.
    TimedOut,
    /// The caller is a thread of the executor's own crew, which cannot wait for itself: a handler,
    /// a hook, a drop or the event hook called this.
    OnCrew,
    /// The caller is a handler of another executor, and the target waits for that handler's actor,
    /// directly or through others.
    WouldDeadlock,
    /// The caller is a handler of another executor that has no spare thread left, so no thread
    /// would run its other actors. See
    /// [`ExecutorBuilder::max_spares`](crate::ExecutorBuilder::max_spares).
    NoSpare,
    /// The process was forked after the executor was built, so the executor's threads are in the
    /// parent process only.
    Forked,
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WaitError::TimedOut => "the timeout passed",
            WaitError::OnCrew => "a worker cannot wait for its own crew (wait on another thread)",
            WaitError::WouldDeadlock => "an actor cannot wait for one that waits for it",
            WaitError::NoSpare => {
                "waiting here would block the last unblocked worker, and there is no spare (see ExecutorBuilder::max_spares)"
            }
            WaitError::Forked => {
                "the executor's threads are in the parent process (make an executor in the child)"
            }
        })
    }
}

impl Error for WaitError {}

//! What an executor tells its hook. Nothing is printed by the crate itself.

use super::waits::WaitingActor;
use crate::id::ActorId;
use crate::panics::PanicText;
use std::fmt;

/// Something that an embedding program may want to log.
///
/// The hook runs on whichever thread saw the event, outside all locks; a panic in it is swallowed. An event that the hook causes on
/// the same thread is told when it has returned. So a hook that causes one each time keeps its thread for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// User code of an actor panicked.
    Panicked {
        /// Which actor.
        actor: ActorId,
        /// Its Rust type.
        type_name: &'static str,
        /// In which code.
        place: PanicPlace,
        /// What the panic said.
        text: PanicText,
    },
    /// Accepted messages were not handled: their actor ended first, or they came too late.
    DeadLetters {
        /// Which actor.
        actor: ActorId,
        /// Its Rust type.
        type_name: &'static str,
        /// Why.
        reason: DeadLetterReason,
        /// How many, in this one turn.
        count: u64,
    },
    /// A pool's replica lost its state, and a successor takes its place, perhaps after a time.
    Replaced {
        /// Which actor: the successor has its id.
        actor: ActorId,
        /// Its Rust type.
        type_name: &'static str,
        /// What became of the one before.
        cause: Loss,
    },
    /// A wait in a handler or hook was refused, since it would never have ended.
    WaitRefused {
        /// The actors that would wait for one another, from the one that was refused on: see
        /// [`WaitAskError::cycle`](crate::WaitAskError::cycle).
        cycle: Vec<WaitingActor>,
    },
    /// An actor had not ended when its executor's shutdown had to.
    Stuck {
        /// Which actor.
        actor: ActorId,
        /// Its Rust type.
        type_name: &'static str,
    },
    /// A spare thread was started: see [`Builder::spares`](crate::Builder::spares).
    SpareStarted {
        /// How many threads there are now besides one for each worker.
        spares: usize,
    },
    /// A thread that nobody had needed for a while ended.
    SpareEnded {
        /// How many are left.
        spares: usize,
    },
    /// A spare thread could not be started: for a while it will not be tried again, and blocking keeps its worker.
    SpareFailed {
        /// Why.
        error: String,
    },
}

/// Which of an actor's code panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PanicPlace {
    /// A handler, a callback, or the drop of what they were given.
    Handler,
    /// [`Actor::started`](crate::Actor::started).
    Started,
    /// [`Actor::stopped`](crate::Actor::stopped).
    Stopped,
    /// The drop of the actor's state.
    StateDrop,
    /// The drop of a message that was not handled.
    MessageDrop,
    /// The factory of a pool's replicas, while it made a successor.
    Factory,
}

/// How a pool came to lose a replica's state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// It stopped itself ([`Context::stop`](crate::Context::stop)), or somebody who had its reference stopped it.
    Stopped,
    /// It panicked.
    Panicked(PanicText),
    /// The factory had no successor for it: its error's text, or that of its panic.
    Factory(String),
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loss::Stopped => f.write_str("it stopped"),
            Loss::Panicked(text) => write!(f, "it panicked: {text}"),
            Loss::Factory(text) => write!(f, "no successor could be made: {text}"),
        }
    }
}

/// Why an accepted message was not handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeadLetterReason {
    /// It came (exempt, or from a timer) for an actor that had stopped.
    Stopped,
    /// [`stop_now`](crate::ActorRef::stop_now).
    Killed,
    /// The actor had panicked.
    Panicked,
    /// The executor stopped at once.
    Shutdown,
    /// It was asked with a deadline, which had passed when its turn came: [`ask_by`](crate::ActorRef::ask_by).
    Expired,
    /// It came from a timer that was due, and cancelled before its turn came: [`Timer::cancel`](crate::Timer::cancel).
    Cancelled,
    /// The message was exempt from the capacity, but the mailbox held 2^27 - 1 messages, the most that
    /// any mailbox holds: see [`SpawnBuilder::unbounded`](crate::SpawnBuilder::unbounded).
    Full,
}

/// Dead letters by reason: accepted messages that were not handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct DeadLetters {
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

impl DeadLetters {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        let after_its_end = self.stopped + self.killed + self.panicked + self.shutdown;
        after_its_end + self.expired + self.cancelled + self.full
    }
}

/// An actor that had not ended when its executor's shutdown had to: it was in a turn that did not return in time, or
/// behind one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Unfinished {
    /// Which actor.
    pub id: ActorId,
    /// Its Rust type.
    pub type_name: &'static str,
}

/// How a shutdown went. The counts are those of the executor's whole life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Messages handled.
    pub handled: u64,
    /// Messages accepted and not handled.
    pub dead_letters: DeadLetters,
    /// Actors that had not ended at the deadline: the first 1,000 of them.
    pub unfinished: Vec<Unfinished>,
    /// How many there were.
    pub unfinished_count: usize,
    /// Threads that run no actors any more and had not exited at the deadline, by name: each is in a destructor of a
    /// thread-local. (Of those that heist has started; see [`Builder::spawn_handler`](crate::Builder::spawn_handler).)
    pub unfinished_threads: Vec<String>,
    /// All actors have ended, and no thread of the crew is left.
    pub complete: bool,
}

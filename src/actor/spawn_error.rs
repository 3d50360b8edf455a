//! Why an actor is not spawned.

use crate::error::Sealed;
use crate::mailbox::state::MAX_LEN;
use std::error::Error;
use std::fmt;
use std::io;

/// Why an actor was not spawned.
#[derive(Debug)]
pub(super) enum SpawnProblem {
    ShuttingDown,
    Capacity(usize),
    Budget,
    BoundedAndUnbounded,
    Worker { k: usize, workers: usize },
    Thread(io::Error),
}

/// An actor that was not spawned (or the factory of a dedicated one), and the reason.
pub struct SpawnError<A> {
    actor: Sealed<A>,
    problem: SpawnProblem,
}

impl<A> SpawnError<A> {
    pub(super) fn new(actor: A, problem: SpawnProblem) -> Self {
        SpawnError { actor: Sealed(actor), problem }
    }

    /// Returns the actor, or the factory of a dedicated one, unchanged.
    #[must_use]
    pub fn into_actor(self) -> A {
        self.actor.0
    }

    /// Returns `true` if the executor shuts down, or belongs to the parent of this forked process.
    /// Returns `false` if a setting is wrong, or a thread could not be started.
    #[must_use]
    pub fn is_shutting_down(&self) -> bool {
        matches!(self.problem, SpawnProblem::ShuttingDown)
    }
}

impl<A> fmt::Debug for SpawnError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SpawnError").field(&self.problem).finish()
    }
}

impl<A> fmt::Display for SpawnError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.problem, f)
    }
}

impl fmt::Display for SpawnProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnProblem::ShuttingDown => {
                f.write_str("actor not spawned: the executor is shutting down")
            }
            SpawnProblem::Capacity(n) => {
                write!(
                    f,
                    "actor not spawned: a mailbox for {n} messages (1 to {} are possible)",
                    MAX_LEN - 1
                )
            }
            SpawnProblem::Worker { k, workers } => {
                write!(
                    f,
                    "actor not spawned: there is no worker {k} (there are 0 to {})",
                    workers - 1
                )
            }
            SpawnProblem::Thread(_) => {
                f.write_str("actor not spawned: its thread could not be started")
            }
            SpawnProblem::Budget => f.write_str("actor not spawned: a turn's budget must not be 0"),
            SpawnProblem::BoundedAndUnbounded => f.write_str(
                "actor not spawned: `capacity` contradicts `unbounded` (leave one of them out)",
            ),
        }
    }
}

impl<A> Error for SpawnError<A> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.problem {
            SpawnProblem::Thread(error) => Some(error),
            _ => None,
        }
    }
}

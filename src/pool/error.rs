//! Why a pool ended, and why one was not built or resized.

use crate::cell::event::ReplicaFailure;
use crate::time::Duration;
use std::error::Error;
use std::fmt;

/// Why a pool ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolStopReason {
    /// [`Pool::stop`](crate::Pool::stop) was called.
    Stopped,
    /// [`Pool::stop_now`](crate::Pool::stop_now) was called.
    Killed,
    /// The last handle was dropped.
    Dropped,
    /// The executor shut down.
    Shutdown,
    /// More states were lost in a time than
    /// [`PoolBuilder::failure_limit`](crate::pool::PoolBuilder::failure_limit) allows.
    #[non_exhaustive]
    ReplacedTooOften {
        /// The limit.
        replacements: u32,
        /// The time.
        window: Duration,
        /// The last loss.
        last: ReplicaFailure,
    },
}

impl fmt::Display for PoolStopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolStopReason::Stopped => f.write_str("stopped"),
            PoolStopReason::Killed => f.write_str("stopped at once"),
            PoolStopReason::Dropped => f.write_str("no longer referenced"),
            PoolStopReason::Shutdown => f.write_str("its executor shut down"),
            PoolStopReason::ReplacedTooOften { replacements, window, last } => {
                write!(
                    f,
                    "more than {replacements} replicas lost in {window:?}, the last because {last}"
                )
            }
        }
    }
}

/// Why a pool was not built, or not resized.
#[derive(Debug)]
#[non_exhaustive]
pub enum PoolError {
    /// The pool would have no replicas.
    NoReplicas,
    /// The pool would have more than 2^24 replicas.
    TooManyReplicas(usize),
    /// A capacity is 0 or too large.
    Capacity(usize),
    /// The replicas' mailboxes were given a capacity and made unbounded as well.
    BoundedAndUnbounded,
    /// The shared queue was given a capacity and made unbounded as well.
    QueueBoundedAndUnbounded,
    /// The budget of a turn is 0.
    Budget,
    /// The factory did not make a replica.
    #[non_exhaustive]
    Factory {
        /// The replica's index.
        index: usize,
        /// The factory's error.
        error: Box<dyn Error + Send + Sync>,
    },
    /// A change of size is under way.
    Resizing,
    /// The pool has stopped.
    Stopped,
    /// The executor shuts down.
    ShuttingDown,
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolError::NoReplicas => f.write_str("a pool needs at least one replica"),
            PoolError::TooManyReplicas(n) => write!(f, "a pool has at most 2^24 replicas, not {n}"),
            PoolError::Capacity(n) => {
                write!(f, "a pool's mailboxes hold 1 to 2^27 - 2 messages, not {n}")
            }
            PoolError::BoundedAndUnbounded => f.write_str(
                "pool not built: `capacity` contradicts `unbounded` (leave one of them out)",
            ),
            PoolError::QueueBoundedAndUnbounded => f.write_str(
                "pool not built: `queue_capacity` contradicts `queue_unbounded` (leave one of them \
                 out)",
            ),
            PoolError::Budget => f.write_str("pool not built: a turn's budget must not be 0"),
            PoolError::Factory { index, .. } => write!(f, "replica {index} could not be made"),
            PoolError::Resizing => f.write_str("the pool is changing its size already"),
            PoolError::Stopped => f.write_str("the pool has stopped"),
            PoolError::ShuttingDown => f.write_str("the executor is shutting down"),
        }
    }
}

impl Error for PoolError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            PoolError::Factory { error, .. } => Some(&**error),
            _ => None,
        }
    }
}

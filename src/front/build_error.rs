//! Why an executor was not built, in words.

use super::builder::MAX_SPARES;
use crate::mailbox::state::MAX_LEN;
use crate::sched::idle::MAX_WORKERS;
use std::error::Error;
use std::fmt;
use std::io;

/// Why an executor was not built.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// None, or too many.
    Workers(usize),
    /// A core to pin to that the thread which builds may not use, or that is not there.
    Core(usize),
    /// As many cores to pin to as this, and another number of workers.
    CoresAndWorkers {
        /// The list's length.
        cores: usize,
        /// The crew's size.
        workers: usize,
    },
    /// A thread could not be pinned; or this system pins none.
    Pin(io::Error),
    /// A default capacity of 0, or too large.
    Capacity(usize),
    /// Both a default capacity and none.
    BoundedAndUnbounded,
    /// A turn's budget of no messages, or no time.
    Budget,
    /// A stack of no bytes.
    StackSize,
    /// Too many spares.
    Spares(usize),
    /// Spares were asked for, and a spawn handler given, but no handler to start them.
    SparesWithoutHandler,
    /// A name that no thread can have: it contains a NUL.
    ThreadName,
    /// A thread could not be started.
    Thread(io::Error),
    /// The spawn handler gave a worker up without running it; or, of a pinned crew, kept it for 10 s.
    ThreadLost,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("executor not built: ")?;
        match self {
            BuildError::Workers(n) => write!(f, "it needs 1 to {MAX_WORKERS} workers, not {n}"),
            BuildError::Core(core) => write!(f, "core {core} is not one that this thread may use"),
            BuildError::CoresAndWorkers { cores, workers } => {
                write!(f, "{cores} cores are named for {workers} workers")
            }
            BuildError::Pin(error) => write!(f, "a thread could not be pinned: {error}"),
            BuildError::Capacity(n) => write!(f, "mailboxes hold 1 to {} messages, not {n}", MAX_LEN - 1),
            BuildError::BoundedAndUnbounded => f.write_str("mailboxes cannot be both bounded and unbounded"),
            BuildError::Budget => f.write_str("a turn's budget must not be 0"),
            BuildError::StackSize => f.write_str("a thread's stack cannot be of 0 bytes"),
            BuildError::Spares(n) => write!(f, "it may have 0 to {MAX_SPARES} spares, not {n}"),
            BuildError::SparesWithoutHandler => {
                f.write_str("with a spawn handler, spares need a spare handler")
            }
            BuildError::ThreadName => f.write_str("a thread's name cannot contain a NUL"),
            BuildError::Thread(error) => write!(f, "a thread could not be started: {error}"),
            BuildError::ThreadLost => f.write_str("the spawn handler gave up a worker"),
        }
    }
}

impl Error for BuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            BuildError::Thread(error) | BuildError::Pin(error) => Some(error),
            _ => None,
        }
    }
}

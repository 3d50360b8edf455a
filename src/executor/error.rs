//! Errors of building an executor.

use crate::mailbox::state::MAX_LEN;
use crate::sched::idle::MAX_WORKERS;
use crate::sched::spares::MAX_SPARES;
use std::error::Error;
use std::fmt;
use std::io;

/// Why an executor was not built.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// No workers, or too many.
    Workers(usize),
    /// A listed core does not exist, or the building thread may not use it.
    Core(usize),
    /// The number of cores in the list is not that of the workers.
    #[non_exhaustive]
    CoresAndWorkers {
        /// Length of the list.
        cores: usize,
        /// Size of the crew.
        workers: usize,
    },
    /// A thread could not be pinned, or heist cannot pin threads on this system.
    Pin(io::Error),
    /// The default capacity is 0 or too large.
    Capacity(usize),
    /// Mailboxes were given a capacity and made unbounded as well.
    BoundedAndUnbounded,
    /// The budget of a turn has no messages, or no time.
    Budget,
    /// The stack size is 0.
    StackSize,
    /// Too many spares.
    Spares(usize),
    /// Spares and a spawn handler were given, but no spare handler to start them.
    SparesWithoutHandler,
    /// The threads' name contains a NUL.
    ThreadName,
    /// A thread could not be started.
    Thread(io::Error),
    /// The spawn handler dropped a worker without running it or, for a pinned crew, kept it for 10
    /// s.
    ThreadLost,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("executor not built: ")?;
        match self {
            BuildError::Workers(n) => write!(f, "it needs 1 to {MAX_WORKERS} workers, not {n}"),
            BuildError::Core(core) => write!(f, "core {core} is not one that this thread may use"),
            BuildError::CoresAndWorkers { cores, workers } => {
                write!(
                    f,
                    "`workers({workers})` contradicts `pin_workers` with {cores} cores (leave `workers` out)"
                )
            }
            BuildError::Pin(_) => f.write_str("a thread could not be pinned"),
            BuildError::Capacity(n) => {
                write!(f, "mailboxes hold 1 to {} messages, not {n}", MAX_LEN - 1)
            }
            BuildError::BoundedAndUnbounded => {
                f.write_str("`capacity` contradicts `unbounded` (leave one of them out)")
            }
            BuildError::Budget => f.write_str("a turn's budget must not be 0"),
            BuildError::StackSize => f.write_str("a thread's stack cannot be of 0 bytes"),
            BuildError::Spares(n) => write!(f, "it may have 0 to {MAX_SPARES} spares, not {n}"),
            BuildError::SparesWithoutHandler => f.write_str(
                "`max_spares` with a `spawn_handler` needs a `spare_handler` that starts them",
            ),
            BuildError::ThreadName => f.write_str("a thread's name cannot contain a NUL"),
            BuildError::Thread(_) => f.write_str("a thread could not be started"),
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

//! Floor 0: identifiers of actors.

use std::fmt;
use std::num::NonZeroU64;

/// Names an actor, live or ended. An id is unique in its executor and is never reused there.
///
/// Executors in one process do not know of each other, so ids of different executors may be equal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActorId(NonZeroU64);

impl ActorId {
    pub(crate) const fn from_raw(raw: NonZeroU64) -> Self {
        ActorId(raw)
    }

    /// Returns the id as a number, for logs and tables.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Debug for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActorId({})", self.0)
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

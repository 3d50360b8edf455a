//! How the start of threads came out, where two threads may decide it.

use crate::sync::Mutex;

/// The outcome of a start: a thread that needs it counts on it, or a thread that fails gives it up.
/// The first step decides.
#[derive(Debug)]
pub(crate) struct ThreadStart(Mutex<Outcome>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Open,
    CountedOn,
    GivenUp,
}

impl ThreadStart {
    pub(crate) fn new() -> Self {
        ThreadStart(Mutex::new(Outcome::Open))
    }

    /// Counts on the start from now on. Returns `false` if it was given up before.
    #[must_use]
    pub(crate) fn count_on(&self) -> bool {
        self.settle(Outcome::CountedOn) == Outcome::CountedOn
    }

    /// Gives the start up. Returns `false` if another thread counts on it.
    #[must_use]
    pub(crate) fn give_up(&self) -> bool {
        self.settle(Outcome::GivenUp) == Outcome::GivenUp
    }

    pub(crate) fn is_given_up(&self) -> bool {
        *self.0.lock() == Outcome::GivenUp
    }

    fn settle(&self, to: Outcome) -> Outcome {
        let mut outcome = self.0.lock();
        if *outcome == Outcome::Open {
            *outcome = to;
        }
        *outcome
    }
}

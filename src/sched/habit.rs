//! A habit of a thread: one way to wait for work or for an answer, taken as long as it pays.
//!
//! A thread cannot tell whether other processors are free, whether the thread that it waits for
//! shares its processor, or whether a stranger does. So each way to wait is judged by its recent
//! success. A success adds credit and a failure takes some. Without credit the way is tried once in
//! a while, the more seldom the more often it failed.

use crate::time::Duration;
use std::cell::Cell;

/// A yield that took longer has given the processor to a thread that has nothing to do with the
/// wait.
pub(crate) const LONG_YIELD: Duration = Duration::from_micros(200);

const MOST_CREDIT: u32 = 16;
/// Number of skipped waits after the first failure without credit.
const FIRST_PAUSE: u32 = 16;
/// Number of skipped waits after the first failure that cost more than many waits.
const FIRST_LONG_PAUSE: u32 = 256;
/// Upper limit of the skipped waits after such failures.
const LONGEST_PAUSE: u32 = 8192;

/// The recent success of one way to wait.
#[derive(Debug)]
pub(crate) struct Habit {
    /// Sum of recent successes and failures. The way is taken while it is above zero.
    credit: Cell<u32>,
    /// Without credit: the number of waits left until the next try.
    skips: Cell<u32>,
    /// The value of `skips` after the last failure.
    last_pause: Cell<u32>,
    /// Upper limit of the skipped waits after usual failures.
    longest_pause: u32,
}

/// One try of the way, which is judged at most once. Only a try can be judged: a wait that skipped
/// the way says nothing about it.
#[must_use]
pub(crate) struct Attempt<'a>(&'a Habit);

impl Habit {
    pub(crate) const fn new(longest_pause: u32) -> Self {
        Habit {
            credit: Cell::new(MOST_CREDIT),
            skips: Cell::new(0),
            last_pause: Cell::new(0),
            longest_pause,
        }
    }

    /// Returns an attempt if the next wait tries this way. Counts a skipped wait otherwise.
    pub(crate) fn attempt(&self) -> Option<Attempt<'_>> {
        let skips = self.skips.get();
        if self.credit.get() > 0 || skips == 0 {
            return Some(Attempt(self));
        }
        self.skips.set(skips - 1);
        None
    }

    fn reduce_to(&self, left: u32) {
        self.credit.set(left);
        if left == 0 {
            // The pauses between tries double, so a way that never works costs little in the long
            // run.
            self.pause((2 * self.last_pause.get()).clamp(FIRST_PAUSE, self.longest_pause));
        }
    }

    fn pause(&self, waits: u32) {
        self.skips.set(waits);
        self.last_pause.set(waits);
    }
}

impl Attempt<'_> {
    pub(crate) fn succeeded(self) {
        self.0.credit.set((self.0.credit.get() + 2).min(MOST_CREDIT));
        self.0.last_pause.set(0);
    }

    /// Halves the credit, for a failure that costs as much as several successes save.
    pub(crate) fn failed(self) {
        self.0.reduce_to(self.0.credit.get() / 2);
    }

    /// Takes one of the credit, for a failure that costs less than a success saves.
    pub(crate) fn failed_slightly(self) {
        self.0.reduce_to(self.0.credit.get().saturating_sub(1));
    }

    /// Takes all credit at once, for a failure that costs more than many waits.
    pub(crate) fn failed_badly(self) {
        self.0.credit.set(0);
        self.0.pause((4 * self.0.last_pause.get()).clamp(FIRST_LONG_PAUSE, LONGEST_PAUSE));
    }
}

/// A worker's record of its last searches.
pub(super) struct Habits {
    /// To spin, after a look everywhere found nothing.
    pub(super) spins: Habit,
    /// To pause and look several times between two yields.
    pub(super) pauses: Habit,
}

impl Default for Habits {
    fn default() -> Self {
        Habits { spins: Habit::new(16), pauses: Habit::new(64) }
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;

    /// Returns the number of waits that try a way with this constant outcome.
    fn tried(waits: u32, habit: &Habit, outcome: impl Fn(Attempt<'_>)) -> u32 {
        (0..waits).filter(|_| habit.attempt().map(&outcome).is_some()).count() as u32
    }

    #[test]
    fn a_way_that_fails_is_taken_seldom_and_one_that_succeeds_always() {
        let habit = Habit::new(64);
        assert_eq!(tried(1000, &habit, |attempt| attempt.succeeded()), 1000);
        let failing = tried(10_000, &habit, |attempt| attempt.failed());
        assert!((10_000 / 65..10_000 / 40).contains(&failing), "{failing}");
        // The conditions are as before: after some tries the way is always taken again.
        tried(1000, &habit, |attempt| attempt.succeeded());
        assert_eq!(tried(1000, &habit, |attempt| attempt.succeeded()), 1000);
        let failing = tried(10_000, &habit, |attempt| attempt.failed_slightly());
        assert!((10_000 / 65..10_000 / 40).contains(&failing), "{failing}");
    }

    #[test]
    fn a_way_that_costs_much_is_given_up_at_once() {
        let habit = Habit::new(64);
        assert_eq!(tried(256, &habit, |attempt| attempt.failed_badly()), 1);
        let failing = tried(1_000_000, &habit, |attempt| attempt.failed_badly());
        assert!(failing < 140, "{failing}");
    }
}

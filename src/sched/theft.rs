//! What a theft is worth: how long an owner must be going to take to get to its queue, so that a sibling takes some of it.
//!
//! What an owner gets to soon is better left in one cache. How soon that is depends on what waits: to move an actor costs a few
//! cache lines, much for a turn of 50 ns and nothing for one of a microsecond. So thieves learn it. Each compares its pace through what
//! it has stolen with its victim's pace: if a turn took it more than [`PAYS_UP_TO`] times as long, the next theft has to be worth twice
//! as much; if not, half as much, between [`LEAST_NS`] and [`MOST_NS`].
//!
//! All of it is a guess that may be wrong. What waits for longer than that is the [sentinel](super::idle)'s, as whatever notifies nobody is.

use crate::sync::{AtomicU64, Ordering::Relaxed};
use crate::time::Instant;

/// Own work that takes its owner no longer than this is not worth moving to another core.
const LEAST_NS: u64 = 20_000;
/// However badly thefts went.
const MOST_NS: u64 = 160_000;
/// A thief that is as slow as this, compared with its victim, does more harm than good: each turn that it takes over keeps two cores busy.
const PAYS_UP_TO: u64 = 2;
/// Turns as long as this, in the mean, are worth moving however long they took the victim.
const LONG_NS: u64 = 1_000;

/// See the page above. Written rarely, read by all; Relaxed, since nothing is published by it, and an old value is as good a guess.
#[derive(Debug)]
pub(super) struct Worth(AtomicU64);

/// A theft whose thief has not run dry since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theft {
    pub(super) at: Instant,
    /// The thief's turns up to then.
    pub(super) turns: u64,
    /// Its victim's mean turn then.
    pub(super) victims_pace_ns: u64,
}

impl Worth {
    pub(super) fn new() -> Self {
        Worth(AtomicU64::new(LEAST_NS))
    }

    #[inline]
    pub(super) fn ns(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// A thief has run dry, after so many turns in all.
    pub(super) fn judge(&self, theft: Theft, now: Instant, turns: u64) {
        let took = (now - theft.at).as_nanos() as u64;
        let pace = took / (turns - theft.turns).max(1);
        let worth = self.ns();
        let next = if pace < LONG_NS && pace > PAYS_UP_TO * theft.victims_pace_ns {
            (2 * worth).min(MOST_NS)
        } else {
            (worth / 2).max(LEAST_NS)
        };
        if next != worth {
            self.0.store(next, Relaxed); // two who judge at once may count as one
        }
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;
    use crate::time::{self, Duration};

    #[test]
    fn thefts_that_do_not_pay_become_rare_and_those_that_pay_do_not() {
        let (worth, at) = (Worth::new(), time::now());
        // 100 turns since; the victim took 100 ns for each.
        let theft = Theft { at, turns: 50, victims_pace_ns: 100 };
        let judge = |ns_each: u64| {
            worth.judge(theft, at + Duration::from_nanos(100 * ns_each), 150);
            worth.ns()
        };
        assert_eq!(judge(100), LEAST_NS);
        assert_eq!(judge(200), LEAST_NS, "it may be somewhat slower");
        assert_eq!(judge(201), 2 * LEAST_NS);
        assert_eq!(judge(999), 4 * LEAST_NS);
        assert_eq!(judge(1000), 2 * LEAST_NS, "long turns");
        (0..9).for_each(|_| _ = judge(500));
        assert_eq!(worth.ns(), MOST_NS);
        (0..9).for_each(|_| _ = judge(150));
        assert_eq!(worth.ns(), LEAST_NS);
        // Nothing of it was left for the thief: no turns, no division by zero.
        worth.judge(Theft { turns: 150, ..theft }, at + Duration::from_nanos(10), 150);
        assert_eq!(worth.ns(), LEAST_NS);
    }
}

//! The steal threshold: how long an owner must be going to take to get to its queue before a
//! sibling takes some of it.
//!
//! Work that will soon be run is better left in the owner's cache. How soon depends on the work.
//! Moving an actor costs a few cache lines: much for a turn of 50 ns, nothing for a turn of a
//! microsecond. So thieves learn the threshold. Each compares its pace through stolen work with its
//! victim's pace. If a turn took more than [`PAYS_UP_TO`] times as long, the next theft has to be
//! worth twice as much; otherwise half as much, between [`LEAST_NS`] and [`MOST_NS`].
//!
//! All of this is a guess that may be wrong. Work that waits for longer is left to the
//! [sentinel](super::idle), like all work that notifies no worker.

use crate::sync::{AtomicU64, Ordering::Relaxed};
use crate::time::Instant;

/// Backlogs shorter than this are not worth moving to another core.
const LEAST_NS: u64 = 20_000;
/// Upper limit of the threshold, however badly thefts went.
const MOST_NS: u64 = 160_000;
/// A thief slower than this factor does more harm than good: each stolen turn keeps two cores busy.
const PAYS_UP_TO: u64 = 2;
/// Turns as long as this, in the mean, are worth moving however long they took the victim.
const LONG_NS: u64 = 1_000;

/// The threshold: see the page above. Written rarely, read by all. Relaxed, since it publishes
/// nothing, and an old value is as good a guess.
#[derive(Debug)]
pub(super) struct StealThreshold(AtomicU64);

/// A theft; its thief has not run dry since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theft {
    pub(super) at: Instant,
    /// Number of the thief's turns at that moment.
    pub(super) turns: u64,
    /// The victim's mean turn at that moment.
    pub(super) victims_pace_ns: u64,
}

impl StealThreshold {
    pub(super) fn new() -> Self {
        StealThreshold(AtomicU64::new(LEAST_NS))
    }

    #[inline]
    pub(super) fn as_ns(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Updates the threshold, when a thief has run dry after `turns` turns in all.
    pub(super) fn update_after_theft(&self, theft: Theft, now: Instant, turns: u64) {
        let took = (now - theft.at).as_nanos() as u64;
        let pace = took / (turns - theft.turns).max(1);
        let steal_threshold = self.as_ns();
        let next = if pace < LONG_NS && pace > PAYS_UP_TO * theft.victims_pace_ns {
            (2 * steal_threshold).min(MOST_NS)
        } else {
            (steal_threshold / 2).max(LEAST_NS)
        };
        if next != steal_threshold {
            // Two updates at once may count as one.
            self.0.store(next, Relaxed);
        }
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;
    use crate::time::{self, Duration};

    #[test]
    fn thefts_that_do_not_pay_become_rare_and_those_that_pay_do_not() {
        let (steal_threshold, at) = (StealThreshold::new(), time::now());
        // 100 turns since; the victim took 100 ns for each.
        let theft = Theft { at, turns: 50, victims_pace_ns: 100 };
        let judge = |ns_each: u64| {
            steal_threshold.update_after_theft(
                theft,
                at + Duration::from_nanos(100 * ns_each),
                150,
            );
            steal_threshold.as_ns()
        };
        assert_eq!(judge(100), LEAST_NS);
        assert_eq!(judge(200), LEAST_NS, "it may be somewhat slower");
        assert_eq!(judge(201), 2 * LEAST_NS);
        assert_eq!(judge(999), 4 * LEAST_NS);
        assert_eq!(judge(1000), 2 * LEAST_NS, "long turns");
        (0..9).for_each(|_| _ = judge(500));
        assert_eq!(steal_threshold.as_ns(), MOST_NS);
        (0..9).for_each(|_| _ = judge(150));
        assert_eq!(steal_threshold.as_ns(), LEAST_NS);
        // Nothing was left for the thief: no turns, and no division by zero.
        steal_threshold.update_after_theft(
            Theft { turns: 150, ..theft },
            at + Duration::from_nanos(10),
            150,
        );
        assert_eq!(steal_threshold.as_ns(), LEAST_NS);
    }
}

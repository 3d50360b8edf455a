//! How a thread waits for an answer before it sleeps.
//!
//! Most answers take a microsecond or two, and to put a thread to sleep and to wake it takes five to ten. So a thread that waits
//! looks for a while first. What that is worth depends on the processors:
//!
//! | | what brings the answer soonest |
//! |---|---|
//! | a processor for each of the two | to spin: the worker answers meanwhile |
//! | one processor, or all others taken | to yield: the worker may wait for this one |
//! | another busy process on this one | to sleep: a yield gives it a whole slice, while who is woken comes before it |
//!
//! Nothing says which it is, so each way is judged by what it has led to on this thread. A way that failed is taken half as
//! often, and then tried again once in a while, the more seldom the more often it failed. With one processor nobody spins.

use crate::sync::spin_hint;
use crate::time::{self, Duration, Instant};
use std::cell::Cell;

/// A thread spins for this long at most.
const SPIN: Duration = Duration::from_micros(20);
/// So many yields, one after the other.
const YIELDS: u32 = 4;
/// A yield that took longer than this has given the processor to somebody who has nothing to do with the answer.
const LONG_YIELD: Duration = Duration::from_micros(200);

thread_local! {
    static SPINNING: Cell<Luck> = const { Cell::new(Luck::new(64)) };
    static YIELDING: Cell<Luck> = const { Cell::new(Luck::new(8192)) };
}

/// What a way to wait has led to lately.
#[derive(Clone, Copy, Debug)]
struct Luck {
    /// How often it may fail in a row, halved by each failure.
    credit: u32,
    /// With no credit: waits that are still to go without it.
    without: u32,
    /// How many they were when the last try failed.
    last: u32,
    /// How many they are at most.
    most: u32,
}

impl Luck {
    const MOST_CREDIT: u32 = 16;

    const fn new(most: u32) -> Self {
        Luck { credit: Self::MOST_CREDIT, without: 0, last: 0, most }
    }

    /// Returns `true` if this way is to be tried, for one wait.
    fn tries(&mut self) -> bool {
        if self.credit > 0 || self.without == 0 {
            return true;
        }
        self.without -= 1;
        false
    }

    fn succeeded(&mut self) {
        self.credit = (self.credit + 2).min(Self::MOST_CREDIT);
        self.last = 0;
    }

    fn failed(&mut self) {
        self.credit /= 2;
        if self.credit == 0 {
            self.last = (2 * self.last).clamp(16, self.most);
            self.without = self.last;
        }
    }

    /// As [`failed`](Self::failed), where a single time costs more than many waits.
    fn failed_badly(&mut self) {
        self.credit = 0;
        self.last = (4 * self.last).clamp(256, self.most);
        self.without = self.last;
    }
}

/// Looks for a moment whether it is `done`, not beyond `until`. Afterwards the caller looks again, and sleeps if it is not.
pub(crate) fn look(until: Option<Instant>, one_processor: bool, done: impl Fn() -> bool) {
    if one_processor || !judged(&SPINNING, || spin(until, &done)) {
        judged(&YIELDING, || give_way(until, &done));
    }
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Failed,
    FailedBadly,
    /// The caller's time was over before anything could be said.
    Unknown,
}

fn judged(luck: &'static std::thread::LocalKey<Cell<Luck>>, wait: impl FnOnce() -> Outcome) -> bool {
    let mut now = luck.get();
    let tried = now.tries();
    let outcome = if tried { wait() } else { Outcome::Unknown };
    match outcome {
        Outcome::Done => now.succeeded(),
        Outcome::Failed => now.failed(),
        Outcome::FailedBadly => now.failed_badly(),
        Outcome::Unknown => {}
    }
    luck.set(now);
    outcome == Outcome::Done
}

/// Looks often, since each pause is latency, and reads the clock rarely.
fn spin(until: Option<Instant>, done: &impl Fn() -> bool) -> Outcome {
    let end = time::now() + SPIN;
    loop {
        for _ in 0..16 {
            if done() {
                return Outcome::Done;
            }
            spin_hint();
            spin_hint();
        }
        let now = time::now();
        if now >= end {
            return Outcome::Failed;
        }
        if until.is_some_and(|until| now >= until) {
            return Outcome::Unknown;
        }
    }
}

fn give_way(until: Option<Instant>, done: &impl Fn() -> bool) -> Outcome {
    let mut before = time::now();
    for _ in 0..YIELDS {
        if until.is_some_and(|until| before >= until) {
            return Outcome::Unknown;
        }
        std::thread::yield_now();
        let after = time::now();
        let long = after.saturating_duration_since(before) > LONG_YIELD;
        if long {
            return Outcome::FailedBadly; // also with the answer there, which may have been there long before
        }
        if done() {
            return Outcome::Done;
        }
        before = after;
    }
    Outcome::Failed
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;

    /// How many of these waits try a way that always ends like this.
    fn tried(waits: u32, luck: &mut Luck, outcome: fn(&mut Luck)) -> u32 {
        (0..waits)
            .filter(|_| {
                let tries = luck.tries();
                if tries {
                    outcome(luck);
                }
                tries
            })
            .count() as u32
    }

    #[test]
    fn a_way_that_fails_is_taken_seldom_and_one_that_succeeds_always() {
        let mut luck = Luck::new(64);
        assert_eq!(tried(1000, &mut luck, Luck::succeeded), 1000);
        let failing = tried(10_000, &mut luck, Luck::failed);
        assert!((10_000 / 65..10_000 / 40).contains(&failing), "{failing}");
        // Things are as they were: within some tries it is always taken again.
        tried(1000, &mut luck, Luck::succeeded);
        assert_eq!(tried(1000, &mut luck, Luck::succeeded), 1000);
    }

    #[test]
    fn a_way_that_costs_much_is_given_up_at_once() {
        let mut luck = Luck::new(8192);
        assert_eq!(tried(256, &mut luck, Luck::failed_badly), 1);
        let failing = tried(1_000_000, &mut luck, Luck::failed_badly);
        assert!(failing < 140, "{failing}");
    }

    /// Each look costs the processor on which the answer would be made.
    #[test]
    fn with_one_processor_no_thread_spins() {
        let looks = Cell::new(0);
        let done = || {
            looks.set(looks.get() + 1);
            false
        };
        look(None, true, done);
        assert!(looks.get() <= YIELDS, "{} looks, and a yield before each", looks.get());
        look(None, false, done);
        assert!(looks.get() > 2 * YIELDS, "where there are more, a thread spins first");
    }

    #[test]
    fn a_wait_ends_at_once_when_it_is_done_and_soon_when_it_is_not() {
        look(None, false, || true);
        look(None, true, || true);
        let over = time::now();
        look(Some(over), false, || false);
        look(None, false, || false);
    }
}

//! How a thread waits for an answer before it sleeps.
//!
//! Most answers take a microsecond or two. Putting a thread to sleep and waking it takes five to
//! ten. So a waiting thread first looks for a while. The best way to do so depends on the
//! processors:
//!
//! | processors | the way that brings the answer soonest |
//! |---|---|
//! | one for each of the two threads | to spin: the worker answers meanwhile |
//! | one in all, or all others taken | to yield: the worker may wait for this one |
//! | another busy process on this one | to sleep: a woken thread comes before that process |
//!
//! In the last case a yield gives the other process a whole slice.
//!
//! A thread cannot tell the cases apart. So each way is judged by past success on the thread. Each
//! failure halves a way's credit. Without credit the way is tried again once in a while, the more
//! seldom the more often it failed. With one processor no thread spins.

use crate::sync::spin_hint;
use crate::time::{self, Duration, Instant};
use std::cell::Cell;

/// Longest time for which a thread spins.
const SPIN: Duration = Duration::from_micros(20);
/// Number of yields in a row.
const YIELDS: u32 = 4;
/// A yield that took longer has given the processor to a thread that has nothing to do with the
/// answer.
const LONG_YIELD: Duration = Duration::from_micros(200);

thread_local! {
    static SPINNING: Cell<Credit> = const { Cell::new(Credit::new(64)) };
    // Longer pauses than for spinning: a failed yield may cost a whole slice of another process.
    static YIELDING: Cell<Credit> = const { Cell::new(Credit::new(8192)) };
}

/// The recent success of one way to wait.
#[derive(Clone, Copy, Debug)]
struct Credit {
    /// How often the way may fail in a row. Each failure halves it.
    credit: u32,
    /// Without credit: the number of waits left until the next try.
    without: u32,
    /// The value of `without` after the last failure.
    last: u32,
    /// Upper limit of `without`.
    most: u32,
}

impl Credit {
    const MOST_CREDIT: u32 = 16;

    const fn new(most: u32) -> Self {
        Credit { credit: Self::MOST_CREDIT, without: 0, last: 0, most }
    }

    /// Returns `true` if this way is tried for the next wait.
    fn tries(&mut self) -> bool {
        if self.credit > 0 || self.without == 0 {
            return true;
        }
        self.without -= 1;
        false
    }

    fn succeeded(&mut self) {
        // Slow to trust and quick to doubt: a success adds two, a failure halves.
        self.credit = (self.credit + 2).min(Self::MOST_CREDIT);
        self.last = 0;
    }

    fn failed(&mut self) {
        self.credit /= 2;
        if self.credit == 0 {
            // The pauses between tries double, so a way that never works costs little in the long
            // run.
            self.last = (2 * self.last).clamp(16, self.most);
            self.without = self.last;
        }
    }

    /// As [`failed`](Self::failed), for a failure that costs more than many waits.
    fn failed_badly(&mut self) {
        self.credit = 0;
        self.last = (4 * self.last).clamp(256, self.most);
        self.without = self.last;
    }
}

/// Waits briefly until `done` or `until`. The caller looks again afterwards, and sleeps if it is
/// not done.
pub(crate) fn look(until: Option<Instant>, one_processor: bool, done: impl Fn() -> bool) {
    // Spinning comes first, as the fastest way. With one processor spinning could only delay the
    // answer.
    if one_processor || !judged(&SPINNING, || spin(until, &done)) {
        judged(&YIELDING, || give_way(until, &done));
    }
}

/// The outcome of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    Done,
    Failed,
    FailedBadly,
    /// The caller's time was over before the way could be judged.
    Unknown,
}

fn judged(luck: &'static std::thread::LocalKey<Cell<Credit>>, wait: impl FnOnce() -> Attempt) -> bool {
    // A copy, written back below, so that nothing is borrowed during the wait.
    let mut now = luck.get();
    let tried = now.tries();
    let outcome = if tried { wait() } else { Attempt::Unknown };
    match outcome {
        Attempt::Done => now.succeeded(),
        Attempt::Failed => now.failed(),
        Attempt::FailedBadly => now.failed_badly(),
        Attempt::Unknown => {}
    }
    luck.set(now);
    outcome == Attempt::Done
}

/// Spins until `done`. Looks often, since each pause is latency, and reads the clock rarely.
fn spin(until: Option<Instant>, done: &impl Fn() -> bool) -> Attempt {
    let end = time::now() + SPIN;
    loop {
        // A reading of the clock costs about as much as these looks.
        for _ in 0..16 {
            if done() {
                return Attempt::Done;
            }
            spin_hint();
            spin_hint();
        }
        let now = time::now();
        if now >= end {
            return Attempt::Failed;
        }
        if until.is_some_and(|until| now >= until) {
            return Attempt::Unknown;
        }
    }
}

/// Yields the processor until `done`, a few times.
fn give_way(until: Option<Instant>, done: &impl Fn() -> bool) -> Attempt {
    let mut before = time::now();
    for _ in 0..YIELDS {
        if until.is_some_and(|until| before >= until) {
            return Attempt::Unknown;
        }
        std::thread::yield_now();
        let after = time::now();
        let long = after.saturating_duration_since(before) > LONG_YIELD;
        if long {
            // A failure even if the answer is there, since it may have been there long before.
            return Attempt::FailedBadly;
        }
        if done() {
            return Attempt::Done;
        }
        before = after;
    }
    Attempt::Failed
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;

    /// Returns the number of waits that try a way with this constant outcome.
    fn tried(waits: u32, luck: &mut Credit, outcome: fn(&mut Credit)) -> u32 {
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
        let mut luck = Credit::new(64);
        assert_eq!(tried(1000, &mut luck, Credit::succeeded), 1000);
        let failing = tried(10_000, &mut luck, Credit::failed);
        assert!((10_000 / 65..10_000 / 40).contains(&failing), "{failing}");
        // The conditions are as before: after some tries the way is always taken again.
        tried(1000, &mut luck, Credit::succeeded);
        assert_eq!(tried(1000, &mut luck, Credit::succeeded), 1000);
    }

    #[test]
    fn a_way_that_costs_much_is_given_up_at_once() {
        let mut luck = Credit::new(8192);
        assert_eq!(tried(256, &mut luck, Credit::failed_badly), 1);
        let failing = tried(1_000_000, &mut luck, Credit::failed_badly);
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

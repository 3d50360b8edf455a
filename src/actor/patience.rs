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
//! A thread cannot tell the cases apart. So each way is a [`Habit`] of the thread, taken as long as
//! it pays. With one processor no thread spins.

use crate::sched::habit::{Habit, LONG_YIELD};
use crate::sync::spin_hint;
use crate::time::{self, Duration, Instant};
use std::thread::LocalKey;

/// Longest time for which a thread spins.
const SPIN: Duration = Duration::from_micros(20);
/// Number of yields in a row.
const YIELDS: u32 = 4;

thread_local! {
    static SPINNING: Habit = const { Habit::new(256) };
    // Longer pauses than for spinning: a failed yield may cost a whole slice of another process.
    static YIELDING: Habit = const { Habit::new(8192) };
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
enum LookOutcome {
    Done,
    Failed,
    FailedBadly,
    /// The caller's time was over before the way could be judged.
    Unknown,
}

fn judged(habit: &'static LocalKey<Habit>, wait: impl FnOnce() -> LookOutcome) -> bool {
    habit.with(|habit| {
        let Some(attempt) = habit.attempt() else { return false };
        let outcome = wait();
        match outcome {
            LookOutcome::Done => attempt.succeeded(),
            LookOutcome::Failed => attempt.failed(),
            LookOutcome::FailedBadly => attempt.failed_badly(),
            // No verdict, as the look was cut short by the caller's own deadline.
            LookOutcome::Unknown => {}
        }
        outcome == LookOutcome::Done
    })
}

/// Spins until `done`. Looks often, since each pause is latency, and reads the clock rarely.
fn spin(until: Option<Instant>, done: &impl Fn() -> bool) -> LookOutcome {
    let end = time::now() + SPIN;
    loop {
        // A reading of the clock costs about as much as these looks.
        for _ in 0..16 {
            if done() {
                return LookOutcome::Done;
            }
            spin_hint();
            spin_hint();
        }
        let now = time::now();
        if now >= end {
            return LookOutcome::Failed;
        }
        if until.is_some_and(|until| now >= until) {
            return LookOutcome::Unknown;
        }
    }
}

/// Yields the processor until `done`, a few times.
fn give_way(until: Option<Instant>, done: &impl Fn() -> bool) -> LookOutcome {
    let mut before = time::now();
    for _ in 0..YIELDS {
        if until.is_some_and(|until| before >= until) {
            return LookOutcome::Unknown;
        }
        std::thread::yield_now();
        let after = time::now();
        let long = after.saturating_duration_since(before) > LONG_YIELD;
        if long {
            // A failure even if the answer is there, since it may have been there long before.
            return LookOutcome::FailedBadly;
        }
        if done() {
            return LookOutcome::Done;
        }
        before = after;
    }
    LookOutcome::Failed
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;

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

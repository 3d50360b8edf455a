//! The alarm: the instant of the next timer, for threads that look at the clock.
//!
//! There is no thread for timers. Any awake worker fires timers that are due: a worker reads the
//! clock every few turns anyway, and compares. If all workers sleep, or all awake workers are in
//! long turns, the *timer waiter* fires them. The timer waiter is any one of the parked workers.
//! The timer waiter sleeps until the alarm at most, and gets up for it.
//!
//! # In prose
//!
//! The alarm is an atomic: the instant before which no timer is due. Writes happen only under the
//! table's lock ([`timers`](super::timers)): the alarm is lowered when an earlier timer is armed,
//! raised after due timers have been taken out. Cancelling leaves the alarm unchanged, so it may go
//! off once for nothing.
//!
//! | event | the alarm | the timer waiter (under the lock of the list of sleepers) |
//! |---|---|---|
//! | a worker parks | | it, if there is none; then it **always** reads the alarm |
//! | an earliest timer is armed | lowered | is told to look; if there is none, one is appointed |
//! | the timer waiter is woken for work | | another sleeper, told to look if the alarm is set |
//! | the timer waiter gets up for the alarm | | none |
//! | due timers have been fired | raised | if there is none, one is appointed |
//!
//! # Why no timer is forgotten
//!
//! A thread that lowers the alarm then passes a SeqCst fence and reads whether any worker is
//! parked. A worker that parks writes so into the same word, passes a SeqCst fence, and then reads
//! the alarm. By the fences, either the lowering thread sees a parked worker, or the parker sees
//! the alarm.
//!
//! 1. *The parker sees the alarm*: a timer waiter waits for the alarm. If the parker is not the
//!    timer waiter, another worker was the timer waiter at that moment, and the same cases apply to
//!    that worker.
//! 2. *A parked worker is seen*: under the list's lock the timer waiter, or a new one, is told to
//!    look, and then reads an alarm at least as new. If the timer waiter leaves later, a successor
//!    is appointed under the same lock, afterwards. So the appointing thread sees that the alarm is
//!    set, and tells the successor to look.
//! 3. *No worker is parked*: all are awake, and look at the clock before they park, or case 1 holds
//!    at that time.
//!
//! Raising the alarm needs no message to a timer waiter, which gets up for the earlier instant and
//! looks. But a timer waiter that got up leaves no watch behind, and therefore always appoints a
//! successor itself, even if other workers were quicker to fire.
//!
//! A late request to look (the receiver has left the list meanwhile) does no harm, since it only
//! asks for a look at the list.
//!
//! Time is counted in nanoseconds from the crew's beginning, by the monotonic clock. A jump of the
//! wall clock is not seen. A process stopped for some seconds fires all timers of the meantime
//! late.
//!
//! Loom models: `models::alarm`, and `models::spares` for vacant slots. Needed orderings:
//! `cargo xtask weaken alarm`.

use crate::sync::{AtomicU64, Ordering::*};
use crate::time::{self, Duration, Instant};

/// An instant beyond all others: no timer is armed.
const NEVER: u64 = u64::MAX;

/// The instant of the next timer.
#[derive(Debug)]
pub(crate) struct Alarm {
    origin: Instant,
    next: AtomicU64,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Alarm { origin: time::now(), next: AtomicU64::new(NEVER) }
    }

    /// Converts an instant to the alarm's count. `None`, and instants more than 584 years away,
    /// count as the last instant, which is as good as never.
    pub(crate) fn count_of(&self, at: Option<Instant>) -> u64 {
        let Some(at) = at else { return NEVER - 1 };
        let since = at.saturating_duration_since(self.origin);
        u64::try_from(since.as_nanos()).map_or(NEVER - 1, |ns| ns.min(NEVER - 1))
    }

    /// Returns `true` if a timer may be due. Costs a load where no timer is armed.
    ///
    /// Relaxed: a worker that looks between turns will look again, and a worker about to park has
    /// passed a fence.
    #[inline]
    pub(crate) fn may_be_due(&self, now: Instant) -> bool {
        let next = self.next.load(Relaxed);
        next != NEVER && next <= self.count_of(Some(now))
    }

    /// Returns `true` if a timer seems to be armed. A hint.
    pub(crate) fn is_set(&self) -> bool {
        self.next.load(Relaxed) != NEVER
    }

    /// Returns the instant to get up for, if there is one.
    pub(crate) fn next_instant(&self) -> Option<Instant> {
        match self.next.load(Relaxed) {
            NEVER => None,
            // `None` beyond what the clock can represent, which is as good as never.
            next => self.origin.checked_add(Duration::from_nanos(next)),
        }
    }

    /// Lowers the alarm to `next`, if that is earlier. Returns `true` if it is. Called under the
    /// table's lock.
    pub(crate) fn lower_to(&self, next: u64) -> bool {
        // Relaxed: the lock orders the writers, and the readers have their fences.
        let earlier = next < self.next.load(Relaxed);
        if earlier {
            self.next.store(next, Relaxed);
        }
        earlier
    }

    /// Sets the alarm to the next timer, after due timers were taken out. Called under the table's
    /// lock.
    pub(crate) fn set_next(&self, next: Option<u64>) {
        // Relaxed, as in `lower_to`.
        self.next.store(next.unwrap_or(NEVER), Relaxed);
    }
}

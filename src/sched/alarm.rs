//! The alarm: when the next timer is due, for whoever looks at the clock.
//!
//! There is no thread for timers. Whoever is awake fires what is due: a worker reads the clock every few turns anyway,
//! and compares. If all workers sleep, or those who are awake are in long turns, the *keeper* does: of the parked
//! workers one, whoever it is, waits no longer than until the alarm, and gets up for it.
//!
//! # In prose
//!
//! The alarm is one atomic: the instant before which nothing is due. It is written under the table's lock
//! ([`timers`](super::timers)) only: lowered when an earlier timer is armed, raised after the timers that were due have been
//! taken out. Cancelling leaves it where it is, so it may go off for nothing, once.
//!
//! | event | the alarm | the keeper (under the lock of the list of sleepers) |
//! |---|---|---|
//! | a worker parks | | it, if there is none; then it **always** reads the alarm |
//! | a timer is armed, the earliest of all | lowered | is told to look again; if there is none, one is appointed |
//! | the keeper is woken for work | | another sleeper, and told to look if the alarm is set |
//! | the keeper gets up for the alarm | | none |
//! | what was due has been fired | raised | if there is none, one is appointed |
//!
//! # Why no timer is forgotten
//!
//! Whoever lowers the alarm then passes a SeqCst fence and reads whether anybody is parked. A worker that parks says so in
//! the same word, passes a SeqCst fence, and then reads the alarm. By the fences, either the first sees that somebody is
//! parked, or the parker sees the alarm.
//!
//! 1. *The parker sees it*: if it is the keeper, it waits for it. If not, another one was the keeper when it parked, and
//!    for that one the same question is asked.
//! 2. *Somebody is seen parked*: under the list's lock the keeper, or a new one, is told to look; what it reads then is
//!    at least as new. If that keeper leaves later, its successor is appointed under the same lock, after this, so
//!    whoever appoints sees that the alarm is set, and tells the successor to look.
//! 3. *Nobody is parked*: all are awake and look at the clock before they park, or case 1 holds when they do.
//!
//! Raising it needs no word to a keeper: that one gets up for the earlier instant, and looks. But a keeper that has got up
//! leaves nobody on watch, so it always sees to a successor itself, also if others were quicker to fire.
//!
//! A note to look that comes too late (its receiver has left the list meanwhile) does no harm: it says nothing but that
//! the list should be looked at.
//!
//! Time is counted in nanoseconds from the crew's beginning, by the monotonic clock: a jump of the wall clock is not
//! seen, and a process that was stopped for some seconds finds all that became due meanwhile, late.

use crate::sync::{AtomicU64, Ordering::*};
use crate::time::{self, Duration, Instant};

/// Beyond all instants.
const NEVER: u64 = u64::MAX;

/// When the next timer is due.
#[derive(Debug)]
pub(crate) struct Alarm {
    origin: Instant,
    next: AtomicU64,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Alarm { origin: time::now(), next: AtomicU64::new(NEVER) }
    }

    /// An instant as the alarm counts it. What lies beyond 584 years, and `None`, is due then: as good as never.
    pub(crate) fn count(&self, at: Option<Instant>) -> u64 {
        let Some(at) = at else { return NEVER - 1 };
        let since = at.saturating_duration_since(self.origin);
        u64::try_from(since.as_nanos()).map_or(NEVER - 1, |ns| ns.min(NEVER - 1))
    }

    /// Is it time? Costs a load where no timer is armed.
    ///
    /// Relaxed: who looks between turns will look again; who is about to park has passed a fence.
    #[inline]
    pub(crate) fn due(&self, now: Instant) -> bool {
        let next = self.next.load(Relaxed);
        next != NEVER && next <= self.count(Some(now))
    }

    /// Is any timer armed, as far as one knows?
    pub(crate) fn is_set(&self) -> bool {
        self.next.load(Relaxed) != NEVER
    }

    /// When to get up for it; `None`: not at all.
    pub(crate) fn instant(&self) -> Option<Instant> {
        match self.next.load(Relaxed) {
            NEVER => None,
            next => self.origin.checked_add(Duration::from_nanos(next)),
        }
    }

    /// Under the table's lock: nothing is due before `next`. True if that is earlier than it was said to be.
    pub(crate) fn lower(&self, next: u64) -> bool {
        // Relaxed: the lock is the writers' order, the readers have their fences.
        let earlier = next < self.next.load(Relaxed);
        if earlier {
            self.next.store(next, Relaxed);
        }
        earlier
    }

    /// Under the table's lock, after what was due has been taken out: when the next is.
    pub(crate) fn set(&self, next: Option<u64>) {
        self.next.store(next.unwrap_or(NEVER), Relaxed);
    }
}

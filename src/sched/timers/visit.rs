//! A crew and its timers: arming, cancelling, and visits that fire due timers.

use super::{BATCH, Key, Timed};
use crate::sched::scheduler::Scheduler;
use crate::time::{self, Duration, Instant};
use crate::user::Site;

/// Number of timers fired in one visit, before other work gets its turn.
const VISIT: usize = 1024;

/// A visit ends after this time, give or take a batch.
const VISIT_TIME: Duration = Duration::from_micros(100);

impl Scheduler {
    /// Arms a timer for an instant, or for never, if its aim is `open`. `make` gets the key.
    /// Returns `false`, without calling `make`, if the aim is not open or the executor shuts down.
    /// Both are called under the lock.
    #[must_use]
    pub(crate) fn arm_timer(
        &self,
        at: Option<Instant>,
        open: impl FnOnce() -> bool,
        make: impl FnOnce(Key) -> Box<dyn Timed>,
    ) -> bool {
        if self.is_forked() {
            return false;
        }
        let lowered = self.timers.arm_timer(&self.idle.alarm, at, open, make);
        if lowered == Some(true) {
            self.idle.alarm_lowered();
        }
        lowered.is_some()
    }

    /// Arms a timer that is out once more. The timer comes back if it was cancelled, or if the
    /// executor shuts down.
    pub(crate) fn rearm_timer(
        &self,
        key: Key,
        at: Option<Instant>,
        timed: Box<dyn Timed>,
    ) -> Result<(), Box<dyn Timed>> {
        if self.timers.rearm_timer(&self.idle.alarm, key, at, timed)? {
            self.idle.alarm_lowered();
        }
        Ok(())
    }

    /// Fires due timers, between turns on a worker. Some may still be due afterwards.
    #[cold]
    pub(in crate::sched) fn fire_timers(&self, now: Instant) {
        let mut rest = VISIT / BATCH;
        let goes_on = || {
            rest -= 1;
            rest > 0 && time::now().saturating_duration_since(now) < VISIT_TIME
        };
        let _visit = self.errands.begin_visit();
        let left = self.timers.fire_due(&self.idle.alarm, now, goes_on);
        // Before any user code: from here on another worker waits for the next timer.
        self.idle.ensure_timer_waiter();
        let refused =
            self.make_errand(Site::Hook, left.refused, |timed| timed.report_undeliverable());
        let cancelled = self.make_errand(Site::Drop, left.cancelled, drop);
        refused.into_iter().chain(cancelled).for_each(|errand| self.push_errand(errand));
    }

    /// Cancels a timer. Returns `false` if it is over already, or in a forked child.
    pub(crate) fn cancel_timer(&self, key: Key) -> bool {
        !self.is_forked() && self.timers.cancel_timer(key)
    }

    /// Cancels all timers, on the crew, and refuses new ones.
    pub(crate) fn close_timers(&self) {
        if self.timers.refuse_timers(&self.idle.alarm) {
            self.idle.alarm_lowered();
        }
    }
}

//! What a worker learns from the clock: the pace of its turns, which timers are due, and how often to look at outside work.
//!
//! A worker reads the clock between turns, every [`CLOCK_EVERY`] of them, and at once where somebody sees that a timer is
//! due.

use super::local::Local;
use super::task::Task;
use crate::time::{self, Instant};

/// Turns between two readings of the clock, from which the mean turn is known.
pub(super) const CLOCK_EVERY: u32 = 32;
/// Outside work is looked at about this often, counted in turns by their mean time.
const INJECTOR_EVERY_NS: u64 = 50_000;
/// Turns of this mean length may have long messages in them.
const LONG_TURN_NS: u64 = 20_000;

impl Local {
    #[cold]
    pub(super) fn read_clock(&self) {
        let now = time::now();
        let turns = self.slot().counters.turns.get();
        self.clock_due.set(turns + u64::from(CLOCK_EVERY));
        let turns = turns - self.clock_turn.replace(turns);
        let turn = (now - self.clock.replace(now)).as_nanos() as u64 / turns;
        // The shorter of two readings: else one long turn, as that of a spawner, makes all that waits look long just when most waits.
        let usual = self.turn_before.replace(turn).min(turn);
        let mean = &self.slot().counters.mean_turn_ns;
        mean.set((3 * mean.get() + usual) / 4);
        // Turns that have become long must not use up an interval that was meant for short ones.
        self.injector_in.set(self.injector_in.get().min(self.injector_interval()));
        if turn > LONG_TURN_NS {
            self.long_messages.set(true); // perhaps; the next turn will see
        }
        self.count_busy(now);
        self.tend_timers(now, false);
    }

    /// Fires timers that are due, unless the turns still have their share of the time after the last visit and this
    /// worker is not `dry`. Returns `true` if it fired some.
    pub(super) fn tend_timers(&self, now: Instant, dry: bool) -> bool {
        let due = self.scheduler().idle.alarm.due(now) && (dry || now >= self.timers_again.get());
        if due {
            self.scheduler().fire_timers(now);
            let end = time::now();
            self.timers_again.set(end + (end - now));
            self.saw_clock(end); // there may be more
        }
        due
    }

    /// The crew has stopped, and this worker is dry: fires what nobody had time for since the timers were cancelled, and
    /// returns what came of that.
    #[cold]
    pub(super) fn last_task(&self) -> Option<Task> {
        loop {
            self.scheduler().fire_timers(time::now());
            let task = self.look();
            if task.is_some() || !self.scheduler().idle.alarm.due(time::now()) {
                return task;
            }
        }
    }

    /// By whoever reads the clock inside a turn: if a timer is due, it is fired after this turn.
    pub(crate) fn saw_clock_here(now: Instant) {
        Local::with_any(|local| {
            if let Some(local) = local {
                local.saw_clock(now);
            }
        });
    }

    pub(super) fn saw_clock(&self, now: Instant) {
        if self.scheduler().idle.alarm.due(now) {
            self.clock_due.set(0);
        }
    }

    pub(super) fn count_busy(&self, now: Instant) {
        self.slot().counters.busy_ns.add((now - self.busy_since.replace(now)).as_nanos() as u64);
    }

    /// Turns from one look at outside work to the next.
    pub(super) fn injector_interval(&self) -> u32 {
        (INJECTOR_EVERY_NS / self.slot().counters.mean_turn_ns.get().max(1)).clamp(1, 256) as u32
    }
}

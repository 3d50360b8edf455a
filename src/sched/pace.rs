//! What a worker learns from the clock: the pace of its turns, which timers are due, and how often to look at outside work.
//!
//! A worker reads the clock between turns, every [`CLOCK_EVERY`] of them, and at once where somebody sees that a timer is
//! due, or pushes outside work while no worker is free.
//!
//! The pace says how many turns there are between two looks at outside work ([`INJECTOR_EVERY_NS`]). That is an estimate,
//! and wrong when turns of nanoseconds are followed by turns of milliseconds. So whoever pushes outside work while all
//! workers are in turns leaves a [note](HURRY) with two of them: these read the clock after their turn.

use super::local::Local;
use super::queue::Policy;
use super::task::Task;
use crate::sync::Ordering::Relaxed;
use crate::time::{self, Instant};

/// Turns between two readings of the clock, from which the mean turn is known.
pub(super) const CLOCK_EVERY: u32 = 32;
/// Outside work is looked at about this often, counted in turns by their mean time.
const INJECTOR_EVERY_NS: u64 = 50_000;
/// Turns of this mean length may have long messages in them.
const LONG_TURN_NS: u64 = 20_000;

/// Instead of the turn after which the clock is read: read it now, since outside work waits.
pub(super) const HURRY: u64 = 1;
/// Turns between two readings of the clock while outside work waits for its share.
const HURRY_EVERY: u64 = 8;

impl Local {
    #[cold]
    pub(super) fn read_clock(&self) {
        let now = time::now();
        let turns = self.slot().counters.turns.get();
        let counters = &self.slot().counters;
        // One step, so that a note which is left just now is not overwritten unseen.
        let noted = counters.clock_due.swap(turns + u64::from(CLOCK_EVERY)) == HURRY;
        // A note may still be lost, to a reading that found a timer due or to a change of the slot's holder. Then the
        // next regular reading finds that outside work waits.
        if noted || self.scheduler().outside_work_hurries() {
            self.outside_waits.set(true);
        }
        let turns = turns - self.clock_turn.replace(turns);
        let turn = (now - self.clock.replace(now)).as_nanos() as u64 / turns;
        // For thefts the shorter of two readings: else one long turn, as that of a spawner, makes all that waits look long just
        // when most waits. Outside work's share goes by the latest.
        let usual = self.turn_before.replace(turn).min(turn);
        let mean = &counters.mean_turn_ns;
        mean.set((3 * mean.get() + usual) / 4);
        // Turns that have become long must not use up an interval that was meant for short ones.
        self.injector_in.set(self.injector_in.get().min(self.injector_interval()));
        let scheduler = self.scheduler();
        if scheduler.hurried.load(Relaxed) && scheduler.injector.is_empty() {
            scheduler.hurried.store(false, Relaxed); // what it was for has been taken meanwhile
        }
        if self.outside_waits.get() {
            self.hurry(now);
        }
        if turn > LONG_TURN_NS {
            self.long_messages.set(true); // perhaps; the next turn will see
        }
        self.count_busy(now);
        self.tend_timers(now, false);
    }

    /// After an errand, which is no actor's turn, and may have taken any time.
    #[cold]
    pub(super) fn errand_over(&self) {
        let now = time::now();
        if self.slot().counters.clock_due.get() == HURRY {
            self.outside_waits.set(true);
            self.hurry(now);
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

    /// Fires the cancelled timers that are left, and returns what this worker runs next, which may be
    /// a sibling's. Returns `None` once every [chore](super::errand) of the crew has begun. Called by
    /// a worker that has run dry after the crew was told to stop.
    #[cold]
    pub(super) fn last_task(&self) -> Option<Task> {
        let scheduler = self.scheduler();
        loop {
            scheduler.fire_timers(time::now());
            if let Some(task) = self.look().or_else(|| self.take_from_siblings()) {
                return Some(task);
            }
            // The table first: a worker that has emptied it counts its visit until all is pushed.
            if !scheduler.timers.are_to_be_cancelled() && !scheduler.errands.any() {
                return None;
            }
            std::thread::yield_now(); // an errand is on its way, or there was more than one visit's worth
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
            self.slot().counters.clock_due.set(0);
        }
    }

    pub(super) fn count_busy(&self, now: Instant) {
        self.slot().counters.busy_ns.add((now - self.busy_since.replace(now)).as_nanos() as u64);
    }

    /// Outside work came while nobody was free: it has its share now if the time has come, however many turns that would be
    /// by their number. If not, the clock is read again soon, since the next turns may be long.
    #[cold]
    fn hurry(&self, now: Instant) {
        if now.saturating_duration_since(self.last_share.get()).as_nanos() as u64 >= INJECTOR_EVERY_NS {
            self.injector_in.set(1);
        } else {
            let counters = &self.slot().counters;
            counters.clock_due.set(counters.turns.get() + HURRY_EVERY);
        }
    }

    /// Puts back a runnable whose turn ended before its work did, and to which a thread outside has sent something meanwhile:
    /// behind other work of its origin, if that is nearer than the back of the local queue.
    ///
    /// Otherwise a thread that asks an actor again at the moment of its answer, and so finds the actor still scheduled,
    /// would wait behind all local work each time.
    #[inline(never)]
    pub(super) fn push_back_outside(&self, task: Task) {
        if task.is_bound() || self.slot().backlog_ns() <= INJECTOR_EVERY_NS {
            return self.push_back(task);
        }
        match self.scheduler().policy {
            Policy::Stealing | Policy::SharedQueue => self.scheduler().inject(task),
            Policy::Sharded => self.push_kept(task),
        }
    }

    /// Turns from one look at outside work to the next, by the latest reading of the clock.
    pub(super) fn injector_interval(&self) -> u32 {
        (INJECTOR_EVERY_NS / self.turn_before.get().max(1)).clamp(1, 256) as u32
    }
}

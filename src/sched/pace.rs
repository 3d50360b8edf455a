//! The pace of a worker: readings of the clock for turns, due timers, and the share of outside
//! work.
//!
//! A worker reads the clock between turns, every [`CLOCK_EVERY`] of them. The clock is read at once
//! where another thread sees a due timer, or pushes outside work while no worker is free.
//!
//! The pace says how many turns there are between two looks at outside work
//! ([`INJECTOR_EVERY_NS`]). The pace is an estimate, and wrong when turns of nanoseconds are
//! followed by turns of milliseconds. So a thread that pushes outside work while all workers are in
//! turns leaves a [note](HURRY) with two workers, to read the clock after their turn.

use super::queue::{CLOCK_EVERY, HURRY, Policy};
use super::runnable::Runnable;
use super::worker::Worker;
use crate::sync::Ordering::Relaxed;
use crate::time::{self, Instant};

/// Outside work is looked at about this often, counted in turns by their mean time.
const INJECTOR_EVERY_NS: u64 = 50_000;
/// Turns of this mean length may contain long messages.
const LONG_TURN_NS: u64 = 20_000;

/// Number of turns between two readings of the clock while outside work waits for its share.
const HURRY_EVERY: u64 = 8;

impl Worker {
    #[cold]
    pub(super) fn read_clock(&self) {
        let now = time::now();
        let turns = self.slot().counters.turns.get();
        let counters = &self.slot().counters;
        // One step, or a note left at this moment could be overwritten unseen.
        let noted = counters.clock_due.swap(turns + u64::from(CLOCK_EVERY)) == HURRY;
        // A note may still be lost, to a reading that found a timer due, or to a change of the
        // slot's holder. Then the next regular reading finds that outside work waits.
        if noted || self.scheduler().outside_work_hurries() {
            self.outside_waits.set(true);
        }
        let turns = turns - self.clock_turn.replace(turns);
        // Not divided by 0: the caller has counted a turn since the last reading.
        let turn = (now - self.clock.replace(now)).as_nanos() as u64 / turns;
        // For thefts the shorter of two readings counts. Otherwise one long turn, such as a
        // spawner's, would make all waiting work look long just when most waits. Outside work's
        // share goes by the latest reading.
        let usual = self.turn_before.replace(turn).min(turn);
        let mean = &counters.mean_turn_ns;
        mean.set((3 * mean.get() + usual) / 4);
        // Long turns must not use up an interval computed for short turns. Even so at least one
        // turn of local work comes between two shares of outside work.
        self.injector_in.set(self.injector_in.get().min(self.injector_interval().max(2)));
        let scheduler = self.scheduler();
        if scheduler.hurried.load(Relaxed) && scheduler.injector.is_empty() {
            // The work it was set for has been taken meanwhile.
            scheduler.hurried.store(false, Relaxed);
        }
        if self.outside_waits.get() {
            self.hasten_outside_share(now);
        }
        if turn > LONG_TURN_NS {
            // Perhaps; the next turn measures it.
            self.long_messages.set(true);
        }
        self.count_busy(now);
        self.tend_timers(now, false);
    }

    /// Ends an errand, which is no actor's turn, and may have taken any time.
    #[cold]
    pub(super) fn errand_over(&self) {
        let now = time::now();
        if self.slot().counters.clock_due.get() == HURRY {
            self.outside_waits.set(true);
            self.hasten_outside_share(now);
        }
        self.count_busy(now);
        self.tend_timers(now, false);
    }

    /// Fires due timers, unless turns still have their share of the time after the last visit and
    /// this worker is not `dry`. Returns `true` if it fired any.
    pub(super) fn tend_timers(&self, now: Instant, dry: bool) -> bool {
        let due =
            self.scheduler().idle.alarm.may_be_due(now) && (dry || now >= self.timers_again.get());
        if due {
            self.scheduler().fire_timers(now);
            let end = time::now();
            self.timers_again.set(end + (end - now));
            // More timers may be due already.
            self.saw_clock(end);
        }
        due
    }

    /// Fires the cancelled timers that are left, and returns the next runnable, perhaps a
    /// sibling's. Returns `None` once every [chore](super::errand) of the crew has begun. Called by
    /// a worker that has run dry after the crew was told to stop.
    #[cold]
    pub(super) fn last_task(&self) -> Option<Runnable> {
        let scheduler = self.scheduler();
        loop {
            // A visit is counted, and keeps the other workers here. So a worker with nothing to
            // cancel makes none.
            if scheduler.timers.are_to_be_cancelled() {
                scheduler.fire_timers(time::now());
            }
            if let Some(task) = self.next_cold().or_else(|| self.take_from_siblings()) {
                return Some(task);
            }
            // The table first: a visit that empties the table stays counted until everything is
            // pushed.
            if !scheduler.timers.are_to_be_cancelled() && !scheduler.errands.any_left() {
                return None;
            }
            // An errand is on its way, or there were more timers than one visit cancels.
            std::thread::yield_now();
        }
    }

    /// Has due timers fired after this turn. Called by code that reads the clock inside a turn.
    pub(crate) fn saw_clock_here(now: Instant) {
        Worker::with_any(|worker| {
            if let Some(worker) = worker {
                worker.saw_clock(now);
            }
        });
    }

    /// Returns `true` if turns here should read the clock at the beginning and after each message.
    #[inline]
    pub(crate) fn long_messages() -> bool {
        // A thread without a slot has no record of its messages, and reads the clock.
        Worker::with_any(|worker| worker.is_none_or(|worker| worker.long_messages.get()))
    }

    pub(crate) fn set_long_messages(long: bool) {
        Worker::with_any(|worker| {
            if let Some(worker) = worker {
                worker.long_messages.set(long);
            }
        });
    }

    pub(super) fn saw_clock(&self, now: Instant) {
        if self.scheduler().idle.alarm.may_be_due(now) {
            // Every number of turns is past 0, so the clock is read after the current turn.
            self.slot().counters.clock_due.set(0);
        }
    }

    pub(super) fn count_busy(&self, now: Instant) {
        self.slot().counters.busy_ns.add((now - self.busy_since.replace(now)).as_nanos() as u64);
    }

    /// Gives outside work its share, after it came while no worker was free. The share comes now if
    /// it is time, whatever the number of turns. Otherwise the clock is read again soon, since the
    /// next turns may be long.
    #[cold]
    fn hasten_outside_share(&self, now: Instant) {
        if now.saturating_duration_since(self.last_share.get()).as_nanos() as u64
            >= INJECTOR_EVERY_NS
        {
            // At once, unless the last turn was outside work. Then local work has a turn first.
            let twice = self.slot().counters.turns.get() <= self.share_turn.get() + 1;
            self.injector_in.set(if twice { 2 } else { 1 });
        } else {
            let counters = &self.slot().counters;
            counters.clock_due.set(counters.turns.get() + HURRY_EVERY);
        }
    }

    /// Pushes back a runnable with work left and with a message from a thread outside since the
    /// previous turn ended. Puts the runnable behind other outside work, if that is nearer than the
    /// back of the local queue.
    ///
    /// Otherwise a thread that asks an actor again at the moment of its answer, and so finds the
    /// actor still scheduled, would wait behind all local work each time.
    #[inline(never)]
    pub(super) fn push_back_outside(&self, task: Runnable) {
        if task.is_bound() || self.slot().backlog_ns() <= INJECTOR_EVERY_NS {
            return self.push_back(task);
        }
        match self.scheduler().policy {
            Policy::Stealing | Policy::SharedQueue => self.scheduler().inject(task),
            Policy::Sharded => self.push_pinned(task),
        }
    }

    /// Gives outside work the next turn, every now and then.
    #[cold]
    pub(super) fn fair_share(&self) -> Option<Runnable> {
        // Work from the inbox counts as bound work from now on. Such work goes first only if the
        // injector has nothing.
        let kept = self.empty_inbox();
        let found = self.take_injected().or_else(|| kept.then(|| self.pop_pinned()).flatten());
        self.last_share.set(self.clock.get());
        self.outside_waits.set(false);
        // Never twice in a row, or local work would starve. `hasten_outside_share` and `read_clock`
        // keep to this.
        if found.is_some() {
            self.share_turn.set(self.slot().counters.turns.get());
        }
        let least = if found.is_some() { 2 } else { 1 };
        self.injector_in.set(self.injector_interval().max(least));
        found
    }

    /// Returns the number of turns between two looks at outside work, by the latest reading of the
    /// clock.
    pub(super) fn injector_interval(&self) -> u32 {
        (INJECTOR_EVERY_NS / self.turn_before.get().max(1)).clamp(1, 256) as u32
    }
}

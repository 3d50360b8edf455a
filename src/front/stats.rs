//! Statistics of an executor: counts that their writers keep anyway, added up on demand.

use crate::actor::handle::Handle;
use crate::cell::event::{DeadLetterReason, DeadLetters};
use crate::cell::times::CrewTiming;
use crate::sync::Ordering::Relaxed;
use crate::time::Duration;

/// A snapshot of one executor's counts, from its beginning. Cheap: a few loads for each worker.
///
/// Where actors are timed, three histograms are read besides for each worker, each of a few
/// thousand counts. They are read under a lock that the worker's turns otherwise take for a moment.
///
/// At every quiet moment `accepted = handled + dead_letters.total()`. Messages in mailboxes of
/// actors that are not scheduled would count besides, but there are none. While there is work, the
/// counts of different workers are read at slightly different times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Counts of each worker, in order.
    pub workers: Vec<WorkerStats>,
    /// Counts of the threads that step in while others block.
    pub spares: SpareStats,
    /// Actors spawned that have not ended.
    pub live_actors: u64,
    /// Runnable actors waiting for a worker now, in LIFO slots, local queues or the injector.
    /// Actors with a running turn are not counted. The queues are read one after the other, so an
    /// actor on its way from one to another may be missing or be counted twice.
    pub waiting_actors: u64,
    /// Threads of [dedicated](Handle::spawn_dedicated) actors. The sums contain their work, but no
    /// worker's counts do.
    pub dedicated_threads: u64,
    /// Messages put into mailboxes.
    pub accepted: u64,
    /// Messages handled, including those with a panic.
    pub handled: u64,
    /// Panics in actors' code.
    pub panicked: u64,
    /// Accepted messages that were not handled.
    pub dead_letters: DeadLetters,
    /// Answers without an asker that still waited.
    pub discarded_replies: u64,
    /// Timers armed now: neither due, nor cancelled, nor ended.
    pub armed_timers: u64,
    /// Ticks that intervals left out because an earlier one was late.
    pub missed_ticks: u64,
    /// Bytes that the executor holds for messages and cells now, including free ones, without
    /// blocks larger than 256 bytes. Memory comes in chunks of 2 MiB, and untouched pages of a
    /// chunk cost nothing. A chunk goes back to the system when all its blocks are free, so a few
    /// messages, references or replies that outlive a burst keep a chunk each. One empty chunk is
    /// kept.
    pub memory: u64,
    /// How long the turns of timed actors took, on all workers and on threads that have lost their
    /// slot. `None` before the first turn.
    pub timing: Option<CrewTiming>,
}

/// Counts of one worker. The worker writes them; busy time is brought up to date every few turns,
/// and whenever the worker runs out of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Turns of actors run.
    pub turns: u64,
    /// Messages handled in these turns.
    pub messages: u64,
    /// Time with work.
    pub busy: Duration,
    /// Time asleep.
    pub parked: Duration,
    /// Attempts to steal from a sibling that seemed to have work.
    pub steals_tried: u64,
    /// Successful attempts.
    pub steals: u64,
    /// Actors stolen.
    pub stolen_items: u64,
    /// Turns that came from the LIFO slot.
    pub lifo_hits: u64,
    /// Visits to the injector that found work.
    pub injector_takes: u64,
    /// Number of times that the worker parked.
    pub parks: u64,
    /// Number of times that the worker woke up.
    pub wakes: u64,
    /// Number of times that the worker, as the sentinel, found work waiting behind a sibling's long
    /// turn.
    pub sentinel_catches: u64,
    /// How long the turns of timed actors took on this worker. `None` before the first turn.
    pub timing: Option<CrewTiming>,
}

/// Counts of handlers that block: see [`Builder::spares`](crate::Builder::spares).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpareStats {
    /// Threads now, besides one for each worker.
    pub alive: u64,
    /// Threads blocked now, inside a handler or hook.
    pub blocked: u64,
    /// Number of times that a spare took over a worker's slot.
    pub hand_overs: u64,
    /// Turns that ended on a thread that had lost its slot. They count in no worker's `turns`, and
    /// their messages in no worker's `messages`.
    pub turns: u64,
    /// Number of times that a thread blocked and kept its slot, since there was no spare.
    pub kept: u64,
    /// Waits that were refused: no spare was left, and no other thread to run the awaited actor.
    pub refused: u64,
}

impl WorkerStats {
    /// Returns `true` if the worker is parked: from shortly before it sleeps until it runs again,
    /// which may be a while after the wake-up.
    ///
    /// Read regularly together with [`Stats::waiting_actors`], this tells how long workers sleep
    /// while there is work.
    ///
    /// ```
    /// # fn main() -> Result<(), heist::BuildError> {
    /// let executor = heist::Executor::builder().workers(2).build()?;
    /// let stats = executor.stats();
    /// let asleep = stats.workers.iter().filter(|worker| worker.is_parked()).count() as u64;
    /// let idle_hands = asleep.min(stats.waiting_actors);
    /// assert_eq!(idle_hands, 0, "nobody has anything to do");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.parks > self.wakes
    }
}

impl Handle {
    /// Returns the counts of this executor, from its beginning.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let core = self.core();
        if core.forked() {
            return Stats::default();
        }
        let workers = core.scheduler.slots.iter().enumerate().map(|(index, slot)| {
            let counters = &slot.counters;
            WorkerStats {
                turns: counters.turns.get(),
                messages: core.of_worker(index, |tally| &tally.handled),
                busy: Duration::from_nanos(counters.busy_ns.get()),
                parked: Duration::from_nanos(counters.parked_ns.get()),
                steals_tried: counters.steals_tried.get(),
                steals: counters.steals.get(),
                stolen_items: counters.stolen_items.get(),
                lifo_hits: counters.lifo_hits.get(),
                injector_takes: counters.injector_takes.get(),
                // Read before `parks`: otherwise a worker that wakes and parks in between would
                // seem to be awake.
                wakes: counters.wakes.get(),
                parks: counters.parks.get(),
                sentinel_catches: counters.sentinel_catches.get(),
                timing: core.times_of_worker(index),
            }
        });
        Stats {
            workers: workers.collect(),
            spares: self.spare_stats(),
            live_actors: core.live(),
            waiting_actors: core.scheduler.waiting() as u64,
            dedicated_threads: core.dedicated.count() as u64,
            accepted: core.total(|tally| &tally.accepted) + core.scheduler.gate.accepted(),
            handled: core.total(|tally| &tally.handled),
            panicked: core.total(|tally| &tally.panicked),
            dead_letters: self.dead_letters(),
            discarded_replies: core.total(|tally| &tally.discarded_replies),
            armed_timers: core.scheduler.timers.armed() as u64,
            missed_ticks: core.total(|tally| &tally.missed_ticks),
            memory: core.scheduler.memory.bytes() as u64,
            timing: core.times(),
        }
    }

    fn spare_stats(&self) -> SpareStats {
        let spares = &self.core().scheduler.spares;
        let counts = &spares.counts;
        SpareStats {
            alive: spares.alive() as u64,
            blocked: counts.blocked.load(Relaxed) as u64,
            hand_overs: counts.hand_overs.get(),
            turns: counts.turns.get(),
            kept: counts.kept.get(),
            refused: counts.refused.get(),
        }
    }

    pub(super) fn dead_letters(&self) -> DeadLetters {
        let by = |reason: DeadLetterReason| self.core().total(|tally| &tally.dead[reason as usize]);
        DeadLetters {
            stopped: by(DeadLetterReason::Stopped),
            killed: by(DeadLetterReason::Killed),
            panicked: by(DeadLetterReason::Panicked),
            shutdown: by(DeadLetterReason::Shutdown),
            expired: by(DeadLetterReason::Expired),
            cancelled: by(DeadLetterReason::Cancelled),
            full: by(DeadLetterReason::Full),
        }
    }
}

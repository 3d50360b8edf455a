//! Statistics of an executor: counts that their writers keep anyway, added up on demand.

use crate::actor::handle::Handle;
use crate::cell::event::{DeadLetterCounts, DeadLetterReason};
use crate::cell::times::CrewTiming;
use crate::sync::Ordering::Relaxed;
use crate::time::Duration;

/// A snapshot of one executor's counts, from its beginning. From [`Handle::stats`].
///
/// While the executor is quiescent, `accepted` equals `handled` plus `dead_letters.total()`. While
/// there is work, counts of different workers are read at slightly different times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Counts of each worker, in order.
    pub workers: Vec<WorkerStats>,
    /// Counts of spare threads and of handlers that block.
    pub spares: SpareStats,
    /// Actors that have been spawned and have not ended. A pool's queue and a directory's watch for
    /// idle actors count as one each.
    pub live_actors: u64,
    /// Runnable actors that wait for a worker now: in LIFO slots, local queues, queues
    /// of actors bound to a worker, or the injector. Wakers and drops that the crew runs for
    /// others wait there too, and count.
    /// Actors with a running turn are not among them. The queues are read one after the other, so
    /// an actor that moves between two queues may be missing or counted twice.
    pub waiting_actors: u64,
    /// Threads of [dedicated](Handle::spawn_dedicated) actors. Their work is in the sums, and in no
    /// worker's counts.
    pub dedicated_threads: u64,
    /// Messages that mailboxes accepted. An answer or a timer's message that finds its actor
    /// stopped counts here and as a dead letter.
    pub accepted: u64,
    /// Messages handled, including those with a panic in the handler.
    pub handled: u64,
    /// Panics in actors' code.
    pub panicked: u64,
    /// Accepted messages that were not handled.
    pub dead_letters: DeadLetterCounts,
    /// Answers that came after the asker had given up.
    pub discarded_replies: u64,
    /// Timers armed now, that is neither due nor cancelled nor ended. Timers of pools and
    /// directories themselves are included.
    pub armed_timers: u64,
    /// Ticks that intervals left out because an earlier tick was late.
    pub missed_ticks: u64,
    /// Bytes held by the executor for messages and cells now, including free ones. Messages and
    /// cells of more than 256 bytes are not counted.
    ///
    /// The memory comes in chunks of 2 MiB; untouched pages of a chunk cost nothing. A chunk goes
    /// back to the system when all in it is free. So a few messages, references, asks or replies
    /// that outlive a burst keep a chunk each: copy what is to be kept for long. One empty chunk is
    /// kept. If a thread outside the crew lets go of the last few hundred blocks while the crew
    /// sleeps, their chunks go back when the crew works again.
    pub memory: u64,
    /// Times of the turns of timed actors, on all threads of the crew; `None` before the first such
    /// turn.
    pub timing: Option<CrewTiming>,
}

/// Counts of one worker. The worker updates its busy time every few turns, and when it runs out of
/// work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Turns run.
    pub turns: u64,
    /// Messages handled in those turns.
    pub messages: u64,
    /// Time with work.
    pub busy: Duration,
    /// Time asleep.
    pub parked: Duration,
    /// Attempts to steal from a sibling that seemed to have work.
    pub steals_tried: u64,
    /// Attempts that stole something.
    pub steals: u64,
    /// Actors stolen.
    pub stolen_items: u64,
    /// Turns of actors from the LIFO slot.
    pub lifo_hits: u64,
    /// Visits to the injector that took something.
    pub injector_takes: u64,
    /// How often the worker went to sleep. The looks of a sentinel, asleep in between, are not
    /// counted.
    pub parks: u64,
    /// How often the worker woke up.
    pub wakes: u64,
    /// How often the worker, as the sentinel, found work that waited behind a sibling's long turn.
    pub sentinel_catches: u64,
    /// Times of the turns of timed actors on this worker; `None` before the first such turn.
    pub timing: Option<CrewTiming>,
}

/// Counts of spare threads and of handlers that block: see
/// [`ExecutorBuilder::max_spares`](crate::ExecutorBuilder::max_spares).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpareStats {
    /// Threads of the crew now, besides one for each worker.
    pub alive: u64,
    /// Threads blocked now, inside a handler or hook.
    pub blocked: u64,
    /// How often a spare took over a worker's slot.
    pub hand_overs: u64,
    /// Turns that ended on a thread without the worker's slot. Such turns count in no worker's
    /// `turns`, and their messages in no worker's `messages`.
    pub turns: u64,
    /// How often a thread blocked and kept its worker's slot, since no spare was left.
    pub kept: u64,
    /// Waits that were refused, since no spare was left and no thread could run the target.
    pub refused: u64,
}

impl WorkerStats {
    /// Returns `true` if the worker is asleep. A worker counts as asleep from shortly before it
    /// parks until it runs again, which may be a while after it was unparked.
    ///
    /// Looked at regularly together with [`Stats::waiting_actors`], this tells how long workers
    /// sleep while there is something to do.
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
    /// Returns a snapshot of this executor's counts, from its beginning.
    ///
    /// # Costs
    /// Some loads for each worker, and the timers' lock for a moment. If actors are timed, three
    /// histograms of a few thousand counts are read for each worker, under a lock that only that
    /// worker's turns take besides.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let core = self.core();
        if core.is_forked() {
            return Stats::default();
        }
        let workers = core.scheduler.slots.iter().enumerate().map(|(index, slot)| {
            let counters = &slot.counters;
            WorkerStats {
                turns: counters.turns.get(),
                // Messages are counted by the cell's floor, turns by the scheduler's.
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
            live_actors: core.live_actors(),
            waiting_actors: core.scheduler.waiting_runnables() as u64,
            dedicated_threads: core.dedicated.running_threads() as u64,
            // The crew counts in tallies. Threads outside count on the gate's stripes, which they
            // write anyway.
            accepted: core.total_of(|tally| &tally.accepted)
                + core.scheduler.gate.accepted_messages(),
            handled: core.total_of(|tally| &tally.handled),
            panicked: core.total_of(|tally| &tally.panicked),
            dead_letters: self.dead_letters(),
            discarded_replies: core.total_of(|tally| &tally.discarded_replies),
            armed_timers: core.scheduler.timers.armed_timers() as u64,
            missed_ticks: core.total_of(|tally| &tally.missed_ticks),
            memory: core.scheduler.memory.held_bytes() as u64,
            timing: core.crew_times(),
        }
    }

    fn spare_stats(&self) -> SpareStats {
        let spares = &self.core().scheduler.spares;
        let counts = &spares.counts;
        SpareStats {
            alive: spares.alive_threads() as u64,
            blocked: counts.blocked.load(Relaxed) as u64,
            hand_overs: counts.hand_overs.get(),
            turns: counts.turns.get(),
            kept: counts.kept.get(),
            refused: counts.refused.get(),
        }
    }

    pub(super) fn dead_letters(&self) -> DeadLetterCounts {
        let by =
            |reason: DeadLetterReason| self.core().total_of(|tally| &tally.dead[reason as usize]);
        DeadLetterCounts {
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

//! What can be read of an executor: counts that their writers keep anyway, added up when somebody asks.

use crate::actor::handle::Handle;
use crate::cell::event::{DeadLetterReason, DeadLetters};
use crate::cell::times::CrewTiming;
use crate::sync::Ordering::Relaxed;
use crate::time::Duration;

/// A snapshot of one executor's counts, from its beginning. Cheap: a few loads for each worker. (Where actors are timed, for
/// each worker three histograms are read besides, each a few thousand counts, under a lock that otherwise that worker's turns
/// take for a moment.)
///
/// At every quiet moment `accepted = handled + dead_letters.total()`, plus what waits in mailboxes of actors that are
/// not scheduled, which is nothing. While there is work the counts of different workers are read at slightly different
/// times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Each worker's, in order.
    pub workers: Vec<WorkerStats>,
    /// Those of the threads that step in while others block.
    pub spares: SpareStats,
    /// Actors that have been spawned and have not ended.
    pub live_actors: u64,
    /// Actors with something to do that wait for a worker now, wherever: in LIFO slots, local queues or the injector.
    /// Not those whose turn is running. The queues are read one after the other, so an actor on its way from one to
    /// another may be missing or be counted twice.
    pub waiting_actors: u64,
    /// Threads of [dedicated](Handle::spawn_dedicated) actors. What these do is in the sums, and in no worker's counts.
    pub dedicated_threads: u64,
    /// Messages put into mailboxes.
    pub accepted: u64,
    /// Messages handled, those whose handler panicked included.
    pub handled: u64,
    /// Panics in actors' code.
    pub panicked: u64,
    /// Accepted messages that were not handled.
    pub dead_letters: DeadLetters,
    /// Answers that nobody waited for any more.
    pub discarded_replies: u64,
    /// Timers armed now: neither due, nor cancelled, nor ended.
    pub armed_timers: u64,
    /// Ticks that intervals have left out because an earlier one was late.
    pub missed_ticks: u64,
    /// Bytes that the executor holds for messages and cells now, free ones among them; what is larger than 256 bytes apiece is
    /// not in it. Comes in chunks of 2 MiB, whose untouched pages cost nothing. A chunk goes back to the system when all in it is
    /// free, so a few messages, references or replies that outlive a burst keep a chunk each. One empty chunk is kept.
    pub memory: u64,
    /// How long the turns of timed actors took, on all workers and on threads that have lost their worker's place; `None`
    /// before the first.
    pub timing: Option<CrewTiming>,
}

/// One worker's counts. Written by that worker; busy time is brought up to date every few turns, and whenever it runs
/// out of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Turns of actors run.
    pub turns: u64,
    /// Messages handled in them.
    pub messages: u64,
    /// Time with work.
    pub busy: Duration,
    /// Time asleep.
    pub parked: Duration,
    /// Tries to steal from a sibling that seemed to have work.
    pub steals_tried: u64,
    /// Tries that brought something.
    pub steals: u64,
    /// Actors taken over by them.
    pub stolen_items: u64,
    /// Turns that came from the LIFO slot.
    pub lifo_hits: u64,
    /// Visits to the injector that brought something.
    pub injector_takes: u64,
    /// Times it went to sleep.
    pub parks: u64,
    /// Times it woke up.
    pub wakes: u64,
    /// Times it found, as the sentinel, work that waited behind a sibling's long turn.
    pub sentinel_catches: u64,
    /// How long the turns of timed actors took on this worker; `None` before the first.
    pub timing: Option<CrewTiming>,
}

/// What came of handlers that block: see [`Builder::spares`](crate::Builder::spares).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpareStats {
    /// Threads now, besides one for each worker.
    pub alive: u64,
    /// Threads that block now, inside a handler or hook.
    pub blocked: u64,
    /// Times that a spare took over a worker's place.
    pub hand_overs: u64,
    /// Turns that ended on a thread which had lost its worker's place. They count in no worker's `turns`, and what was
    /// handled in them in no worker's `messages`.
    pub turns: u64,
    /// Times that a thread blocked and kept its worker's place, since there was no spare.
    pub kept: u64,
    /// Waits that were refused: no spare, and nobody else to run what was waited for.
    pub refused: u64,
}

impl WorkerStats {
    /// Is it asleep? So it is from shortly before it lies down until it runs again, which may be a while after it was
    /// woken.
    ///
    /// Together with [`Stats::waiting_actors`], looked at regularly, this tells how long workers sleep while there is
    /// something to do.
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
    /// Counts of this executor, from its beginning.
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
                // Before `parks`, or a worker that wakes up and lies down in between would seem to be awake.
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

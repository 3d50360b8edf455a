//! The common part of all cells of an executor: scheduler, registry, counts, hook.

use super::closing::{self, Closing};
use super::dead_cells::DeadCells;
use super::event::{DeadLetterReason, Event, ShutdownReport};
use super::header::Header;
use super::hook::{Hook, Hooked};
use super::registry::Shard;
use super::threads::DedicatedThreads;
use super::threads::Threads;
use super::times::{CrewRecord, CrewTiming};
use super::waits::Waits;
use crate::id::ActorId;
use crate::memory::{Heap, Held};
use crate::sched::Scheduler;
use crate::sched::crew_thread;
use crate::sched::crew_thread::Arrival;
use crate::sched::queue::Policy;
use crate::sched::scheduler::WorkerInit;
use crate::sched::spares::Recruit;
use crate::sched::spares::Spares;
use crate::sched::start::ThreadStart;
use crate::sched::worker::{Worker, WorkerData};
use crate::sync::{Counter, Mutex, Padded};
use crate::time::Duration;
use std::cell::Cell;
use std::fmt;
use std::num::NonZeroU64;
use std::panic::RefUnwindSafe;
use std::ptr::NonNull;
use std::sync::Arc;

/// A turn's budget.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) messages: u32,
    pub(crate) time: Duration,
}

impl Limits {
    /// Returns `true` if a turn within these limits can handle a message.
    pub(crate) fn are_positive(&self) -> bool {
        self.messages > 0 && !self.time.is_zero()
    }
}

/// The checked settings of an executor.
pub(crate) struct CoreSettings<'a> {
    pub(crate) workers: usize,
    pub(crate) policy: Policy,
    /// The core that each worker is pinned to. Empty without pinning.
    pub(crate) cores: &'a [usize],
    pub(crate) capacity: u32,
    pub(crate) limits: Limits,
    pub(crate) spares: Spares,
    pub(crate) timing: bool,
    pub(crate) hook: Option<Hook>,
}

/// The shared part of one executor.
pub(crate) struct Core {
    pub(crate) scheduler: Scheduler,
    /// A shard for each worker, and the last one for all other threads.
    pub(crate) shards: Box<[Shard]>,
    tallies: Box<[Padded<Tally>]>,
    pub(crate) waits: Arc<Waits>,
    pub(crate) capacity: u32,
    pub(crate) limits: Limits,
    /// Whether actors are timed that have no setting of their own.
    pub(crate) timing: bool,
    hook: Hooked,
    pub(crate) threads: Threads,
    pub(crate) dedicated: DedicatedThreads,
    /// Begun when no new actors are accepted and the last actor's end ends the crew.
    pub(super) closing: Closing,
    /// The start of the crew: counted on when each seat has a thread, or is held by a program that
    /// will run the seat, and given up with any seat.
    pub(crate) start: ThreadStart,
    /// The report of the last shutdown.
    pub(crate) report: Mutex<Option<ShutdownReport>>,
}

/// No user code runs while a part of this is half changed, so a caught panic of the user's leaves
/// it whole.
impl RefUnwindSafe for Core {}

/// The counts and other data of a single writer.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) spawned: Counter,
    /// Actors that have ended, or were refused. Counted before their waiters are told.
    ended: Counter,
    /// The same, counted when nothing is left to do for the actor.
    gone: Counter,
    pub(crate) accepted: Counter,
    pub(crate) handled: Counter,
    pub(crate) panicked: Counter,
    pub(crate) discarded_replies: Counter,
    /// Indexed by [`DeadLetterReason`].
    pub(crate) dead: [Counter; 7],
    pub(crate) missed_ticks: Counter,
    pub(crate) dead_cells: DeadCells,
    /// Times of the turns of timed actors, after the first such turn. Only the writer and readers
    /// take the lock.
    times: Mutex<Option<Box<CrewRecord>>>,
}

impl Tally {
    /// Returns the tally of a worker of the same executor.
    #[inline]
    pub(crate) fn of_worker(worker: &Worker) -> &Tally {
        // SAFETY: `Core::run_thread` set the pointer to a tally of the core, which outlives its
        // workers.
        unsafe { worker.worker_data().cast::<Tally>().as_ref() }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("scheduler", &self.scheduler).finish_non_exhaustive()
    }
}

impl Core {
    pub(crate) fn new(settings: CoreSettings<'_>) -> (Arc<Self>, Vec<WorkerInit>) {
        let CoreSettings { workers, policy, cores, capacity, limits, spares, timing, hook } =
            settings;
        let (scheduler, inits) = Scheduler::new(workers, policy, cores, spares);
        let core = Arc::new(Core {
            scheduler,
            shards: (0..=workers).map(Shard::new).collect(),
            tallies: (0..=workers).map(|_| Padded::default()).collect(),
            waits: Arc::default(),
            capacity,
            limits,
            timing,
            hook: Hooked::new(hook),
            threads: Threads::default(),
            dedicated: DedicatedThreads::default(),
            closing: Closing::new(),
            start: ThreadStart::new(),
            report: Mutex::new(None),
        });
        // SAFETY: the core was just made, and no other thread has it.
        unsafe { core.scheduler.is_placed() };
        core.shards.iter().for_each(|shard| shard.belong_to(&core));
        (core, inits)
    }

    /// Returns another counted reference.
    pub(crate) fn share(&self) -> Arc<Self> {
        self.shards[0].share_core()
    }

    /// Returns the proof that the memory pool outlives the borrow of the core.
    #[inline]
    pub(crate) fn pool_held(&self) -> Held<'_> {
        self.scheduler.memory.pool_held()
    }

    /// Runs the life of a thread of the crew, which holds the core. See
    /// [`Scheduler::run_crew_thread`].
    pub(crate) fn run_thread(&self, arrival: Arrival, recruit: &Recruit<'_>) -> bool {
        let worker_data = |worker: usize| WorkerData {
            at: NonNull::from(&self.tallies[worker].0).cast(),
            // SAFETY: called by the slot's holder, so no other thread touches the dead cells. The
            // holder's thread holds the core.
            flush: |worker_data| unsafe {
                worker_data.cast::<Tally>().as_ref().dead_cells.free_all()
            },
        };
        self.scheduler.run_crew_thread(arrival, worker_data, recruit)
    }

    pub(crate) fn workers(&self) -> usize {
        self.scheduler.slots.len()
    }

    /// Calls `f` with a heap of this executor.
    pub(crate) fn with_heap<R>(&self, f: impl FnOnce(&Heap) -> R) -> R {
        Worker::with(&self.scheduler, |worker| match worker {
            Some(worker) => f(worker.heap()),
            None => self.scheduler.memory.with_outside_heap(f),
        })
    }

    /// Calls `f` with a heap of this executor, except in a forked child. A worker of the crew is
    /// not in a child, so it needs no check.
    #[inline]
    pub(crate) fn with_heap_unless_forked<R>(&self, f: impl FnOnce(&Heap) -> R) -> Option<R> {
        Worker::with(&self.scheduler, |worker| self.with_heap_at(worker, f))
    }

    /// Like [`with_heap_unless_forked`](Self::with_heap_unless_forked), for a caller that has
    /// looked up its worker.
    #[inline]
    pub(crate) fn with_heap_at<R>(
        &self,
        worker: Option<&Worker>,
        f: impl FnOnce(&Heap) -> R,
    ) -> Option<R> {
        match worker {
            Some(worker) => Some(f(worker.heap())),
            None if self.is_forked() => None,
            None => Some(self.scheduler.memory.with_outside_heap(f)),
        }
    }

    /// Adds to the worker's own count, or to the shared count without a worker.
    #[inline]
    pub(crate) fn count_at(
        &self,
        worker: Option<&Worker>,
        which: impl Fn(&Tally) -> &Counter,
        n: u64,
    ) {
        match worker {
            Some(worker) => which(Tally::of_worker(worker)).add(n),
            None => which(&self.tallies[self.workers()]).add_shared(n),
        }
    }

    /// Adds to a count, for a caller that has not looked the worker up.
    #[inline]
    pub(crate) fn count_here(&self, which: impl Fn(&Tally) -> &Counter, n: u64) {
        Worker::with(&self.scheduler, |worker| self.count_at(worker, which, n));
    }

    /// Adds to a count, inside a turn of this crew. Any worker on this thread belongs to the crew,
    /// which saves a comparison.
    #[inline]
    pub(crate) fn count_in_turn(&self, which: impl Fn(&Tally) -> &Counter, n: u64) {
        Worker::with_any(|worker| self.count_at(worker, which, n));
    }

    pub(crate) fn count_dead(&self, reason: DeadLetterReason, n: u64) {
        self.count_here(|tally| &tally.dead[reason as usize], n);
    }

    /// Returns the sum of a count over all writers.
    pub(crate) fn total_of(&self, which: impl Fn(&Tally) -> &Counter) -> u64 {
        self.tallies.iter().map(|tally| which(tally).get()).sum()
    }

    /// Returns the count of one worker.
    pub(crate) fn of_worker(&self, worker: usize, which: impl Fn(&Tally) -> &Counter) -> u64 {
        which(&self.tallies[worker]).get()
    }

    /// Enters the measurements of a turn into the record of the worker, or into the shared one.
    pub(crate) fn record_times(&self, enter: impl FnOnce(&mut CrewRecord)) {
        Worker::with(&self.scheduler, |worker| {
            let tally = worker.map_or(&self.tallies[self.workers()].0, Tally::of_worker);
            enter(tally.times.lock().get_or_insert_default());
        });
    }

    /// Returns the times of timed actors' turns on one worker, or `None` before the first such
    /// turn.
    pub(crate) fn times_of_worker(&self, worker: usize) -> Option<CrewTiming> {
        self.tallies[worker].times.lock().as_ref().map(|record| record.read_timing())
    }

    /// Returns the times of timed actors' turns on all threads.
    pub(crate) fn crew_times(&self) -> Option<CrewTiming> {
        let mut all: Option<CrewRecord> = None;
        for tally in &self.tallies {
            if let Some(record) = &*tally.times.lock() {
                all.get_or_insert_default().add_all(record);
            }
        }
        all.map(|record| record.read_timing())
    }

    pub(crate) fn live_actors(&self) -> u64 {
        self.spawned_without(|tally| &tally.ended)
    }

    /// Returns the number of spawned actors less those in another count.
    fn spawned_without(&self, which: impl Fn(&Tally) -> &Counter) -> u64 {
        closing::count_living(|| self.total_of(which), || self.total_of(|tally| &tally.spawned))
    }

    /// Returns the shard for cells made by this thread.
    pub(crate) fn shard_here(&self, worker: Option<&Worker>) -> &Shard {
        &self.shards[worker.map_or(self.workers(), Worker::index)]
    }

    /// Tells the event hook. Does nothing in a forked child, where a thread of the parent may hold
    /// the hook's lock for ever.
    pub(crate) fn emit_event(&self, event: impl FnOnce() -> Event) {
        if !self.is_forked() {
            self.hook.call_hook(event);
        }
    }

    /// Drops the hook, after the crew has ended and no more events come. Called by the crew's last
    /// thread, while it counts as the crew's.
    pub(crate) fn let_go_of_hook(&self) {
        self.hook.let_go();
    }

    /// See [`Scheduler::is_forked`].
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.scheduler.is_forked()
    }

    /// Returns `true` if the calling thread belongs to the crew.
    pub(crate) fn on_crew(&self) -> bool {
        crew_thread::is_crew_thread(&self.scheduler)
    }

    /// Returns `true` if the crew cannot end before the calling thread, which therefore must not
    /// wait for the crew. So it is on members, and on threads started by the crew until all
    /// destructors of thread-locals have run.
    pub(crate) fn ends_after_this_thread(&self) -> bool {
        self.on_crew() || self.threads.is_here()
    }

    pub(crate) fn is_draining(&self) -> bool {
        // SeqCst, and made after a sender's step through the gate: see `start_draining`.
        self.scheduler.birth.is_closed()
    }

    /// Refuses messages from outside from now on, and cancels timers. A sender that passed the gate
    /// before is waited for by the next wait for quiescence. A sender that passes the gate later
    /// sees the flag.
    pub(crate) fn start_draining(&self) {
        self.scheduler.birth.close_to_outside();
        self.scheduler.close_timers();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_begun()
    }

    /// Counts an ended actor, before any waiter can see the end.
    pub(crate) fn count_ended(&self) {
        closing::count_after_spawn(|| self.count_here(|tally| &tally.ended, 1));
    }

    /// Takes the count of a spawn back. May end the crew.
    pub(crate) fn count_refused(&self) {
        self.count_ended();
        self.count_gone();
    }

    /// Counts an ended actor after everything that its end brings about. May end the crew.
    pub(crate) fn count_gone(&self) {
        let count = || self.count_here(|tally| &tally.gone, 1);
        if self.closing.count_gone(count, || self.count_not_gone()) {
            self.scheduler.stop_crew();
        }
    }

    /// Returns the number of spawned actors that something is left to do for.
    pub(super) fn count_not_gone(&self) -> u64 {
        self.spawned_without(|tally| &tally.gone)
    }

    /// Makes a cell that was never alive, for a reference to an actor that could not be spawned.
    pub(crate) fn new_tombstone(
        &self,
        make: impl FnOnce(&Shard, ActorId, u32) -> NonNull<Header>,
    ) -> NonNull<Header> {
        // Any shard would do: this cell is made once in a while.
        let shard = self.shard_here(None);
        if self.is_forked() {
            // The registry may be locked for ever. So the cell is in no list, keeps the core
            // itself, and is never freed.
            let header = make(shard, ActorId::from_raw(NonZeroU64::MAX), u32::MAX);
            std::mem::forget(self.share());
            // SAFETY: the cell was just made, and only this thread knows it.
            let cell = unsafe { header.as_ref() };
            cell.add_weak();
            cell.turn_into_tombstone();
            return header;
        }
        let header = shard.add_cell_even_closed(|id, place| make(shard, id, place));
        // SAFETY: the cell was just made, and its one reference is not returned yet.
        unsafe { header.as_ref() }.turn_into_tombstone();
        header
    }

    /// Calls `f` with the actors that have not ended. If `f` returns `false` the walk ends before
    /// the next part of a shard.
    pub(crate) fn visit_unfinished(&self, mut f: impl FnMut(&Header) -> bool) {
        for shard in &self.shards {
            let more = Cell::new(true);
            let look = |header: NonNull<Header>| {
                // SAFETY: listed cells are not freed while the shard is locked.
                let header = unsafe { header.as_ref() };
                if !header.state.load_snapshot().is_dead() {
                    more.set(f(header));
                }
            };
            if !shard.for_each(look, || more.get()) {
                return;
            }
        }
    }

    /// Returns `true` if there is an event hook.
    pub(crate) fn has_hook(&self) -> bool {
        self.hook.is_there()
    }
}

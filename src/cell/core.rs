//! What all cells of one executor share: the scheduler, the registry, the counts, the hook.

use super::dedicated::Dedicated;
use super::event::{DeadLetterReason, Event, Report};
use super::graves::Graves;
use super::header::Header;
use super::hook::{Hook, Hooked};
use super::registry::Shard;
use super::threads::Threads;
use super::times::{CrewRecord, CrewTiming};
use super::waits::Waits;
use crate::id::ActorId;
use crate::memory::{Heap, Held};
use crate::sched::local::{Account, Local};
use crate::sched::member::{self, Recruit};
use crate::sched::queue::Policy;
use crate::sched::spares::Spares;
use crate::sched::{Arrival, Scheduler, Seat};
use crate::sync::{AtomicBool, Counter, Mutex, Ordering::*, Padded, fence};
use crate::time::{self, Duration, Instant};
use std::cell::Cell;
use std::fmt;
use std::num::NonZeroU64;
use std::ptr::NonNull;
use std::sync::Arc;

/// A turn's budget.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) messages: u32,
    pub(crate) time: Duration,
}

/// What an executor is built from, checked.
pub(crate) struct Settings<'a> {
    pub(crate) workers: usize,
    pub(crate) policy: Policy,
    /// Where each worker is pinned; empty: nowhere.
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
    /// One for each worker, and the last for everybody else.
    pub(crate) shards: Box<[Shard]>,
    tallies: Box<[Padded<Tally>]>,
    pub(crate) waits: Arc<Waits>,
    pub(crate) capacity: u32,
    pub(crate) limits: Limits,
    /// Are actors timed that say nothing else?
    pub(crate) timing: bool,
    hook: Hooked,
    pub(crate) threads: Threads,
    pub(crate) dedicated: Dedicated,
    /// No new actors, and the end of the last one ends the crew.
    closing: AtomicBool,
    /// A worker's seat was given up without having been taken.
    seat_lost: AtomicBool,
    /// How the last shutdown went.
    pub(crate) report: Mutex<Option<Report>>,
}

/// One writer's counts, and what else is its own.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) spawned: Counter,
    pub(crate) ended: Counter,
    pub(crate) accepted: Counter,
    pub(crate) handled: Counter,
    pub(crate) panicked: Counter,
    pub(crate) discarded_replies: Counter,
    /// By [`DeadLetterReason`].
    pub(crate) dead: [Counter; 7],
    pub(crate) missed_ticks: Counter,
    pub(crate) graves: Graves,
    /// What the turns of timed actors took, once there was one. The lock is the writer's and readers'.
    times: Mutex<Option<Box<CrewRecord>>>,
}

impl Tally {
    /// A worker's own, of its own executor.
    #[inline]
    pub(crate) fn of(local: &Local) -> &Tally {
        // SAFETY: `Core::work` gave it; it lives as long as the core, which outlives its workers.
        unsafe { local.account().cast::<Tally>().as_ref() }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("scheduler", &self.scheduler).finish_non_exhaustive()
    }
}

impl Core {
    pub(crate) fn new(settings: Settings<'_>) -> (Arc<Self>, Vec<Seat>) {
        let Settings { workers, policy, cores, capacity, limits, spares, timing, hook } = settings;
        let (scheduler, seats) = Scheduler::new(workers, policy, cores, spares);
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
            dedicated: Dedicated::default(),
            closing: AtomicBool::new(false),
            seat_lost: AtomicBool::new(false),
            report: Mutex::new(None),
        });
        core.shards.iter().for_each(|shard| shard.belong_to(&core));
        (core, seats)
    }

    /// Another counted reference.
    pub(crate) fn share(&self) -> Arc<Self> {
        self.shards[0].share_core()
    }

    /// The proof that the memory pool lives as long as whatever keeps this core.
    #[inline]
    pub(crate) fn held(&self) -> Held<'_> {
        self.scheduler.memory.held()
    }

    /// The life of a thread of the crew, which holds the core: see [`Scheduler::work`].
    pub(crate) fn work(&self, arrival: Arrival, recruit: &Recruit<'_>) -> bool {
        let account = |worker: usize| Account {
            at: NonNull::from(&self.tallies[worker].0).cast(),
            // SAFETY: called by the slot's holder, whose thread holds the core.
            settle: |account| unsafe { account.cast::<Tally>().as_ref().graves.empty() },
        };
        self.scheduler.work(arrival, account, recruit)
    }

    pub(crate) fn workers(&self) -> usize {
        self.scheduler.slots.len()
    }

    /// Calls `f` with memory of this executor.
    pub(crate) fn with_heap<R>(&self, f: impl FnOnce(&Heap) -> R) -> R {
        Local::with(&self.scheduler, |local| match local {
            Some(local) => f(local.heap()),
            None => self.scheduler.memory.outside(f),
        })
    }

    /// Adds to a count: the worker's own where there is one, else the shared one.
    #[inline]
    pub(crate) fn count(&self, local: Option<&Local>, which: impl Fn(&Tally) -> &Counter, n: u64) {
        match local {
            Some(local) => which(Tally::of(local)).add(n),
            None => which(&self.tallies[self.workers()]).add_shared(n),
        }
    }

    /// The same, from a thread that does not know yet what it is.
    #[inline]
    pub(crate) fn count_here(&self, which: impl Fn(&Tally) -> &Counter, n: u64) {
        Local::with(&self.scheduler, |local| self.count(local, which, n));
    }

    /// The same, in a turn of this crew: whatever worker's place this thread has is of this crew.
    #[inline]
    pub(crate) fn count_in_turn(&self, which: impl Fn(&Tally) -> &Counter, n: u64) {
        Local::with_any(|local| self.count(local, which, n));
    }

    pub(crate) fn count_dead(&self, reason: DeadLetterReason, n: u64) {
        self.count_here(|tally| &tally.dead[reason as usize], n);
    }

    /// A count's sum over all writers.
    pub(crate) fn total(&self, which: impl Fn(&Tally) -> &Counter) -> u64 {
        self.tallies.iter().map(|tally| which(tally).get()).sum()
    }

    /// One worker's count.
    pub(crate) fn of_worker(&self, worker: usize, which: impl Fn(&Tally) -> &Counter) -> u64 {
        which(&self.tallies[worker]).get()
    }

    /// Enters what a turn measured: with the worker's own, or those of everybody else.
    pub(crate) fn record_times(&self, enter: impl FnOnce(&mut CrewRecord)) {
        Local::with(&self.scheduler, |local| {
            let tally = local.map_or(&self.tallies[self.workers()].0, Tally::of);
            enter(tally.times.lock().get_or_insert_default());
        });
    }

    /// What the turns of timed actors took on one worker; `None` before the first.
    pub(crate) fn times_of_worker(&self, worker: usize) -> Option<CrewTiming> {
        self.tallies[worker].times.lock().as_ref().map(|record| record.read())
    }

    /// The same of all.
    pub(crate) fn times(&self) -> Option<CrewTiming> {
        let mut all: Option<CrewRecord> = None;
        for tally in &self.tallies {
            if let Some(record) = &*tally.times.lock() {
                all.get_or_insert_default().add_all(record);
            }
        }
        all.map(|record| record.read())
    }

    pub(crate) fn live(&self) -> u64 {
        // Ended first: an actor counted as ended was counted as spawned before.
        let ended = self.total(|tally| &tally.ended);
        fence(Acquire);
        self.total(|tally| &tally.spawned).saturating_sub(ended)
    }

    /// The shard for cells that this thread makes.
    pub(crate) fn shard_here(&self, local: Option<&Local>) -> &Shard {
        &self.shards[local.map_or(self.workers(), Local::index)]
    }

    /// Tells the event hook. Does nothing in a forked child, where a thread of the parent may hold the
    /// hook's lock for ever.
    pub(crate) fn emit(&self, event: impl FnOnce() -> Event) {
        if !self.forked() {
            self.hook.call(event);
        }
    }

    /// The crew has ended, so nothing more happens that the hook is to be told. By the crew's last thread.
    pub(crate) fn let_go_of_hook(&self) {
        // Whatever the hook holds, its executor included, is dropped as it would be in a turn: nobody here waits for the crew.
        let _of_the_crew = self.scheduler.enlist_apart();
        self.hook.let_go();
    }

    /// See [`Scheduler::forked`].
    #[inline]
    pub(crate) fn forked(&self) -> bool {
        self.scheduler.forked()
    }

    /// Is the calling thread one of the crew?
    pub(crate) fn on_crew(&self) -> bool {
        member::is_of(&self.scheduler)
    }

    /// Returns `true` if the crew's end comes after the calling thread's, which so cannot wait for it: on members, and on threads
    /// that the crew has started, up to the destructors of their thread-locals.
    pub(crate) fn ends_after_this_thread(&self) -> bool {
        self.on_crew() || self.threads.is_here()
    }

    pub(crate) fn draining(&self) -> bool {
        // SeqCst, after a sender's step through the gate: see `start_draining`.
        self.scheduler.birth.is_closed()
    }

    /// Nothing more from outside, and no timers. A sender that passed the gate before is waited for by whoever waits for
    /// quiescence next; one that passes later sees the flag.
    pub(crate) fn start_draining(&self) {
        self.scheduler.birth.close();
        self.scheduler.close_timers();
    }

    pub(crate) fn closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    /// Closes all actors, of which there will be no new ones. May be called again, to kill.
    ///
    /// Returns `false` if the time was over before each one was reached; those that are left are the caller's to see to.
    #[must_use]
    pub(crate) fn close_all(&self, kill: bool, until: Option<Instant>) -> bool {
        self.dedicated.close();
        self.shards.iter().for_each(Shard::close);
        // Only now: the end of the crew must not come before the last spawn.
        self.closing.store(true, SeqCst);
        // After the shards are closed nobody can be missed. A closed actor's own turns do the rest.
        let in_time = || until.is_none_or(|until| time::now() < until);
        let close = |header| Header::close(header, kill);
        let all = self.shards.iter().all(|shard| shard.for_each(close, in_time));
        // Pairs with the fence in `ended`: either that actor's worker sees `closing`, or this sees its count.
        fence(SeqCst);
        self.stop_if_empty();
        all
    }

    /// An actor's last turn is over, all but the release of its memory; or it was counted as spawned and then refused.
    pub(crate) fn ended(&self) {
        self.count_here(|tally| &tally.ended, 1);
        fence(SeqCst);
        if self.closing() {
            self.stop_if_empty();
        }
    }

    fn stop_if_empty(&self) {
        if self.live() == 0 {
            self.scheduler.stop();
        }
    }

    pub(crate) fn lose_seat(&self) {
        self.seat_lost.store(true, SeqCst);
    }

    pub(crate) fn seat_lost(&self) -> bool {
        self.seat_lost.load(SeqCst)
    }

    /// A cell that was never alive, for a reference to an actor that could not be spawned.
    pub(crate) fn tombstone(
        &self,
        make: impl FnOnce(&Shard, ActorId, u32) -> NonNull<Header>,
    ) -> NonNull<Header> {
        let shard = self.shard_here(None);
        if self.forked() {
            // The registry may be locked for ever. So the cell is in no list, keeps the core itself, and is never freed.
            let header = make(shard, ActorId::from_raw(NonZeroU64::MAX), u32::MAX);
            std::mem::forget(self.share());
            // SAFETY: only this thread knows it yet.
            let cell = unsafe { header.as_ref() };
            cell.add_weak();
            cell.bury();
            return header;
        }
        let header = shard.enroll_even_closed(|id, place| make(shard, id, place));
        // SAFETY: nobody else knows it yet.
        unsafe { header.as_ref() }.bury();
        header
    }

    /// Calls `f` with the actors that have not ended, as long as it wants more: it is asked between two parts of them.
    pub(crate) fn unfinished(&self, mut f: impl FnMut(&Header) -> bool) {
        for shard in &self.shards {
            let more = Cell::new(true);
            let look = |header: NonNull<Header>| {
                // SAFETY: listed cells are not freed while the shard is locked.
                let header = unsafe { header.as_ref() };
                if !header.state.peek().dead() {
                    more.set(f(header));
                }
            };
            if !shard.for_each(look, || more.get()) {
                return;
            }
        }
    }

    /// Does an event hook want to be told?
    pub(crate) fn has_hook(&self) -> bool {
        self.hook.is_there()
    }
}

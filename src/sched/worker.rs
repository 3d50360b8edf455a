//! A worker's own side: the queue, the choice of the next runnable, and the work between two turns.
//!
//! The next runnable comes from the first of these that is not empty: the LIFO slot (for a bounded
//! number of turns), the local queue (in turns with [bound](super::affinity) work), the worker's
//! own inbox, the injector, and a search ([`search`](super::search)). The injector also gets a fair
//! share of the time while there is local work.

use super::habit::Habits;
use super::queue::{CLOCK_EVERY, HURRY, Policy, Slot, pop_cold, steal_until_certain};
use super::runnable::{After, Runnable, RunnableHeader};
use super::scheduler::{Scheduler, WorkerInit};
use super::steal_threshold::Theft;
use crate::fork::Wiped;
use crate::memory::Heap;
use crate::sync::Ordering::Relaxed;
use crate::time::{self, Instant};
use crossbeam_deque::Worker as LocalQueue;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::cell::{Cell, RefCell};
use std::ptr::{self, NonNull};

/// Number of turns in a row from the LIFO slot before the local queue gets one. Two actors that
/// only talk to each other do not keep the others waiting.
const LIFO_RUN: u32 = 16;
/// A sibling is woken for a longer backlog than this. A wake costs about 15 us on the waker and 50
/// us on the sleeper.
const WORTH_A_WAKE_NS: u64 = 30_000;

thread_local! {
    static WORKER: Cell<*const Worker> = const { Cell::new(ptr::null()) };
}

/// State of one worker, for the thread that currently holds the slot. The holder may change in the
/// middle of a turn ([`spares`](super::spares)), so never keep a reference to it across user code.
pub(crate) struct Worker {
    scheduler: *const Scheduler,
    /// Says which crew this thread belongs to: none in a forked child.
    wiped: *const Wiped,
    slot: *const Slot,
    pub(super) index: usize,
    pub(super) queue: LocalQueue<Runnable>,
    /// Bound work, invisible to siblings, and whether the last turn was bound: see
    /// [`affinity`](super::affinity).
    pub(super) pinned_queue: LocalQueue<Runnable>,
    pub(super) ran_pinned_last: Cell<bool>,
    /// Whether the pinned queue may have work. Read every turn, where a look at the queue would
    /// cost more.
    pub(super) has_pinned: Cell<bool>,
    /// The worker's heap, claimed while it is awake.
    heap: *const Heap,
    pub(super) rng: RefCell<SmallRng>,
    pub(super) lifo_run: Cell<u32>,
    /// The turn at which the clock was last read.
    pub(super) clock_turn: Cell<u64>,
    /// Whether outside work came while no worker was free, and has had no share since.
    pub(super) outside_waits: Cell<bool>,
    /// When outside work last had its share, by the clock and in turns.
    pub(super) last_share: Cell<Instant>,
    pub(super) share_turn: Cell<u64>,
    /// Until this instant time belongs to turns, however many timers are due.
    pub(super) timers_again: Cell<Instant>,
    /// Turns until outside work has its share.
    pub(super) injector_in: Cell<u32>,
    pub(super) clock: Cell<Instant>,
    pub(super) busy_since: Cell<Instant>,
    pub(super) habits: Habits,
    /// Whether messages were long lately, so that the clock must be read more often.
    pub(super) long_messages: Cell<bool>,
    /// Mean length of a turn in nanoseconds, between the last two readings of the clock.
    pub(super) turn_before: Cell<u64>,
    /// The last theft, until this worker runs dry.
    pub(super) theft: Cell<Option<Theft>>,
    pub(super) data: WorkerData,
}

/// The state of a slot when a thread comes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrives {
    /// The slot is awake.
    Awake,
    /// The slot is parked, or was when the thread was called.
    Lying,
    /// The thread has unparked the slot to rescue stuck work.
    Catching,
}

/// Data that the floors above keep for a worker. Opaque here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkerData {
    pub(crate) at: NonNull<()>,
    /// Called on the worker's thread before it sleeps, and at its end.
    pub(crate) flush: fn(NonNull<()>),
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Worker {
    /// Allocates worker `k`'s state and publishes it in its slot.
    pub(super) fn install(scheduler: &Scheduler, init: WorkerInit, data: WorkerData) {
        let WorkerInit { index, queue, pinned_queue } = init;
        let start = time::now();
        let slot = &scheduler.slots[index];
        // A guess until the first reading: a turn takes a microsecond.
        slot.counters.mean_turn_ns.set(1_000);
        let worker = Worker {
            scheduler,
            wiped: scheduler.birth.wiped_word(),
            slot,
            index,
            queue,
            pinned_queue,
            ran_pinned_last: Cell::new(false),
            has_pinned: Cell::new(false),
            heap: scheduler.memory.of_worker(index),
            rng: RefCell::new(SmallRng::seed_from_u64(index as u64)),
            lifo_run: Cell::new(0),
            clock_turn: Cell::new(0),
            outside_waits: Cell::new(false),
            last_share: Cell::new(start),
            share_turn: Cell::new(0),
            timers_again: Cell::new(start),
            // Never 0, since `next` counts down before it looks.
            injector_in: Cell::new(1),
            clock: Cell::new(start),
            busy_since: Cell::new(start),
            habits: Habits::default(),
            long_messages: Cell::new(true),
            turn_before: Cell::new(1_000),
            theft: Cell::new(None),
            data,
        };
        // Relaxed: whatever makes another thread the slot's holder carries the pointer, as in
        // `acquire_slot`.
        slot.worker.store(Box::into_raw(Box::new(worker)), Relaxed);
    }

    /// Holds a slot, perhaps parked at first. Works until the crew stops (`true`), or until the
    /// slot is lost in a turn (`false`).
    ///
    /// # Safety
    /// The calling thread holds the slot.
    pub(super) unsafe fn hold_slot(scheduler: &Scheduler, slot: usize, arrives: Arrives) -> bool {
        // A spare may still be pinned to the core of the slot it held before. Best effort: an
        // unpinned worker is slower, not wrong.
        let _ = scheduler.slots[slot].pin_here();
        let mut task = if arrives != Arrives::Awake {
            let at = scheduler.slots[slot].worker.load(Relaxed);
            WORKER.set(at);
            // SAFETY: only the slot's holder uses the state there, and the state lives until the
            // crew's end.
            unsafe { &*at }.park_at_slot(arrives == Arrives::Catching)
        } else {
            // SAFETY: the caller holds the slot, which is awake.
            let worker = unsafe { Worker::acquire_slot(scheduler, slot) };
            // If every turn cost its thread the slot, no thread would come to the end of a turn
            // here, and timers would never fire.
            worker.tend_timers(worker.clock.get(), false);
            worker.next_cold().or_else(|| worker.search_or_park())
        };
        let at = loop {
            while let Some(runnable) = task {
                runnable.prefetch();
                let (header, after) = runnable.run_turn();
                // A turn may cost the thread its slot, so the worker is looked up again.
                // SAFETY: `WORKER` is set only while the calling thread holds that slot.
                let Some(worker) = (unsafe { WORKER.get().as_ref() }) else {
                    scheduler.turn_over_without_slot(header, after);
                    return false;
                };
                worker.turn_over(header, after);
                task = worker.next().or_else(|| worker.search_or_park());
            }
            // A slot is lost only in a turn, so the thread still holds it.
            let at = WORKER.get();
            // SAFETY: this thread holds the slot.
            task = unsafe { &*at }.last_task();
            if task.is_none() {
                break at;
            }
        };
        // SAFETY: this thread holds the slot.
        unsafe { &*at }.release_heap_and_tidy();
        WORKER.set(ptr::null());
        // SAFETY: `install` made the state from a box. The crew has stopped, so the last holder
        // drops it once.
        drop(unsafe { Box::from_raw(at.cast_mut()) });
        true
    }

    /// Takes up the work at a slot.
    ///
    /// # Safety
    /// The calling thread holds the slot, which is awake.
    pub(super) unsafe fn acquire_slot(scheduler: &Scheduler, slot: usize) -> &Worker {
        let at = scheduler.slots[slot].worker.load(Relaxed);
        WORKER.set(at);
        // SAFETY: only the slot's holder uses the state there, and the state lives until the crew's
        // end.
        let worker = unsafe { &*at };
        worker.heap().claim_or_wait();
        // Restart the busy clock and the sample of turn lengths, so that time before this thread
        // took the slot counts as neither.
        let now = time::now();
        worker.clock.set(now);
        worker.busy_since.set(now);
        let turns = worker.slot().counters.turns.get();
        worker.clock_turn.set(turns);
        let due =
            if scheduler.outside_work_hurries() { HURRY } else { turns + u64::from(CLOCK_EVERY) };
        worker.slot().counters.clock_due.set(due);
        worker
    }

    /// Gives up the slot in the middle of a turn. Returns the index, and whether anything waits in
    /// the queues.
    pub(super) fn release_slot() -> (usize, bool) {
        let left = Worker::with_any(|worker| {
            let worker = worker.expect("only the holder of a slot releases it");
            worker.count_busy(time::now());
            worker.leave_heap();
            (
                worker.index,
                !worker.slot().lifo.is_empty()
                    || !worker.queue.is_empty()
                    || worker.has_pinned.get(),
            )
        });
        WORKER.set(ptr::null());
        left
    }

    pub(super) fn holds_slot() -> bool {
        !WORKER.get().is_null()
    }

    /// Returns the state held by this thread, for [`restore_slot`](Self::restore_slot).
    pub(super) fn current_pointer() -> *const Worker {
        WORKER.get()
    }

    /// Restores the result of an earlier [`current_pointer`](Self::current_pointer).
    pub(super) fn restore_slot(at: *const Worker) {
        WORKER.set(at);
    }

    /// Calls `f` with the calling thread's worker, if the worker is of `scheduler`'s crew.
    #[inline]
    pub(crate) fn with<R>(scheduler: &Scheduler, f: impl FnOnce(Option<&Worker>) -> R) -> R {
        Worker::with_any(|worker| {
            f(worker.filter(|worker| worker.crew_address() == ptr::from_ref(scheduler).addr()))
        })
    }

    /// Calls `f` with the calling thread's worker, whatever crew it belongs to.
    #[inline]
    pub(crate) fn with_any<R>(f: impl FnOnce(Option<&Worker>) -> R) -> R {
        let worker = WORKER.with(Cell::get);
        // SAFETY: `WORKER` is set only while the calling thread holds that slot. The reference does
        // not outlive `f`. User code, which may give the slot away, runs in no `f`, only in turns.
        f(unsafe { worker.as_ref() })
    }

    /// Calls `f` with the calling thread's heap, if it is a worker of any crew. For giving memory
    /// back.
    #[inline]
    pub(crate) fn with_heap<R>(f: impl FnOnce(Option<&Heap>) -> R) -> R {
        Worker::with_any(|worker| {
            f(worker.filter(|worker| worker.crew_address() != 0).map(Worker::heap))
        })
    }

    /// Returns the address of this worker's crew, or 0 in a forked child.
    #[inline]
    fn crew_address(&self) -> usize {
        // SAFETY: part of the scheduler, which outlives each holder of the slot.
        unsafe { &*self.wiped }.owner_address()
    }

    pub(super) fn scheduler(&self) -> &Scheduler {
        // SAFETY: the thread that holds the slot borrows the scheduler for longer.
        unsafe { &*self.scheduler }
    }

    pub(super) fn slot(&self) -> &Slot {
        // SAFETY: the slot is part of the scheduler, which the holder borrows.
        unsafe { &*self.slot }
    }

    /// Returns the heap for this worker's allocations.
    #[inline]
    pub(crate) fn heap(&self) -> &Heap {
        // SAFETY: the heap is part of the scheduler's pool, which the holder borrows.
        unsafe { &*self.heap }
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    #[inline]
    pub(crate) fn worker_data(&self) -> NonNull<()> {
        self.data.at
    }

    /// Ends a turn: requeues the runnable, and reads the clock if it is time.
    #[inline]
    fn turn_over(&self, header: NonNull<RunnableHeader>, after: After) {
        match after {
            After::Gone => {}
            After::Errand => return self.errand_over(),
            // SAFETY: the turn gave the runnable back, so this is the only `Runnable` for the
            // header.
            After::Requeue => self.push_back(unsafe { Runnable::from_raw(header) }),
            After::RequeueGap => {
                // SAFETY: the turn gave the runnable back, so this is the only `Runnable` for the
                // header.
                self.push_back(unsafe { Runnable::from_raw(header) });
                // The missing link is another thread's next step, which may need this processor.
                std::thread::yield_now();
            }
            // SAFETY: the turn gave the runnable back, so this is the only `Runnable` for the
            // header.
            After::RequeueOutside => self.push_back_outside(unsafe { Runnable::from_raw(header) }),
        }
        let counters = &self.slot().counters;
        counters.turns.add(1);
        if counters.turns.get() >= counters.clock_due.get() {
            self.read_clock();
        }
    }

    /// Pushes a runnable made ready on this worker, to run next, here.
    #[inline]
    pub(crate) fn push(&self, task: Runnable) {
        if task.is_bound() {
            return self.push_bound(task);
        }
        let scheduler = self.scheduler();
        match scheduler.policy {
            Policy::Stealing => {
                if let Some(displaced) = self.slot().lifo.put_next(task) {
                    // The displaced runnable is older, so a sibling may have it; the new runnable's
                    // data is in this cache.
                    self.queue.push(displaced);
                    self.maybe_notify();
                }
                // The LIFO slot is where only the owner looks, so a sentinel must watch while this
                // turn lasts.
                scheduler.idle.ensure_watched();
            }
            Policy::Sharded => match task.shard_of(scheduler.slots.len()) {
                home if home == self.index => {
                    if let Some(displaced) = self.slot().lifo.put_next(task) {
                        self.queue.push(displaced);
                    }
                }
                home => scheduler.push_to_worker(home, task),
            },
            Policy::SharedQueue => scheduler.inject(task),
        }
    }

    /// Pushes back a runnable with work left.
    pub(super) fn push_back(&self, task: Runnable) {
        if task.is_bound() {
            return self.push_bound(task);
        }
        match self.scheduler().policy {
            Policy::SharedQueue => self.scheduler().inject(task),
            Policy::Stealing => {
                self.queue.push(task);
                self.maybe_notify();
                self.scheduler().idle.ensure_watched();
            }
            Policy::Sharded => self.queue.push(task),
        }
    }

    /// Wakes a sibling if the work waiting here would take long. A guess that may be wrong; the
    /// sentinel is the safety net.
    #[inline]
    fn maybe_notify(&self) {
        let idle = &self.scheduler().idle;
        if idle.somebody_to_wake()
            && self.slot().backlog_ns()
                > WORTH_A_WAKE_NS.max(self.scheduler().steal_threshold.as_ns())
        {
            idle.notify_any();
        }
    }

    /// Out-of-line copy of `next`, for cold callers.
    #[inline(never)]
    pub(super) fn next_cold(&self) -> Option<Runnable> {
        self.next()
    }

    /// Returns the next runnable. Inlined where turns follow each other, since it is a good part of
    /// a turn's cost.
    #[inline(always)]
    fn next(&self) -> Option<Runnable> {
        // Counted in turns, since reading the clock for each turn would cost more than the turn's
        // own bookkeeping.
        let due = self.injector_in.get() - 1;
        self.injector_in.set(due);
        if due == 0
            && let Some(task) = self.fair_share()
        {
            return Some(task);
        }
        let slot = self.slot();
        if self.lifo_run.get() < LIFO_RUN
            && let Some(task) = slot.lifo.take_next()
        {
            slot.counters.lifo_hits.add(1);
            self.lifo_run.set(self.lifo_run.get() + 1);
            return Some(task);
        }
        self.lifo_run.set(0);
        // One flag test instead of a look at a second queue; most workers have no bound work.
        if self.has_pinned.get() {
            return self.next_alternating();
        }
        // The LIFO slot again: its run is over, but nothing else waits.
        self.queue.pop().or_else(|| slot.lifo.take_next()).or_else(|| self.take_outside())
    }

    pub(super) fn take_outside(&self) -> Option<Runnable> {
        self.take_inbox().or_else(|| self.take_injected())
    }

    /// Takes work for any worker from the injector.
    pub(super) fn take_injected(&self) -> Option<Runnable> {
        let scheduler = self.scheduler();
        if scheduler.injector.is_empty() {
            return None;
        }
        let task = match scheduler.policy {
            // Under `Sharded` these are errands: see [`errand`](super::errand).
            Policy::SharedQueue | Policy::Sharded => {
                steal_until_certain(|| scheduler.injector.steal())
            }
            Policy::Stealing => {
                // A fair part, so that other workers find work too. Only one where the local queue
                // is the longer one: the others would wait for a whole round of it.
                let waiting = scheduler.injector.len();
                let part = if waiting < self.queue.len() {
                    1
                } else {
                    waiting / scheduler.slots.len() + 1
                };
                let part = part.clamp(1, 32);
                steal_until_certain(|| {
                    scheduler.injector.steal_batch_with_limit_and_pop(&self.queue, part)
                })
            }
        };
        if task.is_some() {
            // Tested before the store, since the flag is nearly always clear and its line shared by
            // all workers.
            if scheduler.hurried.load(Relaxed) {
                scheduler.hurried.store(false, Relaxed);
            }
            self.slot().counters.injector_takes.add(1);
        }
        task
    }

    /// Takes a runnable from a sibling's local queue, under every policy, and however soon the
    /// owner would run it. For the crew's end, when only [errands](super::errand) wait.
    pub(super) fn take_from_siblings(&self) -> Option<Runnable> {
        let siblings =
            self.scheduler().slots.iter().enumerate().filter(|&(slot, _)| slot != self.index);
        siblings.into_iter().find_map(|(_, slot)| steal_until_certain(|| slot.stealer.steal()))
    }

    /// Gives all local work to the others: this thread is about to block inside a turn.
    pub(crate) fn give_away(&self) {
        let scheduler = self.scheduler();
        while let Some(task) = self.slot().lifo.take_next().or_else(|| pop_cold(&self.queue)) {
            scheduler.push_from_outside(task);
        }
        while let Some(task) = self.pop_pinned() {
            scheduler.push_to_worker(self.index, task);
        }
    }
}

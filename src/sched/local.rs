//! A worker's own side: its queue, its choice of what to run next, and its way from running dry to parking.
//!
//! What comes next, in this order: the LIFO slot (a bounded run of it), the local queue, the worker's own inbox, the
//! injector (a fair share of the time even while there is local work), and then what a search finds.

use super::queue::{Policy, Slot, retry};
use super::sightings::Sightings;
use super::task::{After, Task};
use super::{Scheduler, idle::Woken};
use crate::sync::{Ordering::*, chaos};
use crate::time::{self, Instant};
use crossbeam_deque::{Steal, Worker};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::cell::{Cell, RefCell};
use std::ptr;
use std::time::Duration;

/// Runs of the LIFO slot in a row before the local queue gets its turn: two actors that only talk to each other do
/// not keep the others waiting.
const LIFO_RUN: u32 = 16;
/// Turns between two readings of the clock, from which the mean turn is known.
const CLOCK_EVERY: u32 = 32;
/// Outside work is looked at about this often, counted in turns by their mean time.
const INJECTOR_EVERY_NS: u64 = 200_000;
/// Own work that takes longer than this to get to is worth waking a sibling for (a wake costs about 15 us here and
/// 50 us there).
const WORTH_A_WAKE_NS: u64 = 30_000;
/// Turns of this mean length may have long messages in them.
const LONG_TURN_NS: u64 = 20_000;
/// The longest time that a worker searches before it parks.
const SPIN: Duration = Duration::from_micros(50);

thread_local! {
    static LOCAL: Cell<*const Local> = const { Cell::new(ptr::null()) };
}

/// A worker, on its own thread.
pub(crate) struct Local {
    scheduler: *const Scheduler,
    index: usize,
    queue: Worker<Task>,
    rng: RefCell<SmallRng>,
    lifo_run: Cell<u32>,
    /// Since the clock was last read.
    turns: Cell<u32>,
    /// Turns after which it is read again.
    clock_after: Cell<u32>,
    injector_in: Cell<u32>,
    mean_turn_ns: Cell<u64>,
    clock: Cell<Instant>,
    busy_since: Cell<Instant>,
    /// How well spinning paid lately.
    spin_credit: Cell<u32>,
    /// Messages have lately been long, so that the clock must be read more often.
    long_messages: Cell<bool>,
    /// Whose turn is running: opaque here, compared by the floors above.
    current: Cell<*const ()>,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").field("index", &self.index).finish_non_exhaustive()
    }
}

/// Takes the thread-local pointer away again, whatever happens.
struct Registered;

impl Drop for Registered {
    fn drop(&mut self) {
        LOCAL.with(|local| local.set(ptr::null()));
    }
}

impl Local {
    /// Runs the worker until the scheduler stops.
    pub(super) fn run(scheduler: &Scheduler, index: usize, queue: Worker<Task>) {
        let start = time::now();
        let local = Local {
            scheduler,
            index,
            queue,
            rng: RefCell::new(SmallRng::seed_from_u64(index as u64)),
            lifo_run: Cell::new(0),
            turns: Cell::new(0),
            clock_after: Cell::new(CLOCK_EVERY),
            injector_in: Cell::new(1),
            mean_turn_ns: Cell::new(1_000),
            clock: Cell::new(start),
            busy_since: Cell::new(start),
            spin_credit: Cell::new(8),
            long_messages: Cell::new(true),
            current: Cell::new(ptr::null()),
        };
        LOCAL.with(|place| place.set(&local));
        let _registered = Registered;
        while let Some(task) = local.next().or_else(|| local.idle()) {
            local.run_turn(task);
        }
        // Cancelled when the executor began to shut down; what nobody had time for since goes now.
        scheduler.fire_timers(time::now());
    }

    /// Calls `f` with this thread's worker, if it is one of `scheduler`'s crew.
    #[inline]
    pub(crate) fn with<R>(scheduler: &Scheduler, f: impl FnOnce(Option<&Local>) -> R) -> R {
        Local::with_any(|local| f(local.filter(|local| ptr::eq(local.scheduler, scheduler))))
    }

    /// Calls `f` with this thread's worker, whatever crew it belongs to.
    #[inline]
    pub(crate) fn with_any<R>(f: impl FnOnce(Option<&Local>) -> R) -> R {
        let local = LOCAL.with(Cell::get);
        // SAFETY: set only while `Local::run` has it on this thread's stack, and the reference does not outlive `f`.
        f(unsafe { local.as_ref() })
    }

    fn scheduler(&self) -> &Scheduler {
        // SAFETY: `run` borrows the scheduler for longer than this value lives.
        unsafe { &*self.scheduler }
    }

    fn slot(&self) -> &Slot {
        &self.scheduler().slots[self.index]
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Marks whose turn is running; null between turns.
    #[inline]
    pub(crate) fn set_current(&self, current: *const ()) {
        self.current.set(current);
    }

    #[inline]
    pub(crate) fn current(&self) -> *const () {
        self.current.get()
    }

    /// Should a turn read the clock at its beginning and after each message?
    #[inline]
    pub(crate) fn long_messages(&self) -> bool {
        self.long_messages.get()
    }

    pub(crate) fn set_long_messages(&self, long: bool) {
        self.long_messages.set(long);
    }

    #[inline]
    fn run_turn(&self, task: Task) {
        self.slot().counters.turns.add(1);
        let (header, after) = task.run(self);
        match after {
            After::Gone => {}
            // SAFETY: the turn gave the runnable back, so this is the only one.
            After::Requeue => self.push_back(unsafe { Task::from_raw(header) }),
            After::RequeueGap => {
                // SAFETY: as above.
                self.push_back(unsafe { Task::from_raw(header) });
                std::thread::yield_now();
            }
        }
        let turns = self.turns.get() + 1;
        self.turns.set(turns);
        if turns >= self.clock_after.get() {
            self.read_clock();
        }
    }

    #[cold]
    fn read_clock(&self) {
        let now = time::now();
        self.clock_after.set(CLOCK_EVERY);
        let turns = u64::from(self.turns.replace(0));
        let turn = (now - self.clock.replace(now)).as_nanos() as u64 / turns;
        self.mean_turn_ns.set((3 * self.mean_turn_ns.get() + turn) / 4);
        // Turns that have become long must not use up an interval that was meant for short ones.
        self.injector_in.set(self.injector_in.get().min(self.injector_interval()));
        if turn > LONG_TURN_NS {
            self.long_messages.set(true); // perhaps; the next turn will see
        }
        self.count_busy(now);
        self.tend_timers(now);
    }

    /// Fires the timers that are due. True: some were.
    fn tend_timers(&self, now: Instant) -> bool {
        let due = self.scheduler().idle.alarm.due(now);
        if due {
            self.scheduler().fire_timers(now);
            self.saw_clock(now); // there may be more
        }
        due
    }

    /// By whoever reads the clock inside a turn: if a timer is due, it is fired after this turn.
    pub(crate) fn saw_clock(&self, now: Instant) {
        if self.scheduler().idle.alarm.due(now) {
            self.clock_after.set(1);
        }
    }

    fn count_busy(&self, now: Instant) {
        self.slot().counters.busy_ns.add((now - self.busy_since.replace(now)).as_nanos() as u64);
    }

    /// A runnable that became ready on this worker: it runs next, here.
    #[inline]
    pub(super) fn push(&self, task: Task) {
        let scheduler = self.scheduler();
        match scheduler.policy {
            Policy::Stealing => {
                if let Some(displaced) = self.slot().lifo.fill(task) {
                    self.queue.push(displaced);
                    self.maybe_notify();
                }
                scheduler.idle.ensure_watched();
            }
            Policy::Sharded => match task.home(scheduler.slots.len()) {
                home if home == self.index => {
                    if let Some(displaced) = self.slot().lifo.fill(task) {
                        self.queue.push(displaced);
                    }
                }
                home => scheduler.send_home(home, task),
            },
            Policy::SharedQueue => scheduler.inject(task),
        }
    }

    /// A runnable whose turn ended before its work did.
    fn push_back(&self, task: Task) {
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

    /// Wakes a sibling when what waits here would take long. A guess that may be wrong: the sentinel is the net.
    #[inline]
    fn maybe_notify(&self) {
        let idle = &self.scheduler().idle;
        if idle.somebody_to_wake() && self.queue.len() as u64 * self.mean_turn_ns.get() > WORTH_A_WAKE_NS {
            idle.notify();
        }
    }

    #[inline]
    fn next(&self) -> Option<Task> {
        let due = self.injector_in.get() - 1;
        self.injector_in.set(due);
        if due == 0
            && let Some(task) = self.fair_share()
        {
            return Some(task);
        }
        let slot = self.slot();
        if self.lifo_run.get() < LIFO_RUN
            && let Some(task) = slot.lifo.take()
        {
            slot.counters.lifo_hits.add(1);
            self.lifo_run.set(self.lifo_run.get() + 1);
            return Some(task);
        }
        self.lifo_run.set(0);
        self.queue.pop().or_else(|| slot.lifo.take()).or_else(|| self.take_outside())
    }

    /// Turns from one look at outside work to the next.
    fn injector_interval(&self) -> u32 {
        (INJECTOR_EVERY_NS / self.mean_turn_ns.get().max(1)).clamp(2, 256) as u32
    }

    /// Every now and then outside work goes first.
    #[cold]
    fn fair_share(&self) -> Option<Task> {
        self.injector_in.set(self.injector_interval());
        self.take_outside()
    }

    fn take_outside(&self) -> Option<Task> {
        let slot = self.slot();
        if !slot.inbox.is_empty()
            && let Some(task) = retry(|| slot.inbox.steal_batch_and_pop(&self.queue))
        {
            return Some(task);
        }
        let scheduler = self.scheduler();
        if scheduler.injector.is_empty() {
            return None;
        }
        let task = match scheduler.policy {
            Policy::SharedQueue => retry(|| scheduler.injector.steal()),
            _ => {
                // A fair part of it, so that the others find something too.
                let part = (scheduler.injector.len() / scheduler.slots.len() + 1).clamp(1, 32);
                retry(|| scheduler.injector.steal_batch_with_limit_and_pop(&self.queue, part))
            }
        };
        if task.is_some() {
            slot.counters.injector_takes.add(1);
        }
        task
    }

    /// Out of work: search, then park; `None` when the crew stops.
    #[cold]
    fn idle(&self) -> Option<Task> {
        let scheduler = self.scheduler();
        let dry = time::now();
        self.count_busy(dry);
        if self.tend_timers(dry)
            && let Some(task) = self.next()
        {
            return Some(task);
        }
        let mut searching = scheduler.idle.try_search();
        let mut patient = searching;
        let task = loop {
            if searching && let Some(task) = self.search(patient) {
                self.hunt_ended();
                break Some(task);
            }
            // Not searching: only what nobody else may take, or what `park`'s rescan says.
            match self.park(searching) {
                Woken::Caught => {
                    self.slot().counters.sentinel_catches.add(1);
                    let caught = self.rescue();
                    // The sentinel is gone; somebody else must watch what is still stuck.
                    scheduler.idle.ensure_watched();
                    if let Some(task) = caught {
                        self.hunt_ended();
                        break Some(task);
                    }
                    searching = true;
                }
                Woken::Searching => searching = true,
                Woken::Running => {
                    searching = false;
                    if let Some(task) = self.take_outside() {
                        break Some(task);
                    }
                }
                Woken::Alarm => {
                    searching = false;
                    scheduler.fire_timers(time::now()); // also if others were quicker
                    if scheduler.policy == Policy::Stealing {
                        scheduler.idle.ensure_watched(); // as after a catch
                    }
                    if let Some(task) = self.next() {
                        break Some(task);
                    }
                }
            }
            if scheduler.idle.stopping() && !scheduler.has_work(self.index) {
                if searching {
                    let _ = scheduler.idle.end_search();
                }
                break None;
            }
            patient = true;
        };
        let now = time::now();
        self.clock.set(now);
        self.busy_since.set(now);
        task
    }

    /// Work was found: this worker no longer searches, and may be the one who must wake the next.
    fn hunt_ended(&self) {
        let scheduler = self.scheduler();
        if scheduler.idle.end_search() && scheduler.has_work(self.index) {
            scheduler.idle.notify();
        }
    }

    fn search(&self, patient: bool) -> Option<Task> {
        if let Some(task) = self.hunt() {
            return Some(task);
        }
        // Spinning is worth it only where it found something lately; try again once in a while.
        let credit = self.spin_credit.get();
        if !patient
            || self.scheduler().idle.stopping()
            || (credit == 0 && self.rng.borrow_mut().random_range(0..16) != 0)
        {
            return None;
        }
        let until = time::now() + SPIN;
        while time::now() < until {
            for _ in 0..32 {
                crate::sync::spin_hint();
            }
            if self.scheduler().has_work(self.index)
                && let Some(task) = self.hunt()
            {
                self.spin_credit.set((credit + 2).min(16));
                return Some(task);
            }
        }
        self.spin_credit.set(credit.saturating_sub(1));
        None
    }

    /// One look everywhere.
    fn hunt(&self) -> Option<Task> {
        if let Some(task) = self.take_outside() {
            return Some(task);
        }
        let scheduler = self.scheduler();
        if scheduler.policy != Policy::Stealing {
            return None;
        }
        let crew = scheduler.slots.len();
        let start = self.rng.borrow_mut().random_range(0..crew);
        (0..crew).map(|i| (start + i) % crew).filter(|&victim| victim != self.index).find_map(|victim| {
            let from = &scheduler.slots[victim].stealer;
            (!from.is_empty()).then(|| self.steal_from(victim)).flatten()
        })
    }

    fn steal_from(&self, victim: usize) -> Option<Task> {
        let counters = &self.slot().counters;
        counters.steals_tried.add(1);
        chaos();
        // One try: a victim that others are stealing from has thieves enough.
        match self.scheduler().slots[victim].stealer.steal_batch_and_pop(&self.queue) {
            Steal::Success(task) => {
                counters.steals.add(1);
                counters.stolen_items.add(1 + self.queue.len() as u64);
                Some(task)
            }
            Steal::Empty | Steal::Retry => None,
        }
    }

    fn park(&self, searching: bool) -> Woken {
        let scheduler = self.scheduler();
        let slept = time::now();
        let counters = &self.slot().counters;
        counters.parks.add(1);
        let watch = scheduler.policy == Policy::Stealing;
        let mut seen = Sightings::default();
        let woken = scheduler.idle.park(
            self.index,
            searching,
            watch,
            || scheduler.has_work(self.index),
            || scheduler.stuck_victim(&mut seen).is_some(),
            || {
                scheduler.quiet.announce();
                // It ran wakers, which may have made work ready here, after the last look and out of others' sight.
                self.give_away();
            },
        );
        counters.wakes.add(1);
        counters.parked_ns.add((time::now() - slept).as_nanos() as u64);
        woken
    }

    /// Takes what waits behind a long turn: the victim's queue first (it is older), then its LIFO slot.
    fn rescue(&self) -> Option<Task> {
        let scheduler = self.scheduler();
        let victim = scheduler.rescue_from.load(Relaxed);
        self.steal_from(victim).or_else(|| {
            let task = scheduler.slots[victim].lifo.take()?;
            self.slot().counters.stolen_items.add(1);
            Some(task)
        })
    }

    /// See [`Scheduler::begin_blocking`].
    #[must_use]
    pub(crate) fn begin_blocking(&self) -> bool {
        self.scheduler().begin_blocking(self)
    }

    /// See [`Scheduler::end_blocking`].
    pub(crate) fn end_blocking(&self) {
        self.scheduler().end_blocking();
    }

    /// Gives all local work to the others: this thread is about to block inside a turn, or parked already.
    pub(crate) fn give_away(&self) {
        let scheduler = self.scheduler();
        while let Some(task) = self.slot().lifo.take().or_else(|| self.queue.pop()) {
            scheduler.push_from_outside(task);
        }
    }
}

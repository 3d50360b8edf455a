//! A worker's own side: its queue, its choice of what to run next, and what it does between two turns.
//!
//! What comes next, in this order: the LIFO slot (a bounded run of it), the local queue (in turns with what is
//! [kept](super::bound) here), the worker's own inbox, the injector (a fair share of the time even while there is local
//! work), and then what a search finds ([`dry`](super::dry)).

use super::bound;
use super::pace::{CLOCK_EVERY, HURRY};
use super::queue::{Policy, Slot, retry};
use super::task::{After, Task, TaskHeader};
use super::theft::Theft;
use super::{Scheduler, Seat};
use crate::memory::Heap;
use crate::sync::Ordering::Relaxed;
use crate::time::{self, Instant};
use crossbeam_deque::Worker;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::cell::{Cell, RefCell};
use std::ptr::{self, NonNull};

/// Runs of the LIFO slot in a row before the local queue gets its turn: two actors that only talk to each other do
/// not keep the others waiting.
const LIFO_RUN: u32 = 16;
/// Own work that takes longer than this to get to is worth waking a sibling for (a wake costs about 15 us here and
/// 50 us there).
const WORTH_A_WAKE_NS: u64 = 30_000;

thread_local! {
    static LOCAL: Cell<*const Local> = const { Cell::new(ptr::null()) };
}

/// A worker: what lies at its slot, for the thread that holds that. Which one it is may change inside a turn
/// ([`spares`](super::spares)), so no reference to it may live across user code.
pub(crate) struct Local {
    scheduler: *const Scheduler,
    slot: *const Slot,
    pub(super) index: usize,
    pub(super) queue: Worker<Task>,
    /// See [`bound`](super::bound): what siblings do not see, and whether the last turn was one of it.
    pub(super) kept: Worker<Task>,
    pub(super) kept_last: Cell<bool>,
    /// Is there anything in it? Looked at every turn.
    pub(super) keeps: Cell<bool>,
    /// Claimed while this worker is awake.
    heap: *const Heap,
    pub(super) rng: RefCell<SmallRng>,
    pub(super) lifo_run: Cell<u32>,
    /// The turn at which the clock was last read.
    pub(super) clock_turn: Cell<u64>,
    /// Outside work came while nobody was free, and has had no share since.
    pub(super) outside_waits: Cell<bool>,
    /// When outside work last had its share, by the last reading of the clock.
    pub(super) last_share: Cell<Instant>,
    /// Turns have the time until then, however many timers are due.
    pub(super) timers_again: Cell<Instant>,
    pub(super) injector_in: Cell<u32>,
    pub(super) clock: Cell<Instant>,
    pub(super) busy_since: Cell<Instant>,
    /// How well spinning paid lately.
    pub(super) spin_credit: Cell<u32>,
    /// Messages have lately been long, so that the clock must be read more often.
    pub(super) long_messages: Cell<bool>,
    /// A turn's length in nanoseconds, from the reading of the clock before the last to that.
    pub(super) turn_before: Cell<u64>,
    /// The last one, until this worker runs dry.
    pub(super) theft: Cell<Option<Theft>>,
    pub(super) account: Account,
}

/// How a thread comes to a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrives {
    /// The slot is awake.
    Awake,
    /// It is parked, or was when the thread was called.
    Lying,
    /// The thread has unparked it to rescue what is stuck.
    Catching,
}

/// What the floors above keep of a worker; opaque here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    pub(crate) at: NonNull<()>,
    /// Called on the worker's thread before it goes to sleep, and at its end.
    pub(crate) settle: fn(NonNull<()>),
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Local {
    /// Puts up worker k's things at its slot.
    pub(super) fn furnish(scheduler: &Scheduler, seat: Seat, account: Account) {
        let Seat { index, queue, kept } = seat;
        let start = time::now();
        let slot = &scheduler.slots[index];
        slot.counters.mean_turn_ns.set(1_000);
        let local = Local {
            scheduler,
            slot,
            index,
            queue,
            kept,
            kept_last: Cell::new(false),
            keeps: Cell::new(false),
            heap: scheduler.memory.of_worker(index),
            rng: RefCell::new(SmallRng::seed_from_u64(index as u64)),
            lifo_run: Cell::new(0),
            clock_turn: Cell::new(0),
            outside_waits: Cell::new(false),
            last_share: Cell::new(start),
            timers_again: Cell::new(start),
            injector_in: Cell::new(1),
            clock: Cell::new(start),
            busy_since: Cell::new(start),
            spin_credit: Cell::new(8),
            long_messages: Cell::new(true),
            turn_before: Cell::new(1_000),
            theft: Cell::new(None),
            account,
        };
        // Relaxed, as in `sit`: whatever makes another thread the slot's holder carries it.
        slot.local.store(Box::into_raw(Box::new(local)), Relaxed);
    }

    /// Holds a slot, at which this thread may be called to lie down first: works until the crew stops (`true`), or the
    /// slot is lost in a turn.
    ///
    /// # Safety
    /// The slot is this thread's.
    pub(super) unsafe fn hold(scheduler: &Scheduler, slot: usize, arrives: Arrives) -> bool {
        // Where it was pinned before, if anywhere, is another worker's core. If that fails it still works.
        let _better_than_nobody = scheduler.slots[slot].pin_here();
        let mut task = if arrives != Arrives::Awake {
            let at = scheduler.slots[slot].local.load(Relaxed);
            LOCAL.set(at);
            // SAFETY: the slot's holder has what lies there for itself.
            unsafe { &*at }.lie_down(arrives == Arrives::Catching)
        } else {
            // SAFETY: the caller's.
            let local = unsafe { Local::sit(scheduler, slot) };
            // If each turn costs its thread the slot, nobody comes to the end of a turn here.
            local.tend_timers(local.clock.get(), false);
            local.look().or_else(|| local.idle())
        };
        let at = loop {
            while let Some(runnable) = task {
                runnable.prefetch();
                let (header, after) = runnable.run();
                // A turn may cost this thread its slot.
                // SAFETY: set only while this thread holds what it points to.
                let Some(local) = (unsafe { LOCAL.get().as_ref() }) else {
                    scheduler.turn_over_without_slot(header, after);
                    return false;
                };
                local.turn_over(header, after);
                task = local.next().or_else(|| local.idle());
            }
            // A slot is not lost but in a turn, so it is still this thread's.
            let at = LOCAL.get();
            // SAFETY: this thread holds the slot.
            task = unsafe { &*at }.last_task();
            if task.is_none() {
                break at;
            }
        };
        // SAFETY: this thread holds the slot.
        unsafe { &*at }.rest();
        LOCAL.set(ptr::null());
        // SAFETY: made by `furnish`, and its last holder is here.
        drop(unsafe { Box::from_raw(at.cast_mut()) });
        true
    }

    /// Takes up the work at a slot.
    ///
    /// # Safety
    /// The slot is this thread's, and not asleep.
    pub(super) unsafe fn sit(scheduler: &Scheduler, slot: usize) -> &Local {
        let at = scheduler.slots[slot].local.load(Relaxed);
        LOCAL.set(at);
        // SAFETY: the slot's holder has what lies there for itself; it lies there until the crew's end.
        let local = unsafe { &*at };
        local.heap().claim();
        // What was before is nobody's work, and no turn of its usual length.
        let now = time::now();
        local.clock.set(now);
        local.busy_since.set(now);
        let turns = local.slot().counters.turns.get();
        local.clock_turn.set(turns);
        let due = if scheduler.outside_work_hurries() { HURRY } else { turns + u64::from(CLOCK_EVERY) };
        local.slot().counters.clock_due.set(due);
        local
    }

    /// Gives up the slot, in the middle of a turn: which one it was, and does anything wait in its queues?
    pub(super) fn stand_up() -> (usize, bool) {
        let left = Local::with_any(|local| {
            let local = local.expect("who stands up has sat");
            local.count_busy(time::now());
            local.leave_heap();
            (local.index, !local.slot().lifo.is_empty() || !local.queue.is_empty() || local.keeps.get())
        });
        LOCAL.set(ptr::null());
        left
    }

    pub(super) fn has_seat() -> bool {
        !LOCAL.get().is_null()
    }

    /// What this thread holds, for [`restore_seat`](Self::restore_seat).
    pub(super) fn seat() -> *const Local {
        LOCAL.get()
    }

    /// Makes this thread the holder of what it held before, or of nothing.
    pub(super) fn restore_seat(at: *const Local) {
        LOCAL.set(at);
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
        // SAFETY: set only while this thread holds what it points to, and the reference does not outlive `f`: user code,
        // which may give the slot away, does not run in there while its turn does.
        f(unsafe { local.as_ref() })
    }

    /// Calls `f` with this thread's heap, if it is a worker of any crew: for giving memory up.
    #[inline]
    pub(crate) fn with_heap<R>(f: impl FnOnce(Option<&Heap>) -> R) -> R {
        Local::with_any(|local| f(local.map(Local::heap)))
    }

    pub(super) fn scheduler(&self) -> &Scheduler {
        // SAFETY: who holds the slot borrows the scheduler for longer.
        unsafe { &*self.scheduler }
    }

    pub(super) fn slot(&self) -> &Slot {
        // SAFETY: part of the scheduler.
        unsafe { &*self.slot }
    }

    /// Memory for what this worker makes.
    #[inline]
    pub(crate) fn heap(&self) -> &Heap {
        // SAFETY: part of the scheduler.
        unsafe { &*self.heap }
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Should a turn on this thread read the clock at its beginning and after each message?
    #[inline]
    pub(crate) fn long_messages() -> bool {
        Local::with_any(|local| local.is_none_or(|local| local.long_messages.get()))
    }

    pub(crate) fn set_long_messages(long: bool) {
        Local::with_any(|local| {
            if let Some(local) = local {
                local.long_messages.set(long);
            }
        });
    }

    #[inline]
    pub(crate) fn account(&self) -> NonNull<()> {
        self.account.at
    }

    /// After a turn: what becomes of the runnable, and is it time to look at the clock?
    #[inline]
    fn turn_over(&self, header: NonNull<TaskHeader>, after: After) {
        match after {
            After::Gone => {}
            After::Errand => return self.errand_over(),
            // SAFETY: the turn gave the runnable back, so this is the only one.
            After::Requeue => self.push_back(unsafe { Task::from_raw(header) }),
            After::RequeueGap => {
                // SAFETY: as above.
                self.push_back(unsafe { Task::from_raw(header) });
                std::thread::yield_now();
            }
            // SAFETY: as above.
            After::RequeueOutside => self.push_back_outside(unsafe { Task::from_raw(header) }),
        }
        let counters = &self.slot().counters;
        counters.turns.add(1);
        if counters.turns.get() >= counters.clock_due.get() {
            self.read_clock();
        }
    }

    /// A runnable that became ready on this worker: it runs next, here.
    #[inline]
    pub(crate) fn push(&self, task: Task) {
        if task.is_bound() {
            return self.push_bound(task);
        }
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
    pub(super) fn push_back(&self, task: Task) {
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

    /// Wakes a sibling when what waits here would take long. A guess that may be wrong: the sentinel is the net.
    #[inline]
    fn maybe_notify(&self) {
        let idle = &self.scheduler().idle;
        if idle.somebody_to_wake()
            && self.slot().backlog_ns() > WORTH_A_WAKE_NS.max(self.scheduler().worth.ns())
        {
            idle.notify();
        }
    }

    /// What comes next here, where it is not looked for every turn.
    #[inline(never)]
    pub(super) fn look(&self) -> Option<Task> {
        self.next()
    }

    /// What comes next here. In line where turns follow each other, since that is a good part of what a turn costs.
    #[inline(always)]
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
        if self.keeps.get() {
            return self.next_of_both();
        }
        self.queue.pop().or_else(|| slot.lifo.take()).or_else(|| self.take_outside())
    }

    /// Every now and then outside work goes first.
    #[cold]
    fn fair_share(&self) -> Option<Task> {
        // What came into the inbox is kept work from now on; it goes first only where the injector has nothing.
        let kept = self.empty_inbox();
        let found = self.take_injected().or_else(|| kept.then(|| self.pop_kept()).flatten());
        self.last_share.set(self.clock.get());
        self.outside_waits.set(false);
        // Not twice in a row: inside work must not starve either.
        let least = if found.is_some() { 2 } else { 1 };
        self.injector_in.set(self.injector_interval().max(least));
        found
    }

    pub(super) fn take_outside(&self) -> Option<Task> {
        self.take_inbox().or_else(|| self.take_injected())
    }

    /// What any worker may run, from the injector.
    pub(super) fn take_injected(&self) -> Option<Task> {
        let scheduler = self.scheduler();
        if scheduler.injector.is_empty() {
            return None;
        }
        let task = match scheduler.policy {
            // Under `Sharded` these are errands: see [`errand`](super::errand).
            Policy::SharedQueue | Policy::Sharded => retry(|| scheduler.injector.steal()),
            Policy::Stealing => {
                // A fair part of it, so that the others find something too.
                let part = (scheduler.injector.len() / scheduler.slots.len() + 1).clamp(1, 32);
                retry(|| scheduler.injector.steal_batch_with_limit_and_pop(&self.queue, part))
            }
        };
        if task.is_some() {
            if scheduler.hurried.load(Relaxed) {
                scheduler.hurried.store(false, Relaxed);
            }
            self.slot().counters.injector_takes.add(1);
        }
        task
    }

    /// Takes a runnable from a sibling's local queue, under every policy, and however soon its owner
    /// would run it. For the crew's end, when all that waits are [errands](super::errand).
    pub(super) fn take_from_siblings(&self) -> Option<Task> {
        let siblings = self.scheduler().slots.iter().enumerate().filter(|&(slot, _)| slot != self.index);
        siblings.into_iter().find_map(|(_, slot)| retry(|| slot.stealer.steal()))
    }

    /// Gives all local work to the others: this thread is about to block inside a turn.
    pub(crate) fn give_away(&self) {
        let scheduler = self.scheduler();
        while let Some(task) = self.slot().lifo.take().or_else(|| bound::pop(&self.queue)) {
            scheduler.push_from_outside(task);
        }
        while let Some(task) = self.pop_kept() {
            scheduler.send_home(self.index, task);
        }
    }
}

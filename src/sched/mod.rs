//! Floor 1: the scheduler. It moves runnables between workers and never names an actor or a
//! message.
//!
//! - [`runnable`]: the runnables
//! - [`queue`], [`lifo`]: where runnables wait; the policies; [`affinity`]: runnables that must run
//!   in one place
//! - [`worker`]: one worker, from taking a runnable to the end of its turn; [`search`]: from
//!   running dry to parking; [`pace`]: readings of the clock
//! - [`dedicated`]: threads with one actor each
//! - [`errand`]: user code that belongs to no actor's turn, as a runnable
//! - [`idle`]: the idle protocol and its proof; [`turn_rates`]: the sentinel's memory;
//!   [`steal_threshold`]: which work is worth stealing
//! - [`crew_thread`]: a thread of the crew; [`spares`]: threads that take over from a thread that
//!   blocks; [`blocking`]: the blocked thread
//! - [`gate`]: the entry for outside threads; [`quiescence`]: waits for quiescence
//! - [`alarm`]: the instant of the next timer, and the worker that wakes for it; [`timers`]: armed
//!   timers

pub(crate) mod affinity;
pub(crate) mod alarm;
pub(crate) mod blocking;
pub(crate) mod crew_thread;
pub(crate) mod dedicated;
pub(crate) mod errand;
pub(crate) mod gate;
pub(crate) mod habit;
pub(crate) mod idle;
pub(crate) mod lifo;
mod pace;
pub(crate) mod queue;
pub(crate) mod quiescence;
pub(crate) mod runnable;
mod search;
pub(crate) mod spares;
mod steal_threshold;
pub(crate) mod timers;
mod turn_rates;
pub(crate) mod worker;

use crate::fork::Birth;
use crate::memory::MemoryPool;
use crate::sync::{AtomicBool, AtomicUsize, Ordering::*, Padded, ThreadWaker, chaos};
use crate::time::Duration;
use crate::user::Site;
use crew_thread::{CrewThread, Recruit};
use crossbeam_deque::{Injector, Worker as LocalQueue};
use dedicated::DedicatedTurns;
use errand::OwedChores;
use gate::Gate;
use idle::{Crew, Idle, Watched};
use queue::{Policy, Slot};
use quiescence::QuiescenceWaiters;
use runnable::Runnable;
use spares::{Assignment, Elsewhere, Spare, Spares};
use std::sync::Arc;
use std::task::{RawWakerVTable, Waker};
use steal_threshold::StealThreshold;
use timers::Timers;
use turn_rates::TurnRates;
use worker::{Arrives, Worker, WorkerData};

/// The sentinel wakes up for work that would wait longer than this behind a sibling's turn.
const STUCK: Duration = Duration::from_micros(900);

/// Shared state of a crew.
#[derive(Debug)]
pub(crate) struct Scheduler {
    pub(crate) birth: Birth,
    pub(crate) policy: Policy,
    /// Whether the process may use one processor only. Then nothing changes while a thread spins.
    pub(crate) one_processor: bool,
    pub(crate) slots: Box<[Slot]>,
    pub(crate) idle: Idle,
    pub(crate) gate: Gate,
    pub(crate) quiet: QuiescenceWaiters,
    pub(crate) timers: Timers,
    apart: Padded<DedicatedTurns>,
    pub(crate) memory: MemoryPool,
    injector: Injector<Runnable>,
    errands: OwedChores,
    /// The table of all wakers that unpark a thread.
    thread_waker: &'static RawWakerVTable,
    /// Whether workers were asked to look at outside work soon, and none has taken any since. A
    /// hint: Relaxed.
    hurried: AtomicBool,
    /// The worker that is asked next.
    next_asked: AtomicUsize,
    steal_threshold: StealThreshold,
    pub(crate) spares: Spares,
    /// Turns on threads without a slot.
    elsewhere: Elsewhere,
    /// Number of slots kept by threads that block.
    blocked_slots: AtomicUsize,
    /// Number of runnables held by a timer.
    delayed: AtomicUsize,
}

/// Result of a look for quiescence.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quiescence {
    /// Nothing runs, nothing waits, and no thread is on its way in.
    Quiet,
    /// A thread works; the last one to come to rest announces.
    Busy,
    /// A thread from outside is between two steps: look again at once.
    Entering,
}

/// How a thread joins the crew: as a worker or as a spare.
#[derive(Debug)]
pub(crate) enum Arrival {
    Worker(WorkerInit),
    Spare(Arc<Spare>),
}

/// A worker's queues, for the thread that will be that worker.
#[derive(Debug)]
pub(crate) struct WorkerInit {
    index: usize,
    queue: LocalQueue<Runnable>,
    /// Queue of actors bound to this worker: see [`affinity`].
    pinned_queue: LocalQueue<Runnable>,
}

impl WorkerInit {
    pub(crate) fn index(&self) -> usize {
        self.index
    }
}

impl Scheduler {
    /// Makes a crew's shared state, and the seats for its threads. Every seat must be taken by
    /// [`run_crew_thread`](Self::run_crew_thread). `cores` says where each worker is pinned, or is
    /// empty.
    pub(crate) fn new(
        workers: usize,
        policy: Policy,
        cores: &[usize],
        spares: Spares,
    ) -> (Self, Vec<WorkerInit>) {
        // First in, first out: a thief takes the oldest work, and a batch costs one
        // compare-and-swap.
        let inits: Vec<WorkerInit> = (0..workers)
            .map(|index| WorkerInit {
                index,
                queue: LocalQueue::new_fifo(),
                pinned_queue: LocalQueue::new_fifo(),
            })
            .collect();
        let birth = Birth::in_this_process();
        let scheduler = Scheduler {
            memory: MemoryPool::new(workers, birth.clone()),
            birth,
            policy,
            one_processor: std::thread::available_parallelism().is_ok_and(|n| n.get() == 1),
            slots: inits
                .iter()
                .map(|init| Slot::new(init.queue.stealer(), cores.get(init.index).copied()))
                .collect(),
            idle: Idle::new(workers),
            gate: Gate::new(),
            quiet: QuiescenceWaiters::new(),
            timers: Timers::new(),
            apart: Padded(DedicatedTurns::new()),
            injector: Injector::new(),
            errands: OwedChores::new(),
            thread_waker: ThreadWaker::new().to_waker().vtable(),
            hurried: AtomicBool::new(false),
            next_asked: AtomicUsize::new(0),
            steal_threshold: StealThreshold::new(),
            spares,
            elsewhere: Elsewhere::new(),
            blocked_slots: AtomicUsize::new(0),
            delayed: AtomicUsize::new(0),
        };
        (scheduler, inits)
    }

    /// Tells the scheduler that it stays at this address. Until then it has no crew.
    ///
    /// # Safety
    /// No other thread uses the scheduler yet.
    pub(crate) unsafe fn is_placed(&self) {
        // SAFETY: no other thread uses the scheduler, so none uses the mark.
        unsafe { self.birth.belongs_to(std::ptr::from_ref(self).addr()) };
    }

    /// Runs a thread of the crew. Returns `true` for a spare that was not needed any more, `false`
    /// if the crew has stopped. `worker_data` returns worker k's data.
    pub(crate) fn run_crew_thread(
        &self,
        arrival: Arrival,
        worker_data: impl FnOnce(usize) -> WorkerData,
        recruit: &Recruit<'_>,
    ) -> bool {
        let (spare, mut call) = match arrival {
            Arrival::Worker(init) => {
                let slot = init.index;
                Worker::install(self, init, worker_data(slot));
                (Spare::new(), Some(Assignment::Run(slot)))
            }
            Arrival::Spare(spare) => (spare, None),
        };
        let crew_thread = CrewThread::new(self, spare, recruit);
        // SAFETY: declared after `crew_thread`, so dropped before it.
        let _enlisted = unsafe { crew_thread.enter_crew() };
        let mut free = false;
        loop {
            let call = match call.take() {
                Some(first) => first,
                None => {
                    let Some(call) = self.wait_as_spare(&crew_thread.spare, free) else { return true };
                    self.spares.counts.hand_overs.add_shared(u64::from(call != Assignment::Exit));
                    call
                }
            };
            // From the second call on this thread has come back without a slot.
            free = true;
            let stopped = match call {
                // SAFETY: a thread called to a slot holds the slot.
                Assignment::Run(slot) => unsafe { Worker::hold_slot(self, slot, Arrives::Awake) },
                // SAFETY: a thread called to a slot holds the slot.
                Assignment::Park(slot) => unsafe { Worker::hold_slot(self, slot, Arrives::Lying) },
                // SAFETY: the thread took the slot itself, in `catch_at`.
                Assignment::Catch(slot) => unsafe { Worker::hold_slot(self, slot, Arrives::Catching) },
                Assignment::Exit => {
                    self.spares.count_ended();
                    true
                }
                Assignment::Idle | Assignment::Watch => true,
            };
            if stopped {
                return false;
            }
        }
    }

    /// Runs a spare until it holds a slot, or ends. Meanwhile it may watch, without a slot.
    fn wait_as_spare(&self, spare: &Arc<Spare>, free: bool) -> Option<Assignment> {
        let mut call = self.spares.wait_for_call(spare, free)?;
        while call == Assignment::Watch {
            self.spares.sleeps_timed(spare);
            let mut seen = TurnRates::default();
            call = match self.idle.watch_as_spare(spare, || self.mark_stuck(&mut seen)) {
                Watched::Called(call) => call,
                Watched::Caught(slot) => Assignment::Catch(slot),
                Watched::Over => self.spares.wait_for_call(spare, false)?,
            };
        }
        Some(call)
    }

    /// Tells the crew to end once it has no work. Does nothing in a forked child, where there is no
    /// crew, and where a thread of the parent may hold each lock for ever.
    pub(crate) fn stop_crew(&self) {
        if self.is_forked() {
            return;
        }
        // First the wakers: a worker that sees the stop also sees their errands in a queue. One
        // errand for each waker, where every worker looks: a waker that blocks holds up no other.
        self.quiet.end_all_waits(|wakers| {
            let errands = wakers
                .into_iter()
                .filter_map(|waker| self.make_errand(Site::Waker, vec![waker], Waker::wake));
            errands.for_each(|errand| self.inject(errand));
        });
        self.idle.stop_workers();
        self.spares.end_free_spares();
    }

    /// Tells waiting threads if the crew is quiet now, after a turn on a thread that is no worker.
    fn announce_from_elsewhere(&self) {
        self.quiet.announce_rest(
            || self.check_quiescence(),
            |wakers| {
                if wakers.is_empty() {
                    // A sender is entering. The worker of this errand parks afterwards, and looks
                    // again.
                    self.wake_all(vec![Waker::noop().clone()]);
                } else {
                    self.wake_all(wakers);
                }
            },
        );
    }

    /// Takes a runnable, from any thread.
    #[inline]
    pub(crate) fn schedule(&self, task: Runnable) {
        Worker::with(self, |worker| match worker {
            Some(worker) => worker.push(task),
            None if self.is_forked() => {} // the runnable is forgotten
            None => self.push_from_outside(task),
        });
    }

    /// Returns `true` in a forked child, where the crew's threads do not exist, and may hold any
    /// lock for ever. Nothing of the crew may be locked or waited for then. Cheap.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.birth.is_forked()
    }

    /// Like [`schedule`](Self::schedule), for a thread that is known not to be a worker of the
    /// crew, in no forked child.
    pub(crate) fn push_from_outside(&self, task: Runnable) {
        if task.is_bound() {
            return self.send_bound(task);
        }
        match self.policy {
            Policy::Stealing | Policy::SharedQueue => self.inject(task),
            Policy::Sharded => self.push_to_worker(task.shard_of(self.slots.len()), task),
        }
    }

    fn inject(&self, task: Runnable) {
        self.injector.push(task);
        chaos();
        if self.idle.notify_any() && !self.hurried.load(Relaxed) {
            self.hurry_workers();
        }
    }

    /// Asks two workers to look at the clock soon. Called when outside work came and all workers
    /// are in turns, perhaps in long ones.
    #[cold]
    fn hurry_workers(&self) {
        if self.policy != Policy::Stealing {
            return;
        }
        self.hurried.store(true, Relaxed);
        let first = self.next_asked.load(Relaxed);
        // Two threads at the same moment may ask the same workers.
        self.next_asked.store(first.wrapping_add(1), Relaxed);
        for worker in first..first.wrapping_add(2.min(self.slots.len())) {
            self.slots[worker % self.slots.len()].counters.clock_due.set(pace::HURRY);
        }
    }

    /// Returns `true` if a worker was asked to hurry for outside work that is still there.
    fn outside_work_hurries(&self) -> bool {
        self.hurried.load(Relaxed) && !self.injector.is_empty()
    }

    fn push_to_worker(&self, home: usize, task: Runnable) {
        self.slots[home].inbox.push(task);
        chaos();
        self.idle.notify_worker(home);
    }

    /// Returns `true` if there is anything that worker `me` should take. LIFO slots do not count,
    /// nor does work that an awake sibling gets to soon. Both are left to their owners and the
    /// sentinel.
    fn has_work(&self, me: usize) -> bool {
        !self.injector.is_empty()
            || !self.slots[me].inbox.is_empty()
            || (self.policy == Policy::Stealing
                && self.slots.iter().any(|slot| slot.wants_thieves(&self.steal_threshold)))
    }

    /// Returns `true` if a parked worker can help with work behind a long turn.
    fn has_sentinel(&self) -> bool {
        self.policy == Policy::Stealing
    }

    /// Returns the number of runnables in all queues. A snapshot, only about right while they move.
    pub(crate) fn waiting_runnables(&self) -> usize {
        let of = |slot: &Slot| slot.inbox.len() + slot.stealer.len() + usize::from(!slot.lifo.is_empty());
        self.injector.len() + self.slots.iter().map(of).sum::<usize>()
    }

    /// The sentinel's look: marks each slot with work that will have to wait long, at the queue's
    /// pace since the last look. Returns `true` if there is any.
    fn mark_stuck(&self, seen: &mut TurnRates) -> bool {
        let Some(paces) = seen.sample(&self.slots) else { return false };
        let mut any = false;
        for (slot, (turns, pace)) in self.slots.iter().zip(paces) {
            let waiting = slot.stealer.len() + usize::from(!slot.lifo.is_empty());
            if waiting > 0 && pace * u32::try_from(waiting).unwrap_or(u32::MAX) > STUCK {
                slot.mark_stuck(turns);
                any = true;
            } else if slot.is_marked() {
                slot.clear_stuck();
            }
        }
        any
    }

    /// Looks whether everything accepted before the call is over, with all consequences.
    ///
    /// All workers are parked in one and the same epoch before and after all queues were seen
    /// empty. So none was awake in between, and none left anything behind. The same goes for the
    /// [dedicated threads](dedicated). Senders on their way in are seen first (see [`gate`]). After
    /// leaving the gate a sender's runnable is in a queue, or has woken a worker, which moves the
    /// epoch. No turn is elsewhere, after the first reading of the epoch, and none began in this
    /// epoch, so none has been since.
    ///
    /// A crew that has been told to stop has no work left, and parks no more.
    pub(crate) fn check_quiescence(&self) -> Quiescence {
        if self.idle.is_stopping() {
            return Quiescence::Quiet;
        }
        let still = || Some((self.idle.all_parked()?, self.apart.word_if_asleep()?));
        let Some(before) = still() else { return Quiescence::Busy };
        if self.elsewhere.any_elsewhere() {
            return Quiescence::Busy;
        }
        // After turns, which could have given a runnable away, and before senders, which could be
        // about to push. Acquire: pairs with `uncount_delayed`.
        if self.delayed.load(Acquire) > 0 {
            return Quiescence::Busy;
        }
        if self.gate.any_inside() {
            return Quiescence::Entering;
        }
        let empty = self.injector.is_empty()
            && self
                .slots
                .iter()
                .all(|slot| slot.inbox.is_empty() && slot.stealer.is_empty() && slot.lifo.is_empty());
        let after: Option<(Crew, u64)> = still();
        if !empty {
            // Pushed, and the pusher is about to notify.
            Quiescence::Entering
        } else if after == Some(before) {
            Quiescence::Quiet
        } else {
            Quiescence::Busy
        }
    }

    /// Counts the current turn's runnable, which is about to be given to a timer. Until it comes
    /// back nothing is quiet.
    pub(crate) fn count_delayed(&self) {
        // Relaxed: seeing the turn over, with the worker parked, includes seeing the count.
        self.delayed.fetch_add(1, Relaxed);
    }

    /// Counts out such a runnable, which is about to be pushed: by a worker, or by a thread inside
    /// the gate.
    pub(crate) fn uncount_delayed(&self) {
        // Release: where the count misses the runnable, its pusher is awake or inside the gate, or
        // the runnable is in a queue.
        self.delayed.fetch_sub(1, Release);
    }
}

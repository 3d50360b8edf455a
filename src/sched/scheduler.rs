//! The shared state of a crew, and the ways of a runnable into its queues.

use super::chores::{ActorlessThreads, OwedChores};
use super::dedicated_turns::DedicatedTurns;
use super::gate::Gate;
use super::idle::Idle;
use super::queue::{HURRY, Policy, Slot};
use super::quiescence::QuiescenceWaiters;
use super::runnable::Runnable;
use super::spares::{Elsewhere, Spares};
use super::steal_threshold::StealThreshold;
use super::timers::Timers;
use super::worker::Worker;
use crate::fork::Birth;
use crate::memory::MemoryPool;
use crate::sync::{AtomicBool, AtomicUsize, Ordering::*, Padded, ThreadWaker, chaos};
use crossbeam_deque::{Injector, Worker as LocalQueue};
use std::task::RawWakerVTable;

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
    pub(super) apart: Padded<DedicatedTurns>,
    pub(crate) memory: MemoryPool,
    pub(super) injector: Injector<Runnable>,
    pub(super) errands: OwedChores,
    pub(crate) actorless: ActorlessThreads,
    /// The table of all wakers that unpark a thread.
    pub(super) thread_waker: &'static RawWakerVTable,
    /// Whether workers were asked to look at outside work soon, and none has taken any since. A
    /// hint: Relaxed.
    pub(super) hurried: AtomicBool,
    /// The worker that is asked next.
    pub(super) next_asked: AtomicUsize,
    pub(super) steal_threshold: StealThreshold,
    pub(crate) spares: Spares,
    /// Turns on threads without a slot.
    pub(super) elsewhere: Elsewhere,
    /// Number of slots kept by threads that block.
    pub(super) blocked_slots: AtomicUsize,
    /// Number of runnables held by a timer.
    pub(super) delayed: AtomicUsize,
}

/// A worker's queues, for the thread that will be that worker.
#[derive(Debug)]
pub(crate) struct WorkerInit {
    pub(super) index: usize,
    pub(super) queue: LocalQueue<Runnable>,
    /// Queue of actors bound to this worker: see [`affinity`](super::affinity).
    pub(super) pinned_queue: LocalQueue<Runnable>,
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
                .map(|init| {
                    let core = cores.get(init.index).copied();
                    Slot::new(init.queue.stealer(), init.pinned_queue.stealer(), core)
                })
                .collect(),
            idle: Idle::new(workers),
            gate: Gate::new(),
            quiet: QuiescenceWaiters::new(),
            timers: Timers::new(),
            apart: Padded(DedicatedTurns::new()),
            injector: Injector::new(),
            errands: OwedChores::new(),
            actorless: ActorlessThreads::default(),
            // Made for the address of its table, by which `wake_blocked_threads` knows such wakers.
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

    /// Takes a runnable, from any thread.
    #[inline]
    pub(crate) fn schedule(&self, task: Runnable) {
        Worker::with(self, |worker| self.schedule_at(worker, task));
    }

    /// Like [`schedule`](Self::schedule), for a caller that has looked up its worker.
    #[inline]
    pub(crate) fn schedule_at(&self, worker: Option<&Worker>, task: Runnable) {
        match worker {
            Some(worker) => worker.push(task),
            None if self.is_forked() => {} // the runnable is forgotten
            None => self.push_from_outside(task),
        }
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

    pub(super) fn inject(&self, task: Runnable) {
        self.injector.push(task);
        chaos();
        if self.idle.notify_any() && !self.hurried.load(Relaxed) {
            self.hurry_workers();
        }
    }

    /// Asks two workers to look at the clock soon. Called when outside work came and all workers
    /// are in turns, perhaps in long ones.
    #[cold]
    pub(super) fn hurry_workers(&self) {
        if self.policy != Policy::Stealing {
            return;
        }
        self.hurried.store(true, Relaxed);
        let first = self.next_asked.load(Relaxed);
        // Two threads at the same moment may ask the same workers.
        self.next_asked.store(first.wrapping_add(1), Relaxed);
        for worker in first..first.wrapping_add(2.min(self.slots.len())) {
            self.slots[worker % self.slots.len()].counters.clock_due.set(HURRY);
        }
    }

    /// Returns `true` if a worker was asked to hurry for outside work that is still there.
    pub(super) fn outside_work_hurries(&self) -> bool {
        self.hurried.load(Relaxed) && !self.injector.is_empty()
    }

    pub(super) fn push_to_worker(&self, home: usize, task: Runnable) {
        self.slots[home].inbox.push(task);
        chaos();
        self.idle.notify_worker(home);
    }

    /// Returns `true` if there is anything that worker `me` should take. LIFO slots do not count,
    /// nor does work that an awake sibling gets to soon. Both are left to their owners and the
    /// sentinel.
    pub(super) fn has_work(&self, me: usize) -> bool {
        !self.injector.is_empty()
            || !self.slots[me].inbox.is_empty()
            || (self.policy == Policy::Stealing
                && self.slots.iter().any(|slot| slot.wants_thieves(&self.steal_threshold)))
    }

    /// Returns `true` if a parked worker can help with work behind a long turn.
    pub(super) fn has_sentinel(&self) -> bool {
        self.policy == Policy::Stealing
    }

    /// Returns the number of runnables in all queues. A snapshot, only about right while they move.
    pub(crate) fn waiting_runnables(&self) -> usize {
        self.injector.len() + self.slots.iter().map(Slot::waiting_runnables).sum::<usize>()
    }
}

//! A pool's life: losses and successors, a change of size, the end.
//!
//! | event | reaction | finished when |
//! |---|---|---|
//! | a state is lost | see `cell::restart`: at once, delayed, or never | the factory made another |
//! | the pool grows | new replicas; a *mark* in each old mailbox | each mark was passed |
//! | it shrinks | the last replicas are hidden, then closed, and drain | each has ended |
//! | it stops | senders are refused; the queue is closed, then the replicas | all have ended |
//! | it stops at once | all are closed; waiting messages become dead letters | all have ended |
//!
//! **How a key's order is kept while the pool changes.** A key moves from one replica to another
//! because its hash jumps elsewhere. When the roster has changed, all earlier messages of the key
//! are in the old replica's mailbox, or in line for it, as the stripes' locks guarantee. Later
//! messages go into a *hold* for this pair of replicas, a mailbox that no actor takes from. The
//! first such message makes the hold ([`key_move`](super::key_move)). When the old replica has
//! reached the mark (or its end), all earlier messages are handled. Then, with no sender on its
//! way, the hold is emptied into the new replica's mailbox, and the key's messages go there
//! directly. So each key waits for its own old replica only, and nothing else waits. The new
//! mailbox may exceed its capacity for a moment: messages from holds are not refused by a full
//! mailbox.

mod change;
mod ending;

use super::error::{PoolError, PoolStopReason};
use super::factory::{Factory, StateFactory, States};
use super::failures::FailureWindow;
use super::key_move::KeyMove;
use super::replica::{Replica, ReplicaCounts};
use super::roster::{OUTSIDE, Roster, Stripe, Stripes};
use super::strategy::{Route, Strategy};
use crate::actor::Actor;
use crate::actor::handle::Handle;
use crate::actor::refs::ActorRef;
use crate::actor::restart::{QueueEnd, QueueRefused, ReplicaSupervisor, spawn_queue};
use crate::cell::core::Limits;
use crate::cell::event::ReplicaFailure;
use crate::cell::header::Header;
use crate::cell::sharing::{Hold, Sharing};
use crate::cell::supervisor::AfterLoss;
use crate::drops::{self, OwnedField};
use crate::error::{Refusal, StopReason};
use crate::sched::timers::Key;
use crate::sched::worker::Worker;
use crate::sync::{Mutex, MutexGuard, Ordering::Relaxed, WakerKey, Wakers, thread_stripe};
use crate::time::{self, Duration};
use crate::user;
use std::panic::RefUnwindSafe;
use std::sync::Arc;
use std::task::Waker;

/// State shared by a pool's handles and its cells.
pub(super) struct PoolInner<A: Actor> {
    pub(super) handle: Handle,
    pub(super) stripes: Stripes<A>,
    pub(super) usual: OwnedField<Box<dyn Strategy + Send + Sync>>,
    /// The route of the usual strategy, if the strategy is one of the crate's own and always has
    /// this route.
    pub(super) usual_route: Option<Route>,
    factory: Factory<A>,
    settings: PoolSettings,
    sharing: Arc<Sharing>,
    /// Serializes changes of the roster.
    change: Mutex<()>,
    life: Mutex<PoolLife>,
}

/// No user code runs while a part of this is half changed. The factory and the strategy are the
/// user's: after a panic the pool calls them again in any case.
impl<A: Actor> RefUnwindSafe for PoolInner<A> {}

/// Settings of a pool, after validation.
pub(super) struct PoolSettings {
    pub(super) name: Option<String>,
    pub(super) capacity: u32,
    pub(super) queue_capacity: u32,
    /// The budget of a replica's turn, if it is not the executor's.
    pub(super) limits: Option<Limits>,
    pub(super) timing: bool,
    pub(super) first_backoff: Duration,
    pub(super) longest_backoff: Duration,
    pub(super) limit: u32,
    pub(super) window: Duration,
}

struct PoolLife {
    /// Number of cells that have not ended.
    cells: usize,
    /// Whether the cell that ended last was killed.
    killed: bool,
    end: Option<PoolStopReason>,
    queue_ended: bool,
    /// All losses within the window, then those of each replica.
    losses: FailureWindow,
    losses_of: Vec<FailureWindow>,
    /// Replicas that wait before a successor is made: index, and the timer's key.
    waiting: Vec<(usize, Key)>,
    wakers: Wakers,
}

/// Supervisor of one replica.
struct PoolSupervisor<A: Actor> {
    shared: Arc<PoolInner<A>>,
    index: usize,
    counts: Arc<ReplicaCounts>,
}

/// Reports the end of a mailbox without an actor: the queue, or a hold.
struct PoolQueueEnd<A: Actor> {
    shared: Arc<PoolInner<A>>,
    queue: bool,
}

impl<A: Actor + Send> PoolInner<A> {
    /// Starts a pool with these states.
    pub(super) fn start_pool(
        handle: Handle,
        make: OwnedField<StateFactory<A>>,
        (usual, usual_route): (OwnedField<Box<dyn Strategy + Send + Sync>>, Option<Route>),
        settings: PoolSettings,
        mut states: States<A>,
    ) -> Result<Arc<Self>, PoolError> {
        let life = PoolLife {
            cells: 0,
            killed: false,
            end: None,
            queue_ended: false,
            losses: FailureWindow::default(),
            losses_of: Vec::new(),
            waiting: Vec::new(),
            wakers: Wakers::default(),
        };
        let workers = handle.workers();
        let shared = Arc::new(PoolInner {
            stripes: Stripes::new(workers + OUTSIDE),
            usual_route,
            usual,
            handle,
            factory: Factory::new(make),
            settings,
            sharing: Arc::new(Sharing::new()),
            change: Mutex::new(()),
            life: Mutex::new(life),
        });
        // Held until the first roster is published, so that no change meets a pool without a
        // roster.
        let one = shared.change.lock();
        let replicas = shared.spawn_replicas(0, &mut states)?;
        let queue = match shared.spawn_mailbox(&shared.sharing, true) {
            Ok(queue) => queue,
            Err(error) => {
                replicas
                    .iter()
                    .for_each(|replica| Header::close_mailbox(replica.actor.as_ptr(), true));
                return Err(error);
            }
        };
        // The first turns may have lost too many states already.
        let stopped = shared.life.lock().end.is_some();
        shared.stripes.publish_change(|_| {
            Some(Roster { replicas, queue: Some(queue), key_move: None, stopped })
        });
        drop(one);
        if stopped {
            shared.close_cells(false);
        }
        Ok(shared)
    }

    /// Spawns replicas with these states, from index `from` on: all of them, or none. The caller
    /// drops states that are left, outside all locks.
    fn spawn_replicas(
        self: &Arc<Self>,
        from: usize,
        states: &mut States<A>,
    ) -> Result<Vec<Replica<A>>, PoolError> {
        let mut replicas: Vec<Replica<A>> = Vec::with_capacity(states.len());
        while let Some(state) = states.pop_front() {
            let index = from + replicas.len();
            let counts = Arc::new(ReplicaCounts::default());
            let supervisor =
                PoolSupervisor { shared: Arc::clone(self), index, counts: Arc::clone(&counts) };
            let PoolSettings { capacity, timing, limits, .. } = self.settings;
            let builder = self.handle.build(*state).exact_capacity(capacity);
            let mut builder = builder.timed(timing).exact_limits(limits);
            if let Some(name) = &self.settings.name {
                builder = builder.name(format!("{name}-{index}"));
            }
            // Counted before the spawn: the actor may end before `try_spawn` returns.
            self.life.lock().cells += 1;
            match builder.supervised(supervisor, &self.sharing).try_spawn() {
                Ok(actor) => replicas.push(Replica { actor, counts }),
                Err(error) => {
                    // The state goes back to the caller, since its drop is user code and a lock is
                    // held here.
                    states.push_front(Box::new(error.into_actor()));
                    self.life.lock().cells -= 1;
                    replicas
                        .iter()
                        .for_each(|replica| Header::close_mailbox(replica.actor.as_ptr(), true));
                    return Err(PoolError::ShuttingDown);
                }
            }
        }
        Ok(replicas)
    }
}

impl<A: Actor> PoolInner<A> {
    /// Makes a mailbox without an actor: the queue, or a hold.
    fn spawn_mailbox(
        self: &Arc<Self>,
        sharing: &Arc<Sharing>,
        queue: bool,
    ) -> Result<ActorRef<A>, PoolError> {
        let capacity = if queue { self.settings.queue_capacity } else { self.settings.capacity };
        // Counted before the spawn, as in `spawn_replicas`.
        self.life.lock().cells += 1;
        let end = PoolQueueEnd { shared: Arc::clone(self), queue };
        spawn_queue(&self.handle, capacity, self.is_timed(), end, sharing).map_err(|QueueRefused| {
            self.life.lock().cells -= 1;
            PoolError::ShuttingDown
        })
    }

    /// Returns the hold for a pair of replicas. Called by a sender, under its stripe's lock. Runs
    /// no user code.
    #[cold]
    pub(super) fn hold_queue(
        self: &Arc<Self>,
        roster: &Roster<A>,
        key_move: &KeyMove<A>,
        from: usize,
        into: usize,
    ) -> Result<ActorRef<A>, Refusal> {
        let make = || {
            let [from, into] = [(key_move.moving_from(roster, from)), &roster.replicas[into]]
                .map(|replica| replica.actor.id());
            self.spawn_mailbox(&Arc::new(Sharing::new_hold(Hold { from, into })), false)
        };
        key_move.hold_or_make(from, into, make).map_err(|_shutting_down| Refusal::ShuttingDown)
    }

    /// Returns `true` in a child made by `fork`, in which locks may be held for ever.
    pub(super) fn is_forked(&self) -> bool {
        self.handle.core().is_forked()
    }

    /// Returns `true` if the replicas, the queue and the holds are timed.
    pub(super) fn is_timed(&self) -> bool {
        self.settings.timing
    }

    /// Returns this thread's stripe.
    #[inline]
    pub(super) fn own_stripe(&self) -> &Stripe<A> {
        let core = self.handle.core();
        let index = Worker::with(&core.scheduler, |worker| match worker {
            Some(worker) => worker.index(),
            None => core.workers() + thread_stripe(OUTSIDE),
        });
        self.stripes.stripe_at(index)
    }

    /// Returns a snapshot of the roster. In a forked child, where the rosters may be locked for
    /// ever, a pool is stopped and empty.
    pub(super) fn current_roster(&self) -> Arc<Roster<A>> {
        if self.is_forked() {
            return Arc::new(Roster {
                replicas: Vec::new(),
                queue: None,
                key_move: None,
                stopped: true,
            });
        }
        self.own_stripe().current_roster()
    }

    /// Ends the move of a replica's keys, once the replica has handled all messages from before the
    /// change.
    fn on_row_passed(&self, from: usize) {
        if self.current_roster().key_move.is_none() {
            return;
        }
        let mut emptied = None;
        let one = self.change.lock();
        self.stripes.publish_change(|roster| {
            let roster = roster?;
            // `None` for a row passed already: a replica reaches its mark, and later its end.
            let key_move = roster.key_move.as_ref()?;
            let holds = emptied.insert(key_move.pass_row(from)?);
            for (&into, hold) in holds.iter() {
                if let Some(kept) = hold.header().supervised() {
                    kept.sharing.move_to(roster.replicas[into].actor.strong());
                }
            }
            key_move.is_over().then(|| Roster { key_move: None, ..Roster::clone(roster) })
        });
        drop(one);
        // Outside the locks: the last references to the holds may go here.
        drop(emptied);
        // A stop waits for the end of a change, which may have come just now.
        self.close_if_drained();
    }

    /// Locks the life after replicas were closed or killed. A replica that is about to wait for its
    /// successor takes the timers' lock. Either it sees the close there, or its timer is registered
    /// by now.
    fn lock_waiting(&self) -> MutexGuard<'_, PoolLife> {
        let _ = self.handle.core().scheduler.timers.armed_timers();
        self.life.lock()
    }

    /// Cancels timers of replicas that wait. Each timer's runnable goes on, to the replica's end.
    fn cancel_backoffs(&self, keys: impl Iterator<Item = Key>) {
        keys.for_each(|key| _ = self.handle.core().scheduler.timers.cancel_timer(key));
    }

    /// Records that a cell has ended. The last one ends the pool. Returns the wakers of the callers
    /// that wait for the end.
    ///
    /// `reason` is `None` for a change, which is no cell.
    #[must_use = "the waiters have to be woken"]
    fn one_less(&self, reason: Option<&StopReason>) -> Vec<Waker> {
        let wakers = {
            let mut life = self.life.lock();
            if let Some(reason) = reason {
                life.killed = *reason == StopReason::Killed;
            }
            life.cells -= 1;
            if life.cells > 0 {
                return Vec::new();
            }
            let end = if life.killed { PoolStopReason::Killed } else { PoolStopReason::Shutdown };
            life.end.get_or_insert(end);
            life.wakers.take_all()
        };
        self.factory.let_go(); // before the end is told
        wakers
    }

    /// Returns the reason of the pool's end, if it has ended.
    pub(super) fn ended(&self) -> Option<PoolStopReason> {
        if self.is_forked() {
            return None;
        }
        let life = self.life.lock();
        if life.cells == 0 { life.end.clone() } else { None }
    }

    /// Like [`ended`](Self::ended). If the pool has not ended, its end will wake the waker, unless
    /// the key is [forgotten](Self::forget_wait) before.
    pub(super) fn poll_ended(
        &self,
        key: &mut Option<WakerKey>,
        waker: &Waker,
    ) -> Option<PoolStopReason> {
        if self.is_forked() {
            return None;
        }
        // Cloning and dropping a waker is user code, so both happen outside the lock.
        let waker = user::clone_waker(waker);
        let mut life = self.life.lock();
        let (end, unused) = match life.cells {
            0 => (life.end.clone(), Some(waker)),
            _ => (None, life.wakers.insert_or_replace(key, waker)),
        };
        drop(life);
        drops::drop_waker(unused);
        end
    }

    /// Removes a wait for the end that was given up.
    pub(super) fn forget_wait(&self, key: WakerKey) {
        if !self.is_forked() {
            let own = self.life.lock().wakers.remove(key);
            drops::drop_waker(own);
        }
    }

    /// Returns `true` if the pool was stopped or has ended.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_forked() || self.life.lock().end.is_some()
    }

    /// Records a loss and decides what follows.
    fn decide_on(&self, index: usize, loss: &ReplicaFailure) -> AfterLoss {
        let PoolSettings { first_backoff, longest_backoff, limit, window, .. } = self.settings;
        let now = time::now();
        let (losses, own) = {
            let mut life = self.life.lock();
            if matches!(life.end, Some(PoolStopReason::ReplacedTooOften { .. })) {
                // The limit was passed before: every further loss ends its replica, and none is
                // counted.
                return AfterLoss::End;
            }
            if life.losses_of.len() <= index {
                life.losses_of.resize_with(index + 1, FailureWindow::default);
            }
            (life.losses.add_failure(now, window), life.losses_of[index].add_failure(now, window))
        };
        if losses > u64::from(limit) {
            self.end_pool(
                PoolStopReason::ReplacedTooOften {
                    replacements: limit,
                    window,
                    last: loss.clone(),
                },
                false,
            );
            return AfterLoss::End;
        }
        // The first successor is made at once. From the second loss on, the delay doubles each
        // time.
        let doublings = u32::try_from(own).unwrap_or(u32::MAX).saturating_sub(2);
        let backoff = first_backoff.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX));
        AfterLoss::Replace(if own < 2 { Duration::ZERO } else { backoff.min(longest_backoff) })
    }
}

impl<A: Actor> ReplicaSupervisor<A> for PoolSupervisor<A> {
    fn lost(&self, loss: &ReplicaFailure) -> AfterLoss {
        if let ReplicaFailure::Panicked(_) = loss {
            self.counts.failed.fetch_add(1, Relaxed);
        }
        let verdict = self.shared.decide_on(self.index, loss);
        if let AfterLoss::Replace(after) = verdict {
            // A delayed successor is counted once its timer is armed: see `waits`.
            if after.is_zero() {
                self.counts.replaced.fetch_add(1, Relaxed);
            }
            self.counts.set_absent(true);
        }
        verdict
    }

    fn make(&self) -> Result<A, String> {
        // The wait is over, so a kill need not cancel its timer any more.
        self.shared.life.lock().waiting.retain(|&(index, _)| index != self.index);
        let factory = self.shared.factory.borrow_factory().ok_or("the pool has ended")?;
        let actor = factory(self.index).map_err(|error| error.to_string())?;
        // Before the state is known to anyone, as the drop may be user code.
        drop(factory);
        self.counts.set_absent(false);
        Ok(actor)
    }

    fn waits(&self, key: Key) {
        self.counts.replaced.fetch_add(1, Relaxed);
        self.shared.life.lock().waiting.push((self.index, key));
    }

    fn ended(&self, reason: &StopReason) -> Vec<Waker> {
        self.shared.on_row_passed(self.index);
        self.shared.one_less(Some(reason))
    }
}

impl<A: Actor> QueueEnd for PoolQueueEnd<A> {
    fn ended(&self, reason: &StopReason) -> Vec<Waker> {
        if self.queue {
            self.shared.life.lock().queue_ended = true;
            self.shared.close_if_drained();
        }
        self.shared.one_less(Some(reason))
    }
}

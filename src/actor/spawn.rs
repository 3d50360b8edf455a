//! Spawning: an actor's state becomes a cell, and its first turn is scheduled.

use super::Actor;
use super::cell_of::{CellOf, NewCell};
use super::context::Context;
use super::refs::ActorRef;
use super::spawn_error::{SpawnError, SpawnProblem};
use crate::cell::cold::Cold;
use crate::cell::core::{Core, Limits};
use crate::cell::counted::Strong;
use crate::cell::header::{ActorVtable, Header};
use crate::cell::stopwatch::Stopwatch;
use crate::cell::supervisor::Supervised;
use crate::drops;
use crate::mailbox::state::MAX_LEN;
use crate::sched::runnable::Affinity;
use crate::sched::worker::Worker;
use crate::time::Duration;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::sync::Arc;

/// Makes actors on one executor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spawner<'a> {
    pub(super) core: &'a Core,
}

impl<'a> Spawner<'a> {
    pub(crate) fn new(core: &'a Core) -> Self {
        Spawner { core }
    }

    pub(crate) fn spawn<A: Actor + Send>(self, actor: A) -> ActorRef<A> {
        // The way of most spawns, without a builder in between. The worker is looked up once, for
        // the memory, the shard, the count and the queue.
        let cold = self.core.timing.then(Cold::new_timed);
        let spawned = Worker::with(&self.core.scheduler, |worker| {
            let cell = NewCell::new_at(self.core, worker, actor);
            self.enroll_at(worker, CellOf::<A>::actor_vtable(), self.core.capacity, cold, cell)
        });
        self.settle_count(spawned).unwrap_or_else(dead_on_arrival)
    }

    /// Completes a cell and pushes its first turn. If the executor shuts down, the cell comes back
    /// as it was.
    pub(super) fn enroll_cell<A>(
        self,
        vtable: &'static ActorVtable,
        capacity: u32,
        cold: Option<Box<Cold>>,
        cell: NewCell<'a, A>,
    ) -> Result<ActorRef<A>, NewCell<'a, A>> {
        let spawned = Worker::with(&self.core.scheduler, |worker| {
            self.enroll_at(worker, vtable, capacity, cold, cell)
        });
        self.settle_count(spawned)
    }

    /// Takes the count of a refused spawn back. Outside the look-up of the worker, since this may
    /// end the crew and run wakers.
    fn settle_count<A>(
        self,
        spawned: Result<ActorRef<A>, RefusedCell<'a, A>>,
    ) -> Result<ActorRef<A>, NewCell<'a, A>> {
        spawned.map_err(|RefusedCell { cell, counted }| {
            if counted {
                self.core.count_refused();
            }
            cell
        })
    }

    /// Enrolls a cell for a caller that has looked up its worker.
    #[inline]
    fn enroll_at<A>(
        self,
        worker: Option<&Worker>,
        vtable: &'static ActorVtable,
        capacity: u32,
        cold: Option<Box<Cold>>,
        cell: NewCell<'a, A>,
    ) -> Result<ActorRef<A>, RefusedCell<'a, A>> {
        // While the executor drains its crew may still spawn, and other threads may not.
        let draining = worker.is_none() && self.core.is_draining() && !self.core.on_crew();
        if cell.is_apart() || draining {
            return Err(RefusedCell { cell, counted: false });
        }
        // The cell is given back, or completed in place.
        let cell = ManuallyDrop::new(cell);
        let shard = self.core.shard_here(worker);
        let make = |id, place| {
            let header = Header::new(vtable, shard, id, place, capacity, cold);
            // SAFETY: called at most once, and `cell` is not used after that.
            unsafe { cell.complete_in_place(header) }
        };
        // Counted before it is enrolled: a thread that closes the shards refuses the cell there, or
        // finds it in the count.
        self.core.count_at(worker, |tally| &tally.spawned, 1);
        let Some(header) = shard.add_cell(make) else {
            // `make` was not called, so the cell is whole.
            return Err(RefusedCell { cell: ManuallyDrop::into_inner(cell), counted: true });
        };
        // SAFETY: a new cell comes with a reference, taken here, and with a first turn, pushed here
        // or held by a queue.
        unsafe {
            let strong = Strong::from_raw(header);
            // Joins before the first turn, which may be the last.
            if header.as_ref().supervised().is_none_or(|kept| kept.list_at_queue(header)) {
                Header::schedule_at(header, worker);
            }
            Ok(ActorRef::from_strong(strong))
        }
    }
}

impl<A> Context<A> {
    /// Spawns an actor on the same executor; see [`Handle::spawn`](crate::Handle::spawn).
    #[must_use = "dropping the last reference ends the actor; see ActorRef::detach"]
    pub fn spawn<B: Actor + Send>(&mut self, actor: B) -> ActorRef<B> {
        Spawner::new(self.header().core()).spawn(actor)
    }

    /// Begins an actor with settings of its own, on the same executor; see
    /// [`Handle::build`](crate::Handle::build).
    pub fn build<B: Actor + Send>(&mut self, actor: B) -> SpawnBuilder<'_, B> {
        SpawnBuilder::begin(Spawner::new(self.header().core()), actor)
    }
}

/// A cell that the executor does not accept.
struct RefusedCell<'a, A> {
    cell: NewCell<'a, A>,
    /// Whether the cell was counted as spawned.
    counted: bool,
}

/// Settings for an actor that is about to be spawned. From [`Handle::build`](crate::Handle::build)
/// and [`Handle::build_dedicated`](crate::Handle::build_dedicated).
///
/// ```
/// # use heist::{Actor, Executor};
/// # struct Cache;
/// # impl Actor for Cache {}
/// let executor = Executor::new();
/// let cache = executor.build(Cache).name("cache").capacity(64).spawn();
/// assert_eq!(cache.name(), Some("cache"));
/// assert_eq!(cache.capacity(), Some(64));
/// ```
#[doc(alias("Props", "PreparedActor", "options"))]
#[must_use = "an actor exists once `spawn` was called"]
pub struct SpawnBuilder<'a, A> {
    pub(super) spawner: Spawner<'a>,
    actor: NewCell<'a, A>,
    pub(super) capacity: u32,
    name: Option<Arc<str>>,
    limits: Option<Limits>,
    worker: Option<usize>,
    timing: bool,
    kept: Option<Box<Supervised>>,
    /// The values that the user gave, checked by the spawn. A wrong value that is corrected is
    /// forgotten.
    asked_capacity: Option<usize>,
    unbounded: bool,
}

impl<'a, A> SpawnBuilder<'a, A> {
    pub(crate) fn begin(spawner: Spawner<'a>, actor: A) -> Self {
        let actor = NewCell::new(spawner.core, actor);
        // The executor's settings hold for the actor unless the builder changes them.
        let Core { capacity, timing, .. } = *spawner.core;
        SpawnBuilder {
            spawner,
            actor,
            capacity,
            name: None,
            limits: None,
            worker: None,
            timing,
            kept: None,
            asked_capacity: None,
            unbounded: false,
        }
    }

    /// Sets a name, for [`ActorRef::name`], `Debug` and lists of actors. The name need not be
    /// unique, and costs an allocation. Default: none.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into().into());
        self
    }

    /// Sets how many messages may wait in the mailbox: 1 to 2^27 - 2. Default: the
    /// [executor's](crate::ExecutorBuilder::capacity).
    ///
    /// Prepaid messages come on top: the actor's own [`tell_self`](crate::Context::tell_self),
    /// notices of room and answers, and one message for each [timer](crate::Timer) that is due.
    #[doc(alias("mailbox", "bounded", "mailbox_capacity"))]
    pub fn capacity(mut self, messages: usize) -> Self {
        self.asked_capacity = Some(messages);
        // `MAX_LEN` itself stands for an unbounded mailbox. A wrong value is reported by the spawn,
        // so builder calls can be chained.
        if let Ok(capacity @ 1..MAX_LEN) = u32::try_from(messages) {
            self.capacity = capacity;
        }
        self
    }

    /// Makes the mailbox unbounded, but for memory and a limit of 2^27 - 1 messages. Contradicts
    /// [`capacity`](Self::capacity).
    ///
    /// # Limits
    /// A mailbox at that limit refuses what is exempt from capacities as well. Due timers and
    /// answers to [`ask_then`](crate::Context::ask_then) become dead letters
    /// ([`Full`](crate::event::DeadLetterReason::Full)). Prefer a [`capacity`](Self::capacity).
    #[doc(alias = "mailbox")]
    pub fn unbounded(mut self) -> Self {
        self.unbounded = true;
        self.capacity = MAX_LEN;
        self
    }

    /// Sets whether this actor is timed, whatever
    /// [`ExecutorBuilder::timing`](crate::ExecutorBuilder::timing) says about all actors. A timed
    /// actor measures how long its messages wait and how long its handlers take
    /// ([`ActorRef::timing`]), and how old a message is
    /// ([`Context::message_age`](crate::Context::message_age)).
    ///
    /// # Costs
    /// A message costs two readings of the clock, four entries into histograms, and 16 bytes of
    /// memory more. A turn, and each 32 messages in it, cost a reading of the clock and two
    /// uncontended locks. The actor takes 600 bytes more in two allocations, and from its first
    /// message on about 1.6 kB (6.2 kB if times exceed a millisecond). A worker takes 15 kB, at
    /// most 57 kB. `cargo bench --bench messaging tell` compares.
    ///
    /// Needs the feature `timing`, which is on by default.
    #[cfg(feature = "timing")]
    pub fn timing(self, on: bool) -> Self {
        self.timed(on)
    }

    /// [`timing`](Self::timing), also without its feature.
    pub(crate) fn timed(mut self, on: bool) -> Self {
        self.timing = on;
        self
    }

    /// Sets the most messages in one turn; at least 1. Default: the
    /// [executor's](crate::ExecutorBuilder::budget_messages).
    #[doc(alias("throughput", "fairness", "budget", "reductions"))]
    pub fn budget_messages(mut self, messages: u32) -> Self {
        self.limits_mut().messages = messages;
        self
    }

    /// Sets the time after which a turn ends, between two messages; more than zero. Default: the
    /// [executor's](crate::ExecutorBuilder::budget_time).
    pub fn budget_time(mut self, time: Duration) -> Self {
        self.limits_mut().time = time;
        self
    }

    /// Makes the actor supervised. See [`restart`](super::restart).
    pub(super) fn supervised_by(mut self, kept: Box<Supervised>) -> Self {
        self.kept = Some(kept);
        self
    }

    /// Sets a capacity that was checked before.
    pub(crate) fn exact_capacity(mut self, capacity: u32) -> Self {
        self.capacity = capacity;
        self
    }

    /// Sets a budget that was checked before; `None` for the executor's.
    #[cfg(feature = "pool")]
    pub(crate) fn exact_limits(mut self, limits: Option<Limits>) -> Self {
        self.limits = limits;
        self
    }

    pub(super) fn limits_mut(&mut self) -> &mut Limits {
        self.limits.get_or_insert(self.spawner.core.limits)
    }

    /// Returns what is wrong with the settings, if anything.
    fn problem(&self) -> Option<SpawnProblem> {
        let workers = self.spawner.core.workers();
        match (self.asked_capacity, self.worker, &self.limits) {
            (Some(_), ..) if self.unbounded => Some(SpawnProblem::BoundedAndUnbounded),
            (Some(messages), ..) if !(1..MAX_LEN as usize).contains(&messages) => {
                Some(SpawnProblem::Capacity(messages))
            }
            (_, Some(k), _) if k >= workers => Some(SpawnProblem::Worker { k, workers }),
            (.., Some(limits)) if !limits.are_positive() => Some(SpawnProblem::Budget),
            _ => None,
        }
    }

    /// Returns the actor's cold part, if it needs one, with the cell; or the problem with a
    /// setting.
    pub(super) fn finish_cell(self, bound: Affinity) -> Result<Finished<'a, A>, NotSpawned<'a, A>> {
        if let Some(problem) = self.problem() {
            return Err((self.actor, problem));
        }
        let placed = !matches!(bound, Affinity::Any);
        let Self { name, limits, timing, kept, .. } = self;
        // Most actors need none of this, and get no cold part.
        let cold =
            (name.is_some() || limits.is_some() || placed || timing || kept.is_some()).then(|| {
                // Made before the first message, so no message of a timed actor is without an
                // instant.
                let stopwatch = timing.then(Stopwatch::new);
                Box::new(Cold {
                    name,
                    limits,
                    affinity: bound,
                    supervised: kept,
                    stopwatch,
                    ..Cold::default()
                })
            });
        Ok((cold, self.actor))
    }
}

impl<'a, A: Actor + Send> SpawnBuilder<'a, A> {
    /// Pins the actor to worker `k`, counted from 0. All its turns, its hooks and the drop of its
    /// state run there, under every [`Policy`](crate::Policy), and no sibling steals it. For what
    /// belongs to one core or one worker: a cache, the queue of a device.
    ///
    /// A worker is a slot, not a thread. While a handler on worker `k` blocks
    /// ([`blocking`](crate::blocking), [`Ask::wait`](crate::Ask::wait)), a spare thread takes that
    /// slot with the actors pinned to it; if the crew is
    /// [pinned](crate::ExecutorBuilder::pin_workers), on the same core. The one exception: a turn
    /// that blocked ends on its own thread, with or without the slot. Use
    /// [`spawn_dedicated`](crate::Handle::spawn_dedicated) for what needs one and the same thread,
    /// such as a thread-local library or a state that is not `Send`.
    ///
    /// # Limits
    /// While worker `k` is in a long turn the actors pinned to it wait, since no other worker may
    /// help. Pinned actors and others that wait for the same worker take turns, however many there
    /// are of either.
    ///
    /// ```
    /// # use heist::{Actor, Context, Executor, Handler};
    /// # struct Device;
    /// # impl Actor for Device {}
    /// # struct Thread;
    /// # impl Handler<Thread> for Device {
    /// #     type Reply = Option<String>;
    /// #     fn handle(&mut self, _: Thread, _: &mut Context<Self>) -> Option<String> {
    /// #         std::thread::current().name().map(String::from)
    /// #     }
    /// # }
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let executor = Executor::builder().workers(2).build()?;
    /// let device = executor.build(Device).on_worker(1).spawn();
    /// assert_eq!(device.ask(Thread)?.wait()?.as_deref(), Some("heist-1"));
    ///
    /// let error = executor.build(Device).on_worker(2).try_spawn().unwrap_err();
    /// assert_eq!(error.to_string(), "actor not spawned: there is no worker 2 (there are 0 to 1)");
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("affinity", "pin"))]
    pub fn on_worker(mut self, k: usize) -> Self {
        self.worker = Some(k);
        self
    }

    /// Spawns the actor. Once the executor shuts down this drops the state on the calling thread
    /// and returns a reference to an actor that has already ended and never ran;
    /// [`try_spawn`](Self::try_spawn) gives the state back instead.
    ///
    /// # Panics
    /// Panics if a capacity or a budget is 0 or too large, if two settings contradict each other,
    /// or if there is no such worker.
    #[must_use = "dropping the last reference ends the actor; see ActorRef::detach"]
    #[track_caller]
    pub fn spawn(self) -> ActorRef<A> {
        match self.enroll_built() {
            Ok(actor) => actor,
            Err((cell, SpawnProblem::ShuttingDown)) => dead_on_arrival(cell),
            // A wrong setting is a mistake in the program, while a shutdown may come at any time.
            Err((_, problem)) => panic!("{problem}"),
        }
    }

    /// Spawns the actor.
    ///
    /// # Errors
    /// The actor comes back inside the error if the executor shuts down, a capacity or a budget is
    /// 0 or too large, or there is no such worker.
    pub fn try_spawn(self) -> Result<ActorRef<A>, SpawnError<A>> {
        self.enroll_built().map_err(|(cell, problem)| SpawnError::new(cell.into_state(), problem))
    }

    fn enroll_built(self) -> Result<ActorRef<A>, NotSpawned<'a, A>> {
        let (spawner, capacity, worker) = (self.spawner, self.capacity, self.worker);
        let bound = worker.map_or(Affinity::Any, Affinity::Worker);
        let (cold, cell) = self.finish_cell(bound)?;
        let mut vtable = CellOf::<A>::actor_vtable();
        if let Some(worker) = worker {
            // Only pinned actors have a table that names a place, so others are never asked for
            // one.
            vtable = CellOf::<A>::vtable_of_bound();
            // Counted before the actor is there, so its first turn finds the count.
            spawner.core.scheduler.add_pinned(worker);
        }
        spawner.enroll_cell(vtable, capacity, cold, cell).map_err(|cell| {
            if let Some(worker) = worker {
                spawner.core.scheduler.remove_pinned(worker);
            }
            (cell, SpawnProblem::ShuttingDown)
        })
    }
}

/// Drops the state on the calling thread, and returns a reference to an actor that never was.
fn dead_on_arrival<A: Actor + Send>(cell: NewCell<'_, A>) -> ActorRef<A> {
    /// Drops the cell before what its heap belongs to.
    struct Refused<'a, A>(#[allow(dead_code)] NewCell<'a, A>, #[allow(dead_code)] Arc<Core>);

    let core = cell.core();
    // SAFETY: the cell borrows the core only, which the value itself keeps until after the cell.
    unsafe { drops::drop_value(Refused(cell, core.share())) };
    spawn_tombstone(core)
}

/// Makes a reference to an actor that never was: closed, and ended.
pub(crate) fn spawn_tombstone<A: Actor + Send>(core: &Core) -> ActorRef<A> {
    // A reference needs a cell. `Never` takes the actor's place in it, since the state was refused.
    let cell = NewCell::new(core, Never(PhantomData::<fn(A)>));
    let header = core.new_tombstone(|shard, id, place| {
        cell.complete(Header::new(CellOf::<Never<A>>::actor_vtable(), shard, id, place, 1, None))
    });
    // SAFETY: a new cell comes with a reference, taken here. The reference's type does not matter,
    // since an ended actor's state is never looked at.
    unsafe { ActorRef::from_strong(Strong::from_raw(header)) }
}

/// Stands in for the state of an actor that was refused.
struct Never<A>(PhantomData<fn(A)>);

impl<A: 'static> Actor for Never<A> {}

impl<A> fmt::Debug for SpawnBuilder<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpawnBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A cold part, if the cell needs one, and the cell to complete.
pub(super) type Finished<'a, A> = (Option<Box<Cold>>, NewCell<'a, A>);

/// A cell that was not completed, and the reason.
pub(super) type NotSpawned<'a, A> = (NewCell<'a, A>, SpawnProblem);

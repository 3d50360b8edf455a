//! Spawning: an actor's state becomes a cell, and its first turn is scheduled.

use super::Actor;
use super::cell_of::CellOf;
use super::refs::ActorRef;
use crate::cell::core::{Core, Limits};
use crate::cell::header::{Cold, Header, Strong};
use crate::cell::restart::Kept;
use crate::cell::stopwatch::Stopwatch;
use crate::error::Sealed;
use crate::mailbox::state::MAX_LEN;
use crate::sched::local::Local;
use crate::time::Duration;
use std::error::Error;
use std::fmt;

/// Makes actors on one executor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spawner<'a> {
    core: &'a Core,
}

impl<'a> Spawner<'a> {
    pub(crate) fn new(core: &'a Core) -> Self {
        Spawner { core }
    }

    pub(crate) fn spawn<A: Actor + Send>(self, actor: A) -> ActorRef<A> {
        SpawnBuilder::new(self, actor).spawn()
    }

    fn make<A: Actor + Send>(
        self,
        actor: A,
        capacity: u32,
        cold: Option<Box<Cold>>,
    ) -> Result<ActorRef<A>, A> {
        Local::with(&self.core.scheduler, |local| {
            let shard = self.core.shard_here(local);
            let mut actor = Some(actor);
            let make = |id, place| {
                let header = Header::new(CellOf::<A>::vtable(), shard, id, place, capacity, cold);
                let actor = actor.take().expect("called at most once");
                self.core.with_heap(|heap| CellOf::allocate(heap, header, actor))
            };
            if local.is_none() && self.core.draining() && !self.core.on_crew() {
                return Err(actor.take().expect("no cell was made of it"));
            }
            // Counted first: whoever closes the shards either refuses this one there, or sees that it lives.
            self.core.count(local, |tally| &tally.spawned, 1);
            match shard.enroll(make) {
                Some(header) => {
                    // SAFETY: a new cell comes with one reference, which this takes, and with its first turn to push.
                    unsafe {
                        let strong = Strong::from_raw(header);
                        // Before its first turn, which may be its last.
                        if header.as_ref().kept().is_none_or(|kept| kept.join(header)) {
                            Header::schedule(header);
                        }
                        Ok(ActorRef::from_strong(strong))
                    }
                }
                None => {
                    self.core.ended();
                    Err(actor.take().expect("no cell was made of it"))
                }
            }
        })
    }
}

/// An actor that is about to be spawned, with what is not default. From [`Handle::build`](crate::Handle::build).
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
#[must_use = "an actor exists once `spawn` was called"]
pub struct SpawnBuilder<'a, A> {
    spawner: Spawner<'a>,
    actor: A,
    capacity: u32,
    name: Option<Box<str>>,
    limits: Option<Limits>,
    kept: Option<Box<Kept>>,
    timing: bool,
    problem: Option<SpawnProblem>,
}

impl<'a, A: Actor + Send> SpawnBuilder<'a, A> {
    pub(crate) fn new(spawner: Spawner<'a>, actor: A) -> Self {
        let Core { capacity, timing, .. } = *spawner.core;
        SpawnBuilder { spawner, actor, capacity, name: None, limits: None, kept: None, timing, problem: None }
    }

    /// A name, for [`ActorRef::name`] and `Debug`. It need not be unique, and costs an allocation.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into().into_boxed_str());
        self
    }

    /// How many messages may wait in its mailbox: 1 to 2^28 - 2.
    pub fn capacity(mut self, messages: usize) -> Self {
        match u32::try_from(messages) {
            Ok(capacity @ 1..MAX_LEN) => self.capacity = capacity,
            _ => self.problem = Some(SpawnProblem::Capacity(messages)),
        }
        self
    }

    /// No bound on its mailbox but memory (and 2^28 - 1 messages).
    pub fn unbounded(mut self) -> Self {
        self.capacity = MAX_LEN;
        self
    }

    /// Times this actor, or does not, whatever [`Builder::timing`](crate::Builder::timing) says of all: how long its messages
    /// wait and how long its handlers take ([`ActorRef::timing`]), and how old a message is
    /// ([`Context::message_age`](crate::Context::message_age)).
    ///
    /// It costs two readings of the clock and four entries into histograms for each message, a reading of the clock and two
    /// uncontended locks for each turn (and for each 32 messages in it), and 16 bytes in each message's memory; for the actor two
    /// allocations of 600 bytes together, and about 1.6 kB more from its first message on while its times stay below a
    /// millisecond, 6.2 kB at the most. For each worker there are 15 kB, 57 kB at the most. `cargo bench --bench messaging tell`
    /// compares.
    pub fn timing(mut self, on: bool) -> Self {
        self.timing = on;
        self
    }

    /// The most messages in one turn; at least 1.
    pub fn budget_messages(mut self, messages: u32) -> Self {
        self.limits_mut().messages = messages;
        if messages == 0 {
            self.problem = Some(SpawnProblem::Budget);
        }
        self
    }

    /// The time after which a turn ends (between two messages); more than zero.
    pub fn budget_time(mut self, time: Duration) -> Self {
        self.limits_mut().time = time;
        if time.is_zero() {
            self.problem = Some(SpawnProblem::Budget);
        }
        self
    }

    /// With a keeper: see [`kept`](super::kept).
    pub(super) fn keep(mut self, kept: Box<Kept>) -> Self {
        self.kept = Some(kept);
        self
    }

    /// A capacity that was looked at before.
    pub(crate) fn exact_capacity(mut self, capacity: u32) -> Self {
        self.capacity = capacity;
        self
    }

    fn limits_mut(&mut self) -> &mut Limits {
        self.limits.get_or_insert(self.spawner.core.limits)
    }

    /// Spawns the actor. Once the executor shuts down this returns a reference to an actor that has ended already and
    /// of which nothing ever ran: its state is dropped here; [`try_spawn`](Self::try_spawn) gives it back instead.
    ///
    /// # Panics
    /// If a capacity or a budget is 0 or too large.
    #[must_use = "dropping the last reference ends the actor; see ActorRef::detach"]
    pub fn spawn(self) -> ActorRef<A> {
        let core = self.spawner.core;
        match self.try_spawn() {
            Ok(actor) => actor,
            Err(error) if error.problem == SpawnProblem::ShuttingDown => {
                dead_on_arrival(core, error.into_actor())
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Spawns the actor.
    ///
    /// # Errors
    /// The actor comes back inside the error when the executor shuts down, or a capacity or a budget is 0 or too large.
    pub fn try_spawn(self) -> Result<ActorRef<A>, SpawnError<A>> {
        if let Some(problem) = self.problem {
            return Err(SpawnError { actor: Sealed(self.actor), problem });
        }
        let cold =
            (self.name.is_some() || self.limits.is_some() || self.kept.is_some() || self.timing).then(|| {
                let stopwatch = self.timing.then(Stopwatch::new);
                let Self { name, limits, kept, .. } = self;
                Box::new(Cold { name, limits, kept, stopwatch, ..Cold::default() })
            });
        self.spawner
            .make(self.actor, self.capacity, cold)
            .map_err(|actor| SpawnError { actor: Sealed(actor), problem: SpawnProblem::ShuttingDown })
    }
}

/// A reference to an actor that never was: closed, ended, and its state dropped on the calling thread.
fn dead_on_arrival<A: Actor + Send>(core: &Core, actor: A) -> ActorRef<A> {
    drop(actor);
    let header = core.tombstone(|shard, id, place| {
        let header = Header::new(CellOf::<Never<A>>::vtable(), shard, id, place, 1, None);
        core.with_heap(|heap| CellOf::allocate(heap, header, Never(std::marker::PhantomData::<fn(A)>)))
    });
    // SAFETY: a new cell comes with one reference, which this takes. Its state is never looked at: it has ended.
    unsafe { ActorRef::from_strong(Strong::from_raw(header)) }
}

/// Stands where the state of an actor would be that was refused.
struct Never<A>(std::marker::PhantomData<fn(A)>);

impl<A: 'static> Actor for Never<A> {}

impl<A> fmt::Debug for SpawnBuilder<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpawnBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why an actor was not spawned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SpawnProblem {
    ShuttingDown,
    Capacity(usize),
    Budget,
}

/// An actor that was not spawned, and why.
pub struct SpawnError<A> {
    actor: Sealed<A>,
    problem: SpawnProblem,
}

impl<A> SpawnError<A> {
    /// The actor, as it was handed in.
    #[must_use]
    pub fn into_actor(self) -> A {
        self.actor.0
    }

    /// Is it because the executor shuts down? Otherwise a setting is wrong.
    #[must_use]
    pub fn is_shutting_down(&self) -> bool {
        self.problem == SpawnProblem::ShuttingDown
    }
}

impl<A> fmt::Debug for SpawnError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SpawnError").field(&self.problem).finish()
    }
}

impl<A> fmt::Display for SpawnError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem {
            SpawnProblem::ShuttingDown => f.write_str("actor not spawned: the executor is shutting down"),
            SpawnProblem::Capacity(n) => {
                write!(f, "actor not spawned: a mailbox for {n} messages (1 to {} are possible)", MAX_LEN - 1)
            }
            SpawnProblem::Budget => f.write_str("actor not spawned: a turn's budget must not be 0"),
        }
    }
}

impl<A> Error for SpawnError<A> {}

//! A pool's settings, and their errors.

use super::Pool;
use super::error::PoolError;
use super::factory::{StateFactory, check_replicas, make_states};
use super::life::{PoolInner, PoolSettings};
use super::strategy::{Route, Strategy, TwoChoices, constant_route};
use crate::actor::Actor;
use crate::actor::handle::Handle;
use crate::cell::core::Limits;
use crate::drops::OwnedField;
use crate::mailbox::state::MAX_LEN;
use crate::time::Duration;
use std::error::Error;
use std::fmt;

/// Settings for a [`Pool`] that is about to be made. From [`Handle::pool`] or [`Handle::try_pool`].
///
/// ```
/// # use heist::pool::PoolError;
/// # use heist::{Actor, Executor};
/// # use heist::strategy::SharedQueue;
/// # use std::time::Duration;
/// # struct Connection;
/// # impl Connection { fn open(_: usize) -> std::io::Result<Self> { Ok(Connection) } }
/// # impl Actor for Connection {}
/// # fn main() -> Result<(), PoolError> {
/// let executor = Executor::new();
/// let pool = executor
///     .try_pool(4, Connection::open)                  // build() returns its error
///     .strategy(SharedQueue)                          // the meaning of PoolDefault
///     .queue_capacity(1000)
///     .backoff(Duration::from_millis(50), Duration::from_secs(5))
///     .failure_limit(20, Duration::from_secs(60))
///     .build()?;
/// assert_eq!(pool.len(), 4);
/// let error = executor.pool(0, |_| Connection).build().unwrap_err();
/// assert_eq!(error.to_string(), "a pool needs at least one replica");
/// # Ok(())
/// # }
/// ```
#[must_use = "a pool exists once `build` was called"]
pub struct PoolBuilder<A> {
    handle: Handle,
    replicas: usize,
    factory: StateFactory<A>,
    usual: Box<dyn Strategy + Send + Sync>,
    usual_route: Option<Route>,
    name: Option<String>,
    capacity: Option<usize>,
    unbounded: bool,
    queue_capacity: Option<usize>,
    queue_unbounded: bool,
    limits: Option<Limits>,
    timing: bool,
    backoff: (Duration, Duration),
    limit: u32,
    window: Duration,
}

impl Handle {
    /// Begins a [`Pool`] of replicas. `factory` makes the state of each replica from its index:
    /// when the pool is built, and again when a replica has lost its state.
    ///
    /// A factory may hold the pool itself. The pool then goes on until it is stopped, or its
    /// executor shuts down. At its end, before that is told, the pool drops the factory. Exception:
    /// a [`resize`](Pool::resize) that runs the factory at that moment keeps it until that call has
    /// failed.
    ///
    /// Needs the feature `pool`, which is on by default.
    #[doc(alias("router", "factory"))]
    pub fn pool<A: Actor + Send>(
        &self,
        replicas: usize,
        factory: impl Fn(usize) -> A + Send + Sync + 'static,
    ) -> PoolBuilder<A> {
        PoolBuilder::new(self.clone(), replicas, Box::new(move |index| Ok(factory(index))))
    }

    /// Begins a [`Pool`] as [`pool`](Self::pool) does, with a factory that may fail. When the pool
    /// is built [`PoolBuilder::build`] returns its error. Later a failure counts as another
    /// [loss](PoolBuilder::failure_limit), is [told](crate::Event::Replaced), and the factory is
    /// called again.
    ///
    /// Needs the feature `pool`, which is on by default.
    pub fn try_pool<A: Actor + Send, E: Into<Box<dyn Error + Send + Sync>>>(
        &self,
        replicas: usize,
        factory: impl Fn(usize) -> Result<A, E> + Send + Sync + 'static,
    ) -> PoolBuilder<A> {
        PoolBuilder::new(
            self.clone(),
            replicas,
            Box::new(move |index| factory(index).map_err(E::into)),
        )
    }
}

impl<A: Actor + Send> PoolBuilder<A> {
    fn new(handle: Handle, replicas: usize, factory: StateFactory<A>) -> Self {
        PoolBuilder {
            timing: handle.core().timing,
            handle,
            replicas,
            factory,
            // Nearly as even as the least loaded replica, at a cost that does not grow with the
            // pool.
            usual: Box::new(TwoChoices),
            usual_route: Some(Route::TwoChoices),
            name: None,
            capacity: None,
            unbounded: false,
            queue_capacity: None,
            queue_unbounded: false,
            limits: None,
            backoff: (Duration::from_millis(10), Duration::from_secs(1)),
            limit: 100,
            window: Duration::from_secs(60),
        }
    }

    /// Sets what [`PoolDefault`](crate::strategy::PoolDefault) means. Default: [`TwoChoices`].
    ///
    /// A strategy that holds the pool itself is a cycle of references that heist never breaks.
    pub fn strategy(mut self, strategy: impl Strategy + Send + Sync + 'static) -> Self {
        self.usual_route = constant_route(&strategy);
        self.usual = Box::new(strategy);
        self
    }

    /// Sets what the replicas' names begin with; `-0`, `-1` and so on follow. Default: no names.
    pub fn name(mut self, prefix: impl Into<String>) -> Self {
        self.name = Some(prefix.into());
        self
    }

    /// Sets how many messages may wait in each replica's own mailbox: 1 to 2^27 - 2. Default: the
    /// executor's [capacity](crate::ExecutorBuilder::capacity).
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = Some(messages);
        self
    }

    /// Makes the replicas' own mailboxes [unbounded](crate::SpawnBuilder::unbounded). Contradicts
    /// [`capacity`](Self::capacity).
    pub fn unbounded(mut self) -> Self {
        self.unbounded = true;
        self
    }

    /// Sets how many messages may wait in the [shared queue](crate::strategy::SharedQueue): 1 to
    /// 2^27 - 2. Messages in work are not counted. Default: the executor's
    /// [capacity](crate::ExecutorBuilder::capacity).
    pub fn queue_capacity(mut self, messages: usize) -> Self {
        self.queue_capacity = Some(messages);
        self
    }

    /// Makes the [shared queue](crate::strategy::SharedQueue)
    /// [unbounded](crate::SpawnBuilder::unbounded). Contradicts
    /// [`queue_capacity`](Self::queue_capacity).
    pub fn queue_unbounded(mut self) -> Self {
        self.queue_unbounded = true;
        self
    }

    /// Sets the most messages in one turn of a replica; at least 1. Default: the
    /// [executor's](crate::ExecutorBuilder::budget_messages).
    #[doc(alias("throughput", "fairness"))]
    pub fn budget_messages(mut self, messages: u32) -> Self {
        self.limits_mut().messages = messages;
        self
    }

    /// Sets the time after which a turn of a replica ends, between two messages; more than zero.
    /// Default: the [executor's](crate::ExecutorBuilder::budget_time).
    pub fn budget_time(mut self, time: Duration) -> Self {
        self.limits_mut().time = time;
        self
    }

    fn limits_mut(&mut self) -> &mut Limits {
        self.limits.get_or_insert(self.handle.core().limits)
    }

    /// Sets whether the replicas are timed, whatever
    /// [`ExecutorBuilder::timing`](crate::ExecutorBuilder::timing) says about all actors: how long
    /// messages waited, in the shared queue too, and how long they took. See
    /// [`ReplicaStats::timing`](crate::pool::ReplicaStats::timing), and
    /// [`SpawnBuilder::timing`](crate::SpawnBuilder::timing) for the costs.
    ///
    /// Needs the feature `timing`, which is on by default.
    #[cfg(feature = "timing")]
    pub fn timing(mut self, on: bool) -> Self {
        self.timing = on;
        self
    }

    /// Sets how long a replica stays without a state. After its first loss (in the
    /// [window](Self::failure_limit)) the next state is made at once; after the second, `first`
    /// later; then twice as late each time, at most `longest`. Default: 10 ms and 1 s.
    ///
    /// A replica that waits with nothing to handle does not hold up a stop of the pool, or a
    /// shrink. A shutdown of the executor makes the next state at once. A replica that would have
    /// to wait once more during the shutdown ends, and its messages become dead letters
    /// ([`Shutdown`](crate::event::DeadLetterReason::Shutdown)).
    #[doc(alias("restart", "supervision", "supervisor"))]
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.backoff = (first, longest);
        self
    }

    /// Sets a limit of failures, of all replicas together. After more than `failures` of them
    /// within the time `within` the pool stops:
    /// [`PoolStopReason::ReplacedTooOften`](crate::pool::PoolStopReason::ReplacedTooOften). A panic
    /// counts as a failure, and so do a stop of a replica and an error of the factory. Default: 100
    /// in 60 s.
    ///
    /// The pool keeps counts and not each failure, so the time may be as long as [`Duration::MAX`].
    /// Up to 64 failures are counted exactly; beyond, each counts for at least 63 of 64 parts of
    /// the time.
    #[doc(alias("restart", "max_restarts", "restart_limit", "intensity"))]
    #[doc(alias("supervision", "supervisor"))]
    pub fn failure_limit(mut self, failures: u32, within: Duration) -> Self {
        (self.limit, self.window) = (failures, within);
        self
    }

    /// Calls the factory for all replicas, on this thread, then spawns them.
    ///
    /// # Errors
    /// Fails if the pool would have no replicas or more than 2^24, a capacity or a budget is 0 or
    /// too large, two settings contradict each other, the factory fails (the error has the index),
    /// or the executor shuts down. No replica goes on then.
    pub fn build(self) -> Result<Pool<A>, PoolError> {
        let (factory, usual) = (OwnedField::new(self.factory), OwnedField::new(self.usual));
        check_replicas(self.replicas)?;
        // The executor's capacity may be "unbounded", which no explicit setting can be.
        let usual_capacity = self.handle.core().capacity;
        let capacity = |asked: Option<usize>, unbounded: bool| match asked {
            None if unbounded => Ok(MAX_LEN),
            None => Ok(usual_capacity),
            Some(messages) => match u32::try_from(messages) {
                Ok(capacity @ 1..MAX_LEN) => Ok(capacity),
                _ => Err(PoolError::Capacity(messages)),
            },
        };
        if self.capacity.is_some() && self.unbounded {
            return Err(PoolError::BoundedAndUnbounded);
        }
        if self.queue_capacity.is_some() && self.queue_unbounded {
            return Err(PoolError::QueueBoundedAndUnbounded);
        }
        if self.limits.is_some_and(|limits| !limits.are_positive()) {
            return Err(PoolError::Budget);
        }
        let settings = PoolSettings {
            capacity: capacity(self.capacity, self.unbounded)?,
            queue_capacity: capacity(self.queue_capacity, self.queue_unbounded)?,
            limits: self.limits,
            name: self.name,
            timing: self.timing,
            first_backoff: self.backoff.0,
            longest_backoff: self.backoff.1,
            limit: self.limit,
            window: self.window,
        };
        // All states are made before the first replica is spawned, so that a failing factory leaves
        // nothing behind.
        let states = make_states(&factory, 0..self.replicas)?;
        PoolInner::start_pool(self.handle, factory, (usual, self.usual_route), settings, states)
            .map(Pool::new)
    }
}

impl<A> fmt::Debug for PoolBuilder<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder").field("replicas", &self.replicas).finish_non_exhaustive()
    }
}

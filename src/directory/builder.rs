//! Builder of a directory: settings and their validation.

use super::Directory;
use super::shard::KeyShard;
use super::table::{DirectoryInner, DirectoryOwner, MakeFn, SweepState};
use crate::actor::Actor;
use crate::actor::handle::Handle;
use crate::actor::managed::ManagedSettings;
use crate::cell::core::Limits;
use crate::drops::OwnedField;
use crate::mailbox::state::MAX_LEN;
use crate::sync::{Mutex, Padded};
use crate::time::Duration;
use crate::variance::Invariant;
use std::error::Error;
use std::fmt;
use std::hash::{Hash, RandomState};
use std::marker::PhantomData;
use std::sync::Arc;

/// Maximal number of parts of a table, each with its own lock.
const MAX_SHARDS: usize = 64;
/// Minimal number of actors per part where a limit is given. With less room, chance would fill some
/// parts long before others.
const ROOM: usize = 64;

/// Settings for a [`Directory`].
///
/// ```
/// # use heist::{Actor, Directory, Executor};
/// # struct Session;
/// # impl Actor for Session {}
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let executor = Executor::new();
/// let sessions = Directory::builder(&executor)
///     .idle_timeout(Duration::from_secs(300))
///     .max_actors(100_000)
///     .capacity(16)
///     .build(|_: &u64| Session)?;
///
/// let error = Directory::builder(&executor).max_actors(0).build(|_: &u64| Session).unwrap_err();
/// assert_eq!(error.to_string(), "directory not built: it must keep at least one actor");
/// # Ok(())
/// # }
/// ```
#[must_use = "a directory exists once `build` was called"]
pub struct DirectoryBuilder<K, A> {
    executor: Handle,
    idle: Option<Duration>,
    limit: Option<usize>,
    capacity: Option<usize>,
    unbounded: bool,
    limits: Option<Limits>,
    timing: bool,
    of: Invariant<(K, A)>,
}

impl<K, A> Directory<K, A>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    A: Actor + Send,
{
    /// Makes a directory that keeps actors until they are [passivated](Self::passivate) or stop.
    /// `make` makes them. `executor` is an [`Executor`](crate::Executor) or a handle of one.
    ///
    /// ```
    /// # use heist::{Actor, Context, Directory, Executor, Handler};
    /// # struct Counter(u64);
    /// # impl Actor for Counter {}
    /// # struct Add(u64);
    /// # impl Handler<Add> for Counter {
    /// #     type Reply = u64;
    /// #     fn handle(&mut self, Add(n): Add, _: &mut Context<Self>) -> u64 {
    /// #         self.0 += n;
    /// #         self.0
    /// #     }
    /// # }
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let executor = Executor::new();
    /// let counters = Directory::new(&executor, |_: &u32| Counter(0));
    /// assert_eq!(counters.ask(&7, Add(1))?.wait()?, 1);
    /// assert_eq!(counters.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(executor: &Handle, make: impl Fn(&K) -> A + Send + Sync + 'static) -> Self {
        Self::builder(executor).build_checked(OwnedField::new(Box::new(make)))
    }

    /// Begins a directory with settings of its own.
    pub fn builder(executor: &Handle) -> DirectoryBuilder<K, A> {
        DirectoryBuilder::new(executor)
    }
}

impl<K, A> DirectoryBuilder<K, A>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    A: Actor + Send,
{
    fn new(executor: &Handle) -> Self {
        DirectoryBuilder {
            timing: executor.core().timing,
            executor: executor.clone(),
            idle: None,
            limit: None,
            capacity: None,
            unbounded: false,
            limits: None,
            of: PhantomData,
        }
    }

    /// Sets after which time the directory lets go of an actor that was neither looked up nor
    /// handled a message; more than zero. The directory lets go after one to two times this time.
    /// Default: never.
    ///
    /// # Costs
    /// In each such time all actors that the directory keeps are looked at once, in steps of 256,
    /// on the crew. An actor of the directory's own does so, and counts in the executor's
    /// statistics. While the directory keeps no actor there is none, and no timer.
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.idle = Some(time);
        self
    }

    /// Sets the most actors that the directory keeps; at least 1. For each further actor the
    /// directory lets go of another, not lately used. Default: no limit.
    ///
    /// An actor let go of that is referenced elsewhere, or still has work, lives on beside the kept
    /// ones. The limit is divided among the parts of the table, so with keys that do not fall
    /// evenly it may be a little less.
    pub fn max_actors(mut self, actors: usize) -> Self {
        self.limit = Some(actors);
        self
    }

    /// Sets how many messages may wait in each actor's mailbox: 1 to 2^27 - 2. Default: the
    /// executor's [capacity](crate::ExecutorBuilder::capacity).
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = Some(messages);
        self
    }

    /// Makes the actors' mailboxes [unbounded](crate::SpawnBuilder::unbounded). Contradicts
    /// [`capacity`](Self::capacity).
    pub fn unbounded(mut self) -> Self {
        self.unbounded = true;
        self
    }

    /// Sets the most messages in one turn of an actor; at least 1. Default: the
    /// [executor's](crate::ExecutorBuilder::budget_messages).
    #[doc(alias("throughput", "fairness"))]
    pub fn budget_messages(mut self, messages: u32) -> Self {
        self.limits_mut().messages = messages;
        self
    }

    /// Sets the time after which a turn of an actor ends, between two messages; more than zero.
    /// Default: the [executor's](crate::ExecutorBuilder::budget_time).
    pub fn budget_time(mut self, time: Duration) -> Self {
        self.limits_mut().time = time;
        self
    }

    fn limits_mut(&mut self) -> &mut Limits {
        self.limits.get_or_insert(self.executor.core().limits)
    }

    /// Sets whether the actors are timed, whatever
    /// [`ExecutorBuilder::timing`](crate::ExecutorBuilder::timing) says about all actors. See
    /// [`SpawnBuilder::timing`](crate::SpawnBuilder::timing), also for the costs.
    ///
    /// Needs the feature `timing`, which is on by default.
    #[cfg(feature = "timing")]
    pub fn timing(mut self, on: bool) -> Self {
        self.timing = on;
        self
    }

    /// Makes the directory. `make` makes its actors: see
    /// [when and where](Directory#the-function-that-makes-actors).
    ///
    /// # Errors
    /// Fails if a setting is zero or too large, or if two contradict each other.
    pub fn build(
        self,
        make: impl Fn(&K) -> A + Send + Sync + 'static,
    ) -> Result<Directory<K, A>, DirectoryError> {
        let make: MakeFn<K, A> = OwnedField::new(Box::new(make));
        if self.idle.is_some_and(|idle| idle.is_zero()) {
            return Err(DirectoryError::IdleTimeout);
        }
        if self.limit == Some(0) {
            return Err(DirectoryError::MaxActors);
        }
        if self.limits.is_some_and(|limits| !limits.are_positive()) {
            return Err(DirectoryError::Budget);
        }
        match self.capacity {
            Some(_) if self.unbounded => Err(DirectoryError::BoundedAndUnbounded),
            Some(n) if !u32::try_from(n).is_ok_and(|n| (1..MAX_LEN).contains(&n)) => {
                Err(DirectoryError::Capacity(n))
            }
            _ => Ok(self.build_checked(make)),
        }
    }

    /// Makes the directory from validated settings.
    fn build_checked(self, make: MakeFn<K, A>) -> Directory<K, A> {
        let capacity = match self.capacity {
            _ if self.unbounded => MAX_LEN,
            Some(capacity) => capacity as u32,
            None => self.executor.core().capacity,
        };
        // A power of two, so that a mask of the hash chooses the part.
        let shards = self.limit.map_or(MAX_SHARDS, |limit| (limit / ROOM).clamp(1, MAX_SHARDS));
        let shards = 1 << shards.ilog2();
        // Rounded down, so that the parts together never keep more than the limit.
        let most = self.limit.map_or(usize::MAX, |limit| limit / shards);
        let inner = DirectoryInner {
            executor: self.executor,
            make,
            settings: ManagedSettings { capacity, limits: self.limits, timing: self.timing },
            idle: self.idle,
            hasher: RandomState::new(),
            shards: (0..shards).map(|_| Padded(Mutex::new(KeyShard::new(most)))).collect(),
            sweep: Mutex::new(SweepState { shards: 0, sweeping: false, sweeper: None }),
            postman: Mutex::new(None),
        };
        Directory { owner: Arc::new(DirectoryOwner(Arc::new(inner))) }
    }
}

impl<K, A> fmt::Debug for DirectoryBuilder<K, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryBuilder")
            .field("idle", &self.idle)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// Why a directory was not built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The idle time is zero.
    IdleTimeout,
    /// The limit is zero.
    MaxActors,
    /// The capacity is 0 or too large.
    Capacity(usize),
    /// Mailboxes were given a capacity and made unbounded as well.
    BoundedAndUnbounded,
    /// A turn's budget is 0.
    Budget,
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("directory not built: ")?;
        match self {
            DirectoryError::IdleTimeout => f.write_str("an idle time must be more than zero"),
            DirectoryError::MaxActors => f.write_str("it must keep at least one actor"),
            DirectoryError::Capacity(n) => {
                write!(f, "mailboxes hold 1 to {} messages, not {n}", MAX_LEN - 1)
            }
            DirectoryError::BoundedAndUnbounded => {
                f.write_str("`capacity` contradicts `unbounded` (leave one of them out)")
            }
            DirectoryError::Budget => f.write_str("a turn's budget must not be 0"),
        }
    }
}

impl Error for DirectoryError {}

//! Strategies, which choose the replica for a message, and their view of a pool.
//!
//! A strategy returns a [`Route`], a plain value. The pool follows the route under its stripe's
//! lock, where no user code runs. The routes of the crate's own strategies are known without a look
//! at the replicas, so that they cost no more than the route itself. A user's strategy first looks
//! at a snapshot, outside all locks, and is asked again if the pool changed meanwhile.
//!
//! ```
//! # use heist::{Actor, Context, Executor, Handler};
//! # struct Worker;
//! # impl Actor for Worker {}
//! # impl Handler<u32> for Worker {
//! #     type Reply = u32;
//! #     fn handle(&mut self, n: u32, _: &mut Context<Self>) -> u32 { n }
//! # }
//! use heist::strategy::{ByKey, LeastLoaded, PoolDefault, Random};
//! use heist::strategy::{RoundRobin, SharedQueue, ToIndex, TwoChoices};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! # let executor = Executor::new();
//! let pool = executor.pool(3, |_| Worker).build()?;
//! pool.tell(RoundRobin, 1)?;
//! pool.tell(Random, 2)?;
//! pool.tell(LeastLoaded, 3)?;
//! pool.tell(TwoChoices, 4)?;
//! pool.tell(PoolDefault, 5)?;
//! pool.tell(ByKey("a key"), 6)?;
//! pool.tell(ToIndex(2), 7)?;
//! pool.tell(SharedQueue, 8)?;
//! assert!(pool.tell(ToIndex(3), 9).is_err());
//! # Ok(())
//! # }
//! ```

use crate::id::ActorId;
use std::any::TypeId;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// The destination of a message. Strategies return it, and it is a strategy itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Route {
    /// The pool's default: see [`PoolDefault`].
    Default,
    /// See [`RoundRobin`].
    RoundRobin,
    /// See [`Random`].
    Random,
    /// See [`LeastLoaded`].
    LeastLoaded,
    /// See [`TwoChoices`].
    TwoChoices,
    /// See [`SharedQueue`].
    SharedQueue,
    /// See [`ByKey`]; the value is the hash of a key.
    Key(u64),
    /// See [`ToIndex`].
    Index(usize),
    /// See [`ToId`].
    Id(ActorId),
}

/// Decides where a message goes.
///
/// A strategy of your own looks at the [`Replicas`] and returns a [`Route`]:
///
/// ```
/// use heist::strategy::{Replicas, Route, Strategy};
/// # use heist::{Actor, Context, Executor, Handler};
/// # struct Worker(usize);
/// # impl Actor for Worker {}
/// # struct Which;
/// # impl Handler<Which> for Worker {
/// #     type Reply = usize;
/// #     fn handle(&mut self, _: Which, _: &mut Context<Self>) -> usize { self.0 }
/// # }
///
/// /// The first replica that has nothing to do, or else any.
/// struct FirstIdle;
/// impl Strategy for FirstIdle {
///     fn route(&self, replicas: &Replicas<'_>) -> Route {
///         (0..replicas.len()).find(|&i| replicas.load(i) == 0).map_or(Route::Random, Route::Index)
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let executor = Executor::new();
/// let pool = executor.pool(3, Worker).build()?;
/// assert_eq!(pool.ask(FirstIdle, Which)?.wait()?, 0);
/// # Ok(())
/// # }
/// ```
#[doc(alias("RoutingLogic", "Dispatcher", "load balancing"))]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a strategy",
    note = "the module `heist::strategy` has them: `ByKey(key)` for a key, `ToIndex(i)`, `RoundRobin` …"
)]
pub trait Strategy {
    /// Returns where the next message goes. The pool calls this on the sender's thread, outside all
    /// locks, and again if the pool has changed meanwhile. A panic unwinds to the sender.
    fn route(&self, replicas: &Replicas<'_>) -> Route;

    /// Returns the route if it does not depend on the replicas, which is quicker. The pool calls
    /// this for each message, where it would call [`route`](Self::route), so the next message may
    /// have another route. The default implementation returns `None`.
    fn fixed(&self) -> Option<Route> {
        None
    }
}

/// A strategy's view of a pool, as it is now.
pub struct Replicas<'a> {
    pub(super) view: &'a dyn View,
}

/// The replicas, whatever their type.
pub(super) trait View {
    fn count(&self) -> usize;
    fn id(&self, index: usize) -> Option<ActorId>;
    fn load(&self, index: usize) -> Option<usize>;
}

impl Replicas<'_> {
    /// Returns the number of replicas, at least one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.view.count()
    }

    /// Returns `false`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many messages a replica has, waiting and in work. (Short messages of a turn are
    /// counted until the turn ends.) Returns `usize::MAX` while the replica has no state, since the
    /// next one is to be made.
    ///
    /// # Panics
    /// Panics if there is no replica of this index.
    #[must_use]
    #[track_caller]
    pub fn load(&self, index: usize) -> usize {
        match self.view.load(index) {
            Some(load) => load,
            None => self.no_replica(index),
        }
    }

    /// Returns a replica's id.
    ///
    /// # Panics
    /// Panics if there is no replica of this index.
    #[must_use]
    #[track_caller]
    pub fn id(&self, index: usize) -> ActorId {
        match self.view.id(index) {
            Some(id) => id,
            None => self.no_replica(index),
        }
    }

    #[cold]
    #[track_caller]
    fn no_replica(&self, index: usize) -> ! {
        panic!("there is no replica {index} (there are 0 to {})", self.len() - 1)
    }
}

impl fmt::Debug for Replicas<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((0..self.len()).map(|i| (self.id(i), self.load(i)))).finish()
    }
}

macro_rules! fixed {
    ($($(#[$doc:meta])* $name:ident => $route:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name;

        impl Strategy for $name {
            fn route(&self, _: &Replicas<'_>) -> Route {
                $route
            }
            #[inline]
            fn fixed(&self) -> Option<Route> {
                Some($route)
            }
        }
    )*};
}

fixed! {
    /// The strategy that the pool was [built](crate::pool::PoolBuilder::strategy) with;
    /// [`TwoChoices`] by default.
    PoolDefault => Route::Default;
    /// One replica after the other. Each worker has a count of its own, and threads outside share a
    /// few, so that senders do not contend. One worker's messages are spread exactly.
    RoundRobin => Route::RoundRobin;
    /// A random replica.
    Random => Route::Random;
    /// The replica with the fewest messages, waiting and in work; of equal ones, any. Looks at all
    /// replicas: for few replicas, or long messages.
    LeastLoaded => Route::LeastLoaded;
    /// The less loaded of two random replicas: nearly as even as [`LeastLoaded`], at the cost of a
    /// look at two.
    TwoChoices => Route::TwoChoices;
    /// The pool's shared queue, first in, first out, from which idle replicas take. No message
    /// waits behind a slow one while any replica is idle. The queue has a [capacity of its
    /// own](crate::pool::PoolBuilder::queue_capacity).
    ///
    /// A replica takes from the queue before its own mailbox, one message in a turn. So neither
    /// keeps the other waiting.
    SharedQueue => Route::SharedQueue;
}

/// The same replica for equal keys, so that one state handles the messages of a key, in order.
///
/// Keys are spread by jump hashing (Lamping and Veach, 2014) of the key's hash: nothing grows with
/// the keys, and when a pool of n grows by one, about one key in n + 1 moves.
/// [`Pool::resize`](crate::Pool::resize) says how a key's order is kept. Only messages by key take
/// part in that: during a change of size, a message by another route to the same replica may
/// overtake a key's messages that are held back.
///
/// ```
/// # use heist::{Actor, Context, Executor, Handler};
/// # use heist::strategy::ByKey;
/// # #[derive(Default)]
/// # struct Shard(std::collections::HashMap<String, u32>);
/// # impl Actor for Shard {}
/// struct Visit(String);
/// impl Handler<Visit> for Shard {
///     type Reply = u32;
///     fn handle(&mut self, Visit(name): Visit, _: &mut Context<Self>) -> u32 {
///         let visits = self.0.entry(name).or_default();
///         *visits += 1;
///         *visits
///     }
/// }
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let executor = Executor::new();
/// let shards = executor.pool(8, |_| Shard::default()).build()?;
/// let name = "Ada".to_string();
/// shards.tell(ByKey(&name), Visit(name.clone()))?;
/// assert_eq!(shards.ask(ByKey(&name), Visit(name.clone()))?.wait()?, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ByKey<K>(pub K);

impl<K: Hash> Strategy for ByKey<K> {
    fn route(&self, _: &Replicas<'_>) -> Route {
        Route::Key(self.hash_of_key())
    }
    #[inline]
    fn fixed(&self) -> Option<Route> {
        Some(Route::Key(self.hash_of_key()))
    }
}

impl<K: Hash> ByKey<K> {
    #[inline]
    fn hash_of_key(&self) -> u64 {
        // `DefaultHasher::new` has fixed keys, so all senders compute the same hash.
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        hasher.finish()
    }
}

/// The replica of this index, from 0. If there is none the message is refused with
/// [`Refusal::NoReplica`](crate::Refusal::NoReplica).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ToIndex(pub usize);

/// The replica of this id. If there is none the message is refused with
/// [`Refusal::NoReplica`](crate::Refusal::NoReplica).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ToId(pub ActorId);

macro_rules! given {
    ($($name:ty, $this:ident => $route:expr;)*) => {$(
        impl Strategy for $name {
            fn route(&self, _: &Replicas<'_>) -> Route {
                let $this = self;
                $route
            }
            #[inline]
            fn fixed(&self) -> Option<Route> {
                let $this = self;
                Some($route)
            }
        }
    )*};
}

given! {
    Route, this => *this;
    ToIndex, this => Route::Index(this.0);
    ToId, this => Route::Id(this.0);
}

/// Returns the route of one of the crate's own strategies, if it never changes. A pool need not ask
/// such a strategy for each message.
pub(super) fn constant_route<S: Strategy + 'static>(strategy: &S) -> Option<Route> {
    let constant = [
        TypeId::of::<PoolDefault>(),
        TypeId::of::<RoundRobin>(),
        TypeId::of::<Random>(),
        TypeId::of::<LeastLoaded>(),
        TypeId::of::<TwoChoices>(),
        TypeId::of::<SharedQueue>(),
        TypeId::of::<Route>(),
        TypeId::of::<ToIndex>(),
        TypeId::of::<ToId>(),
    ];
    if constant.contains(&TypeId::of::<S>()) { strategy.fixed() } else { None }
}

macro_rules! pointers {
    ($($pointer:ty)*) => {$(
        impl<S: Strategy + ?Sized> Strategy for $pointer {
            fn route(&self, replicas: &Replicas<'_>) -> Route {
                (**self).route(replicas)
            }
            #[inline]
            fn fixed(&self) -> Option<Route> {
                (**self).fixed()
            }
        }
    )*};
}

pointers! { &S Box<S> Arc<S> }

/// Jump hashing: returns the bucket of a key among `buckets`. With one more bucket, one key in
/// `buckets + 1` moves, always to the new bucket.
///
/// A key's path is a sequence of jumps from bucket to bucket, drawn from a generator that the key
/// seeds. The key's bucket is the last one on the path below the number of buckets.
#[inline]
pub(super) fn jump_hash(mut key: u64, buckets: usize) -> usize {
    let (mut bucket, mut next) = (0, 0);
    while next < buckets as u64 {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        // The published formula: the next jump's target, from 31 random bits. The target grows, so
        // the loop ends after about ln(buckets) jumps.
        next = ((bucket + 1) as f64 * (2_147_483_648.0 / ((key >> 33) + 1) as f64)) as u64;
    }
    bucket as usize
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_more_takes_its_share_and_moves_nothing_else() {
        let keys = 100_000u64;
        let hash = |key: u64| ByKey(key).hash_of_key();
        for buckets in [1, 2, 7, 16] {
            let mut moved = 0u64;
            for key in 0..keys {
                let (before, after) =
                    (jump_hash(hash(key), buckets), jump_hash(hash(key), buckets + 1));
                assert!(before < buckets);
                if before != after {
                    assert_eq!(after, buckets, "keys move to the new one only");
                    moved += 1;
                }
            }
            let share = keys / (buckets as u64 + 1);
            assert!(
                moved.abs_diff(share) < share / 10,
                "{moved} of {keys} moved to the {buckets}th"
            );
        }
    }
}

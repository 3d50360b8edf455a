//! Pools: replicas of an actor behind one handle, and strategies for choosing a replica.

// - this file: the handle; [`send`]: tell, ask, send; [`broadcast`]: all replicas at the same time
// - [`strategy`]: the strategies; [`choose`]: the choice of a replica by one of them
// - [`roster`]: the replicas, as senders see them; [`replica`]: one of them
// - [`builder`]: settings; [`life`]: losses, successors, changes of size, the end; [`key_move`]:
//   keys that change their replica
// - `stats`: statistics
//
// A replica is an actor like any other, on the executor's crew. `cell::restart` replaces its state
// without moving a message, and `cell::shared` is the queue that all replicas take from.

pub(crate) mod broadcast;
pub(crate) mod builder;
mod choose;
pub(crate) mod error;
mod factory;
mod failures;
mod key_move;
mod life;
mod replica;
mod roster;
pub(crate) mod send;
pub(crate) mod stats;
pub mod strategy;

pub use broadcast::Broadcast;
pub use builder::PoolBuilder;
pub use error::{PoolError, PoolStopReason};
pub use send::PoolSending;
pub use stats::{PoolStats, ReplicaStats};

use crate::actor::Actor;
use crate::actor::refs::ActorRef;
use crate::actor::wait;
use crate::error::WaitError;
use crate::id::ActorId;
use crate::sync::WakerKey;
use crate::time::{self, Duration, Instant};
use life::PoolInner;
use roster::Roster;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Replicas of one actor behind one handle, each with a state made by a factory. Cheap to clone, to
/// send and to share.
///
/// Each message goes to one replica, chosen by a [strategy]: round-robin, random,
/// by load, by key, to a given one, through one queue for all, or by a strategy of your own. A
/// replica that panics or stops gets a new state, which goes on with the waiting messages, in
/// order. When the last handle is dropped the pool [stops](Self::stop).
///
/// ```
/// use heist::strategy::{ByKey, RoundRobin, SharedQueue};
/// use heist::{Actor, Context, Executor, Handler};
///
/// struct Connection { number: usize }
/// impl Actor for Connection {}
///
/// struct Query(&'static str);
/// impl Handler<Query> for Connection {
///     type Reply = String;
///     fn handle(&mut self, Query(text): Query, _: &mut Context<Self>) -> String {
///         format!("{text} on {}", self.number)
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let executor = Executor::new();
/// let pool = executor.pool(4, |number| Connection { number }).build()?;
/// pool.tell(RoundRobin, Query("delete"))?;                              // one after the other
/// let first = pool.ask(ByKey("Ada"), Query("select"))?.wait()?;         // equal keys, one replica
/// assert_eq!(pool.ask(ByKey("Ada"), Query("select"))?.wait()?, first);
/// pool.send(SharedQueue, Query("update"))?;                             // the first idle replica
/// assert_eq!(pool.broadcast_with(|_| Query("ping")).wait().len(), 4);   // all at the same time
/// # Ok(())
/// # }
/// ```
///
/// # What is promised
///
/// All promises for actors hold, and three more. Messages of one key are handled in order, also
/// while the pool is resized. An accepted message is handled once even if its replica loses its
/// state before (unless the pool stops at once, or reaches its
/// [limit](crate::pool::PoolBuilder::failure_limit) of losses). A stop handles what was accepted.
///
/// **Order** is that of one replica's mailbox. Messages of one sender that go to different
/// replicas, or through the shared queue, may overtake each other. While the pool is
/// [resized](Self::resize), messages by other routes may overtake a key's messages that are held
/// back for the same replica.
///
/// **References to a replica** ([`replica`](Self::replica), [`Context::me`](crate::Context::me))
/// stay valid through all its states. [`ActorRef::stop`], [`stop_now`](ActorRef::stop_now) and
/// [`Context::stop`](crate::Context::stop) end the present state after the message in work, and the
/// replica gets another. Answers, timers and notices that the state was owed come to the next one.
///
/// A replica with a handler that waits for an answer of its own pool may wait for itself in the
/// end. Ask by [`Context::ask_then`](crate::Context::ask_then) there.
///
/// Needs the feature `pool`, which is on by default.
#[doc(alias("Router", "Factory", "worker pool", "ActorPool"))]
#[must_use = "dropping the last handle stops the pool"]
pub struct Pool<A: Actor> {
    shared: Arc<PoolInner<A>>,
    /// Dropping the last handle stops the pool.
    handles: Arc<PoolHandles<A>>,
}

struct PoolHandles<A: Actor>(Arc<PoolInner<A>>);

impl<A: Actor> Drop for PoolHandles<A> {
    fn drop(&mut self) {
        // If the pool has ended already, its first reason is kept.
        self.0.end_pool(PoolStopReason::Dropped, false);
    }
}

impl<A: Actor> Clone for Pool<A> {
    fn clone(&self) -> Self {
        Pool { shared: Arc::clone(&self.shared), handles: Arc::clone(&self.handles) }
    }
}

impl<A: Actor> Pool<A> {
    fn new(shared: Arc<PoolInner<A>>) -> Self {
        // Two counts: replicas and queues hold `shared`, so only a count of the handles can tell
        // when the last one is gone.
        Pool { handles: Arc::new(PoolHandles(Arc::clone(&shared))), shared }
    }

    fn current_roster(&self) -> Arc<Roster<A>> {
        self.shared.current_roster()
    }

    /// Returns the number of replicas.
    #[must_use]
    pub fn len(&self) -> usize {
        self.current_roster().replicas.len()
    }

    /// Returns `false`: a pool has at least one replica. (In a forked child it has none.)
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the replica of an index, if there is one.
    #[must_use]
    pub fn replica(&self, index: usize) -> Option<ActorRef<A>> {
        self.current_roster().replicas.get(index).map(|replica| replica.actor.clone())
    }

    /// Returns the replicas' ids, in order of their indexes.
    #[must_use]
    pub fn ids(&self) -> Vec<ActorId> {
        self.current_roster().replicas.iter().map(|replica| replica.actor.id()).collect()
    }

    /// Returns `true` if the pool accepts messages: until it stops, or is closed by its executor.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let roster = self.current_roster();
        !roster.stopped && roster.queue.as_ref().is_some_and(ActorRef::is_running)
    }

    /// Stops the pool once all accepted messages are handled, in the replicas' mailboxes and in the
    /// shared queue. Later messages are refused. Returns at once;
    /// [`wait_stopped`](Self::wait_stopped) waits for the end.
    pub fn stop(&self) {
        self.shared.end_pool(PoolStopReason::Stopped, false);
    }

    /// Stops the pool after the messages in work. Messages that wait become dead letters, and their
    /// askers are told. Returns at once.
    pub fn stop_now(&self) {
        self.shared.end_pool(PoolStopReason::Killed, true);
    }

    /// Blocks until all replicas have ended. Returns why the pool ended. The call does not stop the
    /// pool.
    ///
    /// In a handler of another executor a cycle through this wait is not seen: if a replica waits
    /// for that handler's actor, both wait until a timeout. See
    /// [`wait_stopped_timeout`](Self::wait_stopped_timeout).
    ///
    /// # Errors
    /// If the pool has not ended: [`WaitError::OnCrew`] on a thread of its executor's crew, and
    /// [`WaitError::NoSpare`] in a handler of another executor that has no spare left.
    /// [`WaitError::Forked`] in a forked child.
    pub fn wait_stopped(&self) -> Result<PoolStopReason, WaitError> {
        self.wait_stopped_until(None)
    }

    /// Blocks until all replicas have ended, for at most `timeout`. Returns why the pool ended.
    ///
    /// # Errors
    /// As [`wait_stopped`](Self::wait_stopped), and [`WaitError::TimedOut`].
    pub fn wait_stopped_timeout(&self, timeout: Duration) -> Result<PoolStopReason, WaitError> {
        self.wait_stopped_until(time::instant_after(timeout))
    }

    fn wait_stopped_until(&self, until: Option<Instant>) -> Result<PoolStopReason, WaitError> {
        if self.shared.is_forked() {
            return Err(WaitError::Forked);
        }
        // Before the look at the calling thread: a pool that has ended needs no wait, so its result
        // is available anywhere.
        if let Some(end) = self.shared.ended() {
            return Ok(end);
        }
        let core = self.shared.handle.core();
        // The replicas run on this crew, so their end may need this very thread.
        if core.on_crew() {
            return Err(WaitError::OnCrew);
        }
        // The blocking form waits for the future, so that both forms share one registration.
        wait::wait(&mut self.wait_stopped_async(), until)?.ok_or(WaitError::TimedOut)
    }

    /// Returns a future that resolves when all replicas have ended: the awaited form of
    /// [`wait_stopped`](Self::wait_stopped). The future does not keep the pool running.
    pub fn wait_stopped_async(&self) -> PoolStopped<A> {
        PoolStopped { shared: Arc::clone(&self.shared), key: None }
    }
}

impl<A: Actor + Send> Pool<A> {
    /// Changes the number of replicas while the pool is in use. Does not wait for the change to be
    /// over.
    ///
    /// The factory makes the states of new replicas on this thread, and they take messages from now
    /// on. Surplus replicas, the last ones, get no more messages, handle their accepted ones, and
    /// end.
    ///
    /// A key that moves to another replica keeps its order. The replica before handles the messages
    /// that were accepted earlier, while later ones are held back. Each pair of replicas does so by
    /// itself, and the next change can begin when all pairs are done
    /// ([`is_resizing`](Self::is_resizing)).
    ///
    /// A message that is held back is in no mailbox yet. A message that its sender sends to the
    /// same replica later, by another route (an index, an id, by load, a broadcast), may overtake
    /// it. Where that order matters, send by key, or wait until the change is over.
    ///
    /// # Errors
    /// Fails, and changes nothing, if the size is 0 or more than 2^24, the factory fails, a change
    /// is under way ([`PoolError::Resizing`]), the pool has stopped, or the executor shuts down.
    ///
    /// ```
    /// # use heist::{Actor, Executor};
    /// # struct Worker;
    /// # impl Actor for Worker {}
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let executor = Executor::new();
    /// let pool = executor.pool(2, |_| Worker).build()?;
    /// pool.resize(5)?;
    /// assert_eq!(pool.len(), 5);
    /// executor.wait_idle()?;
    /// pool.shrink(4)?;
    /// assert_eq!(pool.len(), 1);
    /// assert!(pool.shrink(1).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn resize(&self, replicas: usize) -> Result<(), PoolError> {
        self.shared.resize(replicas)
    }

    /// Adds `by` replicas: see [`resize`](Self::resize).
    ///
    /// # Errors
    /// As [`resize`](Self::resize).
    pub fn grow(&self, by: usize) -> Result<(), PoolError> {
        self.resize(self.len().saturating_add(by))
    }

    /// Removes `by` replicas: see [`resize`](Self::resize).
    ///
    /// # Errors
    /// As [`resize`](Self::resize).
    pub fn shrink(&self, by: usize) -> Result<(), PoolError> {
        self.resize(self.len().saturating_sub(by))
    }

    /// Returns `true` while a change of size is under way.
    #[must_use]
    pub fn is_resizing(&self) -> bool {
        self.current_roster().key_move.is_some()
    }
}

impl<A: Actor> fmt::Debug for Pool<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("replicas", &self.ids()).finish_non_exhaustive()
    }
}

/// The end of a pool, to be awaited. From [`Pool::wait_stopped_async`]. The future keeps no pool
/// from its end, and never resolves in a forked child. After [`std::mem::forget`] the memory of the
/// pool leaks.
#[must_use = "a future does nothing unless it is awaited"]
pub struct PoolStopped<A: Actor> {
    shared: Arc<PoolInner<A>>,
    /// The entry of this wait among the pool's wakers.
    key: Option<WakerKey>,
}

impl<A: Actor> Future for PoolStopped<A> {
    type Output = PoolStopReason;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<PoolStopReason> {
        let PoolStopped { shared, key } = &mut *self;
        shared.poll_ended(key, cx.waker()).map_or(Poll::Pending, Poll::Ready)
    }
}

/// Dropped before it is ready, the future leaves nothing behind.
impl<A: Actor> Drop for PoolStopped<A> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.shared.forget_wait(key);
        }
    }
}

impl<A: Actor> fmt::Debug for PoolStopped<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolStopped").finish_non_exhaustive()
    }
}

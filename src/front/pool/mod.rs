//! Pools: replicas of one actor behind one handle, and strategies that choose a replica for each
//! message.
//!
//! - this file: the handle; [`send`]: tell, ask, send; [`broadcast`]: all replicas at the same time
//! - [`strategy`]: the choice of a replica; [`members`]: the replicas, as senders see them
//! - [`builder`]: settings; [`life`]: losses, successors, changes of size, the end; [`moving`]:
//!   keys that change their replica
//! - [`counts`]: statistics
//!
//! A replica is an actor like any other, on the executor's crew. `cell::restart` replaces its state
//! without moving a message, and `cell::shared` is the queue that all replicas take from.

pub(crate) mod broadcast;
pub(crate) mod builder;
pub(crate) mod counts;
mod life;
mod losses;
mod members;
mod moving;
pub(crate) mod send;
pub(crate) mod strategy;

use crate::actor::Actor;
use crate::actor::refs::ActorRef;
use crate::actor::wait;
use crate::cell::event::Loss;
use crate::error::WaitError;
use crate::id::ActorId;
use crate::sync::WakerKey;
use crate::time::{self, Duration, Instant};
use life::Shared;
use members::List;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Replicas of one actor, each with its own state made by a factory, behind one handle. Cheap to
/// clone, to send and to share.
///
/// Each message goes to one replica, chosen by a [strategy](crate::strategy): round-robin, random,
/// by load, by key, to a given replica, through a queue shared by all, or your own. A replica that
/// panics or stops is replaced, and its successor goes on with the waiting messages, in order. When
/// the last handle is dropped the pool [stops](Self::stop).
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
/// A pool keeps all promises made for actors. Besides, one key's messages are handled in order,
/// also while the pool changes its size. An accepted message is handled once even if its replica is
/// lost before. A stop handles every accepted message.
///
/// **Order** is that of one replica's mailbox. Messages of one sender that go to different
/// replicas, or through the queue, overtake each other.
///
/// **A replica's references** ([`replica`](Self::replica), [`Context::me`](crate::Context::me))
/// stay valid through all its states. [`ActorRef::stop`], [`stop_now`](ActorRef::stop_now) or
/// [`Context::stop`](crate::Context::stop) there ends the state after the message in hand, and the
/// state is replaced. Answers, timers and notices still due to the old state go to the successor.
///
/// A replica that waits in its handler for an answer of its own pool may end up waiting for itself.
/// Ask by [`Context::ask_then`](crate::Context::ask_then) there.
pub struct Pool<A: Actor> {
    shared: Arc<Shared<A>>,
    /// Dropping the last handle stops the pool.
    handles: Arc<Handles<A>>,
}

struct Handles<A: Actor>(Arc<Shared<A>>);

impl<A: Actor> Drop for Handles<A> {
    fn drop(&mut self) {
        self.0.end(PoolEnd::Dropped, false);
    }
}

impl<A: Actor> Clone for Pool<A> {
    fn clone(&self) -> Self {
        Pool { shared: Arc::clone(&self.shared), handles: Arc::clone(&self.handles) }
    }
}

impl<A: Actor> Pool<A> {
    fn new(shared: Arc<Shared<A>>) -> Self {
        Pool { handles: Arc::new(Handles(Arc::clone(&shared))), shared }
    }

    fn list(&self) -> Arc<List<A>> {
        self.shared.list()
    }

    /// Returns the number of replicas.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list().members.len()
    }

    /// Returns `false`: a pool has at least one replica.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a reference to the replica with this index.
    #[must_use]
    pub fn replica(&self, index: usize) -> Option<ActorRef<A>> {
        self.list().members.get(index).map(|member| member.actor.clone())
    }

    /// Returns the replicas' ids, in order of their indexes.
    #[must_use]
    pub fn ids(&self) -> Vec<ActorId> {
        self.list().members.iter().map(|member| member.actor.id()).collect()
    }

    /// Returns `true` if the pool accepts messages: until it is stopped, or its executor closes it.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let list = self.list();
        !list.stopped && list.queue.as_ref().is_some_and(ActorRef::is_running)
    }

    /// Stops the pool once it has handled all accepted messages, in the replicas' mailboxes and in
    /// the queue. Refuses all later messages. Returns at once; see
    /// [`wait_stopped`](Self::wait_stopped).
    pub fn stop(&self) {
        self.shared.end(PoolEnd::Stopped, false);
    }

    /// Stops the pool after the messages in work. Waiting messages become dead letters, and their
    /// askers are told.
    pub fn stop_now(&self) {
        self.shared.end(PoolEnd::Killed, true);
    }

    /// Blocks until all replicas have ended. Returns the reason of the pool's end. Does not stop
    /// the pool.
    ///
    /// # Errors
    /// [`WaitError::OnCrew`] on a worker of the pool's executor.
    pub fn wait_stopped(&self) -> Result<PoolEnd, WaitError> {
        self.wait_stopped_until(None)
    }

    /// Like [`wait_stopped`](Self::wait_stopped), for at most `timeout`.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`], [`WaitError::OnCrew`].
    pub fn wait_stopped_timeout(&self, timeout: Duration) -> Result<PoolEnd, WaitError> {
        self.wait_stopped_until(time::after(timeout))
    }

    fn wait_stopped_until(&self, until: Option<Instant>) -> Result<PoolEnd, WaitError> {
        if self.shared.forked() {
            return Err(WaitError::Forked);
        }
        if let Some(end) = self.shared.ended() {
            return Ok(end);
        }
        let core = self.shared.handle.core();
        if core.on_crew() {
            return Err(WaitError::OnCrew);
        }
        wait::wait(&mut self.wait_stopped_async(), until)?.ok_or(WaitError::TimedOut)
    }

    /// Resolves when all replicas have ended: the awaited form of
    /// [`wait_stopped`](Self::wait_stopped). Does not keep the pool running.
    pub fn wait_stopped_async(&self) -> PoolStopped<A> {
        PoolStopped { shared: Arc::clone(&self.shared), key: None }
    }
}

impl<A: Actor + Send> Pool<A> {
    /// Changes the number of replicas while the pool is in use. Returns at once.
    ///
    /// The factory makes new replicas on this thread, and they take messages from now on. Surplus
    /// replicas, the last ones, get no more messages, handle those they have, and end.
    ///
    /// A key that moves to another replica keeps its order. The old replica first handles every
    /// message accepted before for the key, while later messages are held back. This goes for each
    /// pair of replicas by itself. The next change can begin when all pairs are through.
    ///
    /// # Errors
    /// Fails, and changes nothing, if the size is 0, if the factory fails, if another change is
    /// under way ([`PoolError::Resizing`]), or if the pool has stopped.
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
    /// As for [`resize`](Self::resize).
    pub fn grow(&self, by: usize) -> Result<(), PoolError> {
        self.resize(self.len().saturating_add(by))
    }

    /// Removes `by` replicas: see [`resize`](Self::resize).
    ///
    /// # Errors
    /// As for [`resize`](Self::resize).
    pub fn shrink(&self, by: usize) -> Result<(), PoolError> {
        self.resize(self.len().saturating_sub(by))
    }

    /// Returns `true` while a change of size is under way.
    #[must_use]
    pub fn is_resizing(&self) -> bool {
        self.list().moving.is_some()
    }
}

impl<A: Actor> fmt::Debug for Pool<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("replicas", &self.ids()).finish_non_exhaustive()
    }
}

/// A future of the end of a pool.
#[must_use = "a future does nothing unless it is awaited"]
pub struct PoolStopped<A: Actor> {
    shared: Arc<Shared<A>>,
    /// The entry of this wait among the pool's wakers.
    key: Option<WakerKey>,
}

impl<A: Actor> Future for PoolStopped<A> {
    type Output = PoolEnd;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<PoolEnd> {
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

/// Why a pool ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolEnd {
    /// [`Pool::stop`].
    Stopped,
    /// [`Pool::stop_now`].
    Killed,
    /// The last handle was dropped.
    Dropped,
    /// The executor shut down.
    Shutdown,
    /// More replicas were lost in a time than [`PoolBuilder::limit`](crate::PoolBuilder::limit)
    /// allows.
    ReplacedTooOften {
        /// The limit.
        replacements: u32,
        /// The time.
        window: Duration,
        /// The last loss.
        last: Loss,
    },
}

impl fmt::Display for PoolEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolEnd::Stopped => f.write_str("stopped"),
            PoolEnd::Killed => f.write_str("stopped at once"),
            PoolEnd::Dropped => f.write_str("no longer referenced"),
            PoolEnd::Shutdown => f.write_str("its executor shut down"),
            PoolEnd::ReplacedTooOften { replacements, window, last } => {
                write!(f, "more than {replacements} replicas lost in {window:?}, the last because {last}")
            }
        }
    }
}

/// Why a pool was not built, or not resized.
#[derive(Debug)]
#[non_exhaustive]
pub enum PoolError {
    /// The pool would have no replica.
    NoReplicas,
    /// A capacity of 0, or too large.
    Capacity(usize),
    /// The factory did not make a replica.
    Factory {
        /// Index of the replica.
        index: usize,
        /// The factory's error.
        error: Box<dyn Error + Send + Sync>,
    },
    /// A change of size is under way.
    Resizing,
    /// The pool has stopped.
    Stopped,
    /// The executor shuts down.
    ShuttingDown,
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolError::NoReplicas => f.write_str("a pool needs at least one replica"),
            PoolError::Capacity(n) => write!(f, "a pool's mailboxes hold 1 to 2^27 - 2 messages, not {n}"),
            PoolError::Factory { index, error } => write!(f, "replica {index} could not be made: {error}"),
            PoolError::Resizing => f.write_str("the pool is changing its size already"),
            PoolError::Stopped => f.write_str("the pool has stopped"),
            PoolError::ShuttingDown => f.write_str("the executor is shutting down"),
        }
    }
}

impl Error for PoolError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            PoolError::Factory { error, .. } => Some(&**error),
            _ => None,
        }
    }
}

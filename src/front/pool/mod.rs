//! Pools: replicas of one actor behind one handle, and ways to route messages to them.
//!
//! - this file: the handle; [`send`]: tell, ask, send; [`broadcast`]: all at the same time
//! - [`strategy`]: whom a message goes to; [`members`]: who is there, as senders see it
//! - [`builder`]: settings; [`life`]: losses and successors, a change of size, the end; [`moving`]: keys that change their replica
//! - [`counts`]: what can be read of it
//!
//! A replica is an actor like any other, on the executor's crew. That its state is replaced without moving a message is
//! `cell::restart`, the queue that all take from is `cell::shared`.

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

/// Replicas of one actor, each with a state of its own that a factory makes, and one way to reach them all. Cheap to clone,
/// to send and to share.
///
/// Each message goes to one replica, by a [strategy](crate::strategy): round-robin, random, by load, by key, to a given one,
/// through one queue for all, or what you write yourself. A replica that panics or stops is replaced, and its successor goes
/// on with what waits, in order. When the last handle is dropped the pool [stops](Self::stop).
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
/// pool.tell(RoundRobin, Query("delete"))?;                                    // one after the other
/// let first = pool.ask(ByKey("Ada"), Query("select"))?.wait()?;               // equal keys, the same replica
/// assert_eq!(pool.ask(ByKey("Ada"), Query("select"))?.wait()?, first);
/// pool.send(SharedQueue, Query("update"))?;                                   // whoever is idle first
/// assert_eq!(pool.broadcast_with(|_| Query("ping")).wait().len(), 4);         // all at the same time
/// # Ok(())
/// # }
/// ```
///
/// # What is promised
///
/// All that is promised of actors, and: one key's messages are handled in order, also while the pool changes its size; an
/// accepted message is handled once even if its replica is lost before it comes to it; a stop handles what was accepted.
///
/// **Order** is that of one replica's mailbox. Messages of one sender that go to different replicas, or through the queue,
/// overtake each other.
///
/// **A replica's references** ([`replica`](Self::replica), [`Context::me`](crate::Context::me)) stay valid through all its states.
/// [`ActorRef::stop`] (or [`stop_now`](ActorRef::stop_now), or [`Context::stop`](crate::Context::stop)) there ends the state
/// after the message in hand: it is replaced. Answers, timers and notices that a state still had to come
/// come to its successor.
///
/// A replica that waits, in its handler, for an answer of its own pool may wait for itself in the end: ask by
/// [`Context::ask_then`](crate::Context::ask_then) there.
pub struct Pool<A: Actor> {
    shared: Arc<Shared<A>>,
    /// The last one stops the pool.
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

    /// How many replicas there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list().members.len()
    }

    /// Never: a pool has at least one replica.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The replica of an index.
    #[must_use]
    pub fn replica(&self, index: usize) -> Option<ActorRef<A>> {
        self.list().members.get(index).map(|member| member.actor.clone())
    }

    /// The replicas' ids, in order of their indexes.
    #[must_use]
    pub fn ids(&self) -> Vec<ActorId> {
        self.list().members.iter().map(|member| member.actor.id()).collect()
    }

    /// Does it accept messages? `false` from the moment it is stopped, or its executor closed it.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let list = self.list();
        !list.stopped && list.queue.as_ref().is_some_and(ActorRef::is_running)
    }

    /// Stops the pool once it has handled what it has accepted, in the replicas' mailboxes and in the queue: all that comes
    /// later is refused. Returns at once; see [`wait_stopped`](Self::wait_stopped).
    pub fn stop(&self) {
        self.shared.end(PoolEnd::Stopped, false);
    }

    /// Stops the pool after the messages in work: what waits becomes dead letters, whose askers are told.
    pub fn stop_now(&self) {
        self.shared.end(PoolEnd::Killed, true);
    }

    /// Blocks until all replicas have ended. Says why the pool did. It does not stop the pool.
    ///
    /// # Errors
    /// [`WaitError::OnCrew`] on a worker of its executor.
    pub fn wait_stopped(&self) -> Result<PoolEnd, WaitError> {
        self.wait_stopped_until(None)
    }

    /// The same, for at most `timeout`.
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

    /// Resolves when all replicas have ended: the awaited form of [`wait_stopped`](Self::wait_stopped). It does not keep the pool
    /// running.
    pub fn wait_stopped_async(&self) -> PoolStopped<A> {
        PoolStopped { shared: Arc::clone(&self.shared), key: None }
    }
}

impl<A: Actor + Send> Pool<A> {
    /// Makes replicas more, or fewer, while the pool is in use. Returns at once.
    ///
    /// New ones are made by the factory, on this thread, and take messages from now on. Those that are too many, the last
    /// ones, get no more messages, handle what they have, and end.
    ///
    /// A key that moves to another replica keeps its order: what was accepted for it before is handled first, by the old
    /// one, while what comes after is held back. This goes for each pair of replicas by itself, and
    /// the next change can begin when it is over.
    ///
    /// # Errors
    /// Nothing has changed then: a size of 0; the factory's error; a change that is under way ([`PoolError::Resizing`]); a pool that has
    /// stopped.
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

    /// So many replicas more: see [`resize`](Self::resize).
    ///
    /// # Errors
    /// As there.
    pub fn grow(&self, by: usize) -> Result<(), PoolError> {
        self.resize(self.len().saturating_add(by))
    }

    /// So many replicas fewer: see [`resize`](Self::resize).
    ///
    /// # Errors
    /// As there.
    pub fn shrink(&self, by: usize) -> Result<(), PoolError> {
        self.resize(self.len().saturating_sub(by))
    }

    /// Is a change of size under way still?
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

/// The end of a pool, to be awaited.
#[must_use = "a future does nothing unless it is awaited"]
pub struct PoolStopped<A: Actor> {
    shared: Arc<Shared<A>>,
    /// Its entry among those that wait.
    key: Option<WakerKey>,
}

impl<A: Actor> Future for PoolStopped<A> {
    type Output = PoolEnd;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<PoolEnd> {
        let PoolStopped { shared, key } = &mut *self;
        shared.poll_ended(key, cx.waker()).map_or(Poll::Pending, Poll::Ready)
    }
}

/// Dropped unfinished it leaves nothing behind.
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
    /// Its executor shut down.
    Shutdown,
    /// More replicas were lost in a time than [`PoolBuilder::limit`](crate::PoolBuilder::limit) allows.
    ReplacedTooOften {
        /// The limit.
        replacements: u32,
        /// The time.
        window: Duration,
        /// What became of the last one.
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
    /// A pool of none.
    NoReplicas,
    /// A capacity of 0, or too large.
    Capacity(usize),
    /// The factory did not make a replica.
    Factory {
        /// Which.
        index: usize,
        /// Why.
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

//! What a pool counts of each replica, and what can be read of it.

use super::Pool;
use crate::actor::Actor;
use crate::actor::refs::{ActorRef, ActorStats};
use crate::cell::times::Timing;
use crate::id::ActorId;
use crate::sync::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// One replica's, through all its states. Written in its turns.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) failed: AtomicU64,
    pub(super) replaced: AtomicU64,
    absent: AtomicBool,
}

impl Counts {
    /// Is there no state, and will there be none for a while?
    #[inline]
    pub(super) fn absent(&self) -> bool {
        self.absent.load(Relaxed)
    }

    pub(super) fn set_absent(&self, absent: bool) {
        self.absent.store(absent, Relaxed);
    }
}

/// A snapshot of a pool's counts. Cheap: a few loads for each replica.
///
/// ```
/// # use heist::{Actor, Context, Executor, Handler};
/// # use heist::strategy::RoundRobin;
/// # struct Worker;
/// # impl Actor for Worker {}
/// # impl Handler<u32> for Worker { type Reply = (); fn handle(&mut self, _: u32, _: &mut Context<Self>) {} }
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let executor = Executor::new();
/// let pool = executor.pool(2, |_| Worker).build()?;
/// for n in 0..10 {
///     pool.tell(RoundRobin, n)?;
/// }
/// executor.wait_idle()?;
/// let stats = pool.stats();
/// assert_eq!(stats.replicas[0].actor.handled, 5);
/// assert_eq!(stats.imbalance(), 1.0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Each replica's, in order of their indexes.
    pub replicas: Vec<ReplicaStats>,
    /// Messages that wait in the shared queue.
    pub queued: usize,
    /// Messages of keys that are moving to other replicas, and wait for earlier ones to be handled there.
    pub held: usize,
}

/// One replica's counts, all its states together.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReplicaStats {
    /// Which actor; the same for all successors.
    pub id: ActorId,
    /// Is a message in work now?
    pub in_work: bool,
    /// Messages that wait in its own mailbox, the one in work not included.
    pub waiting: usize,
    /// States that panicked.
    pub failed: u64,
    /// States that were replaced, whatever they ended of, and tries of the factory that failed.
    pub replaced: u64,
    /// Is there no state now, because a successor is waited for?
    pub absent: bool,
    /// How long messages waited, from when they were accepted, and how long they took; `None` unless the pool is
    /// [timed](crate::PoolBuilder::timing).
    pub timing: Option<Timing>,
    /// What is counted of every actor: messages handled, and so on.
    pub actor: ActorStats,
}

impl PoolStats {
    /// How unevenly messages were spread: those that the busiest replica handled, against the mean. 1 is even; as many as there
    /// are replicas means that one did everything. 1 if nothing was handled.
    #[must_use]
    pub fn imbalance(&self) -> f64 {
        let handled = || self.replicas.iter().map(|replica| replica.actor.handled);
        let (most, sum) = (handled().max().unwrap_or(0), handled().sum::<u64>());
        if sum == 0 { 1.0 } else { most as f64 * self.replicas.len() as f64 / sum as f64 }
    }
}

impl<A: Actor> Pool<A> {
    /// Counts of the pool and its replicas; those of the last ones still once it has stopped.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let list = self.list();
        let replica = |member: &super::members::Member<A>| {
            let in_work = member.actor.header().kept().is_some_and(|kept| kept.in_turn());
            ReplicaStats {
                id: member.actor.id(),
                in_work,
                waiting: member.actor.len().saturating_sub(usize::from(in_work)),
                failed: member.counts.failed.load(Relaxed),
                replaced: member.counts.replaced.load(Relaxed),
                absent: member.counts.absent(),
                timing: member.actor.timing(),
                actor: member.actor.stats(),
            }
        };
        let holds = list.moving.as_ref().map_or_else(Vec::new, |moving| moving.all_holds());
        PoolStats {
            replicas: list.members.iter().map(replica).collect(),
            queued: list.queue.as_ref().map_or(0, ActorRef::len),
            held: holds.iter().map(ActorRef::len).sum(),
        }
    }
}

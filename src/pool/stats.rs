//! Statistics of a pool: snapshots of the counts of its replicas.

use super::Pool;
use super::replica::Replica;
use crate::actor::Actor;
use crate::actor::refs::{ActorRef, ActorStats};
use crate::cell::times::Timing;
use crate::id::ActorId;
use crate::sync::Ordering::Relaxed;

/// A snapshot of a pool's counts. Cheap: a few loads for each replica.
///
/// ```
/// # use heist::{Actor, Context, Executor, Handler};
/// # use heist::strategy::RoundRobin;
/// # struct Worker;
/// # impl Actor for Worker {}
/// # impl Handler<u32> for Worker {
/// #     type Reply = ();
/// #     fn handle(&mut self, _: u32, _: &mut Context<Self>) {}
/// # }
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
    /// Counts of each replica, in order of their indexes.
    pub replicas: Vec<ReplicaStats>,
    /// Messages waiting in the shared queue.
    pub queued: usize,
    /// Messages of keys that move to another replica, waiting until the replica before has handled
    /// the earlier ones.
    pub held: usize,
}

/// Counts of one replica, over all its states.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReplicaStats {
    /// The replica's id, the same for all its states.
    pub id: ActorId,
    /// `true` if a message is in work now.
    pub in_work: bool,
    /// Messages waiting in the replica's own mailbox, without the one in work.
    pub waiting: usize,
    /// Number of states that panicked.
    pub failed: u64,
    /// States lost and replaced, and failures of the factory before another call.
    pub replaced: u64,
    /// `true` if the replica has no state now, since the next one is to be made.
    pub absent: bool,
    /// How long messages waited since they were accepted, and how long they took; `None` unless the
    /// pool is [timed](crate::pool::PoolBuilder::timing).
    pub timing: Option<Timing>,
    /// The counts of every actor: messages handled, and so on.
    pub actor: ActorStats,
}

impl PoolStats {
    /// Returns how unevenly messages were spread: the number handled by the busiest replica,
    /// divided by the mean. 1 is even; the number of replicas means that one handled everything.
    /// Returns 1 if nothing was handled.
    #[must_use]
    pub fn imbalance(&self) -> f64 {
        let handled = || self.replicas.iter().map(|replica| replica.actor.handled);
        let (most, sum) = (handled().max().unwrap_or(0), handled().sum::<u64>());
        // A pool that has handled nothing counts as even.
        if sum == 0 { 1.0 } else { most as f64 * self.replicas.len() as f64 / sum as f64 }
    }
}

impl<A: Actor> Pool<A> {
    /// Returns a snapshot of the counts of the pool and its replicas. After the pool has stopped
    /// these are the counts of its last replicas.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let roster = self.current_roster();
        let stats_of = |replica: &Replica<A>| {
            let in_work = replica.actor.header().supervised().is_some_and(|kept| kept.in_turn());
            ReplicaStats {
                id: replica.actor.id(),
                in_work,
                // A turn gives places back at its end, so `len` still counts the message in work.
                waiting: replica.actor.len().saturating_sub(usize::from(in_work)),
                failed: replica.counts.failed.load(Relaxed),
                replaced: replica.counts.replaced.load(Relaxed),
                absent: replica.counts.is_absent(),
                timing: replica.actor.timing(),
                actor: replica.actor.stats(),
            }
        };
        // Holds exist only while keys move.
        let holds = roster.key_move.as_ref().map_or_else(Vec::new, |key_move| key_move.all_holds());
        PoolStats {
            replicas: roster.replicas.iter().map(stats_of).collect(),
            queued: roster.queue.as_ref().map_or(0, ActorRef::len),
            held: holds.iter().map(ActorRef::len).sum(),
        }
    }
}

//! One replica of a pool, and its counts.

use crate::actor::refs::ActorRef;
use crate::sync::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

/// One replica.
pub(super) struct Replica<A> {
    pub(super) actor: ActorRef<A>,
    pub(super) counts: Arc<ReplicaCounts>,
}

impl<A> Clone for Replica<A> {
    fn clone(&self) -> Self {
        Replica { actor: self.actor.clone(), counts: Arc::clone(&self.counts) }
    }
}

impl<A> Replica<A> {
    /// Returns the number of messages waiting and in work. A replica without a state has the
    /// largest load.
    #[inline]
    pub(super) fn load(&self) -> usize {
        if self.counts.is_absent() { usize::MAX } else { self.actor.len() }
    }
}

/// Counts of one replica, through all its states. Written in the replica's turns.
#[derive(Debug, Default)]
pub(super) struct ReplicaCounts {
    pub(super) failed: AtomicU64,
    pub(super) replaced: AtomicU64,
    absent: AtomicBool,
}

impl ReplicaCounts {
    /// Returns `true` if the replica has no state, and will have none for a while.
    #[inline]
    pub(super) fn is_absent(&self) -> bool {
        // Relaxed: a hint for strategies, which choose by counts that may be out of date anyway.
        self.absent.load(Relaxed)
    }

    pub(super) fn set_absent(&self, absent: bool) {
        self.absent.store(absent, Relaxed);
    }
}

//! The table of a directory: the state that its handles, its actors and its sweeper share.

use super::shard::{Garbage, KeyShard};
use crate::actor::Actor;
use crate::actor::handle::Handle;
use crate::actor::managed::ManagedSettings;
use crate::actor::refs::{ActorRef, WeakRef};
use crate::drops::OwnedField;
use crate::id::ActorId;
use crate::sync::{Mutex, Padded};
use crate::time::Duration;
use std::hash::RandomState;
use std::panic::RefUnwindSafe;
use std::sync::{Arc, Weak};

/// Lets go of all actors when it is dropped.
pub(super) struct DirectoryOwner<K: 'static, A: Actor>(pub(super) Arc<DirectoryInner<K, A>>);

/// The function that makes a directory's actors.
pub(super) type MakeFn<K, A> = OwnedField<Box<dyn Fn(&K) -> A + Send + Sync>>;

/// A power of two of parts.
pub(super) type KeyShards<K, A> = Box<[Padded<Mutex<KeyShard<K, A>>>]>;

pub(super) struct DirectoryInner<K: 'static, A: Actor> {
    pub(super) executor: Handle,
    pub(super) make: MakeFn<K, A>,
    /// What each of the actors is spawned with.
    pub(super) settings: ManagedSettings,
    pub(super) idle: Option<Duration>,
    pub(super) hasher: RandomState,
    pub(super) shards: KeyShards<K, A>,
    /// Lock order: taken after a part's lock, never before.
    pub(super) sweep: Mutex<SweepState>,
    /// The last postman.
    pub(super) postman: Mutex<Option<WeakRef<Postman<K, A>>>>,
}

/// No user code runs while a part of this is half changed. The function that makes actors is the
/// user's: after a panic the directory calls it again in any case.
impl<K: 'static, A: Actor> RefUnwindSafe for DirectoryInner<K, A> {}

/// The actor to which a directory's timers belong. It does not keep its directory.
pub(super) struct Postman<K: 'static, A: Actor>(pub(super) Weak<DirectoryOwner<K, A>>);

/// State of the search for idle actors.
pub(super) struct SweepState {
    /// Number of parts that are watched.
    pub(super) shards: usize,
    /// Whether a sweeper exists.
    pub(super) sweeping: bool,
    /// Without its type, since all that is done by it is to stop the sweeper.
    pub(super) sweeper: Option<WeakRef<()>>,
}

impl<K, A: Actor> DirectoryInner<K, A> {
    pub(super) fn shard_of(&self, hash: u64) -> &Mutex<KeyShard<K, A>> {
        // The table chooses buckets by the low bits and by the highest seven, so the parts use bits
        // in between.
        &self.shards[(hash >> 32) as usize & (self.shards.len() - 1)].0
    }

    /// Removes an ended actor's entry. Schedules the first turn of its successor, if there is one.
    pub(super) fn on_actor_ended(&self, hash: u64, actor: ActorId) {
        let mut garbage = Garbage::default();
        let mut shard = self.shard_of(hash).lock();
        let next = shard.on_actor_ended(hash, actor, &mut garbage);
        // Under the part's lock, like `register_succession`, so that the table of waits changes in
        // the same order.
        next.iter().for_each(|_| self.executor.core().waits.end_succession(actor));
        drop(shard);
        if let Some(next) = next {
            self.executor.core().scheduler.schedule(next);
        }
    }
}

impl<K: 'static, A: Actor> DirectoryInner<K, A> {
    /// Returns the postman, if it lives. It lives while the caller has the reference.
    pub(super) fn find_postman(&self) -> Option<ActorRef<Postman<K, A>>> {
        self.postman.lock().as_ref().and_then(WeakRef::upgrade)
    }

    /// Makes `fresh` the postman, unless another thread was quicker. Returns the postman.
    pub(super) fn publish_postman(
        &self,
        fresh: ActorRef<Postman<K, A>>,
    ) -> ActorRef<Postman<K, A>> {
        let mut known = self.postman.lock();
        if let Some(postman) = known.as_ref().and_then(WeakRef::upgrade) {
            // The lock goes first: `fresh` is that actor's last reference.
            drop(known);
            return postman;
        }
        let gone = known.replace(fresh.downgrade());
        drop(known);
        drop(gone); // not under the lock, since it may free a cell
        fresh
    }

    pub(super) fn is_forked(&self) -> bool {
        self.executor.core().is_forked()
    }

    /// Marks a part as watched if an actor may become idle there. Called under the part's lock.
    /// Returns `true` if the caller must start a sweeper.
    pub(super) fn start_watching(&self, shard: &mut KeyShard<K, A>) -> bool {
        if self.idle.is_none() || !shard.keeps_any() {
            return false;
        }
        shard.watched = true;
        let mut sweep = self.sweep.lock();
        // The lock of `sweep` is taken inside the part's lock, never the other way round.
        sweep.shards += 1;
        !std::mem::replace(&mut sweep.sweeping, true)
    }
}

impl<K: 'static, A: Actor> Drop for DirectoryOwner<K, A> {
    fn drop(&mut self) {
        if self.0.is_forked() {
            return;
        }
        for shard in &self.0.shards {
            // A statement of its own: the lock is released before the references are dropped.
            let garbage = shard.0.lock().take_all();
            drop(garbage);
        }
        let sweeper = self.0.sweep.lock().sweeper.take();
        if let Some(sweeper) = sweeper.and_then(|sweeper| sweeper.upgrade()) {
            // The timer would keep the sweeper, and so this directory, for another idle time.
            sweeper.stop();
        }
        if let Some(postman) = self.0.find_postman() {
            // Its armed timers become dead letters.
            postman.stop();
        }
    }
}

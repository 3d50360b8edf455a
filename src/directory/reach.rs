//! Reaching a key's actor: finding it, or spawning the key's next one.

use super::shard::{Garbage, KeyShard, KnownKeys, drop_key};
use super::sweeper::Sweeper;
use super::table::DirectoryInner;
use crate::actor::Actor;
use crate::actor::managed::{self, CellOwner};
use crate::actor::refs::ActorRef;
use crate::drops;
use crate::sched::Scheduler;
use crate::sched::runnable::Runnable;
use crate::sync::MutexGuard;
use crate::user::{self, Site};
use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

impl<K, A> DirectoryInner<K, A>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    A: Actor + Send,
{
    pub(super) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        user::run_passing(Site::Key, || self.hasher.hash_one(key))
    }

    /// Returns the key's actor, if it runs. In a forked child the parts may be locked for ever, so
    /// nothing is found and nothing is spawned there.
    pub(super) fn find_running<Q>(self: &Arc<Self>, hash: u64, key: &Q) -> Option<ActorRef<A>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        if self.is_forked() {
            return None;
        }
        let mut known = KnownKeys::nothing_compared();
        let first = self.shard_of(hash).lock().first_of_hash(hash);
        let (first, running) = first?;
        // Two keys have the same hash only by a very rare chance, or if their type makes it so. So
        // this one comparison nearly always suffices.
        if known.compare_first(first, key) && running.is_some() {
            return running;
        }
        let mut garbage = Garbage::default();
        let (mut shard, known) = self.lock_compared(hash, key, known);
        let found = shard.look_up(hash, &known, &mut garbage);
        self.unlock_and_watch(shard);
        found.ok()
    }

    /// Locks the part with all keys of this hash compared, up to the wanted one. Compares them
    /// without the lock.
    pub(super) fn lock_compared<Q>(
        &self,
        hash: u64,
        key: &Q,
        mut known: KnownKeys<K>,
    ) -> (MutexGuard<'_, KeyShard<K, A>>, KnownKeys<K>)
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        loop {
            let shard = self.shard_of(hash).lock();
            // Another key of this hash may have come while the lock was released, so the look
            // starts again.
            if !shard.copy_unknown(hash, &mut known) {
                return (shard, known);
            }
            drop(shard);
            known.compare_unknown(key);
        }
    }

    /// Spawns the key's next actor, unless another thread has just done so. Returns `None` once the
    /// executor shuts down.
    pub(super) fn spawn_unless_found<Q, T: CellOwner<A>>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        owner: impl FnOnce(&Arc<K>) -> T,
    ) -> Option<Lookup<'_, A>>
    where
        K: Borrow<Q>,
        Q: Eq + ToOwned<Owned = K> + ?Sized,
    {
        if self.is_forked() {
            return None;
        }
        // The copy is made by user code, so before the lock is taken.
        let own = Arc::new(user::run_passing(Site::Key, || key.to_owned()));
        let owner = owner(&own);
        let mut garbage = Garbage::default();
        let (mut shard, known) = self.lock_compared(hash, key, KnownKeys::nothing_compared());
        // Another thread may have spawned the key's actor since `find_running`.
        let after = match shard.look_up(hash, &known, &mut garbage) {
            Ok(actor) => {
                self.unlock_and_watch(shard);
                // A panic in the drop of the user's function must not lose the actor found.
                drops::run_or_put_off(move || user::run_contained(Site::Drop, || drop(owner)));
                drop_key(own);
                return Some(Lookup { actor, _begin: None });
            }
            Err(stopped) => stopped,
        };
        let (actor, begin) =
            match managed::spawn_managed(self.executor.core(), self.settings, owner) {
                Ok(spawned) => spawned,
                Err(refused) => {
                    // The lock goes first: what was refused may end the crew, and the crew's end
                    // may run wakers.
                    drop(shard);
                    let owner = refused.settle_refusal(self.executor.core());
                    drops::run_or_put_off(move || drop(owner));
                    return None;
                }
            };
        let begin = shard.place_actor((hash, own), after, &actor, begin, &mut garbage);
        if let (None, Some(before)) = (&begin, after) {
            // Under the part's lock, like `end_succession`, so that the two cannot pass each
            // other.
            self.executor.core().waits.register_succession(actor.id(), before);
        }
        self.unlock_and_watch(shard);
        let scheduler = &self.executor.core().scheduler;
        Some(Lookup {
            actor,
            _begin: begin.map(|task| DeferredStart { scheduler, task: Some(task) }),
        })
    }

    /// Releases a part's lock. Starts the sweeper if an actor may become idle there now.
    fn unlock_and_watch(self: &Arc<Self>, mut shard: MutexGuard<'_, KeyShard<K, A>>) {
        let start = !shard.watched && self.start_watching(&mut shard);
        drop(shard);
        if start {
            Sweeper::start_sweeper(self);
        }
    }
}

/// A key's actor. A new one begins when this is dropped. The message it was spawned for is in its
/// mailbox by then, so the actor cannot end before.
pub(super) struct Lookup<'a, A> {
    pub(super) actor: ActorRef<A>,
    pub(super) _begin: Option<DeferredStart<'a>>,
}

pub(super) struct DeferredStart<'a> {
    scheduler: &'a Scheduler,
    task: Option<Runnable>,
}

impl Drop for DeferredStart<'_> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            self.scheduler.schedule(task);
        }
    }
}

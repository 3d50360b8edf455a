//! Link from an actor to its directory: makes the actor's state, and reports its end.

use super::shard::drop_key;
use super::table::DirectoryInner;
use crate::actor::Actor;
use crate::actor::managed::CellOwner;
use crate::id::ActorId;
use std::sync::Arc;

/// Link of an actor that the directory's own function makes.
pub(super) struct DirectoryFactory<K: 'static, A: Actor> {
    directory: Arc<DirectoryInner<K, A>>,
    hash: u64,
    key: Arc<K>,
}

impl<K, A: Actor> DirectoryFactory<K, A> {
    pub(super) fn new(directory: &Arc<DirectoryInner<K, A>>, hash: u64, key: Arc<K>) -> Self {
        DirectoryFactory { directory: Arc::clone(directory), hash, key }
    }
}

impl<K: Send + Sync + 'static, A: Actor + Send> CellOwner<A> for DirectoryFactory<K, A> {
    fn make_state(&mut self) -> A {
        (self.directory.make)(&self.key)
    }

    fn on_actor_ended(self, actor: ActorId) {
        self.directory.on_actor_ended(self.hash, actor);
        drop_key(self.key);
    }
}

/// Link of an actor that a function given for it makes.
pub(super) struct OneShotFactory<K: 'static, A: Actor, F> {
    directory: Arc<DirectoryInner<K, A>>,
    hash: u64,
    make: Option<F>,
}

impl<K, A: Actor, F> OneShotFactory<K, A, F> {
    pub(super) fn new(directory: &Arc<DirectoryInner<K, A>>, hash: u64, make: F) -> Self {
        OneShotFactory { directory: Arc::clone(directory), hash, make: Some(make) }
    }
}

impl<K: Send + Sync + 'static, A: Actor + Send, F: FnOnce() -> A + Send + 'static> CellOwner<A>
    for OneShotFactory<K, A, F>
{
    fn make_state(&mut self) -> A {
        let make = self.make.take().expect("called once");
        make()
    }

    fn on_actor_ended(self, actor: ActorId) {
        self.directory.on_actor_ended(self.hash, actor);
    }
}

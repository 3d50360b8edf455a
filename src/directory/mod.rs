//! A directory of actors by key: one actor for each key in use, spawned when first needed, ended
//! when idle.

// - this file: the user's handle; [`builder`]: its settings
// - [`table`]: what handles and actors share; [`shard`]: the parts of the table, and the protocol
// - [`reach`]: finding or making a key's actor; [`sweeper`]: finding idle actors
// - [`send`]: tell, ask and send by key; [`later`]: tell by key, by a timer
// - [`factories`]: an actor's link to its directory
//
// ```text
// Directory --> DirectoryOwner --> DirectoryInner <-- each actor's factory, the sweeper
//                                        |
//                 shards: key -> actor; a strong reference to those that are kept
// ```
//
// The actors keep `DirectoryInner` until their end. `DirectoryInner` keeps the actors as long as
// there is an `DirectoryOwner`. With the last `Directory` all of them are let go.

pub(crate) mod builder;
mod factories;
mod later;
mod reach;
pub(crate) mod send;
mod shard;
mod sweeper;
mod table;

pub use builder::{DirectoryBuilder, DirectoryError};
pub use send::DirectorySending;

use crate::actor::refs::ActorRef;
use crate::actor::{Actor, spawn};
use crate::drops;
use crate::user::{self, Site};
use factories::{DirectoryFactory, OneShotFactory};
use reach::Lookup;
use shard::{KeyCopies, KnownKeys};
use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use table::{DirectoryInner, DirectoryOwner};

/// Actors by key, spawned when they are needed and ended when they are idle. Other libraries call
/// them virtual actors, entities or grains.
///
/// Each key has at most one running actor at any time. A message to a key always finds an actor. If
/// the key's actor has ended, another is spawned, by the function that the directory was made with.
/// If it is ending, the new actor accepts messages at once, and begins when the old one's
/// [`stopped`](Actor::stopped) has returned and its state was dropped. So the new actor can load
/// everything stored there by the old one. (Behind an actor that never ends, none begins.)
///
/// # Passivation
///
/// A directory keeps a reference to each of its actors. With an [idle
/// timeout](crate::directory::DirectoryBuilder::idle_timeout) or a
/// [limit](crate::directory::DirectoryBuilder::max_actors) to its actors it lets go of actors that
/// were not used for a while. An actor that nothing references then ends
/// ([`StopReason::Unreferenced`](crate::StopReason::Unreferenced)), so its memory goes back. **No
/// message is lost by that.** A message that waits, a reference held elsewhere (such as
/// [`get`](Self::get) returns), a timer of its own and an unanswered
/// [`ask_then`](crate::Context::ask_then) keep an actor alive as always, and a look-up and the end
/// of an actor are decided on one atomic word. Messages from one sender to one key are handled in
/// the order sent, also from one actor of the key to the next.
///
/// [`Context::stop`](crate::Context::stop) and [`ActorRef::stop`] end an actor too. The actor
/// handles its accepted messages, and later messages by the directory go to the next actor.
/// [`ActorRef::stop_now`] and panics make dead letters, as always.
///
/// # The function that makes actors
///
/// The function runs on the crew, in the new actor's first turn, when the key's actor before has
/// ended. The function may load something, and need not be quick. No lock is held, so the function
/// may use the directory. A panic counts as a panic in [`started`](Actor::started): the actor ends,
/// its askers get the text, nothing is left in the table, and the next message tries again.
///
/// # Costs
///
/// A look-up hashes the key, takes the lock of one of many parts of the table for a moment, and
/// clones and drops a reference. Keeping the [`ActorRef`] is cheaper, and keeps the actor alive.
/// [`Hash`], [`Eq`], [`Borrow`], [`Clone`] and the drop of keys run outside of the locks: they may
/// block, panic and use the directory. A panic in the first four unwinds to the caller, before
/// anything is changed. An actor with a key of 8 bytes takes some 115 bytes more than one without.
///
/// A directory is cheap to clone. When the last clone is dropped it lets go of all actors. An actor
/// that holds its own directory keeps the directory alive for as long as the directory keeps the
/// actor: until the actor is idle, or the executor shuts down. A function that holds its own
/// directory keeps the directory alive for ever, and heist cannot break the cycle. Let the function
/// hold an `Arc<Mutex<Option<Directory>>>`, and empty the option at the end.
///
/// ```
/// use heist::{Actor, Context, Directory, Executor, Handler, StopReason};
/// use std::collections::HashMap;
/// use std::sync::{Arc, Mutex};
/// use std::time::Duration;
///
/// type Store = Arc<Mutex<HashMap<String, i64>>>;
///
/// struct Account { owner: String, balance: i64, store: Store }
/// impl Actor for Account {
///     fn stopped(&mut self, _: &StopReason) {
///         self.store.lock().unwrap().insert(self.owner.clone(), self.balance);
///     }
/// }
///
/// struct Deposit(i64);
/// impl Handler<Deposit> for Account {
///     type Reply = i64;
///     fn handle(&mut self, Deposit(amount): Deposit, _: &mut Context<Self>) -> i64 {
///         self.balance += amount;
///         self.balance
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let executor = Executor::new();
/// let store = Store::default();
/// let theirs = Arc::clone(&store);
/// let accounts = Directory::builder(&executor)
///     .idle_timeout(Duration::from_secs(60))
///     .build(move |owner: &String| {
///         let balance = theirs.lock().unwrap().get(owner).copied().unwrap_or(0);
///         Account { owner: owner.clone(), balance, store: Arc::clone(&theirs) }
///     })?;
///
/// let ada = "Ada".to_string();
/// accounts.tell(&ada, Deposit(20))?;
/// accounts.passivate(&ada);                                   // or wait for a minute
/// assert_eq!(accounts.ask(&ada, Deposit(22))?.wait()?, 42);   // by the same actor, or by the next
/// # Ok(())
/// # }
/// ```
///
/// Needs the feature `directory`, which is on by default.
#[doc(alias("registry", "virtual actor", "grain", "entity", "cluster sharding", "lookup"))]
#[must_use = "dropping the last handle lets go of all actors"]
pub struct Directory<K: 'static, A: Actor> {
    owner: Arc<DirectoryOwner<K, A>>,
}

/// A snapshot of one directory's counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirectoryStats {
    /// Keys with an actor that has not ended.
    pub live: usize,
    /// Live actors kept by the directory. The others end as soon as nothing else references them.
    pub kept: usize,
    /// Actors spawned so far.
    pub spawned: u64,
    /// How often an actor was let go: idle, one too many, or by [`Directory::passivate`].
    pub passivated: u64,
}

impl<K, A> Directory<K, A>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    A: Actor + Send,
{
    /// Returns the key's actor, and spawns it if there is none. Never waits.
    ///
    /// The actor does not end by passivation while the reference is held. Once the executor shuts
    /// down this may return a reference to an actor that has already ended and never ran.
    #[doc(alias("lookup", "where_is", "activate"))]
    pub fn get<Q>(&self, key: &Q) -> ActorRef<A>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let reached = self.reach_actor(key).map(|reached| reached.actor);
        reached.unwrap_or_else(|| spawn::spawn_tombstone(self.inner().executor.core()))
    }

    /// Returns the key's actor, or spawns one with this `make`. Never waits.
    ///
    /// `make` runs at most once, in the new actor's first turn, under [the
    /// conditions](Self#the-function-that-makes-actors) of the directory's own function. `make` is
    /// dropped if there is an actor already, or the executor shuts down. See [`get`](Self::get) for
    /// all else.
    ///
    /// ```
    /// # use heist::{Actor, Context, Directory, Executor, Handler};
    /// # struct Greeter(&'static str);
    /// # impl Actor for Greeter {}
    /// # struct Greet;
    /// # impl Handler<Greet> for Greeter {
    /// #     type Reply = &'static str;
    /// #     fn handle(&mut self, _: Greet, _: &mut Context<Self>) -> &'static str { self.0 }
    /// # }
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let executor = Executor::new();
    /// let greeters = Directory::new(&executor, |_: &u32| Greeter("hello"));
    /// let seven = greeters.get_or_spawn(&7, || Greeter("salut"));
    /// assert_eq!(seven, greeters.get_or_spawn(&7, || Greeter("hallo")));
    /// assert_eq!(seven.ask(Greet)?.wait()?, "salut");
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_or_spawn<Q>(&self, key: &Q, make: impl FnOnce() -> A + Send + 'static) -> ActorRef<A>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let inner = self.inner();
        let hash = inner.hash(key);
        if let Some(actor) = inner.find_running(hash, key) {
            // Dropped while the reference is a local: rustc leaks a value that is being returned
            // when a drop panics (rust#47949).
            drops::run_or_put_off(move || drop(make));
            return actor;
        }
        // `make` serves this actor only, so its factory needs no copy of the key.
        let spawned = |_: &Arc<K>| OneShotFactory::new(inner, hash, make);
        let spawned = inner.spawn_unless_found(hash, key, spawned).map(|reached| reached.actor);
        spawned.unwrap_or_else(|| spawn::spawn_tombstone(inner.executor.core()))
    }

    /// Returns the key's actor if there is one that accepts messages. The actor counts as used.
    ///
    /// A key may be given in a borrowed form, as to a map: `&str` for [`String`].
    #[doc(alias("lookup", "where_is", "whereis", "try_get"))]
    #[must_use]
    pub fn find<Q>(&self, key: &Q) -> Option<ActorRef<A>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let inner = self.inner();
        inner.find_running(inner.hash(key), key)
    }

    /// Lets go of the key's actor now, as if idle: the actor ends when its messages are handled and
    /// nothing else references it. Returns `false` if the key has no actor, or it was let go
    /// already.
    #[doc(alias("deactivate", "evict", "remove", "unload"))]
    pub fn passivate<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let inner = self.inner();
        if inner.is_forked() {
            return false;
        }
        let hash = inner.hash(key);
        let (mut shard, known) = inner.lock_compared(hash, key, KnownKeys::nothing_compared());
        let actor = shard.let_go(hash, &known);
        // The lock goes first: the reference taken out may be the actor's last.
        drop(shard);
        actor.is_some()
    }

    /// Returns how many keys have an actor that has not ended.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stats().live
    }

    /// Returns `true` if no key has an actor that has not ended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a snapshot of the directory's counts. Takes the locks of its parts, one after the
    /// other.
    #[must_use]
    pub fn stats(&self) -> DirectoryStats {
        let mut stats = DirectoryStats::default();
        if self.inner().is_forked() {
            return stats;
        }
        for shard in &self.inner().shards {
            let shard = shard.0.lock();
            let (live, kept) = shard.count_actors();
            stats.live += live;
            stats.kept += kept;
            stats.spawned += shard.spawned;
            stats.passivated += shard.let_go;
        }
        stats
    }

    /// Returns the keys with an actor that accepts messages, each with that actor, in no order. The
    /// actors do not count as used. Each is kept alive as long as its reference is held, so a large
    /// directory is better visited in another way than all at once.
    ///
    /// The locks of the directory's parts are taken one after the other, so the result is that of
    /// no single moment. [`Clone`] of the keys runs outside of them.
    #[must_use]
    pub fn actors(&self) -> Vec<(K, ActorRef<A>)> {
        let inner = self.inner();
        if inner.is_forked() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for shard in &inner.shards {
            let keys = KeyCopies(shard.0.lock().running());
            let clone = |(key, actor): &(Arc<K>, ActorRef<A>)| {
                (user::run_passing(Site::Key, || K::clone(key)), actor.clone())
            };
            found.extend(keys.0.iter().map(clone));
        }
        found
    }

    fn inner(&self) -> &Arc<DirectoryInner<K, A>> {
        &self.owner.0
    }

    /// Returns the key's actor, or a new one. Returns `None` once the executor shuts down.
    fn reach_actor<Q>(&self, key: &Q) -> Option<Lookup<'_, A>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let inner = self.inner();
        let hash = inner.hash(key);
        match inner.find_running(hash, key) {
            Some(actor) => Some(Lookup { actor, _begin: None }),
            None => inner.spawn_unless_found(hash, key, |own| {
                DirectoryFactory::new(inner, hash, Arc::clone(own))
            }),
        }
    }
}

impl<K, A: Actor> Clone for Directory<K, A> {
    fn clone(&self) -> Self {
        Directory { owner: Arc::clone(&self.owner) }
    }
}

impl<K, A: Actor> fmt::Debug for Directory<K, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory")
            .field("actors", &std::any::type_name::<A>())
            .finish_non_exhaustive()
    }
}

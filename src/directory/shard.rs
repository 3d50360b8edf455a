//! One part of a directory's table, under one lock: each key's actor, the kept actors, and actors
//! that wait for the end of others.
//!
//! An *entry* names a key's actor, from its spawning to its end. The directory holds a strong
//! reference to each *kept* actor. Kept actors lie in a ring, and a clock's hand goes round it
//! (second chance: Corbató, 1968). To *let go* of an actor is to drop that reference and nothing
//! more. If nothing reaches the actor any more, and nothing waits in its mailbox, it ends as any
//! actor does. If a thread looks the actor up before that, the actor is kept again. The actor's
//! state word decides both, so a message can never be lost in between.
//!
//! | entry's actor | lookup | let go | its end |
//! |---|---|---|---|
//! | kept, running | this actor, used | not kept | - |
//! | not kept, running | this actor, kept again | - | - |
//! | stopped, still ending | another takes the entry, waits for the end | - | the entry goes |
//! | replaced by another | - | - | the other's first turn is scheduled |
//!
//! The other actor accepts messages at once. All messages of a sender to the first therefore come
//! before its messages to the second, and the two are never alive at once.
//!
//! No user code runs under the lock. Hashes are computed before, and removed values are dropped
//! after. Keys are compared without the lock too: a thread copies the keys with the wanted hash
//! ([`KnownKeys`]), compares each, and then finds the entry by the key's address. The entry
//! and the actor's factory share a copy of the key.

use crate::actor::Actor;
use crate::actor::refs::{ActorRef, WeakRef};
use crate::cell::shrinking_map::ShrinkingMap;
use crate::drops;
use crate::id::ActorId;
use crate::sched::runnable::Runnable;
use crate::user::{self, Site};
use hashbrown::HashTable;
use std::borrow::Borrow;
use std::sync::Arc;

/// Ring position of an actor that is not kept.
const NOT_RESIDENT: u32 = u32::MAX;
/// Tables and rings with a larger capacity shrink again.
const SMALL: usize = 64;

/// One part of the table. The caller holds its lock.
pub(super) struct KeyShard<K, A> {
    table: HashTable<KeyEntry<K, A>>,
    ring: Vec<Resident<A>>,
    hand: usize,
    /// First turns that wait for the end of another actor, by that actor's id.
    waiting: ShrinkingMap<ActorId, Runnable>,
    /// Maximal number of kept actors.
    pub(super) most: usize,
    /// Whether a sweep will come by.
    pub(super) watched: bool,
    pub(super) spawned: u64,
    pub(super) let_go: u64,
}

struct KeyEntry<K, A> {
    key: Arc<K>,
    hash: u64,
    actor: WeakRef<A>,
    /// Position in the ring.
    place: u32,
}

struct Resident<A> {
    hash: u64,
    actor: ActorRef<A>,
    /// Messages handled when a sweep last came by: the low half of the count.
    handled: u32,
    uses: Uses,
}

/// Look-ups since the hand or a sweep last came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Uses {
    None,
    /// The look-up that made the directory keep the actor. The hand ignores it, or actors used once
    /// would drive out actors used often.
    First,
    More,
}

/// Values taken out of a part, to be dropped without the lock.
pub(super) struct Garbage<K: 'static, A> {
    key: Option<Arc<K>>,
    weak: Option<WeakRef<A>>,
    replaced: Option<ActorRef<A>>,
    pub(super) let_go: Vec<ActorRef<A>>,
}

impl<K, A> Drop for Garbage<K, A> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            drop_key(key);
        }
    }
}

/// Drops a reference to a key's copy. The last one runs the key's drop, which is user code. Its
/// panic must not keep an actor from its next steps, and the key may hold another directory.
pub(super) fn drop_key<K: 'static>(key: Arc<K>) {
    if let Some(key) = Arc::into_inner(key) {
        drops::run_or_put_off(move || user::run_contained(Site::Key, || drop(key)));
    }
}

/// Keys of one hash that were compared with the wanted key. While the keys are held here, their
/// addresses identify them.
pub(super) struct KnownKeys<K: 'static> {
    same: Option<Arc<K>>,
    /// Keys that differ, in the order of their addresses.
    others: Vec<Arc<K>>,
    /// Keys that came out of the part and were not compared yet.
    unknown: Vec<Arc<K>>,
}

impl<K> KnownKeys<K> {
    pub(super) fn nothing_compared() -> Self {
        KnownKeys { same: None, others: Vec::new(), unknown: Vec::new() }
    }

    /// Compares the first key of the hash, before all others. Runs user code. Returns `true` if it
    /// is the wanted key.
    pub(super) fn compare_first<Q: Eq + ?Sized>(&mut self, first: Arc<K>, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.compare_key(first, key)
    }

    /// Compares the keys that came out of the part, up to the wanted one. Runs user code.
    pub(super) fn compare_unknown<Q: Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        while let Some(found) = self.unknown.pop() {
            if self.compare_key(found, key) {
                // A part has each key once, and all of these came out of it at the same time. So
                // the rest differs.
                self.others.append(&mut self.unknown);
            }
        }
        // Sorted here, so that the next look under the lock finds an address quickly.
        self.others.sort_unstable_by_key(Arc::as_ptr);
    }

    fn compare_key<Q: Eq + ?Sized>(&mut self, found: Arc<K>, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        // In the list first: a panic of the comparison must not meet a panic of the key's drop.
        self.others.push(found);
        let found = self.others.last().expect("just pushed");
        let same = user::run_passing(Site::Key, || (**found).borrow() == key);
        if same {
            let found = self.others.pop();
            self.same.replace(found.expect("just pushed")).into_iter().for_each(drop_key);
        }
        same
    }
}

impl<K> KnownKeys<K> {
    fn is_same(&self, key: &Arc<K>) -> bool {
        self.same.as_ref().is_some_and(|same| Arc::ptr_eq(same, key))
    }

    fn has_compared(&self, key: &Arc<K>) -> bool {
        self.is_same(key)
            || self.others.binary_search_by_key(&Arc::as_ptr(key), Arc::as_ptr).is_ok()
    }
}

impl<K> Drop for KnownKeys<K> {
    fn drop(&mut self) {
        let others = self.others.drain(..).chain(self.unknown.drain(..));
        self.same.take().into_iter().chain(others).for_each(drop_key);
    }
}

/// Copies of keys that came out of a part, each with its actor. Dropped without the lock.
pub(super) struct KeyCopies<K: 'static, A>(pub(super) Vec<(Arc<K>, ActorRef<A>)>);

impl<K: 'static, A> Drop for KeyCopies<K, A> {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|(key, _)| drop_key(key));
    }
}

impl<K, A> Default for Garbage<K, A> {
    fn default() -> Self {
        Garbage { key: None, weak: None, replaced: None, let_go: Vec::new() }
    }
}

impl<K, A: Actor> KeyShard<K, A> {
    pub(super) fn new(most: usize) -> Self {
        KeyShard {
            table: HashTable::new(),
            ring: Vec::new(),
            hand: 0,
            waiting: ShrinkingMap::default(),
            most,
            watched: false,
            spawned: 0,
            let_go: 0,
        }
    }

    /// Returns `true` if an actor may become idle.
    pub(super) fn keeps_any(&self) -> bool {
        !self.ring.is_empty()
    }

    /// Removes the entry of an actor that has ended, unless the actor was replaced. Then returns
    /// the first turn of the waiting successor.
    pub(super) fn on_actor_ended(
        &mut self,
        hash: u64,
        actor: ActorId,
        garbage: &mut Garbage<K, A>,
    ) -> Option<Runnable> {
        if !self.waiting.is_empty()
            && let Some(begin) = self.waiting.remove_key(&actor)
        {
            return Some(begin);
        }
        let found = self.table.find_entry(hash, |entry| entry.actor.id() == actor);
        let (entry, _) = found.ok().expect("an actor that was not replaced has its entry").remove();
        if entry.place != NOT_RESIDENT {
            garbage.replaced = Some(self.take_out(entry.place).actor);
        }
        garbage.key = Some(entry.key);
        garbage.weak = Some(entry.actor);
        if self.table.capacity() > SMALL && self.table.len() < self.table.capacity() / 8 {
            self.table.shrink_to(2 * self.table.len(), |entry| entry.hash);
        }
        None
    }

    /// Lets go of all kept actors.
    pub(super) fn take_all(&mut self) -> Garbage<K, A> {
        self.table.iter_mut().for_each(|entry| entry.place = NOT_RESIDENT);
        let ring = std::mem::take(&mut self.ring);
        let mut garbage = Garbage::default();
        garbage.let_go.extend(ring.into_iter().map(|kept| kept.actor));
        garbage
    }

    /// Looks at no more than `most` actors, at positions below `below`, and lets go of those that
    /// were not used since the last time. Returns where to go on, or `None` at the ring's
    /// beginning.
    ///
    /// Goes downwards: the last actor moves into a freed position, and has been looked at already.
    pub(super) fn sweep_ring(
        &mut self,
        below: usize,
        most: usize,
        garbage: &mut Garbage<K, A>,
    ) -> Option<usize> {
        let from = below.min(self.ring.len());
        let to = from.saturating_sub(most);
        for place in (to..from).rev() {
            let kept = &mut self.ring[place];
            // The low half suffices: an actor would have to handle exactly a multiple of 2^32
            // messages in between to seem idle.
            let handled = kept.actor.stats().handled as u32;
            // A sweep clears the mark as the hand does. An actor with none of the three signs was
            // idle since the last sweep.
            let uses = std::mem::replace(&mut kept.uses, Uses::None);
            let handled_some = std::mem::replace(&mut kept.handled, handled) != handled;
            if uses == Uses::None && !handled_some && kept.actor.is_empty() {
                garbage.let_go.push(self.let_go_at(place as u32));
            }
        }
        (to > 0).then_some(to)
    }

    /// Returns each key with an actor that accepts messages, and the actor.
    pub(super) fn running(&self) -> Vec<(Arc<K>, ActorRef<A>)> {
        let running =
            |entry: &KeyEntry<K, A>| Some((Arc::clone(&entry.key), entry.actor.upgrade()?));
        self.table.iter().filter_map(running).collect()
    }

    /// Returns the number of keys with a live actor, and the number of kept actors.
    pub(super) fn count_actors(&self) -> (usize, usize) {
        (self.table.len(), self.ring.len())
    }

    /// Makes a new actor the key's, and keeps it. `after` is the id of the predecessor that
    /// [`look_up`](Self::look_up) found stopped, if any. Returns `begin`, the runnable of the first
    /// turn, to be scheduled, unless the new actor has to wait.
    pub(super) fn place_actor(
        &mut self,
        (hash, key): (u64, Arc<K>),
        after: Option<ActorId>,
        actor: &ActorRef<A>,
        begin: Runnable,
        garbage: &mut Garbage<K, A>,
    ) -> Option<Runnable> {
        self.spawned += 1;
        let Some(after) = after else {
            let place = self.make_resident(hash, actor.clone(), garbage);
            let entry = KeyEntry { key, hash, actor: actor.downgrade(), place };
            // The stored hash is used when the table grows, so the key's own code does not run.
            self.table.insert_unique(hash, entry, |entry| entry.hash);
            return Some(begin);
        };
        garbage.key = Some(key);
        // The entry keeps its copy of the key, equal to the new one.
        let entry = Self::entry_of(&mut self.table, hash, after);
        garbage.weak = Some(std::mem::replace(&mut entry.actor, actor.downgrade()));
        match entry.place {
            NOT_RESIDENT => {
                let place = self.make_resident(hash, actor.clone(), garbage);
                Self::entry_of(&mut self.table, hash, actor.id()).place = place;
            }
            place => {
                let kept = Resident { hash, actor: actor.clone(), handled: 0, uses: Uses::First };
                garbage.replaced =
                    Some(std::mem::replace(&mut self.ring[place as usize], kept).actor);
            }
        }
        // The predecessor has yet to report its end; then this actor may begin. No other actor
        // waited for the predecessor, so the result is `None`.
        self.waiting.insert(after, begin)
    }

    /// Returns the entry of an actor that has one.
    fn entry_of(
        table: &mut HashTable<KeyEntry<K, A>>,
        hash: u64,
        actor: ActorId,
    ) -> &mut KeyEntry<K, A> {
        table
            .find_mut(hash, |entry| entry.actor.id() == actor)
            .expect("it has an entry until it ends")
    }

    /// Puts an actor into the ring and returns its position. If the ring is full, lets go of
    /// another actor and uses its position.
    fn make_resident(&mut self, hash: u64, actor: ActorRef<A>, garbage: &mut Garbage<K, A>) -> u32 {
        let kept =
            Resident { hash, handled: actor.stats().handled as u32, actor, uses: Uses::First };
        if self.ring.len() < self.most {
            assert!(self.ring.len() < NOT_RESIDENT as usize, "too many actors in a directory");
            self.ring.push(kept);
            return (self.ring.len() - 1) as u32;
        }
        // Terminates: the hand clears each mark on its way, so the loop ends within two rounds.
        loop {
            let place = if self.hand < self.ring.len() { self.hand } else { 0 };
            self.hand = place + 1;
            let there = &mut self.ring[place];
            if there.uses == Uses::More {
                there.uses = Uses::None;
            } else {
                let before = std::mem::replace(there, kept);
                let entry = self.table.find_mut(before.hash, |entry| entry.place == place as u32);
                entry.expect("what is kept has an entry").place = NOT_RESIDENT;
                self.let_go += 1;
                garbage.let_go.push(before.actor);
                return place as u32;
            }
        }
    }

    fn let_go_at(&mut self, place: u32) -> ActorRef<A> {
        let hash = self.ring[place as usize].hash;
        let entry = self.table.find_mut(hash, |entry| entry.place == place);
        entry.expect("what is kept has an entry").place = NOT_RESIDENT;
        self.let_go += 1;
        self.take_out(place).actor
    }

    /// Takes an actor out of the ring, after its entry was updated. The last actor moves into its
    /// position.
    fn take_out(&mut self, place: u32) -> Resident<A> {
        let kept = self.ring.swap_remove(place as usize);
        if let Some(moved) = self.ring.get(place as usize) {
            // `swap_remove` moved the last actor here; its entry still says the old position.
            let was_at = self.ring.len() as u32;
            let entry = self.table.find_mut(moved.hash, |entry| entry.place == was_at);
            entry.expect("what is kept has an entry").place = place;
        }
        if self.ring.capacity() > SMALL && self.ring.len() < self.ring.capacity() / 8 {
            self.ring.shrink_to(2 * self.ring.len());
        }
        kept
    }
}

impl<K, A: Actor> KeyShard<K, A> {
    /// Returns the first key of this hash, and its actor, if kept and running. The actor then
    /// counts as used. The mistake does little harm if the key is not the wanted one.
    pub(super) fn first_of_hash(&mut self, hash: u64) -> Option<(Arc<K>, Option<ActorRef<A>>)> {
        let entry = self.table.find(hash, |entry| entry.hash == hash)?;
        let kept = (entry.place != NOT_RESIDENT).then(|| &mut self.ring[entry.place as usize]);
        let running = kept.filter(|kept| kept.actor.is_running()).map(|kept| {
            kept.uses = Uses::More;
            kept.actor.clone()
        });
        Some((Arc::clone(&entry.key), running))
    }

    /// Copies the keys of this hash that were not compared yet into `known`, unless the wanted key
    /// is known and here. Returns `true` if there are any. One walk, however many keys there are.
    pub(super) fn copy_unknown(&self, hash: u64, known: &mut KnownKeys<K>) -> bool {
        // The known key may have left the table since it was compared.
        if known.same.is_some()
            && self.table.find(hash, |entry| known.is_same(&entry.key)).is_some()
        {
            return false;
        }
        for entry in self.table.iter_hash(hash) {
            // The walk may come to entries of other hashes.
            if entry.hash == hash && !known.has_compared(&entry.key) {
                known.unknown.push(Arc::clone(&entry.key));
            }
        }
        !known.unknown.is_empty()
    }

    /// Returns the key's actor, if it runs, and keeps it. An actor let go of in exchange goes into
    /// `garbage`. Otherwise returns the id of an actor that has stopped and not ended, if there is
    /// one. The caller has compared all keys of this hash.
    pub(super) fn look_up(
        &mut self,
        hash: u64,
        known: &KnownKeys<K>,
        garbage: &mut Garbage<K, A>,
    ) -> Result<ActorRef<A>, Option<ActorId>> {
        let entry = self.table.find(hash, |entry| known.is_same(&entry.key)).ok_or(None)?;
        if entry.place != NOT_RESIDENT {
            let kept = &mut self.ring[entry.place as usize];
            kept.uses = Uses::More;
            return if kept.actor.is_running() {
                Ok(kept.actor.clone())
            } else {
                Err(Some(kept.actor.id()))
            };
        }
        // An upgrade fails only once the actor is closed, so this one has stopped.
        let Some(actor) = entry.actor.upgrade() else { return Err(Some(entry.actor.id())) };
        let place = self.make_resident(hash, actor.clone(), garbage);
        Self::entry_of(&mut self.table, hash, actor.id()).place = place;
        Ok(actor)
    }

    /// Lets go of the key's actor, if it is kept. The caller has compared all keys of this hash.
    pub(super) fn let_go(&mut self, hash: u64, known: &KnownKeys<K>) -> Option<ActorRef<A>> {
        let entry = self.table.find_mut(hash, |entry| known.is_same(&entry.key))?;
        let place = std::mem::replace(&mut entry.place, NOT_RESIDENT);
        (place != NOT_RESIDENT).then(|| {
            self.let_go += 1;
            self.take_out(place).actor
        })
    }
}

//! One part of a directory's table, under one lock: which actor is a key's, which of them are kept, and which wait for
//! others to end.
//!
//! An *entry* says which actor is a key's, from its spawning to its end. The directory holds a strong reference to those
//! that it *keeps*; they lie in a ring, and a clock's hand goes round it (second chance: Corbató, 1968). To *let go*
//! of one is to drop that reference and no more: if nothing reaches the actor any more, and nothing waits in its mailbox, it
//! ends as any actor does; if anybody looks it up before that, it is kept again. Both are decided on the actor's state
//! word, so there is no moment at which a message could fall between.
//!
//! | entry's actor | lookup | let go | its end |
//! |---|---|---|---|
//! | kept, running | that one, used | not kept | - |
//! | not kept, running | that one, kept again | - | - |
//! | stopped, still ending | another takes the entry, and waits for this one's end | - | the entry goes |
//! | replaced by another | - | - | the other one's first turn is scheduled |
//!
//! The other one accepts messages at once. So all that a sender has sent to the first comes before what it sends to the second, and
//! no two of them are ever alive at once.
//!
//! No user code runs under the lock. Hashes are computed before, and what is taken out is dropped after. Keys are compared
//! without the lock too: whoever looks for a key takes the keys with its hash out one by one ([`Known`]), compares them, and
//! then finds the entry by its key's address. A key's own copy is shared by its entry and its actor's membership.

use crate::actor::Actor;
use crate::actor::refs::{ActorRef, WeakRef};
use crate::id::ActorId;
use crate::sched::task::Task;
use crate::user::{self, Site};
use hashbrown::HashTable;
use std::collections::HashMap;
use std::sync::Arc;

/// The place in the ring of one that is not kept.
const NOT_KEPT: u32 = u32::MAX;
/// Tables of more places than this become smaller again.
const SMALL: usize = 64;

/// Under the lock of whoever owns it.
pub(super) struct Shelf<K, A> {
    table: HashTable<Entry<K, A>>,
    ring: Vec<Kept<A>>,
    hand: usize,
    /// First turns that wait for the end of another actor, by its id.
    waiting: HashMap<ActorId, Task>,
    /// The most that are kept.
    pub(super) most: usize,
    /// A sweep will come by.
    pub(super) watched: bool,
    pub(super) spawned: u64,
    pub(super) let_go: u64,
}

struct Entry<K, A> {
    key: Arc<K>,
    hash: u64,
    actor: WeakRef<A>,
    /// In the ring.
    place: u32,
}

struct Kept<A> {
    hash: u64,
    actor: ActorRef<A>,
    /// Messages handled when a sweep last came by; of the count's low half.
    handled: u32,
    uses: Uses,
}

/// Look-ups since the hand or a sweep last came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Uses {
    None,
    /// The one that it is kept for. To the hand that is none, or those used once would drive out those used often.
    First,
    More,
}

/// What was taken out of a shelf, to be dropped without the lock.
pub(super) struct Rest<K, A> {
    key: Option<Arc<K>>,
    weak: Option<WeakRef<A>>,
    replaced: Option<ActorRef<A>>,
    pub(super) let_go: Vec<ActorRef<A>>,
}

impl<K, A> Drop for Rest<K, A> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            drop_key(key);
        }
    }
}

/// Lets go of a key's own copy. If it is the last one, the key's drop is user code, whose panic must not keep an actor from
/// what follows.
pub(super) fn drop_key<K>(key: Arc<K>) {
    user::contain(Site::Key, || drop(key));
}

/// The keys of one hash that were compared with the one that is looked for. As long as they are held here, their addresses
/// name them.
pub(super) struct Known<K> {
    same: Option<Arc<K>>,
    others: Vec<Arc<K>>,
}

impl<K: Eq> Known<K> {
    pub(super) fn none() -> Self {
        Known { same: None, others: Vec::new() }
    }

    /// Compares a key that came out of the shelf. Runs user code. Returns `true` if it is the one that is looked for.
    pub(super) fn learn(&mut self, found: Arc<K>, key: &K) -> bool {
        // In the list first: a panic in the comparison must not make its drop another one.
        self.others.push(found);
        let same = user::pass(Site::Key, || **self.others.last().expect("just pushed") == *key);
        if same {
            let found = self.others.pop();
            self.same.replace(found.expect("just pushed")).into_iter().for_each(drop_key);
        }
        same
    }
}

impl<K> Known<K> {
    fn is_same(&self, key: &Arc<K>) -> bool {
        self.same.as_ref().is_some_and(|same| Arc::ptr_eq(same, key))
    }

    fn has(&self, key: &Arc<K>) -> bool {
        self.is_same(key) || self.others.iter().any(|other| Arc::ptr_eq(other, key))
    }
}

impl<K> Drop for Known<K> {
    fn drop(&mut self) {
        self.same.take().into_iter().chain(self.others.drain(..)).for_each(drop_key);
    }
}

impl<K, A> Default for Rest<K, A> {
    fn default() -> Self {
        Rest { key: None, weak: None, replaced: None, let_go: Vec::new() }
    }
}

impl<K, A: Actor> Shelf<K, A> {
    pub(super) fn new(most: usize) -> Self {
        Shelf {
            table: HashTable::new(),
            ring: Vec::new(),
            hand: 0,
            waiting: HashMap::new(),
            most,
            watched: false,
            spawned: 0,
            let_go: 0,
        }
    }

    /// Is there anything that may become idle?
    pub(super) fn keeps_any(&self) -> bool {
        !self.ring.is_empty()
    }

    /// An actor is over: its entry goes, unless it has been replaced; then this is the first turn of the one that waits.
    pub(super) fn over(&mut self, hash: u64, actor: ActorId, rest: &mut Rest<K, A>) -> Option<Task> {
        if !self.waiting.is_empty()
            && let Some(begin) = self.waiting.remove(&actor)
        {
            if self.waiting.is_empty() {
                self.waiting = HashMap::new();
            }
            return Some(begin);
        }
        let found = self.table.find_entry(hash, |entry| entry.actor.id() == actor);
        let (entry, _) = found.ok().expect("an actor that was not replaced has its entry").remove();
        if entry.place != NOT_KEPT {
            rest.replaced = Some(self.take_out(entry.place).actor);
        }
        rest.key = Some(entry.key);
        rest.weak = Some(entry.actor);
        if self.table.capacity() > SMALL && self.table.len() < self.table.capacity() / 8 {
            self.table.shrink_to(2 * self.table.len(), |entry| entry.hash);
        }
        None
    }

    /// Lets go of all.
    pub(super) fn clear(&mut self) -> Rest<K, A> {
        self.table.iter_mut().for_each(|entry| entry.place = NOT_KEPT);
        let ring = std::mem::take(&mut self.ring);
        let mut rest = Rest::default();
        rest.let_go.extend(ring.into_iter().map(|kept| kept.actor));
        rest
    }

    /// Looks at no more than `most` of those at `below` and under it, and lets go of those that were not used since the
    /// last time. Returns where to go on, unless that was the ring's beginning.
    ///
    /// Downwards, so that what moves into the place of one that is taken out has been looked at.
    pub(super) fn sweep(&mut self, below: usize, most: usize, rest: &mut Rest<K, A>) -> Option<usize> {
        let from = below.min(self.ring.len());
        let to = from.saturating_sub(most);
        for place in (to..from).rev() {
            let kept = &mut self.ring[place];
            let handled = kept.actor.stats().handled as u32;
            let uses = std::mem::replace(&mut kept.uses, Uses::None);
            let handled_some = std::mem::replace(&mut kept.handled, handled) != handled;
            if uses == Uses::None && !handled_some && kept.actor.is_empty() {
                rest.let_go.push(self.let_go_at(place as u32));
            }
        }
        (to > 0).then_some(to)
    }

    /// Keys that have an actor which has not ended, and how many of those are kept.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.table.len(), self.ring.len())
    }

    /// Makes a new actor the key's, after the one of that id, if any, which [`look_up`](Self::look_up) has found stopped; and
    /// keeps it. The runnable of its first turn, `begin`, comes back to be scheduled, unless it has to wait.
    pub(super) fn place(
        &mut self,
        (hash, key): (u64, Arc<K>),
        after: Option<ActorId>,
        actor: &ActorRef<A>,
        begin: Task,
        rest: &mut Rest<K, A>,
    ) -> Option<Task> {
        self.spawned += 1;
        let Some(after) = after else {
            let place = self.keep(hash, actor.clone(), rest);
            let entry = Entry { key, hash, actor: actor.downgrade(), place };
            self.table.insert_unique(hash, entry, |entry| entry.hash);
            return Some(begin);
        };
        rest.key = Some(key);
        let entry = Self::entry_of(&mut self.table, hash, after);
        rest.weak = Some(std::mem::replace(&mut entry.actor, actor.downgrade()));
        match entry.place {
            NOT_KEPT => {
                let place = self.keep(hash, actor.clone(), rest);
                Self::entry_of(&mut self.table, hash, actor.id()).place = place;
            }
            place => {
                let kept = Kept { hash, actor: actor.clone(), handled: 0, uses: Uses::First };
                rest.replaced = Some(std::mem::replace(&mut self.ring[place as usize], kept).actor);
            }
        }
        // It has not told us of its end, so it will: then this one may begin. (Nobody waited for it before, so this is None.)
        self.waiting.insert(after, begin)
    }

    /// The entry of an actor that has one.
    fn entry_of(table: &mut HashTable<Entry<K, A>>, hash: u64, actor: ActorId) -> &mut Entry<K, A> {
        table.find_mut(hash, |entry| entry.actor.id() == actor).expect("it has an entry until it ends")
    }

    /// Puts an actor into the ring; if there are too many, in the place of another, which is let go of.
    fn keep(&mut self, hash: u64, actor: ActorRef<A>, rest: &mut Rest<K, A>) -> u32 {
        let kept = Kept { hash, handled: actor.stats().handled as u32, actor, uses: Uses::First };
        if self.ring.len() < self.most {
            assert!(self.ring.len() < NOT_KEPT as usize, "too many actors in a directory");
            self.ring.push(kept);
            return (self.ring.len() - 1) as u32;
        }
        loop {
            let place = if self.hand < self.ring.len() { self.hand } else { 0 };
            self.hand = place + 1;
            let there = &mut self.ring[place];
            if there.uses == Uses::More {
                there.uses = Uses::None;
            } else {
                let before = std::mem::replace(there, kept);
                let entry = self.table.find_mut(before.hash, |entry| entry.place == place as u32);
                entry.expect("what is kept has an entry").place = NOT_KEPT;
                self.let_go += 1;
                rest.let_go.push(before.actor);
                return place as u32;
            }
        }
    }

    fn let_go_at(&mut self, place: u32) -> ActorRef<A> {
        let hash = self.ring[place as usize].hash;
        let entry = self.table.find_mut(hash, |entry| entry.place == place);
        entry.expect("what is kept has an entry").place = NOT_KEPT;
        self.let_go += 1;
        self.take_out(place).actor
    }

    /// Takes one out of the ring whose entry knows of it already. The last one moves into its place.
    fn take_out(&mut self, place: u32) -> Kept<A> {
        let kept = self.ring.swap_remove(place as usize);
        if let Some(moved) = self.ring.get(place as usize) {
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

impl<K, A: Actor> Shelf<K, A> {
    /// Returns the first key of this hash, and its actor if that is kept and runs: then it counts as used. What is right if
    /// the key is the one that is looked for, and does little harm if it is not.
    pub(super) fn first(&mut self, hash: u64) -> Option<(Arc<K>, Option<ActorRef<A>>)> {
        let entry = self.table.find(hash, |entry| entry.hash == hash)?;
        let kept = (entry.place != NOT_KEPT).then(|| &mut self.ring[entry.place as usize]);
        let running = kept.filter(|kept| kept.actor.is_running()).map(|kept| {
            kept.uses = Uses::More;
            kept.actor.clone()
        });
        Some((Arc::clone(&entry.key), running))
    }

    /// Returns a key of this hash that was not compared yet, unless the right one is known and here.
    pub(super) fn unknown(&self, hash: u64, known: &Known<K>) -> Option<Arc<K>> {
        if known.same.is_some() && self.table.find(hash, |entry| known.is_same(&entry.key)).is_some() {
            return None;
        }
        let unknown = |entry: &Entry<K, A>| entry.hash == hash && !known.has(&entry.key);
        self.table.find(hash, unknown).map(|entry| Arc::clone(&entry.key))
    }

    /// The key's actor, if it runs; it is kept from now on. What had to be let go for that goes into `rest`. Otherwise the id
    /// of the one that has stopped and not ended, if there is one. No key of this hash is unknown.
    pub(super) fn look_up(
        &mut self,
        hash: u64,
        known: &Known<K>,
        rest: &mut Rest<K, A>,
    ) -> Result<ActorRef<A>, Option<ActorId>> {
        let entry = self.table.find(hash, |entry| known.is_same(&entry.key)).ok_or(None)?;
        if entry.place != NOT_KEPT {
            let kept = &mut self.ring[entry.place as usize];
            kept.uses = Uses::More;
            return if kept.actor.is_running() { Ok(kept.actor.clone()) } else { Err(Some(kept.actor.id())) };
        }
        let Some(actor) = entry.actor.upgrade() else { return Err(Some(entry.actor.id())) };
        let place = self.keep(hash, actor.clone(), rest);
        Self::entry_of(&mut self.table, hash, actor.id()).place = place;
        Ok(actor)
    }

    /// Lets go of the key's actor, if it is kept. No key of this hash is unknown.
    pub(super) fn let_go(&mut self, hash: u64, known: &Known<K>) -> Option<ActorRef<A>> {
        let entry = self.table.find_mut(hash, |entry| known.is_same(&entry.key))?;
        let place = std::mem::replace(&mut entry.place, NOT_KEPT);
        (place != NOT_KEPT).then(|| {
            self.let_go += 1;
            self.take_out(place).actor
        })
    }
}

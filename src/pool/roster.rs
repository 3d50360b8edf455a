//! The replicas of a pool, as senders see them: a roster that is replaced as a whole, behind one
//! lock for each stripe of senders.
//!
//! **Why stripes of locks.** A sender must read the roster, choose, and put its message into a
//! mailbox. A change of the roster must know when all senders that use the old one are through.
//! Only then are all earlier messages of a moving key in its old replica's mailbox, and only then
//! has a stopped pool accepted its last message. Every message from every core would write to a
//! single lock. So each worker has a lock of its own, and threads outside share 16. A sender takes
//! a nearly uncontended lock for reading, about 10 ns, and a change takes all of them.
//!
//! Two alternatives were considered and dropped. With a swapped pointer and epochs or hazard
//! pointers, the sender's fence costs as much as its half of an uncontended lock, and the proof
//! would be ours. With readers that ignore changes, there is no moment from which no sender uses
//! the old roster.
//!
//! No user code runs under these locks. A stripe's other fields, a round-robin count and a seed,
//! lie on the stripe's cache line, and only its senders write them.

use super::key_move::KeyMove;
use super::replica::Replica;
use super::strategy::{Route, View, jump_hash};
use crate::actor::refs::ActorRef;
use crate::error::Refusal;
use crate::id::ActorId;
use crate::sync::{AtomicU64, Ordering::Relaxed, Padded, RwLock};
use std::sync::Arc;

/// Number of stripes for threads outside the crew.
pub(super) const OUTSIDE: usize = 16;

/// The state of the pool that senders see.
pub(super) struct Roster<A> {
    pub(super) replicas: Vec<Replica<A>>,
    /// `None` while the pool is being built.
    pub(super) queue: Option<ActorRef<A>>,
    /// Present while messages of moving keys may wait at an old replica.
    pub(super) key_move: Option<Arc<KeyMove<A>>>,
    pub(super) stopped: bool,
}

impl<A> Clone for Roster<A> {
    fn clone(&self) -> Self {
        Roster {
            replicas: self.replicas.clone(),
            queue: self.queue.clone(),
            key_move: self.key_move.clone(),
            stopped: self.stopped,
        }
    }
}

/// Destination of the next message.
pub(super) enum Choice<'a, A> {
    /// A replica, or the shared queue.
    Actor(&'a ActorRef<A>),
    /// The hold of a moving key.
    Hold { key_move: &'a KeyMove<A>, from: usize, into: usize },
}

/// The part of a pool for one worker, or for some of the threads outside.
pub(super) struct Stripe<A> {
    pub(super) roster: RwLock<Arc<Roster<A>>>,
    round: AtomicU64,
    seed: AtomicU64,
}

/// One stripe for each worker, then the stripes for threads outside.
pub(super) struct Stripes<A>(Box<[Padded<Stripe<A>>]>);

impl<A> Stripes<A> {
    /// Makes `count` stripes with an empty roster, `stopped` until the first roster is published.
    pub(super) fn new(count: usize) -> Self {
        let nobody = Roster { replicas: Vec::new(), queue: None, key_move: None, stopped: true };
        let nobody = Arc::new(nobody);
        let stripe = |index: usize| Stripe {
            roster: RwLock::new(Arc::clone(&nobody)),
            // Different beginnings, so that the senders do not all start at the same replica.
            round: AtomicU64::new(index as u64),
            seed: AtomicU64::new((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        };
        Stripes((0..count).map(|index| Padded(stripe(index))).collect())
    }

    #[inline]
    pub(super) fn stripe_at(&self, index: usize) -> &Stripe<A> {
        &self.0[index].0
    }

    /// Calls `change` while no sender is between its look at the roster and the arrival of its
    /// message in a mailbox. Then publishes the returned roster, if there is one. `change` must not
    /// run user code.
    pub(super) fn publish_change(
        &self,
        change: impl FnOnce(Option<&Roster<A>>) -> Option<Roster<A>>,
    ) {
        let mut old = Vec::with_capacity(self.0.len());
        {
            // All stripes in the same order, so that two changes cannot deadlock. Holding every
            // lock means that no sender uses the old roster.
            let mut guards: Vec<_> = self.0.iter().map(|stripe| stripe.0.roster.write()).collect();
            let Some(roster) = change(guards.first().map(|guard| &***guard)) else { return };
            let roster = Arc::new(roster);
            old.extend(
                guards.iter_mut().map(|guard| std::mem::replace(&mut **guard, Arc::clone(&roster))),
            );
        }
        // Outside the locks: the last reference to a replica may go here.
        drop(old);
    }
}

impl<A> Stripe<A> {
    /// Returns the current roster.
    pub(super) fn current_roster(&self) -> Arc<Roster<A>> {
        Arc::clone(&self.roster.read())
    }

    /// Returns 0, 1 and so on, modulo `n`.
    #[inline]
    fn next(&self, n: usize) -> usize {
        // A read-modify-write, unlike the seed: `RoundRobin` spreads a worker's messages exactly.
        (self.round.fetch_add(1, Relaxed) % n as u64) as usize
    }

    /// Returns a random number below `n` (SplitMix64).
    #[inline]
    fn random_below(&self, n: usize) -> usize {
        // A load and a store, not a read-modify-write: two threads that draw the same number do no
        // harm.
        let state = self.seed.load(Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.seed.store(state, Relaxed);
        let mut z = state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((u128::from(z) * n as u128) >> 64) as usize
    }

    /// Returns the destination for a route.
    #[inline]
    pub(super) fn pick_replica<'a>(
        &self,
        roster: &'a Roster<A>,
        route: Route,
    ) -> Result<Choice<'a, A>, Refusal> {
        if roster.stopped {
            return Err(Refusal::PoolStopped);
        }
        let replicas = &roster.replicas;
        let n = replicas.len();
        let index = match route {
            Route::RoundRobin => self.next(n),
            Route::Random => self.random_below(n),
            Route::Default | Route::TwoChoices => self.two_choices(replicas),
            Route::LeastLoaded => self.least_loaded(replicas),
            Route::SharedQueue => {
                return roster.queue.as_ref().map(Choice::Actor).ok_or(Refusal::PoolStopped);
            }
            Route::Key(hash) => return Ok(roster.owner_of_key(hash)),
            Route::Index(index) => index,
            // A missing id becomes an index out of range, which the look-up below refuses.
            Route::Id(id) => {
                replicas.iter().position(|replica| replica.actor.id() == id).unwrap_or(n)
            }
        };
        replicas.get(index).map(|replica| Choice::Actor(&replica.actor)).ok_or(Refusal::NoReplica)
    }

    fn two_choices(&self, replicas: &[Replica<A>]) -> usize {
        let n = replicas.len();
        if n == 1 {
            return 0;
        }
        let one = self.random_below(n);
        // An offset from 1 to `n` - 1, so that the two replicas differ.
        let other = (one + 1 + self.random_below(n - 1)) % n;
        if replicas[other].load() < replicas[one].load() { other } else { one }
    }

    fn least_loaded(&self, replicas: &[Replica<A>]) -> usize {
        let (mut best, mut least, mut equal) = (0, usize::MAX, 0);
        for (index, replica) in replicas.iter().enumerate() {
            let load = replica.load();
            // `equal` is 0 before the first replica only, and its load may be the greatest number.
            if load < least || equal == 0 {
                (best, least, equal) = (index, load, 1);
            } else if load == least {
                // Reservoir sampling: the k-th of equal replicas replaces the earlier choice with
                // probability 1/k, so each is chosen equally often.
                equal += 1;
                if self.random_below(equal) == 0 {
                    best = index;
                }
            }
        }
        best
    }
}

impl<A> Roster<A> {
    /// Returns the destination for a key's messages.
    #[inline]
    fn owner_of_key(&self, hash: u64) -> Choice<'_, A> {
        let into = jump_hash(hash, self.replicas.len());
        if let Some(key_move) = &self.key_move {
            let from = jump_hash(hash, key_move.before);
            if from != into && key_move.has_hold(from) {
                return Choice::Hold { key_move, from, into };
            }
        }
        Choice::Actor(&self.replicas[into].actor)
    }
}

impl<A> KeyMove<A> {
    /// Returns the replica that had the index `from` before the change.
    pub(super) fn moving_from<'a>(&'a self, roster: &'a Roster<A>, from: usize) -> &'a Replica<A> {
        let stay = self.before - self.leaving.len();
        // Replicas that stay keep their index in every roster.
        if from < stay { &roster.replicas[from] } else { &self.leaving[from - stay] }
    }
}

impl<A> View for Roster<A> {
    fn count(&self) -> usize {
        self.replicas.len()
    }
    fn id(&self, index: usize) -> Option<ActorId> {
        self.replicas.get(index).map(|replica| replica.actor.id())
    }
    fn load(&self, index: usize) -> Option<usize> {
        self.replicas.get(index).map(Replica::load)
    }
}

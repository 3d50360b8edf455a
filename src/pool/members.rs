//! The replicas of a pool, as senders see them: a list that is replaced as a whole, behind one lock
//! for each stripe of senders.
//!
//! **Why stripes of locks.** A sender must read the list, choose, and put its message into a
//! mailbox. A change of the list must know when all senders that use the old one are through. Only
//! then are all earlier messages of a moving key in its old replica's mailbox, and only then has a
//! stopped pool accepted its last message. Every message from every core would write to a single
//! lock. So each worker has a lock of its own, and threads outside share 16. A sender takes a
//! nearly uncontended lock for reading, about 10 ns, and a change takes all of them.
//!
//! Two alternatives were considered and dropped. With a swapped pointer and epochs or hazard
//! pointers, the sender's fence costs as much as its half of an uncontended lock, and the proof
//! would be ours. With readers that ignore changes, there is no moment from which no sender uses
//! the old list.
//!
//! No user code runs under these locks. A stripe's other fields, a round-robin count and a seed,
//! lie on the stripe's cache line, and only its senders write them.

use super::counts::Counts;
use super::moving::Moving;
use super::strategy::{Route, View, jump};
use crate::actor::refs::ActorRef;
use crate::error::Refusal;
use crate::id::ActorId;
use crate::sync::{AtomicU64, Ordering::Relaxed, Padded, RwLock};
use std::sync::Arc;

/// Number of stripes for threads outside the crew.
pub(super) const OUTSIDE: usize = 16;

/// One replica.
pub(super) struct Member<A> {
    pub(super) actor: ActorRef<A>,
    pub(super) counts: Arc<Counts>,
}

impl<A> Clone for Member<A> {
    fn clone(&self) -> Self {
        Member { actor: self.actor.clone(), counts: Arc::clone(&self.counts) }
    }
}

impl<A> Member<A> {
    /// Returns the number of messages waiting and in work. A replica without a state has the
    /// largest load.
    #[inline]
    pub(super) fn load(&self) -> usize {
        if self.counts.absent() { usize::MAX } else { self.actor.len() }
    }
}

/// The state of the pool that senders see.
pub(super) struct List<A> {
    pub(super) members: Vec<Member<A>>,
    /// `None` while the pool is being built.
    pub(super) queue: Option<ActorRef<A>>,
    /// Present while messages of moving keys may wait at an old replica.
    pub(super) moving: Option<Arc<Moving<A>>>,
    pub(super) stopped: bool,
}

impl<A> Clone for List<A> {
    fn clone(&self) -> Self {
        List {
            members: self.members.clone(),
            queue: self.queue.clone(),
            moving: self.moving.clone(),
            stopped: self.stopped,
        }
    }
}

/// Destination of the next message.
pub(super) enum Picked<'a, A> {
    /// A replica, or the shared queue.
    Actor(&'a ActorRef<A>),
    /// The hold of a moving key.
    Hold { moving: &'a Moving<A>, from: usize, into: usize },
}

/// The part of a pool for one worker, or for some of the threads outside.
pub(super) struct Stripe<A> {
    pub(super) list: RwLock<Arc<List<A>>>,
    round: AtomicU64,
    seed: AtomicU64,
}

/// One stripe for each worker, then the stripes for threads outside.
pub(super) struct Stripes<A>(Box<[Padded<Stripe<A>>]>);

impl<A> Stripes<A> {
    /// Makes `count` stripes with an empty roster, `stopped` until the first list is published.
    pub(super) fn new(count: usize) -> Self {
        let nobody = List { members: Vec::new(), queue: None, moving: None, stopped: true };
        let nobody = Arc::new(nobody);
        let stripe = |index: usize| Stripe {
            list: RwLock::new(Arc::clone(&nobody)),
            // Different beginnings, so that the senders do not all start at the same replica.
            round: AtomicU64::new(index as u64),
            seed: AtomicU64::new((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        };
        Stripes((0..count).map(|index| Padded(stripe(index))).collect())
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> &Stripe<A> {
        &self.0[index].0
    }

    /// Calls `change` while no sender is between its look at the list and the arrival of its
    /// message in a mailbox. Then publishes the returned list, if there is one. `change` must not
    /// run user code.
    pub(super) fn change(&self, change: impl FnOnce(Option<&List<A>>) -> Option<List<A>>) {
        let mut old = Vec::with_capacity(self.0.len());
        {
            // All stripes in the same order, so that two changes cannot deadlock. Holding every
            // lock means that no sender uses the old list.
            let mut guards: Vec<_> = self.0.iter().map(|stripe| stripe.0.list.write()).collect();
            let Some(list) = change(guards.first().map(|guard| &***guard)) else { return };
            let list = Arc::new(list);
            old.extend(guards.iter_mut().map(|guard| std::mem::replace(&mut **guard, Arc::clone(&list))));
        }
        // Outside the locks: the last reference to a replica may go here.
        drop(old);
    }
}

impl<A> Stripe<A> {
    /// Returns the current list.
    pub(super) fn snapshot(&self) -> Arc<List<A>> {
        Arc::clone(&self.list.read())
    }

    /// Returns 0, 1 and so on, modulo `n`.
    #[inline]
    fn next(&self, n: usize) -> usize {
        (self.round.fetch_add(1, Relaxed) % n as u64) as usize
    }

    /// Returns a random number below `n` (SplitMix64).
    #[inline]
    fn below(&self, n: usize) -> usize {
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
    pub(super) fn pick<'a>(&self, list: &'a List<A>, route: Route) -> Result<Picked<'a, A>, Refusal> {
        if list.stopped {
            return Err(Refusal::PoolStopped);
        }
        let members = &list.members;
        let n = members.len();
        let index = match route {
            Route::RoundRobin => self.next(n),
            Route::Random => self.below(n),
            Route::Default | Route::TwoChoices => self.two_choices(members),
            Route::LeastLoaded => self.least_loaded(members),
            Route::SharedQueue => {
                return list.queue.as_ref().map(Picked::Actor).ok_or(Refusal::PoolStopped);
            }
            Route::Key(hash) => return Ok(list.owner(hash)),
            Route::Index(index) => index,
            // A missing id becomes an index out of range, which the look-up below refuses.
            Route::Id(id) => members.iter().position(|member| member.actor.id() == id).unwrap_or(n),
        };
        members.get(index).map(|member| Picked::Actor(&member.actor)).ok_or(Refusal::NoReplica)
    }

    fn two_choices(&self, members: &[Member<A>]) -> usize {
        let n = members.len();
        if n == 1 {
            return 0;
        }
        let one = self.below(n);
        // An offset from 1 to `n` - 1, so that the two replicas differ.
        let other = (one + 1 + self.below(n - 1)) % n;
        if members[other].load() < members[one].load() { other } else { one }
    }

    fn least_loaded(&self, members: &[Member<A>]) -> usize {
        let (mut best, mut least, mut equal) = (0, usize::MAX, 0);
        for (index, member) in members.iter().enumerate() {
            let load = member.load();
            if load < least || equal == 0 {
                (best, least, equal) = (index, load, 1);
            } else if load == least {
                // Reservoir sampling: the k-th of equal replicas replaces the earlier choice with
                // probability 1/k, so each is chosen equally often.
                equal += 1;
                if self.below(equal) == 0 {
                    best = index;
                }
            }
        }
        best
    }
}

impl<A> List<A> {
    /// Returns the destination for a key's messages.
    #[inline]
    fn owner(&self, hash: u64) -> Picked<'_, A> {
        let into = jump(hash, self.members.len());
        if let Some(moving) = &self.moving {
            let from = jump(hash, moving.before);
            if from != into && moving.holds(from) {
                return Picked::Hold { moving, from, into };
            }
        }
        Picked::Actor(&self.members[into].actor)
    }
}

impl<A> View for List<A> {
    fn count(&self) -> usize {
        self.members.len()
    }
    fn id(&self, index: usize) -> Option<ActorId> {
        self.members.get(index).map(|member| member.actor.id())
    }
    fn load(&self, index: usize) -> Option<usize> {
        self.members.get(index).map(Member::load)
    }
}

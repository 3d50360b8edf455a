//! Who is in a pool, as senders see it: a list that is replaced as a whole, behind one lock for each stripe of senders.
//!
//! **Why stripes of locks.** A sender must read the list, choose, and put its message into a mailbox, and a change of the list
//! must know when all who still use the old one are through: only then has a key that moves all its earlier messages in its old
//! replica's mailbox, and a stopped pool accepted its last. One lock would be written by every message from every core.
//! So each worker has a lock of its own, and threads outside share 16: a sender takes one that hardly anybody else
//! takes, for reading, about 10 ns, and a change takes them all. (Tried in thought and dropped: a pointer that is swapped, with epochs or hazard
//! pointers: the sender's fence costs as much as its half of a lock nobody contends for, and the proof is ours. Readers that take
//! no notice of changes: no moment from which nobody uses the old list.)
//!
//! Nothing of a user's runs under these locks. What a stripe has besides, a count for going round and a seed, is on its
//! cache line, and written by its senders only.

use super::counts::Counts;
use super::moving::Moving;
use super::strategy::{Route, View, jump};
use crate::actor::refs::ActorRef;
use crate::error::Refusal;
use crate::id::ActorId;
use crate::sync::{AtomicU64, Ordering::Relaxed, Padded, RwLock};
use std::sync::Arc;

/// Stripes for threads outside the crew.
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
    /// Waiting and in work; most of all while it has no state.
    #[inline]
    pub(super) fn load(&self) -> usize {
        if self.counts.absent() { usize::MAX } else { self.actor.len() }
    }
}

/// What senders see.
pub(super) struct List<A> {
    pub(super) members: Vec<Member<A>>,
    /// `None` while the pool is built.
    pub(super) queue: Option<ActorRef<A>>,
    /// Keys that change their replica, while some of their messages may wait at the old one.
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

/// Whose the next message is.
pub(super) enum Picked<'a, A> {
    /// This replica's, or the queue's.
    Actor(&'a ActorRef<A>),
    /// Of a key that moves.
    Hold { moving: &'a Moving<A>, from: usize, into: usize },
}

/// What one worker, or some of the threads outside, go through.
pub(super) struct Stripe<A> {
    pub(super) list: RwLock<Arc<List<A>>>,
    round: AtomicU64,
    seed: AtomicU64,
}

/// One for each worker, then those for outside.
pub(super) struct Stripes<A>(Box<[Padded<Stripe<A>>]>);

impl<A> Stripes<A> {
    /// Of nobody, so far.
    pub(super) fn new(count: usize) -> Self {
        let nobody = List { members: Vec::new(), queue: None, moving: None, stopped: true };
        let nobody = Arc::new(nobody);
        let stripe = |index: usize| Stripe {
            list: RwLock::new(Arc::clone(&nobody)),
            round: AtomicU64::new(index as u64), // so that not all begin with the same
            seed: AtomicU64::new((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        };
        Stripes((0..count).map(|index| Padded(stripe(index))).collect())
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> &Stripe<A> {
        &self.0[index].0
    }

    /// Calls `change` when no sender is between its look at the list and its message's being in a mailbox, then shows them what it
    /// returns, if anything. It must not run user code.
    pub(super) fn change(&self, change: impl FnOnce(Option<&List<A>>) -> Option<List<A>>) {
        let mut old = Vec::with_capacity(self.0.len());
        {
            let mut guards: Vec<_> = self.0.iter().map(|stripe| stripe.0.list.write()).collect();
            let Some(list) = change(guards.first().map(|guard| &***guard)) else { return };
            let list = Arc::new(list);
            old.extend(guards.iter_mut().map(|guard| std::mem::replace(&mut **guard, Arc::clone(&list))));
        }
        drop(old); // references that go: not under the locks
    }
}

impl<A> Stripe<A> {
    /// The list as it is now.
    pub(super) fn snapshot(&self) -> Arc<List<A>> {
        Arc::clone(&self.list.read())
    }

    /// 0, 1 and so on, below `n`.
    #[inline]
    fn next(&self, n: usize) -> usize {
        (self.round.fetch_add(1, Relaxed) % n as u64) as usize
    }

    /// Any number below `n` (SplitMix64).
    #[inline]
    fn below(&self, n: usize) -> usize {
        // A load and a store: when two threads draw the same number, it is still any.
        let state = self.seed.load(Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.seed.store(state, Relaxed);
        let mut z = state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((u128::from(z) * n as u128) >> 64) as usize
    }

    /// Follows a route.
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
                // The k-th of equals takes the place of those before it once in k times: so each gets it as often.
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
    /// Where a key's messages go.
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
    fn id(&self, index: usize) -> ActorId {
        self.members[index].actor.id()
    }
    fn load(&self, index: usize) -> usize {
        self.members[index].load()
    }
}

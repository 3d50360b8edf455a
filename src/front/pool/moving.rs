//! A change of a pool's size, as senders see it: which keys' messages are held, and where.
//!
//! Each replica that keys move away from has a *row*: the holds for the replicas that its keys move to. A hold is made when
//! the first message comes for it, by that message's sender. So a change makes no more of them than there are pairs with messages on the
//! way: none in a pool that nobody sends to, however large it is.
//!
//! | the row | a message of a key that moves away from here | changed |
//! |---|---|---|
//! | open | goes into the hold for its new replica, which is made if there is none | by any sender, under the row's lock |
//! | passed | goes to its new replica | by `passed`, while no sender is on its way |
//!
//! A sender looks at a row, and puts its message into what it found there, under its stripe's lock; a row is passed under all of
//! them. So a hold that is emptied gets nothing more.

use super::members::{List, Member};
use crate::actor::refs::ActorRef;
use crate::sync::{AtomicUsize, Ordering::Relaxed, RwLock};
use std::collections::HashMap;

/// A change of the number of replicas. All lists that know of it share it.
pub(super) struct Moving<A> {
    /// How many there were.
    pub(super) before: usize,
    /// Those that the pool lets go of: they are not in the list any more, and end when they have handled what they have.
    pub(super) leaving: Vec<Member<A>>,
    rows: Box<[RwLock<Row<A>>]>,
    /// Rows that are open. Changed while no sender is on its way.
    open: AtomicUsize,
}

enum Row<A> {
    Open(HashMap<usize, ActorRef<A>>),
    Passed,
}

impl<A> Moving<A> {
    /// A pool of `before` replicas grows, or lets go of the last ones.
    pub(super) fn new(before: usize, leaving: Vec<Member<A>>) -> Self {
        let stay = before - leaving.len();
        // Of a pool that shrinks only those that are let go of lose keys.
        let opens = |from: usize| leaving.is_empty() || from >= stay;
        let row = |from| RwLock::new(if opens(from) { Row::Open(HashMap::new()) } else { Row::Passed });
        let (rows, open) = ((0..before).map(row).collect(), (0..before).filter(|&from| opens(from)).count());
        Moving { before, leaving, rows, open: AtomicUsize::new(open) }
    }

    /// The replica of this index from before the change.
    pub(super) fn member<'a>(&'a self, list: &'a List<A>, from: usize) -> &'a Member<A> {
        let stay = self.before - self.leaving.len();
        if from < stay { &list.members[from] } else { &self.leaving[from - stay] }
    }

    /// Returns `true` if the messages of keys that move away from this replica are held.
    pub(super) fn holds(&self, from: usize) -> bool {
        self.rows.get(from).is_some_and(|row| matches!(&*row.read(), Row::Open(_)))
    }

    /// Returns the hold for a pair of replicas. Makes one with `make` if there is none.
    ///
    /// The caller is a sender, under its stripe's lock, and has found that this row [holds](Self::holds).
    pub(super) fn hold<E>(
        &self,
        from: usize,
        into: usize,
        make: impl FnOnce() -> Result<ActorRef<A>, E>,
    ) -> Result<ActorRef<A>, E> {
        if let Row::Open(holds) = &*self.rows[from].read()
            && let Some(hold) = holds.get(&into)
        {
            return Ok(hold.clone());
        }
        match &mut *self.rows[from].write() {
            Row::Open(holds) => match holds.get(&into) {
                Some(hold) => Ok(hold.clone()),
                None => {
                    let hold = make()?;
                    holds.insert(into, hold.clone());
                    Ok(hold)
                }
            },
            Row::Passed => unreachable!("a row is passed while no sender is on its way"),
        }
    }

    /// The replica has handled all messages of before. Returns its holds, and for whom each is; they are the caller's to
    /// empty. `None` if it was passed already. No sender is on its way.
    pub(super) fn pass(&self, from: usize) -> Option<HashMap<usize, ActorRef<A>>> {
        match std::mem::replace(&mut *self.rows.get(from)?.write(), Row::Passed) {
            Row::Open(holds) => {
                // Relaxed: whoever reads it holds the same locks.
                self.open.fetch_sub(1, Relaxed);
                Some(holds)
            }
            Row::Passed => None,
        }
    }

    /// Returns `true` if all were passed. Asked as [`pass`](Self::pass) is called.
    pub(super) fn is_over(&self) -> bool {
        self.open.load(Relaxed) == 0
    }

    /// All holds that there are.
    pub(super) fn all_holds(&self) -> Vec<ActorRef<A>> {
        let mut all = Vec::new();
        for row in &self.rows {
            if let Row::Open(holds) = &*row.read() {
                all.extend(holds.values().cloned());
            }
        }
        all
    }
}

//! A change of a pool's size, as senders see it: the keys with held messages, and the holds.
//!
//! Each replica from which keys move away has a *row*: the holds for the keys' new replicas. The
//! sender of the first message for a hold makes it. A change therefore makes no more holds than
//! there are pairs with messages under way: none in a pool without senders, however large.
//!
//! | the row | a message of a key that moves away from here | changed |
//! |---|---|---|
//! | open | goes into the new replica's hold, made if missing | by a sender, under the row's lock |
//! | passed | goes to its new replica | by `passed`, while no sender is on its way |
//!
//! A sender looks at a row and puts its message into the mailbox found there, under its stripe's
//! lock. A row is passed under all of these locks. So a hold that is emptied gets no further
//! message.

use super::replica::Replica;
use crate::actor::refs::ActorRef;
use crate::sync::{AtomicUsize, Ordering::Relaxed, RwLock};
use std::collections::HashMap;

/// A change of the number of replicas. All lists that know of the change share this value.
pub(super) struct KeyMove<A> {
    /// Number of replicas before the change.
    pub(super) before: usize,
    /// Replicas that leave the pool. Not in the roster any more; each ends when its messages are
    /// handled.
    pub(super) leaving: Vec<Replica<A>>,
    rows: Box<[RwLock<MoveRow<A>>]>,
    /// Number of open rows. Changed while no sender is on its way.
    open: AtomicUsize,
}

enum MoveRow<A> {
    Open(HashMap<usize, ActorRef<A>>),
    Passed,
}

impl<A> KeyMove<A> {
    /// Begins a change of a pool of `before` replicas, which grows, or loses the last replicas,
    /// `leaving`.
    pub(super) fn new(before: usize, leaving: Vec<Replica<A>>) -> Self {
        let stay = before - leaving.len();
        // In a shrinking pool, only the leaving replicas lose keys.
        let opens = |from: usize| leaving.is_empty() || from >= stay;
        let row = |from| {
            RwLock::new(if opens(from) { MoveRow::Open(HashMap::new()) } else { MoveRow::Passed })
        };
        let (rows, open) =
            ((0..before).map(row).collect(), (0..before).filter(|&from| opens(from)).count());
        KeyMove { before, leaving, rows, open: AtomicUsize::new(open) }
    }

    /// Returns `true` if messages of keys that move away from this replica are held.
    pub(super) fn has_hold(&self, from: usize) -> bool {
        self.rows.get(from).is_some_and(|row| matches!(&*row.read(), MoveRow::Open(_)))
    }

    /// Returns the hold for a pair of replicas. Makes one with `make` if there is none.
    ///
    /// The caller is a sender, under its stripe's lock, and has found the row
    /// [holding](Self::has_hold) messages.
    pub(super) fn hold_or_make<E>(
        &self,
        from: usize,
        into: usize,
        make: impl FnOnce() -> Result<ActorRef<A>, E>,
    ) -> Result<ActorRef<A>, E> {
        if let MoveRow::Open(holds) = &*self.rows[from].read()
            && let Some(hold) = holds.get(&into)
        {
            return Ok(hold.clone());
        }
        // Looked up again under the write lock: another sender may have made the hold meanwhile.
        match &mut *self.rows[from].write() {
            MoveRow::Open(holds) => match holds.get(&into) {
                Some(hold) => Ok(hold.clone()),
                None => {
                    let hold = make()?;
                    holds.insert(into, hold.clone());
                    Ok(hold)
                }
            },
            MoveRow::Passed => unreachable!("a row is passed while no sender is on its way"),
        }
    }

    /// Closes the row of a replica that has handled all messages from before the change. Returns
    /// its holds by new replica, for the caller to empty, or `None` if the row was passed already.
    /// Called while no sender is on its way.
    pub(super) fn pass_row(&self, from: usize) -> Option<HashMap<usize, ActorRef<A>>> {
        match std::mem::replace(&mut *self.rows.get(from)?.write(), MoveRow::Passed) {
            MoveRow::Open(holds) => {
                // Relaxed: every reader of the count holds the same locks.
                self.open.fetch_sub(1, Relaxed);
                Some(holds)
            }
            MoveRow::Passed => None,
        }
    }

    /// Returns `true` if all rows were passed. Called under the same locks as
    /// [`pass_row`](Self::pass_row).
    pub(super) fn is_over(&self) -> bool {
        self.open.load(Relaxed) == 0
    }

    /// Returns all existing holds.
    pub(super) fn all_holds(&self) -> Vec<ActorRef<A>> {
        let mut all = Vec::new();
        for row in &self.rows {
            if let MoveRow::Open(holds) = &*row.read() {
                all.extend(holds.values().cloned());
            }
        }
        all
    }
}

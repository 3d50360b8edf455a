//! A pool's stop: its cells are closed, at once or as they become empty.

use super::PoolInner;
use crate::actor::Actor;
use crate::cell::header::Header;
use crate::pool::error::PoolStopReason;
use crate::pool::replica::Replica;
use crate::pool::roster::Roster;

impl<A: Actor> PoolInner<A> {
    /// Stops the pool, for the given reason unless there is an earlier one.
    pub(in crate::pool) fn end_pool(&self, end: PoolStopReason, kill: bool) {
        if self.is_forked() {
            return;
        }
        self.life.lock().end.get_or_insert(end);
        // Published before anything is closed: from here on senders get `PoolStopped`, not the
        // refusal of a closed mailbox.
        {
            let _one = self.change.lock();
            self.stripes
                .publish_change(|roster| Some(Roster { stopped: true, ..Roster::clone(roster?) }));
        }
        self.close_cells(kill);
    }

    /// Closes the queue, and with `kill` everything else too. Otherwise the rest is closed when the
    /// queue is empty.
    pub(super) fn close_cells(&self, kill: bool) {
        let roster = self.current_roster();
        if let Some(queue) = &roster.queue {
            Header::close_mailbox(queue.as_ptr(), kill);
        }
        if kill {
            // Replicas that a shrink removed are only in the change's roster, until the last of
            // them has ended.
            let leaving = roster.key_move.iter().flat_map(|key_move| &key_move.leaving);
            for replica in roster.replicas.iter().chain(leaving) {
                Header::close_mailbox(replica.actor.as_ptr(), true);
            }
            let holds =
                roster.key_move.as_ref().map_or_else(Vec::new, |key_move| key_move.all_holds());
            holds.iter().for_each(|hold| Header::close_mailbox(hold.as_ptr(), true));
            let waiting = std::mem::take(&mut self.lock_waiting().waiting);
            self.cancel_backoffs(waiting.into_iter().map(|(_, key)| key));
        }
        self.close_if_drained();
    }

    /// Closes the replicas of a stopped pool, once the queue and all holds are empty.
    pub(super) fn close_if_drained(&self) {
        let roster = self.current_roster();
        if roster.stopped && roster.key_move.is_none() && self.life.lock().queue_ended {
            self.close_replicas(0, &roster.replicas);
        }
    }

    /// Closes replicas, the first of which has index `from`. A replica that waits for its successor
    /// with nothing to handle ends now, and not after its backoff.
    pub(super) fn close_replicas(&self, from: usize, replicas: &[Replica<A>]) {
        replicas.iter().for_each(|replica| Header::close_mailbox(replica.actor.as_ptr(), false));
        let mut over = Vec::new();
        self.lock_waiting().waiting.retain(|&(index, key)| {
            let replica = index.checked_sub(from).and_then(|index| replicas.get(index));
            // A closed mailbox that is empty stays so.
            let ends = replica.is_some_and(|it| it.actor.header().state.load_snapshot().len() == 0);
            if ends {
                over.push(key);
            }
            !ends
        });
        self.cancel_backoffs(over.into_iter());
    }
}

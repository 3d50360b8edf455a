//! How a wait or a forward is written down, and refused if it closes a cycle.

use super::{ActorKey, Forward, Outer, WaitLine, WaitTarget, Waits, stuck};
use crate::id::{WaitCycle, WaitingActor};
use crate::sync::ThreadWaker;
use crate::time;
use std::sync::Arc;

impl Waits {
    /// Writes a line: `who` waits until `bell` is rung. The caller [ends](Self::unregister_wait)
    /// the line with the returned value: the replaced line of an outer wait, if any.
    ///
    /// # Errors
    /// Fails if the wait would never end. Then there is no new line.
    pub(crate) fn register_wait(
        self: &Arc<Self>,
        who: WaitingActor,
        whom: WaitingActor,
        target: WaitTarget,
        bell: &Arc<ThreadWaker>,
    ) -> Result<Option<Outer>, WaitCycle> {
        // The line is written before anything is followed: see the header.
        let me = ActorKey { table: Arc::clone(self), id: who.id };
        let WaitTarget { at, sharing, ask } = &target;
        let outer = {
            let mut table = self.0.lock();
            // Decided under the line's own lock. Most waits are for an actor of the same executor
            // that waits for nothing, and need no walk.
            let goes_on = *at != me
                && Arc::ptr_eq(&at.table, self)
                && sharing.is_none()
                && table.waits_for_nothing(at.id)
                && !table.forwards.contains_key(ask);
            let (number, bell, since) = (table.next_number(), Arc::clone(bell), time::now());
            let outer = table
                .lines
                .insert(me.id, WaitLine { number, who, whom, target, bell, since })
                .map(Outer);
            if goes_on {
                return Ok(outer);
            }
            outer
        };
        // The walk takes other tables' locks, so it begins after this table's lock is released.
        match stuck::cycle_of_refused(&me) {
            None => Ok(outer),
            Some(cycle) => {
                self.unregister_wait(me.id, outer);
                Err(cycle)
            }
        }
    }

    /// Records that another actor will answer the ask at this address, which an actor of this
    /// executor got.
    ///
    /// # Errors
    /// Fails if the other actor waits for the asker, so no answer would come. Then nothing has
    /// changed.
    pub(crate) fn register_forward(&self, ask: usize, to: ActorKey) -> Result<(), WaitCycle> {
        // Written before the lines are followed, as a line is.
        let (number, before) = {
            let mut table = self.0.lock();
            let number = table.next_number();
            (number, table.forwards.insert(ask, Forward { number, to: to.clone() }))
        };
        match stuck::cycle_closed_by(number, &to) {
            None => Ok(()),
            Some(cycle) => {
                // Nothing is left of the refused forward, and an earlier forward is back.
                self.restore_forward(ask, before.map(|forward| forward.to));
                Err(cycle)
            }
        }
    }
}

//! Changes of a pool's number of replicas.

use super::{KeyMove, PoolInner};
use crate::actor::Actor;
use crate::actor::restart::send_mark;
use crate::pool::error::PoolError;
use crate::pool::factory::{check_replicas, make_states};
use crate::pool::replica::Replica;
use crate::pool::roster::Roster;
use std::sync::Arc;

/// A change of the number of replicas under way, which counts as a cell.
struct ResizeGuard<'a, A: Actor>(&'a PoolInner<A>);

impl<A: Actor> Drop for ResizeGuard<'_, A> {
    fn drop(&mut self) {
        let wakers = self.0.one_less(None);
        self.0.handle.core().scheduler.wake_with_help(wakers);
    }
}

impl<A: Actor + Send> PoolInner<A> {
    /// Changes the number of replicas. See [`Pool::resize`](crate::Pool::resize).
    pub(in crate::pool) fn resize(self: &Arc<Self>, to: usize) -> Result<(), PoolError> {
        check_replicas(to)?;
        let before = self.check_resizable()?;
        // The factory is user code, so no lock is held.
        let factory = self.factory.borrow_factory().ok_or_else(|| self.stopped_error())?;
        // Declared before the lock, so states left after an error are dropped outside.
        let mut states = make_states(&factory, before..to)?;
        // Before the locks: the drop may be user code.
        drop(factory);
        // Declared before the lock, so that an end of the pool is told after the lock is released.
        let _counted;
        let one = self.change.lock();
        // Another change may have come first while the factory ran.
        if self.check_resizable()? != before {
            return Err(PoolError::Resizing);
        }
        _counted = self.count_change()?;
        // Replicas that had these indexes before have ended, and new ones do not inherit their
        // losses.
        self.life.lock().losses_of.truncate(before);
        let new = self.spawn_replicas(before, &mut states)?;
        let (mut stay, mut go) = (Vec::new(), Vec::new());
        self.stripes.publish_change(|roster| {
            let mut next = Roster::clone(roster?);
            stay.extend_from_slice(&next.replicas[..before.min(to)]);
            go.extend(next.replicas.drain(before.min(to)..));
            next.replicas.extend(new);
            next.key_move = (to != before).then(|| Arc::new(KeyMove::new(before, go.clone())));
            Some(next)
        });
        drop(one);
        if to > before {
            // Keys move away from every old replica; each mark goes behind all earlier messages.
            for (from, replica) in stay.iter().enumerate() {
                let shared = Arc::clone(self);
                send_mark(&replica.actor, Box::new(move || shared.on_row_passed(from)));
            }
        }
        // The end of a leaving replica is its mark.
        self.close_replicas(to, &go);
        self.pass_rows_of_ended(to, &go);
        Ok(())
    }

    /// Passes the rows of leaving replicas, the first of which has index `from`, that have ended.
    ///
    /// A replica may end at any time in an executor that drains, or in a pool that exceeds its
    /// limit of losses. Its end is told once, maybe before the change was published, when there was
    /// no row to pass. A replica says that it is dead before its supervisor looks at the roster,
    /// and this look comes after the change was published under the locks of all rosters. So one of
    /// the two sees the other.
    fn pass_rows_of_ended(&self, from: usize, leaving: &[Replica<A>]) {
        for (index, replica) in (from..).zip(leaving) {
            if replica.actor.header().state.load_snapshot().is_dead() {
                self.on_row_passed(index);
            }
        }
    }

    /// Counts a change as a cell until the value is dropped. Fails if the pool has ended: a pool's
    /// count never rises from 0 again, so no wait for the end can miss it.
    fn count_change(&self) -> Result<ResizeGuard<'_, A>, PoolError> {
        let mut life = self.life.lock();
        if life.cells == 0 {
            return Err(self.stopped_error());
        }
        life.cells += 1;
        Ok(ResizeGuard(self))
    }

    /// Returns why a pool that has ended cannot grow.
    fn stopped_error(&self) -> PoolError {
        if self.handle.core().is_closing() { PoolError::ShuttingDown } else { PoolError::Stopped }
    }

    /// Returns the number of replicas, if it can change now.
    fn check_resizable(&self) -> Result<usize, PoolError> {
        if self.is_forked() {
            return Err(PoolError::ShuttingDown);
        }
        let roster = self.current_roster();
        match roster {
            roster if roster.stopped => Err(PoolError::Stopped),
            roster if roster.key_move.is_some() => Err(PoolError::Resizing),
            roster => Ok(roster.replicas.len()),
        }
    }
}

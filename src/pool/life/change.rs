//! Changes of a pool's number of replicas.

use super::{Moving, Shared};
use crate::actor::Actor;
use crate::actor::kept::mark;
use crate::cell::header::Header;
use crate::pool::error::PoolError;
use crate::pool::factory::make_states;
use crate::pool::members::List;
use std::sync::Arc;

/// A change of the number of replicas under way, which counts as a cell.
struct Change<'a, A: Actor>(&'a Shared<A>);

impl<A: Actor> Drop for Change<'_, A> {
    fn drop(&mut self) {
        self.0.one_less(None);
    }
}

impl<A: Actor + Send> Shared<A> {
    /// Changes the number of replicas. See [`Pool::resize`](crate::Pool::resize).
    pub(in crate::pool) fn resize(self: &Arc<Self>, to: usize) -> Result<(), PoolError> {
        if to == 0 {
            return Err(PoolError::NoReplicas);
        }
        let before = self.resizable()?;
        // The factory is user code, so no lock is held.
        let factory = self.factory.hold().ok_or_else(|| self.over())?;
        let mut states = make_states(factory.make(), before..to)?;
        // Before the locks: the drop may be user code.
        drop(factory);
        // Declared before the lock, so that an end of the pool is told after the lock is released.
        let _counted;
        let one = self.change.lock();
        // Another change may have come first while the factory ran.
        if self.resizable()? != before {
            return Err(PoolError::Resizing);
        }
        _counted = self.count_change()?;
        let new = self.spawn(before, &mut states)?;
        let (mut stay, mut go) = (Vec::new(), Vec::new());
        self.stripes.change(|list| {
            let mut next = List::clone(list?);
            stay.extend_from_slice(&next.members[..before.min(to)]);
            go.extend(next.members.drain(before.min(to)..));
            next.members.extend(new);
            next.moving = (to != before).then(|| Arc::new(Moving::new(before, go.clone())));
            Some(next)
        });
        drop(one);
        if to > before {
            // Keys move away from every old replica; each mark goes behind all earlier messages.
            for (from, member) in stay.iter().enumerate() {
                let shared = Arc::clone(self);
                mark(&member.actor, Box::new(move || shared.passed(from)));
            }
        }
        // The end of a leaving replica is its mark.
        go.iter().for_each(|member| Header::close(member.actor.as_ptr(), false));
        Ok(())
    }

    /// Counts a change as a cell until the value is dropped. Fails if the pool has ended: a pool's
    /// count never rises from 0 again, so no wait for the end can miss it.
    fn count_change(&self) -> Result<Change<'_, A>, PoolError> {
        let mut life = self.life.lock();
        if life.cells == 0 {
            return Err(self.over());
        }
        life.cells += 1;
        Ok(Change(self))
    }

    /// Returns why a pool that has ended cannot grow.
    fn over(&self) -> PoolError {
        if self.handle.core().closing() { PoolError::ShuttingDown } else { PoolError::Stopped }
    }

    /// Returns the number of replicas, if it can change now.
    fn resizable(&self) -> Result<usize, PoolError> {
        if self.forked() {
            return Err(PoolError::ShuttingDown);
        }
        let list = self.list();
        match list {
            list if list.stopped => Err(PoolError::Stopped),
            list if list.moving.is_some() => Err(PoolError::Resizing),
            list => Ok(list.members.len()),
        }
    }
}

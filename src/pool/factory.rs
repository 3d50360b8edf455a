//! A pool's factory: the user's function that makes the replicas' states.
//!
//! The function may own a handle of its own pool, so pool and function would keep each other for
//! ever. Therefore the pool lets go of the function at its end, when no replica is left that could
//! need another state.

use super::error::PoolError;
use crate::drops;
use crate::sync::Mutex;
use crate::user::{self, Site};
use std::collections::VecDeque;
use std::error::Error;
use std::ops::Range;
use std::sync::Arc;

/// The function, as a builder has it.
pub(super) type StateFactory<A> = Box<dyn Fn(usize) -> Result<A, Box<dyn Error + Send + Sync>> + Send + Sync>;

/// States for replicas that are about to be spawned. Each is boxed, since states may be large.
pub(super) type States<A> = VecDeque<Box<A>>;

/// Calls the function for each index. User code, so the caller holds no lock.
pub(super) fn make_states<A>(make: &StateFactory<A>, indexes: Range<usize>) -> Result<States<A>, PoolError> {
    let mut states = VecDeque::with_capacity(indexes.len());
    for index in indexes {
        match make(index) {
            Ok(state) => states.push_back(Box::new(state)),
            Err(error) => return Err(PoolError::Factory { index, error }),
        }
    }
    Ok(states)
}

/// The function of a running pool.
pub(super) struct Factory<A: 'static>(Mutex<Option<Arc<StateFactory<A>>>>);

impl<A> Factory<A> {
    pub(super) fn new(make: StateFactory<A>) -> Self {
        Factory(Mutex::new(Some(Arc::new(make))))
    }

    /// Returns the function, for calls without a lock. Returns `None` once the pool has ended.
    ///
    /// The caller calls the function itself: a state moved through one more closure overflowed the
    /// stack in debug builds, where states may take 512 KiB.
    pub(super) fn borrow_factory(&self) -> Option<FactoryGuard<A>> {
        let make = self.0.lock().clone();
        make.map(|make| FactoryGuard(Some(make)))
    }

    /// Drops the function, after the calls that are under way.
    pub(super) fn let_go(&self) {
        let make = self.0.lock().take();
        drop(FactoryGuard(make)); // not under the lock
    }
}

/// A function with a contained drop: it may be the last one, and the function's captures are the
/// user's.
pub(super) struct FactoryGuard<A: 'static>(Option<Arc<StateFactory<A>>>);

impl<A> FactoryGuard<A> {
    pub(super) fn state_factory(&self) -> &StateFactory<A> {
        self.0.as_deref().expect("present until the drop")
    }
}

impl<A> Drop for FactoryGuard<A> {
    fn drop(&mut self) {
        if let Some(make) = self.0.take().and_then(Arc::into_inner) {
            drops::run_or_put_off(move || user::run_contained(Site::Drop, || drop(make)));
        }
    }
}

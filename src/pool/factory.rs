//! A pool's factory: the user's function that makes the replicas' states.
//!
//! The function may own a handle of its own pool, so pool and function would keep each other for
//! ever. Therefore the pool lets go of the function at its end, when no replica is left that could
//! need another state.

use super::error::PoolError;
use crate::drops::OwnedField;
use crate::sync::Mutex;
use std::collections::VecDeque;
use std::error::Error;
use std::ops::Range;
use std::sync::Arc;

/// The function, as a builder has it.
pub(super) type StateFactory<A> =
    Box<dyn Fn(usize) -> Result<A, Box<dyn Error + Send + Sync>> + Send + Sync>;

/// States for replicas that are about to be spawned. Each is boxed, since states may be large.
pub(super) type States<A> = VecDeque<Box<A>>;

/// Most replicas of a pool. A larger number is a mistake, and memory for it may not be there.
const MOST_REPLICAS: usize = 1 << 24;

/// Checks a pool's number of replicas.
pub(super) fn check_replicas(replicas: usize) -> Result<(), PoolError> {
    match replicas {
        0 => Err(PoolError::NoReplicas),
        1..=MOST_REPLICAS => Ok(()),
        _ => Err(PoolError::TooManyReplicas(replicas)),
    }
}

/// Calls the function for each index. User code, so the caller holds no lock.
pub(super) fn make_states<A>(
    make: &StateFactory<A>,
    indexes: Range<usize>,
) -> Result<States<A>, PoolError> {
    let mut states = VecDeque::with_capacity(indexes.len());
    for index in indexes {
        match make(index) {
            Ok(state) => states.push_back(Box::new(state)),
            Err(error) => return Err(PoolError::Factory { index, error }),
        }
    }
    Ok(states)
}

/// The function of a running pool. Its last drop may run anywhere, and its captures are the user's.
pub(super) struct Factory<A: 'static>(Mutex<Option<SharedFactory<A>>>);

type SharedFactory<A> = Arc<OwnedField<StateFactory<A>>>;

impl<A> Factory<A> {
    pub(super) fn new(make: OwnedField<StateFactory<A>>) -> Self {
        Factory(Mutex::new(Some(Arc::new(make))))
    }

    /// Returns the function, for calls without a lock. Returns `None` once the pool has ended.
    ///
    /// The caller calls the function itself: a state moved through one more closure overflowed the
    /// stack in debug builds, where states may take 512 KiB.
    pub(super) fn borrow_factory(&self) -> Option<SharedFactory<A>> {
        self.0.lock().clone()
    }

    /// Drops the function, after the calls that are under way.
    pub(super) fn let_go(&self) {
        let make = self.0.lock().take();
        drop(make); // not under the lock
    }
}

//! The LIFO slot: the runnable that was made ready last, while what it needs is still in the cache.
//!
//! The owner fills and empties it; the sentinel may take it when the owner has been busy with one turn for too long.
//! Whoever takes does it by an exchange, so a runnable is in exactly one pair of hands; only the owner fills.

use super::task::{Task, TaskHeader};
use crate::sync::{AtomicPtr, Ordering::*};
use std::ptr::{self, NonNull};

/// Holds at most one runnable.
#[derive(Debug)]
pub(crate) struct Lifo(AtomicPtr<TaskHeader>);

impl Lifo {
    pub(crate) fn new() -> Self {
        Lifo(AtomicPtr::new(ptr::null_mut()))
    }

    fn exchange(&self, with: *mut TaskHeader) -> Option<Task> {
        // AcqRel: the Release half publishes what the filler did before (pairs with the Acquire half of whoever takes
        // it), so that a theft carries the same knowledge as the owner's own turn.
        let old = NonNull::new(self.0.swap(with, AcqRel))?;
        // SAFETY: it went in as a `Task` that was given up, and the exchange made us its only holder.
        Some(unsafe { Task::from_raw(old) })
    }

    /// Puts a runnable in; the one that was there comes out.
    #[inline]
    pub(crate) fn fill(&self, task: Task) -> Option<Task> {
        let task = task.into_raw().as_ptr();
        if self.is_empty() {
            // Only the owner makes it non-empty, so it still is: no exchange needed. Release: as above.
            self.0.store(task, Release);
            return None;
        }
        self.exchange(task)
    }

    /// Takes what is there.
    #[inline]
    pub(crate) fn take(&self) -> Option<Task> {
        if self.is_empty() {
            return None;
        }
        self.exchange(ptr::null_mut())
    }

    /// Relaxed: the owner sees its own fill; for others it is a hint.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Relaxed).is_null()
    }
}

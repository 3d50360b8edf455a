//! The LIFO slot: the runnable made ready last runs next, while its data is still in the cache.
//!
//! The owner fills and empties the slot. The sentinel may take from the slot when the owner has
//! been busy with one turn for too long. Taking is an exchange, so a runnable is in exactly one
//! pair of hands. Only the owner fills.
//!
//! Loom model: `models::lifo`. Needed orderings: `cargo xtask weaken lifo`.

use super::runnable::{Runnable, RunnableHeader};
use crate::sync::{AtomicPtr, Ordering::*};
use std::ptr::{self, NonNull};

/// Holds at most one runnable.
#[derive(Debug)]
pub(crate) struct Lifo(AtomicPtr<RunnableHeader>);

impl Lifo {
    pub(crate) fn new() -> Self {
        Lifo(AtomicPtr::new(ptr::null_mut()))
    }

    fn exchange(&self, with: *mut RunnableHeader) -> Option<Runnable> {
        // AcqRel: the Release half publishes everything that the filler did before, and pairs with
        // the Acquire half of the taker. So a theft carries the same knowledge as the owner's own
        // turn.
        let old = NonNull::new(self.0.swap(with, AcqRel))?;
        // SAFETY: `put_next` gave the `Runnable` up, and the exchange made the caller its only
        // holder.
        Some(unsafe { Runnable::from_raw(old) })
    }

    /// Puts a runnable in. Returns the runnable that it displaces.
    #[inline]
    pub(crate) fn put_next(&self, task: Runnable) -> Option<Runnable> {
        let task = task.into_raw().as_ptr();
        if self.is_empty() {
            // Only the owner fills, so the slot is still empty, and no exchange is needed. Release:
            // as above.
            self.0.store(task, Release);
            return None;
        }
        self.exchange(task)
    }

    /// Takes the runnable, if there is one.
    #[inline]
    pub(crate) fn take_next(&self) -> Option<Runnable> {
        // A load first: an exchange on an empty slot, which is common, would cost a locked
        // instruction.
        if self.is_empty() {
            return None;
        }
        self.exchange(ptr::null_mut())
    }

    /// Returns `true` if the slot seems empty. Relaxed: the owner sees its own fill; other threads
    /// get a hint.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Relaxed).is_null()
    }
}

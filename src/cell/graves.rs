//! Dead cells on their way out of the registry: a worker forgets them together, since the registry's lock is also what other
//! workers spawn under. Their memory is freed after that, because who goes through the registry looks at them until then.
//!
//! A cell in here is dead and has no count left; it links to the next one through its inbox, which nobody uses any more. Freeing it
//! runs no user code: the actor's last turn has dropped its state, its keeper and whoever waited for it.

use super::core::Core;
use super::header::Header;
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// Cells that are forgotten together.
const MOST: u32 = 32;

/// A worker's; nobody else touches it.
#[derive(Debug, Default)]
pub(crate) struct Graves {
    first: Cell<Option<NonNull<Header>>>,
    count: Cell<u32>,
}

// SAFETY: only its worker's thread comes here.
unsafe impl Sync for Graves {}
// SAFETY: a worker may be on any thread.
unsafe impl Send for Graves {}

impl Graves {
    /// Takes a cell whose last count is gone.
    ///
    /// # Safety
    /// On its worker's thread; nobody but the registry knows the cell any more.
    pub(crate) unsafe fn add(&self, cell: NonNull<Header>) {
        // SAFETY: the caller's.
        unsafe { cell.as_ref() }
            .inbox
            .set_link(self.first.get().map_or(ptr::null_mut(), |next| next.as_ptr().cast()));
        self.first.set(Some(cell));
        self.count.set(self.count.get() + 1);
        if self.count.get() >= MOST {
            // SAFETY: the caller's.
            unsafe { self.empty() };
        }
    }

    /// Forgets and frees all.
    ///
    /// # Safety
    /// On its worker's thread, which holds the core.
    pub(crate) unsafe fn empty(&self) {
        let Some(first) = self.first.take() else { return };
        self.count.set(0);
        // SAFETY: a grave's cell keeps the core until it is forgotten, and this thread, of the crew, holds the core for longer than
        // this call.
        let core: &Core = unsafe { &*ptr::from_ref(first.as_ref().core()) };
        let mut at = Some(first);
        while let Some(cell) = at {
            // SAFETY: dead cells that only the registry and we know; each keeps its shard until it is forgotten.
            unsafe {
                let shard = ptr::from_ref(cell.as_ref().shard());
                let mut places = [0; MOST as usize];
                let mut count = 0;
                while let Some(cell) = at
                    && ptr::eq(cell.as_ref().shard(), shard)
                    && count < places.len()
                {
                    places[count] = cell.as_ref().place();
                    count += 1;
                    at = next(cell);
                }
                (*shard).forget_some(&places[..count]);
            }
        }
        let mut at = Some(first);
        while let Some(cell) = at {
            at = next(cell);
            // SAFETY: forgotten, so no other thread knows it.
            unsafe { Header::free(cell, core.held()) };
        }
    }
}

/// The next one in the same graves.
fn next(cell: NonNull<Header>) -> Option<NonNull<Header>> {
    // SAFETY: not freed yet.
    NonNull::new(unsafe { cell.as_ref() }.inbox.link().cast())
}

//! Dead cells that await their removal from the registry. A worker forgets several cells in one
//! step, since other workers need the registry's lock to spawn. The memory is freed afterwards,
//! because walks over the registry look at all cells not yet forgotten.
//!
//! A cell in this list is dead and has no count left. The link to the next cell lies in the inbox,
//! which has no other use any more. Freeing a cell runs no user code: the actor's last turn has
//! dropped the state, the supervisor and the waiters.
//!
//! Loom model: `models::registry`. Needed orderings: `cargo xtask weaken`, group
//! `registry`.

use super::core::Core;
use super::header::Header;
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// Number of cells that are forgotten together.
const MOST: u32 = 32;

/// One worker's list of dead cells. No other thread touches it.
#[derive(Debug, Default)]
pub(crate) struct DeadCells {
    first: Cell<Option<NonNull<Header>>>,
    count: Cell<u32>,
}

// SAFETY: only the thread that holds the worker's slot calls the methods.
unsafe impl Sync for DeadCells {}
// SAFETY: nothing in the list belongs to a thread, and the next holder of the slot may go on with
// it.
unsafe impl Send for DeadCells {}

impl DeadCells {
    /// Adds a cell without any count left.
    ///
    /// # Safety
    /// Called on the worker's thread. Only the registry knows the cell besides the caller.
    pub(crate) unsafe fn defer_free(&self, cell: NonNull<Header>) {
        // SAFETY: the cell is not freed yet, and only this thread and the registry know it.
        unsafe { cell.as_ref() }
            .inbox
            .set_dead_link(self.first.get().map_or(ptr::null_mut(), |next| next.as_ptr().cast()));
        self.first.set(Some(cell));
        self.count.set(self.count.get() + 1);
        if self.count.get() >= MOST {
            // SAFETY: called on the worker's thread, which belongs to the crew and holds the core.
            unsafe { self.free_all() };
        }
    }

    /// Forgets and frees all cells in the list.
    ///
    /// # Safety
    /// Called on the worker's thread, which holds the core.
    pub(crate) unsafe fn free_all(&self) {
        let Some(first) = self.first.take() else { return };
        self.count.set(0);
        // SAFETY: a cell in the list keeps the core until it is forgotten. The thread belongs to
        // the crew and holds the core for longer than this call.
        let core: &Core = unsafe { &*ptr::from_ref(first.as_ref().core()) };
        // The places are read before the lock is taken, in groups of one shard, so that the lock is
        // held only for the writes. The cells of a worker may belong to several shards, since an
        // actor may end on another worker than the one that spawned it.
        let mut at = Some(first);
        while let Some(cell) = at {
            // SAFETY: all cells in the list are dead, and only the registry and this thread know
            // them. Until a cell is forgotten it keeps the shard, and afterwards the core does.
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
                    at = next_dead(cell);
                }
                (*shard).forget_some(&places[..count]);
            }
        }
        // A second walk: no cell may be freed before all of them are forgotten, since the links run
        // through the cells.
        let mut at = Some(first);
        while let Some(cell) = at {
            at = next_dead(cell);
            // SAFETY: the cell is forgotten, so no other thread knows it.
            unsafe { Header::free_memory(cell, core.pool_held()) };
        }
    }
}

/// Returns the next cell in the list.
fn next_dead(cell: NonNull<Header>) -> Option<NonNull<Header>> {
    // SAFETY: a cell in the list is not freed before its link was read.
    NonNull::new(unsafe { cell.as_ref() }.inbox.dead_link().cast())
}

//! Blocks on their way home: chains of blocks, and the stack on which other threads leave chains
//! for a heap.
//!
//! Many threads push, and only the heap's holder takes, always the whole stack. The result is a
//! Treiber stack without the ABA problem, since no thread takes a single element.
//!
//! Loom model: `models::returns`. Needed orderings: `cargo xtask weaken returns`.

use crate::sync::{AtomicPtr, Ordering::*, chaos};
use std::ptr;

/// The words of a free block. In a chain each block but the last has `next`. The first block also
/// has the chain's `below` and `count`.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Block {
    pub(crate) next: *mut Block,
    /// The next chain on the stack.
    pub(crate) below: *mut Block,
    pub(crate) count: usize,
}

/// The stack of chains returned to one heap.
#[derive(Debug)]
pub(crate) struct Returns(AtomicPtr<Block>);

impl Returns {
    pub(crate) fn new() -> Self {
        Returns(AtomicPtr::new(ptr::null_mut()))
    }

    /// Pushes a chain.
    ///
    /// # Safety
    /// `first` heads a chain of blocks of this heap, and the caller gives them up.
    pub(crate) unsafe fn push_chain(&self, first: *mut Block) {
        let mut top = self.0.load(Relaxed);
        loop {
            chaos();
            // SAFETY: the caller alone has the chain until the exchange succeeds.
            unsafe { (*first).below = top };
            // Release: pairs with the Acquire in `take_chains`, so that all use of these blocks
            // happens before their next use.
            match self.0.compare_exchange_weak(top, first, Release, Relaxed) {
                Ok(_) => return,
                Err(seen) => top = seen,
            }
        }
    }

    /// Takes all chains. Returns the first block of the topmost chain, or null.
    pub(crate) fn take_chains(&self) -> *mut Block {
        // A load first: an exchange would take the cache line from pushing threads.
        if self.is_empty() {
            return ptr::null_mut();
        }
        // Acquire: pairs with the Release in `push_chain`.
        self.0.swap(ptr::null_mut(), Acquire)
    }

    /// Returns `true` if no chain was seen. A hint, possibly out of date.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Relaxed).is_null()
    }
}

//! Blocks on their way home: chains of them, and the stack on which other threads leave chains for a heap.
//!
//! Many push, the heap's holder takes all: a Treiber stack without its ABA problem, since nobody takes a single one.

use crate::sync::{AtomicPtr, Ordering::*, chaos};
use std::ptr;

/// A free block, as whoever holds it uses it. In a chain each block but the last has `next`; the first has the rest.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Block {
    pub(crate) next: *mut Block,
    /// The next chain on the stack.
    pub(crate) below: *mut Block,
    pub(crate) count: usize,
}

/// Chains that were returned.
#[derive(Debug)]
pub(crate) struct Returns(AtomicPtr<Block>);

impl Returns {
    pub(crate) fn new() -> Self {
        Returns(AtomicPtr::new(ptr::null_mut()))
    }

    /// # Safety
    /// `first` heads a chain whose blocks are the caller's to give up.
    pub(crate) unsafe fn push(&self, first: *mut Block) {
        let mut top = self.0.load(Relaxed);
        loop {
            chaos();
            // SAFETY: ours until the exchange succeeds.
            unsafe { (*first).below = top };
            // Release: pairs with the Acquire in `take`: whatever was done with these blocks comes before their next use.
            match self.0.compare_exchange_weak(top, first, Release, Relaxed) {
                Ok(_) => return,
                Err(seen) => top = seen,
            }
        }
    }

    /// Takes all chains: the first block of the first, or null.
    pub(crate) fn take(&self) -> *mut Block {
        if self.is_empty() {
            return ptr::null_mut();
        }
        // Acquire: see `push`.
        self.0.swap(ptr::null_mut(), Acquire)
    }

    /// A hint.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Relaxed).is_null()
    }
}

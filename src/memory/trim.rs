//! Putting a heap in order: what its holder does before it sleeps, and others while it does.
//!
//! All of it is done in steps of some microseconds. Between two steps it ends if the thread has something better to do, or if the owner
//! waits for its heap: so a heap with millions of blocks delays nobody.

use super::heap::{Heap, STEP_BLOCKS};
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// With no more slabs than this a heap keeps what it has when its holder goes to sleep.
const FEW: usize = 8;
/// Steps of a thread that [looks after](Heap::look_after) a heap: they take in more than it has sent since the last time.
const LOOK_STEPS: u32 = 8;

impl Heap {
    /// Takes in what was returned, and keeps nothing that is not used, unless it is little. Between two steps of some microseconds
    /// it ends if there is a reason to stop, or the owner wants its heap.
    pub(crate) fn trim(&self, stop: impl Fn() -> bool) {
        let stop = || self.is_wanted() || stop();
        while self.take_in() {
            if stop() {
                return;
            }
        }
        if self.slabs.get() <= FEW {
            return;
        }
        for shelf in &self.shelves {
            let mut blocks = 0;
            while let Some(chain) = NonNull::new(shelf.chains.get()) {
                // SAFETY: chains that came home are ours.
                unsafe {
                    shelf.chains.set(chain.as_ref().below);
                    shelf.chained.set(shelf.chained.get() - 1);
                    blocks += chain.as_ref().count;
                    self.dissolve(chain.as_ptr());
                }
                if blocks >= STEP_BLOCKS {
                    blocks = 0;
                    if stop() {
                        return;
                    }
                }
            }
            shelf.count.set(0);
            // SAFETY: what a shelf has is ours.
            unsafe { self.dissolve(shelf.free.replace(ptr::null_mut())) };
        }
        while let Some(slab) = NonNull::new(self.empty.get().cast_mut()) {
            // SAFETY: one of our empty ones.
            unsafe {
                self.empty.set(slab.as_ref().next.get());
                self.chunks.give(slab);
            }
        }
        self.slabs.set(self.slabs.get() - self.empties.replace(0));
    }

    /// For a thread that has sent many blocks home one by one: if this heap's holder sleeps, nobody else takes them in, and a burst's
    /// memory would stay until the holder wakes up. Bounded, and given up when the holder wants its heap.
    #[cold]
    pub(super) fn look_after(&self) {
        if self.try_claim() {
            let steps = Cell::new(0);
            self.trim(|| {
                steps.set(steps.get() + 1);
                steps.get() >= LOOK_STEPS
            });
            // SAFETY: claimed above.
            unsafe { self.let_go() };
        }
    }
}

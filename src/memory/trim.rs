//! Tidying a heap: by its holder before it sleeps, and by other threads while it sleeps.
//!
//! Tidying is done in steps of some microseconds. Between two steps the thread stops if better work
//! has come, or if the owner waits for the heap. A heap with millions of blocks therefore delays no
//! thread.
//!
//! Loom model: `models::returns`. Needed orderings: `cargo xtask weaken returned`.

use super::heap::{Heap, STEP_BLOCKS};
use super::slab::Slab;
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// A heap with at most this number of slabs keeps all of them when the holder goes to sleep.
const FEW: usize = 8;
/// Steps of a thread that [looks after](Heap::look_after) a heap. Together they take in more blocks
/// than the thread has sent since the last check.
const LOOK_STEPS: u32 = 8;

impl Heap {
    /// Takes in returned chains, and gives back all unused memory of a heap with more than `FEW`
    /// slabs. Stops between two steps if `stop` returns `true` or the owner waits for the heap.
    pub(crate) fn trim_unused(&self, stop: impl Fn() -> bool) {
        let stop = || self.is_wanted() || stop();
        // Stopping here or below is safe at any step: each step leaves all lists complete, and
        // blocks not reached stay where they were.
        while self.take_in() {
            if stop() {
                return;
            }
        }
        // So little memory is not worth the work.
        if self.slabs.get() <= FEW {
            return;
        }
        for class in &self.classes {
            let mut blocks = 0;
            while let Some(chain) = NonNull::new(class.chains.get()) {
                // SAFETY: the heap's holder alone has the chains of a size class.
                unsafe {
                    class.chains.set(chain.as_ref().below);
                    class.chained.set(class.chained.get() - 1);
                    blocks += chain.as_ref().count;
                    self.dissolve_chain(chain.as_ptr());
                }
                if blocks >= STEP_BLOCKS {
                    blocks = 0;
                    if stop() {
                        return;
                    }
                }
            }
            // The size class's list goes last. At most one slab's blocks and `NEAR` more need no
            // further step.
            class.count.set(0);
            // SAFETY: the heap's holder alone has the blocks on a size class's list.
            unsafe { self.dissolve_chain(class.free.replace(ptr::null_mut())) };
            // All classes together could have tens of thousands of blocks on their lists.
            if stop() {
                return;
            }
        }
        while let Some(slab) = NonNull::new(self.empty.get().cast_mut()) {
            // SAFETY: an empty slab on this list belongs to the heap, and no block of it is out.
            unsafe {
                self.empty.set(slab.as_ref().next.get());
                self.release_slab(slab);
            }
        }
        // Once for all of them: nothing above stops this last loop half-way.
        self.slabs.set(self.slabs.get() - self.empties.replace(0));
    }

    /// Gives a slab back to the pool.
    ///
    /// # Safety
    /// The slab belongs to the heap and is on no list, and no block of it is out.
    pub(super) unsafe fn release_slab(&self, slab: NonNull<Slab>) {
        let (chunk, index) = Slab::place_in_chunk(slab);
        // SAFETY: the slab came from `take_slab`, and no block of it is in use.
        unsafe { self.chunks.give_slab_back(chunk, index) };
    }

    /// Tidies the heap, on behalf of a thread that has sent many blocks home singly. While the
    /// holder sleeps, no other thread takes them in, and a burst's memory would stay until the
    /// holder wakes. The work is bounded, and ends early when the holder waits for its heap.
    #[cold]
    pub(super) fn look_after(&self) {
        // In a forked child the chunks' lock may be locked for ever, and to tidy a copy would only
        // copy its pages.
        if self.chunks.is_forked() {
            return;
        }
        // On failure the owner or another thread holds the heap and looks for returns itself.
        if self.try_claim() {
            let steps = Cell::new(0);
            self.trim_unused(|| {
                steps.set(steps.get() + 1);
                steps.get() >= LOOK_STEPS
            });
            // SAFETY: `try_claim` succeeded above, and `trim` is done with the heap.
            unsafe { self.release_claim() };
        }
    }
}

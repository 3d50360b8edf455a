//! Stack of returned blocks: two threads push chains, a third takes. And a heap that is put in order while its holder sleeps: by
//! a worker on its way to sleep, and by the thread that sends blocks home.
//!
//! Covers: each chain is in exactly one pair of hands; whoever takes it sees what was done with its blocks before, and what
//! links them; nobody but the holder of the claim touches the heap; what was taken and not looked at is found by the next holder.
//!
//! Does not cover: what a heap does with blocks; the claim, which is a lock here too.

use super::{explore, spawn};
use crate::memory::returns::{Block, Returns};
use crate::sync::{AtomicPtr, Claim, Ordering::Relaxed};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use std::ptr;

#[repr(C)]
struct Piece {
    block: std::cell::UnsafeCell<Block>,
    /// Touched by whoever has the block.
    uses: UnsafeCell<u32>,
}

impl Piece {
    fn new(count: usize) -> Self {
        let block = Block { next: ptr::null_mut(), below: ptr::null_mut(), count };
        Piece { block: std::cell::UnsafeCell::new(block), uses: UnsafeCell::new(0) }
    }

    fn give(&self, returns: &Returns) {
        // SAFETY: loom checks it.
        self.uses.with_mut(|uses| unsafe { *uses += 1 });
        // SAFETY: given up once at a time.
        unsafe { returns.push(self.block.get()) };
    }
}

struct Shared {
    returns: Returns,
    pieces: [Piece; 2],
}

// SAFETY: that a piece is in one pair of hands is what the model is about.
unsafe impl Sync for Shared {}
// SAFETY: likewise.
unsafe impl Send for Shared {}

/// Takes all, and gives how many blocks that were.
fn take(returns: &Returns) -> usize {
    let (mut at, mut count) = (returns.take(), 0);
    while !at.is_null() {
        let piece: *const Piece = at.cast_const().cast();
        // SAFETY: taken, so ours; loom checks it.
        unsafe {
            (*piece).uses.with_mut(|uses| *uses += 1);
            count += (*at).count;
            at = (*at).below;
        }
    }
    count
}

#[test]
fn chains_come_home_once() {
    explore(3, || {
        let shared = Arc::new(Shared { returns: Returns::new(), pieces: [Piece::new(1), Piece::new(10)] });
        let taker = spawn(&shared, |shared| take(&shared.returns));
        let sender = spawn(&shared, |shared| shared.pieces[0].give(&shared.returns));
        shared.pieces[1].give(&shared.returns);
        sender.join().unwrap();
        let home = taker.join().unwrap() + take(&shared.returns);
        assert_eq!(home, 11);
    });
}

struct Heap {
    returns: Returns,
    claim: Claim,
    taken: AtomicPtr<Block>,
    /// Blocks that came home; for the holder of the claim.
    home: UnsafeCell<usize>,
    pieces: [Piece; 3],
}

// SAFETY: that one thread at a time touches it is what the model is about.
unsafe impl Sync for Heap {}
// SAFETY: likewise.
unsafe impl Send for Heap {}

impl Heap {
    fn has_returns(&self) -> bool {
        !self.returns.is_empty() || !self.taken.load(Relaxed).is_null()
    }

    /// One chain: a step. True: there are more.
    fn take_in(&self) -> bool {
        let mut chain = self.taken.load(Relaxed);
        if chain.is_null() {
            chain = self.returns.take();
        }
        if !chain.is_null() {
            let piece: *const Piece = chain.cast_const().cast();
            // SAFETY: taken, so it is the holder's; loom checks it.
            unsafe {
                (*piece).uses.with_mut(|uses| *uses += 1);
                self.home.with_mut(|home| *home += (*chain).count);
                chain = (*chain).below;
            }
        }
        self.taken.store(chain, Relaxed);
        !chain.is_null()
    }

    /// As `Pool::tidy`.
    fn tidy(&self) {
        while self.has_returns() && self.claim.try_take() {
            while self.take_in() {}
            // SAFETY: taken above.
            unsafe { self.claim.give() };
        }
    }

    /// As `Heap::look_after`: a bounded part.
    fn look_after(&self) {
        if self.claim.try_take() {
            self.take_in();
            // SAFETY: taken above.
            unsafe { self.claim.give() };
        }
    }
}

#[test]
fn a_sleepers_heap_is_put_in_order_by_one_at_a_time() {
    explore(3, || {
        let heap = Arc::new(Heap {
            returns: Returns::new(),
            claim: Claim::new(),
            taken: AtomicPtr::new(ptr::null_mut()),
            home: UnsafeCell::new(0),
            pieces: [Piece::new(1), Piece::new(10), Piece::new(100)],
        });
        let worker = spawn(&heap, |heap| {
            heap.pieces[0].give(&heap.returns);
            heap.tidy();
        });
        heap.pieces[1].give(&heap.returns);
        heap.pieces[2].give(&heap.returns);
        heap.look_after();
        worker.join().unwrap();
        heap.tidy();
        assert!(!heap.has_returns());
        // SAFETY: alone.
        heap.home.with(|home| assert_eq!(unsafe { *home }, 111));
    });
}

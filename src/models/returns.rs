//! Stack of returned blocks: two threads push chains, a third takes. Also a heap tidied while the
//! holder sleeps: by a worker about to sleep, and by the thread that sends blocks home.
//!
//! Covers: each chain is in exactly one pair of hands. A thread that takes a chain sees everything
//! done with its blocks before, and the links. Only the holder of the claim touches the heap. The
//! next holder finds blocks that were taken and not looked at.
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
    /// Touched by the thread that has the block.
    uses: UnsafeCell<u32>,
}

impl Piece {
    fn new(count: usize) -> Self {
        let block = Block { next: ptr::null_mut(), below: ptr::null_mut(), count };
        Piece { block: std::cell::UnsafeCell::new(block), uses: UnsafeCell::new(0) }
    }

    fn give(&self, returns: &Returns) {
        // SAFETY: the sender alone has the block until the push; loom's cell reports a violation.
        self.uses.with_mut(|uses| unsafe { *uses += 1 });
        // SAFETY: one thread at a time pushes a piece, and gives it up.
        unsafe { returns.push_chain(self.block.get()) };
    }
}

struct Shared {
    returns: Returns,
    pieces: [Piece; 2],
}

// SAFETY: loom's cells report a piece in two pairs of hands; the model exists to find one.
unsafe impl Sync for Shared {}
// SAFETY: nothing in it is tied to a thread.
unsafe impl Send for Shared {}

/// Takes all chains. Returns how many blocks they have.
fn take(returns: &Returns) -> usize {
    let (mut at, mut count) = (returns.take_chains(), 0);
    while !at.is_null() {
        let piece: *const Piece = at.cast_const().cast();
        // SAFETY: the taken chains belong to this thread, and a piece begins with its block; loom's
        // cell reports a violation.
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
        let shared =
            // The sum of these counts says which chains came home.
            Arc::new(Shared { returns: Returns::new(), pieces: [Piece::new(1), Piece::new(10)] });
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
    /// Number of blocks that came home. For the holder of the claim.
    home: UnsafeCell<usize>,
    pieces: [Piece; 3],
}

// SAFETY: the claim admits one thread at a time; loom's cells report a violation.
unsafe impl Sync for Heap {}
// SAFETY: nothing in it is tied to a thread.
unsafe impl Send for Heap {}

impl Heap {
    fn has_returns(&self) -> bool {
        // Read without the claim, and so a hint.
        !self.returns.is_empty() || !self.taken.load(Relaxed).is_null()
    }

    /// Takes in one chain, which is a step here. Returns `true` if more are left.
    fn take_in(&self) -> bool {
        // Relaxed: the claim orders its holders.
        let mut chain = self.taken.load(Relaxed);
        if chain.is_null() {
            chain = self.returns.take_chains();
        }
        if !chain.is_null() {
            let piece: *const Piece = chain.cast_const().cast();
            // SAFETY: the chain was taken by this holder or the one before, and a piece begins with
            // its block; loom's cell reports a violation.
            unsafe {
                (*piece).uses.with_mut(|uses| *uses += 1);
                self.home.with_mut(|home| *home += (*chain).count);
                chain = (*chain).below;
            }
        }
        self.taken.store(chain, Relaxed);
        !chain.is_null()
    }

    /// Like `MemoryPool::tidy_sleeping_heaps`.
    fn tidy(&self) {
        // A loop, since a chain may come while the claim is held, and its sender finds the claim
        // taken.
        while self.has_returns() && self.claim.try_take() {
            while self.take_in() {}
            // SAFETY: `try_take` took the claim above.
            unsafe { self.claim.give_up() };
        }
    }

    /// Like `Heap::look_after`: takes in a bounded part.
    fn look_after(&self) {
        if self.claim.try_take() {
            self.take_in();
            // SAFETY: `try_take` took the claim above.
            unsafe { self.claim.give_up() };
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
        // SAFETY: the other thread has ended.
        heap.home.with(|home| assert_eq!(unsafe { *home }, 111));
    });
}

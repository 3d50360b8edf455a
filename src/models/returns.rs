//! Stack of returned blocks: two threads push chains, the owner takes.
//!
//! Covers: each chain is in exactly one pair of hands; whoever takes it sees what was done with its blocks before, and what
//! links them.
//!
//! Does not cover: the heap, which is its holder's alone, and the claim, which is a lock.

use super::{explore, spawn};
use crate::memory::returns::{Block, Returns};
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
        let senders = [0, 1].map(|i| spawn(&shared, move |shared| shared.pieces[i].give(&shared.returns)));
        let mut home = take(&shared.returns);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        home += take(&shared.returns);
        assert_eq!(home, 11);
    });
}

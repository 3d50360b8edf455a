//! Registry: cells forgotten and freed by several threads, the core around them, and a walk over
//! all cells meanwhile.
//!
//! Covers: no cell is freed while a walk may look at it, and none after the core is gone. The core
//! is freed once, with its last reference, whichever thread drops it.
//!
//! Does not cover: the memory pool, which is part of the core here; cells that are made meanwhile.
//! Shard, graves and the core's count are copies of `cell::registry`'s, `cell::graves`' and the
//! standard library's.

use super::{explore, spawn};
use crate::sync::{AtomicU32, Mutex, Ordering::*, fence};
use loom::cell::UnsafeCell;
use loom::sync::Arc;

const CELLS: usize = 3;

struct Cell {
    /// Read by threads that look at the cell, written when it is freed.
    memory: UnsafeCell<()>,
    /// The inbox's link, reused by the graves.
    link: UnsafeCell<Option<usize>>,
}

struct Core {
    references: AtomicU32,
    /// Read by every use of the core, written when it is freed.
    memory: UnsafeCell<()>,
    /// Cells that the shard knows.
    shard: Mutex<Vec<usize>>,
    cells: [Cell; CELLS],
}

// SAFETY: loom's cells report an access that is not synchronized; the model exists to find one.
unsafe impl Sync for Core {}
// SAFETY: the core has no tie to a thread.
unsafe impl Send for Core {}

impl Core {
    /// Makes a core with one reference for the shard's cells, and `more`.
    fn new(more: u32) -> Arc<Self> {
        let cell = || Cell { memory: UnsafeCell::new(()), link: UnsafeCell::new(None) };
        Arc::new(Core {
            references: AtomicU32::new(1 + more),
            memory: UnsafeCell::new(()),
            shard: Mutex::new((0..CELLS).collect()),
            cells: [cell(), cell(), cell()],
        })
    }

    fn used(&self) {
        self.memory.with(|_| ());
    }

    /// Like `Arc::drop`.
    fn let_go(&self) {
        self.used();
        if self.references.fetch_sub(1, Release) == 1 {
            // As in the standard library: pairs with every Release above.
            fence(Acquire);
            self.memory.with_mut(|_| ());
        }
    }

    /// Like `Shard::forget_cell`: afterwards the caller has a reference to the core.
    fn forget(&self, cell: usize) {
        self.used();
        let mut shard = self.shard.lock();
        shard.retain(|&known| known != cell);
        // The last cell hands the shard's reference over instead of a new one. Relaxed, as in
        // `Arc::clone`: the shard's reference keeps the core meanwhile.
        if !shard.is_empty() {
            self.references.fetch_add(1, Relaxed);
        }
    }

    fn free(&self, cell: usize) {
        self.used();
        self.cells[cell].memory.with_mut(|_| ());
    }

    /// Called by a thread outside with the cell's last count.
    fn last_count_outside(&self, cell: usize) {
        self.cells[cell].memory.with(|_| ());
        // No walk may find the cell when it is freed, and the reference from here keeps the core.
        self.forget(cell);
        self.free(cell);
        self.let_go();
    }

    /// Frees several cells together, like a worker with a reference of its own.
    fn graves(&self, cells: &[usize]) {
        let mut first = None;
        for &cell in cells {
            // SAFETY: this worker alone has the dead cells; loom's cell reports a second access.
            self.cells[cell].link.with_mut(|link| unsafe { *link = first });
            first = Some(cell);
        }
        let mut shard = self.shard.lock();
        shard.retain(|known| !cells.contains(known));
        let last = shard.is_empty();
        // The cells are freed after the lock: a walk has either seen them before, or does not find
        // them.
        drop(shard);
        if last {
            // The worker's own reference keeps the core for the cells freed below.
            self.let_go();
        }
        while let Some(cell) = first {
            // SAFETY: this worker alone has the dead cells; loom's cell reports a second access.
            first = self.cells[cell].link.with(|link| unsafe { *link });
            self.free(cell);
        }
    }

    /// Called by the holder of a reference.
    fn for_each(&self) {
        self.used();
        let shard = self.shard.lock();
        // Under the lock, which a thread takes to forget a cell before it frees the cell.
        for &cell in &*shard {
            self.cells[cell].memory.with(|_| ());
        }
    }

    /// Checks that the core is freed and no cell is known, after all threads have ended.
    fn settle(&self) {
        assert_eq!(self.references.load(Relaxed), 0, "the core goes with its last reference");
        assert!(self.shard.lock().is_empty());
    }
}

#[test]
fn last_counts_let_go_of_outside() {
    explore(3, || {
        let core = Core::new(0);
        let others = [
            spawn(&core, |core| core.last_count_outside(0)),
            spawn(&core, |core| core.last_count_outside(1)),
        ];
        core.last_count_outside(2);
        others.into_iter().for_each(|other| other.join().unwrap());
        core.settle();
    });
}

#[test]
fn a_walk_while_a_worker_and_a_thread_outside_let_go() {
    explore(3, || {
        let core = Core::new(2);
        let walker = spawn(&core, |core| {
            core.for_each();
            core.let_go();
        });
        let worker = spawn(&core, |core| {
            core.graves(&[0, 1]);
            core.let_go();
        });
        core.last_count_outside(2);
        walker.join().unwrap();
        worker.join().unwrap();
        core.settle();
    });
}

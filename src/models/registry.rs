//! Registry: cells that are forgotten and freed by several threads, the core that they lie in, and a walk over all cells meanwhile.
//!
//! Covers: no cell is freed while a walk may look at it, and none after the core has gone; the core goes once, with its last
//! reference, whoever that is.
//!
//! Does not cover: the memory pool, which is part of the core here; cells that are made meanwhile. Shard, graves and the core's count
//! are copies of `cell::registry`'s, `cell::graves`' and the standard library's.

use super::{explore, spawn};
use crate::sync::{AtomicU32, Mutex, Ordering::*, fence};
use loom::cell::UnsafeCell;
use loom::sync::Arc;

const CELLS: usize = 3;

struct Cell {
    /// Read by whoever looks at the cell, written by freeing it.
    memory: UnsafeCell<()>,
    /// The inbox's link, which the graves use.
    link: UnsafeCell<Option<usize>>,
}

struct Core {
    references: AtomicU32,
    /// Read by whoever uses anything of the core, written by freeing it.
    memory: UnsafeCell<()>,
    /// Which cells the shard knows.
    shard: Mutex<Vec<usize>>,
    cells: [Cell; CELLS],
}

// SAFETY: who touches what, and when, is what the model is about.
unsafe impl Sync for Core {}
// SAFETY: as above.
unsafe impl Send for Core {}

impl Core {
    /// One reference for the shard's cells, and `more`.
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

    /// As `Arc::drop` does.
    fn let_go(&self) {
        self.used();
        if self.references.fetch_sub(1, Release) == 1 {
            fence(Acquire);
            self.memory.with_mut(|_| ());
        }
    }

    /// As `Shard::forget`: the caller has a reference to the core afterwards.
    fn forget(&self, cell: usize) {
        self.used();
        let mut shard = self.shard.lock();
        shard.retain(|&known| known != cell);
        if !shard.is_empty() {
            self.references.fetch_add(1, Relaxed);
        }
    }

    fn free(&self, cell: usize) {
        self.used();
        self.cells[cell].memory.with_mut(|_| ());
    }

    /// By a thread outside, whose count was the cell's last.
    fn last_count_outside(&self, cell: usize) {
        self.cells[cell].memory.with(|_| ());
        self.forget(cell);
        self.free(cell);
        self.let_go();
    }

    /// By a worker, which has a reference of its own: cells that it lets go of together.
    fn graves(&self, cells: &[usize]) {
        let mut first = None;
        for &cell in cells {
            // SAFETY: loom checks it.
            self.cells[cell].link.with_mut(|link| unsafe { *link = first });
            first = Some(cell);
        }
        let mut shard = self.shard.lock();
        shard.retain(|known| !cells.contains(known));
        let last = shard.is_empty();
        drop(shard);
        if last {
            self.let_go();
        }
        while let Some(cell) = first {
            // SAFETY: as above.
            first = self.cells[cell].link.with(|link| unsafe { *link });
            self.free(cell);
        }
    }

    /// By the holder of a reference.
    fn for_each(&self) {
        self.used();
        let shard = self.shard.lock();
        for &cell in &*shard {
            self.cells[cell].memory.with(|_| ());
        }
    }

    /// After everything.
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

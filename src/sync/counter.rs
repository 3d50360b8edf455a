//! A count with one writer and any number of readers: no read-modify-write, no contention.

use super::primitives::{AtomicU64, Ordering::Relaxed};

/// A count that one thread at a time writes: a worker, or the holder of an actor's runnable.
/// Readers get a recent value.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn starting_at(n: u64) -> Self {
        Counter(AtomicU64::new(n))
    }

    /// Adds `n` with a relaxed load and store: the writer is alone, and readers only report.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        // Not a locked add: with a single writer no update is lost.
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Adds `n` to one of the rare counts with several writers.
    pub(crate) fn add_shared(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Sets one of the rare counts with several writers.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// Sets the count and returns the previous value, so no other thread's write is missed.
    pub(crate) fn swap(&self, n: u64) -> u64 {
        self.0.swap(n, Relaxed)
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

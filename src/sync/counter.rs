//! A count that one thread writes and any thread reads: no read-modify-write, no contention.

use super::{AtomicU64, Ordering::Relaxed};

/// Written by one thread at a time (a worker, or the holder of an actor's runnable); readers get a recent value.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn with(n: u64) -> Self {
        Counter(AtomicU64::new(n))
    }

    /// Relaxed load and store: the writer is alone, and readers only report.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// For the rare counts that several threads write.
    pub(crate) fn add_shared(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Likewise.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// Likewise: nothing that another thread wrote in between is lost unseen.
    pub(crate) fn swap(&self, n: u64) -> u64 {
        self.0.swap(n, Relaxed)
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

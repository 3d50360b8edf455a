//! Provides small stacks and counted drops, for tests of chains that must not recurse.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::thread;

pub(crate) const SMALL_STACK: usize = 64 * 1024;

pub(crate) fn on_a_small_stack(f: impl FnOnce() + Send + 'static) {
    thread::Builder::new().stack_size(SMALL_STACK).spawn(f).unwrap().join().unwrap();
}

/// Counts the drop of the value that contains it.
pub(crate) struct Counted(pub(crate) Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

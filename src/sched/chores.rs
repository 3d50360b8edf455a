//! The count of chores that have not begun, with the protocol of [`errand`](super::errand), and a
//! list of the threads that run such code.
//!
//! Loom model: `models::errands`. Needed orderings: `cargo xtask weaken errand`, a row for
//! each count.

use crate::sync::{AtomicUsize, Mutex, Ordering::*};
use slab::Slab;
use std::sync::Arc;
use std::thread::{self, Thread};

/// Counts the chores that have not begun, and the visits to the timers, which may leave some.
#[derive(Debug)]
pub(crate) struct OwedChores(AtomicUsize);

/// A visit to the timers that is counted until this is dropped, when all that the visit leaves has
/// been pushed.
#[derive(Debug)]
#[must_use = "it lasts until it is dropped"]
pub(crate) struct Visit<'a>(&'a OwedChores);

impl OwedChores {
    pub(crate) fn new() -> Self {
        OwedChores(AtomicUsize::new(0))
    }

    /// Counts chores, before their errand is pushed.
    pub(crate) fn add_chores(&self, chores: usize) {
        // Relaxed here and below: see the page of `errand`. Nothing is published by the count, and
        // locks carry it to its reader.
        self.0.fetch_add(chores, Relaxed);
    }

    /// Counts a visit to the timers, before it takes any out of their table.
    pub(crate) fn begin_visit(&self) -> Visit<'_> {
        self.add_chores(1);
        Visit(self)
    }

    /// One chore begins.
    pub(crate) fn begin_chore(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// Returns `true` while any chore has not begun.
    pub(crate) fn any_left(&self) -> bool {
        self.0.load(Relaxed) > 0
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.begin_chore();
    }
}

/// The threads that run user code which belongs to no actor, for the report of a shutdown.
#[derive(Clone, Debug, Default)]
pub(crate) struct ActorlessThreads(Arc<Mutex<Slab<Thread>>>);

/// The calling thread is listed until this is dropped.
#[derive(Debug)]
#[must_use = "it lasts until it is dropped"]
pub(crate) struct Listed(ActorlessThreads, usize);

impl ActorlessThreads {
    /// Lists the calling thread.
    pub(crate) fn list_here(&self) -> Listed {
        let index = self.0.lock().insert(thread::current());
        Listed(self.clone(), index)
    }

    /// Returns the names of the listed threads.
    pub(crate) fn thread_names(&self) -> Vec<String> {
        let list = self.0.lock();
        list.iter().map(|(_, thread)| thread.name().unwrap_or("unnamed").to_string()).collect()
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        // A statement of its own, so that the thread's handle is dropped after the lock.
        let thread = self.0.0.lock().remove(self.1);
        drop(thread);
    }
}

//! Runnables: pointers to something that can be run, about which the scheduler knows nothing else
//! but where it must run.

use crate::sync::Parker;
use std::ptr::NonNull;
use std::sync::Arc;

/// The scheduler's functions for a runnable. The first field of the owner's own table.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct RunnableVtable {
    /// Runs one turn.
    pub(crate) run: unsafe fn(NonNull<RunnableHeader>) -> After,
    /// The value that `Policy::Sharded` hashes to choose the worker.
    pub(crate) key: unsafe fn(NonNull<RunnableHeader>) -> u64,
    /// The place where the runnable must run. `None` in tables of runnables that are never bound.
    /// The result lives as long as the runnable.
    pub(crate) bound: Option<unsafe fn(NonNull<RunnableHeader>) -> NonNull<Affinity>>,
}

/// The first field of everything that can be scheduled.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct RunnableHeader {
    pub(crate) vtable: *const RunnableVtable,
}

/// Where a runnable goes after its turn.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// More work is left: back of the queue.
    Requeue,
    /// More work comes in a moment, when another thread has finished its step: back of the queue,
    /// and let other threads run.
    RequeueGap,
    /// More work is left, some sent from outside the crew: back of the queue that is served first.
    RequeueOutside,
    /// The scheduler must not touch it any more.
    Gone,
    /// Like `Gone`, and it was an [errand](super::errand): no turn.
    Errand,
}

impl After {
    /// Returns `true` if the runnable is back in the scheduler's hands.
    pub(super) fn goes_on(self) -> bool {
        matches!(self, After::Requeue | After::RequeueGap | After::RequeueOutside)
    }
}

/// A runnable, of which each schedulable object has at most one. Runnables can only be moved.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Runnable(NonNull<RunnableHeader>);

// SAFETY: by `from_raw`'s contract, the object behind the header may be run on any thread, and this
// is its only `Runnable`.
unsafe impl Send for Runnable {}

impl Runnable {
    /// Makes a runnable.
    ///
    /// # Safety
    /// The header stays valid until the task has been run. The task may be run on any thread. No
    /// other `Runnable` for it exists.
    pub(crate) unsafe fn from_raw(header: NonNull<RunnableHeader>) -> Self {
        Runnable(header)
    }

    pub(crate) fn into_raw(self) -> NonNull<RunnableHeader> {
        self.0
    }

    /// Prefetches the second cache line of the runnable, so that a cold one's turn waits for both
    /// lines at the same time.
    #[inline]
    pub(crate) fn prefetch(&self) {
        crate::sync::prefetch(self.0.as_ptr().wrapping_byte_add(64));
    }

    /// Runs one turn.
    #[inline]
    pub(crate) fn run_turn(self) -> (NonNull<RunnableHeader>, After) {
        // SAFETY: the header and its table are valid until this run, by `from_raw`'s contract.
        let after = unsafe { ((*self.0.as_ref().vtable).run)(self.0) };
        (self.0, after)
    }

    /// Returns `true` if the runnable must run in one place.
    #[inline]
    pub(crate) fn is_bound(&self) -> bool {
        // SAFETY: the runnable has not been run, so the header and its table are valid.
        unsafe { (*self.0.as_ref().vtable).bound.is_some() }
    }

    /// Returns the place where the runnable must run.
    pub(crate) fn affinity(&self) -> &Affinity {
        // SAFETY: the runnable has not been run, so the header and its table are valid. The place
        // lives as long as the runnable, which is borrowed.
        unsafe {
            match (*self.0.as_ref().vtable).bound {
                Some(bound) => bound(self.0).as_ref(),
                None => &Affinity::Any,
            }
        }
    }

    /// Returns the worker that `Policy::Sharded` assigns to the runnable.
    pub(crate) fn shard_of(&self, workers: usize) -> usize {
        // SAFETY: the runnable has not been run, so the header and its table are valid.
        let key = unsafe { ((*self.0.as_ref().vtable).key)(self.0) };
        // Fibonacci hashing (Knuth, TAOCP 3, 6.4), then the high bits scaled to the workers.
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        ((hash * workers as u64) >> 32) as usize
    }
}

/// The place where a runnable must run.
#[derive(Clone, Debug, Default)]
pub(crate) enum Affinity {
    /// Wherever the policy says.
    #[default]
    Any,
    /// On this worker.
    Worker(usize),
    /// On the thread that sleeps at this home.
    Thread(Arc<DedicatedParker>),
}

/// The place where one dedicated thread sleeps.
#[derive(Debug)]
pub(crate) struct DedicatedParker(pub(super) Parker<Runnable>);

impl DedicatedParker {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(DedicatedParker(Parker::new()))
    }
}

//! What the scheduler moves: a pointer to something that can be run, and nothing it knows about it.

use super::bound::Bound;
use std::ptr::NonNull;

/// How the scheduler uses a runnable; the first field of whatever table the owner has for it.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct TaskVtable {
    /// Runs one turn.
    pub(crate) run: unsafe fn(NonNull<TaskHeader>) -> After,
    /// What `Policy::Sharded` hashes to choose the worker.
    pub(crate) key: unsafe fn(NonNull<TaskHeader>) -> u64,
    /// Where it must run; `None` where nothing of the kind is ever bound. What it returns lives as long as the runnable.
    pub(crate) bound: Option<unsafe fn(NonNull<TaskHeader>) -> NonNull<Bound>>,
}

/// The first field of whatever can be scheduled.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct TaskHeader {
    pub(crate) vtable: *const TaskVtable,
}

/// What becomes of the runnable after its turn.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// There is more to do: to the back of the queue.
    Requeue,
    /// There will be more in a moment, when another thread has finished its step: to the back of the queue, and let
    /// other threads run.
    RequeueGap,
    /// There is more to do, some of it sent from outside the crew: to the back of whichever queue gets to it first.
    RequeueOutside,
    /// It is no longer the scheduler's to touch.
    Gone,
    /// The same, and it was an [errand](super::errand): no turn.
    Errand,
}

impl After {
    /// Returns `true` if the runnable is back in the scheduler's hands.
    pub(super) fn goes_on(self) -> bool {
        matches!(self, After::Requeue | After::RequeueGap | After::RequeueOutside)
    }
}

/// A runnable: there is at most one for each thing that can be scheduled, and it can only be moved.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Task(NonNull<TaskHeader>);

// SAFETY: a runnable is the right to run one turn somewhere; what it points to is made for being run on any worker
// (`from_raw`'s contract).
unsafe impl Send for Task {}

impl Task {
    /// # Safety
    /// The header stays valid until the task has been run, may be run on any thread, and no other `Task` for it
    /// exists.
    pub(crate) unsafe fn from_raw(header: NonNull<TaskHeader>) -> Self {
        Task(header)
    }

    pub(crate) fn into_raw(self) -> NonNull<TaskHeader> {
        self.0
    }

    /// Asks for what lies behind the first cache line: a cold one's turn then waits for both at the same time.
    #[inline]
    pub(crate) fn prefetch(&self) {
        crate::sync::prefetch(self.0.as_ptr().wrapping_byte_add(64));
    }

    /// Runs one turn.
    #[inline]
    pub(crate) fn run(self) -> (NonNull<TaskHeader>, After) {
        // SAFETY: valid until run, by `from_raw`'s contract.
        let after = unsafe { ((*self.0.as_ref().vtable).run)(self.0) };
        (self.0, after)
    }

    /// Must it run in one place?
    #[inline]
    pub(crate) fn is_bound(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.0.as_ref().vtable).bound.is_some() }
    }

    /// Where it must run.
    pub(crate) fn bound(&self) -> &Bound {
        // SAFETY: as above; the place lives as long as the runnable, which is borrowed.
        unsafe {
            match (*self.0.as_ref().vtable).bound {
                Some(bound) => bound(self.0).as_ref(),
                None => &Bound::Nowhere,
            }
        }
    }

    /// The worker of `workers` that `Policy::Sharded` keeps it on.
    pub(crate) fn home(&self, workers: usize) -> usize {
        // SAFETY: as above.
        let key = unsafe { ((*self.0.as_ref().vtable).key)(self.0) };
        // Fibonacci hashing (Knuth, TAOCP 3, 6.4), then the high bits scaled to the number of workers.
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        ((hash * workers as u64) >> 32) as usize
    }
}

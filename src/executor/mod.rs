//! The executor, which owns the crew; its builder, threads, shutdown and statistics.

pub(crate) mod builder;
pub(crate) mod error;
pub(crate) mod events;
pub(crate) mod shutdown;
pub(crate) mod stats;
pub(crate) mod threads;
pub(crate) mod top;

use crate::actor::handle::Handle;
use crate::cell::core::Core;
use crate::sched::blocking::Blocking;
use crate::time::{self, Duration};
use crossbeam_channel::Receiver;
use std::convert::Infallible;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;

/// A crew of worker threads that runs actors.
///
/// Several executors may live in one process; they do not know of each other. An executor
/// dereferences to its [`Handle`], which spawns and waits. After [`std::mem::forget`] it goes on
/// until the process ends.
///
/// **Dropping it stops now**: messages that wait become dead letters, `stopped` hooks run, states
/// are dropped, and the threads end. The drop **blocks** until then, for at most
/// [`ExecutorBuilder::drop_deadline`](crate::ExecutorBuilder::drop_deadline). On a thread of its
/// own crew it does not block, and the crew ends after that thread's turn.
///
/// To have all messages handled first, call [`shutdown`](Self::shutdown). An async task must not
/// block: it calls [`shutdown_async`](Self::shutdown_async) or
/// [`shutdown_now_async`](Self::shutdown_now_async), which take the executor and leave nothing to
/// drop. (A task that is cancelled drops what it owns. So let `main` own the executor, and give
/// tasks [handles](Handle).)
///
/// ```
/// use heist::Executor;
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let executor = Executor::new();
/// // ... spawn, tell, ask ...
/// let report = executor.shutdown(Duration::from_secs(10))?;
/// assert!(report.complete);
/// # Ok(())
/// # }
/// ```
#[doc(alias("System", "ActorSystem", "Runtime", "ThreadPool", "scheduler"))]
#[must_use = "dropping an executor ends its actors"]
pub struct Executor {
    handle: Handle,
    /// Disconnected when the last worker has gone. Not dropped in a forked child, where the channel
    /// may be locked for ever.
    pub(super) gone: ManuallyDrop<Receiver<Infallible>>,
    drop_deadline: Duration,
}

impl Executor {
    pub(super) fn from_core(
        core: Arc<Core>,
        gone: Receiver<Infallible>,
        drop_deadline: Duration,
    ) -> Self {
        Executor { handle: Handle::new(core), gone: ManuallyDrop::new(gone), drop_deadline }
    }

    /// Returns a handle, for threads and actors that do not own the executor.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Ends a crew that was never complete. Its threads have no work, so they end at once.
    pub(super) fn abandon_crew(self, within: Duration) {
        let _nobody_is_there = self.core().close_all(true, None);
        let _all_have_exited = self.core().threads.join_all(time::instant_after(within));
    }
}

impl Deref for Executor {
    type Target = Handle;
    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        if self.core().is_forked() {
            // In a forked child the threads do not exist, and their locks may be held for ever.
            return;
        }
        // Also true while a thread of the crew runs the destructors of its thread-locals.
        if self.core().ends_after_this_thread() {
            // A worker cannot wait for itself. The crew ends by itself, after this turn.
            self.core().start_draining();
            let _all_of_them = self.core().close_all(true, None);
        } else {
            let begun = time::now();
            // A worker of another executor without a spare blocks all the same, until the deadline.
            let _recorded = self.end_crew(begun, self.drop_deadline, true, Blocking::at_any_rate());
        }
        // SAFETY: this is the drop of `self`, so the field is not used afterwards and is dropped
        // once.
        unsafe { ManuallyDrop::drop(&mut self.gone) };
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor").field("handle", &self.handle).finish_non_exhaustive()
    }
}

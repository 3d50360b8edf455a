//! The executor, which owns the crew.

use super::builder::Builder;
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

/// A crew of worker threads that runs actors. Programs begin with one.
///
/// Several executors may live in one process, independently. A forgotten one ([`std::mem::forget`])
/// goes on until the process ends. An executor dereferences to its [`Handle`], which spawns and
/// waits.
///
/// **Dropping an executor stops it now**: waiting messages become dead letters, `stopped` hooks
/// run, states are dropped, and the threads end. The drop **blocks** meanwhile, for at most
/// [`Builder::drop_deadline`]. To have every message handled first, call
/// [`shutdown`](Self::shutdown). In an async task, which should not block, call
/// [`shutdown_async`](Self::shutdown_async) or [`shutdown_now_async`](Self::shutdown_now_async);
/// both take the executor and leave nothing to drop. (A cancelled task drops everything it owns.
/// Let `main` own the executor, and give tasks [handles](Handle).)
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
pub struct Executor {
    handle: Handle,
    /// Disconnected when the last worker has gone. Not dropped in a forked child, where the channel
    /// may be locked for ever.
    pub(super) gone: ManuallyDrop<Receiver<Infallible>>,
    drop_deadline: Duration,
}

impl Executor {
    /// Makes an executor with a worker for each CPU that this process may use, and default
    /// settings.
    ///
    /// # Panics
    /// Panics if the threads cannot be started. [`Builder::build`] returns an error instead.
    #[must_use]
    pub fn new() -> Self {
        match Self::builder().build() {
            Ok(executor) => executor,
            Err(error) => panic!("{error}"),
        }
    }

    /// Begins an executor with other settings.
    pub fn builder<'a>() -> Builder<'a> {
        Builder::new()
    }

    pub(super) fn assemble(core: Arc<Core>, gone: Receiver<Infallible>, drop_deadline: Duration) -> Self {
        Executor { handle: Handle::new(core), gone: ManuallyDrop::new(gone), drop_deadline }
    }

    /// Returns a handle, for threads and actors that do not own the executor.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Ends a crew that was never complete. Its threads have no work, so they end at once.
    pub(super) fn abandon(self, within: Duration) {
        let _nobody_is_there = self.core().close_all(true, None);
        let _all_have_exited = self.core().threads.join(time::after(within));
    }
}

impl Default for Executor {
    fn default() -> Self {
        Self::new()
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
        if self.core().forked() {
            // In a forked child the threads do not exist, and their locks may be held for ever.
            return;
        }
        if self.core().ends_after_this_thread() {
            // A worker cannot wait for itself. The crew ends by itself, after this turn.
            self.core().start_draining();
            let _all_of_them = self.core().close_all(true, None);
        } else {
            // A worker of another executor without a spare blocks all the same, until the deadline.
            let _recorded = self.end(self.drop_deadline, true, Blocking::at_any_rate());
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

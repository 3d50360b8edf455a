//! The crew's threads, and their start.

use super::worker::WorkerThread;
use crate::cell::core::Core;
use crate::cell::event::Event;
use crate::sched::Arrival;
use crate::sched::spares::Spare;
use crate::sync::{AtomicUsize, Ordering::Relaxed};
use crate::user::{self, Site};
use crossbeam_channel::Sender;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;

/// A user's function that starts spares.
pub(super) type SpareHandler = Box<dyn Fn(WorkerThread) -> io::Result<()> + Send + Sync>;

/// State held by each thread of a crew: the core, and what is needed to start another thread.
pub(super) struct Recruiter {
    pub(super) core: Arc<Core>,
    pub(super) name: String,
    pub(super) stack_size: usize,
    pub(super) handler: Option<SpareHandler>,
    /// Number of spares started so far.
    pub(super) spares: AtomicUsize,
    /// Never sent on. The channel is disconnected when the last thread has ended. A thread started
    /// by heist holds a copy until its thread-locals are gone. A thread started by a handler holds
    /// this one until `run` returns. The last field, so that everything else is dropped before.
    pub(super) alive: Sender<Infallible>,
}

impl Recruiter {
    /// Runs a thread of the crew until it ends.
    pub(super) fn work(self: &Arc<Self>, arrival: Arrival) {
        if self.core.work(arrival, &|spare| self.recruit(spare)) {
            // The hook may try to wait for the crew's end, which comes after this thread's. While
            // enlisted, the thread counts as the crew's, so the wait is refused.
            let _of_the_crew = self.core.scheduler.enter_dedicated();
            self.core.emit(|| Event::SpareEnded { spares: self.core.scheduler.spares.alive() });
        }
    }

    /// Starts a thread for a spare. Returns `false` if there is no thread.
    fn recruit(self: &Arc<Self>, spare: Arc<Spare>) -> bool {
        // Numbers are never reused, so two spares of one executor never share a name.
        let number = self.spares.fetch_add(1, Relaxed);
        let thread = WorkerThread::for_spare(number, Arc::clone(&spare), Arc::clone(self));
        let started = user::guard(Site::Handler, || match &self.handler {
            Some(handler) => handler(thread),
            None => thread.spawn(),
        });
        let error = match started {
            // A handler may return `Ok` and drop the thread unrun; then the spare is lost.
            Ok(Ok(())) if !spare.is_lost() => {
                self.core.emit(|| Event::SpareStarted { spares: self.core.scheduler.spares.alive() });
                return true;
            }
            Ok(Ok(())) => "the spare handler gave it up".to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic.to_string(),
        };
        self.core.emit(|| Event::SpareFailed { error });
        false
    }
}

/// Runs when the crew has ended: no thread is left that could work, or start another one.
impl Drop for Recruiter {
    fn drop(&mut self) {
        // A forked child may have the last reference to its copy, and leaves the copy's locks
        // alone.
        if !self.core.forked() {
            // Here and not in the core's drop, since the hook may hold a reference to the core.
            self.core.let_go_of_hook();
        }
    }
}

impl fmt::Debug for Recruiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recruiter").field("name", &self.name).finish_non_exhaustive()
    }
}

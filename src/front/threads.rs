//! The crew's threads, and how they are started.

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

/// Starts spares in a way of the user's own.
pub(super) type SpareHandler = Box<dyn Fn(WorkerThread) -> io::Result<()> + Send + Sync>;

/// What each thread of a crew holds: the core, and what it takes to start another one.
pub(super) struct Recruiter {
    pub(super) core: Arc<Core>,
    pub(super) name: String,
    pub(super) stack_size: usize,
    pub(super) handler: Option<SpareHandler>,
    /// Spares so far.
    pub(super) spares: AtomicUsize,
    /// Never sent on: the channel is disconnected when the last thread has ended. A thread that heist starts holds a copy
    /// until its thread-locals are gone; one that a handler started holds this, until its `run` returns. The last field,
    /// so that everything else is dropped by then.
    pub(super) alive: Sender<Infallible>,
}

impl Recruiter {
    /// A thread's life in the crew.
    pub(super) fn work(self: &Arc<Self>, arrival: Arrival) {
        if self.core.work(arrival, &|spare| self.recruit(spare)) {
            // The hook may try to wait for the crew's end, which comes after this thread's.
            let _of_the_crew = self.core.scheduler.enlist_apart();
            self.core.emit(|| Event::SpareEnded { spares: self.core.scheduler.spares.alive() });
        }
    }

    /// Starts a thread for a spare.
    fn recruit(self: &Arc<Self>, spare: Arc<Spare>) -> bool {
        let number = self.spares.fetch_add(1, Relaxed);
        let thread = WorkerThread::for_spare(number, Arc::clone(&spare), Arc::clone(self));
        let started = user::guard(Site::Handler, || match &self.handler {
            Some(handler) => handler(thread),
            None => thread.spawn(),
        });
        let error = match started {
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

/// The crew has ended: no thread of it is left that could work, or start another one.
impl Drop for Recruiter {
    fn drop(&mut self) {
        self.core.let_go_of_hook();
    }
}

impl fmt::Debug for Recruiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recruiter").field("name", &self.name).finish_non_exhaustive()
    }
}

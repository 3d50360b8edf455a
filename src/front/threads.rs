//! The crew's threads: how they are started, and how they are waited for.

use super::builder::WorkerThread;
use crate::cell::core::Core;
use crate::cell::event::Event;
use crate::panics;
use crate::sched::Arrival;
use crate::sched::spares::Spare;
use crate::sync::{AtomicUsize, Mutex, Ordering::Relaxed};
use crossbeam_channel::Sender;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::mem;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// Starts spares in a way of the user's own.
pub(super) type SpareHandler = Box<dyn Fn(WorkerThread) -> io::Result<()> + Send + Sync>;

/// What each thread of a crew holds: the core, and what it takes to start another one.
pub(super) struct Recruiter {
    pub(super) core: Arc<Core>,
    pub(super) name: String,
    pub(super) stack_size: Option<usize>,
    pub(super) handler: Option<SpareHandler>,
    pub(super) threads: Arc<Threads>,
    /// Spares so far.
    pub(super) spares: AtomicUsize,
    /// Never sent on: the channel is disconnected when the last thread has gone. The last field, so that everything
    /// else is dropped by then.
    pub(super) _alive: Sender<Infallible>,
}

impl Recruiter {
    /// A thread's life in the crew.
    pub(super) fn work(self: &Arc<Self>, arrival: Arrival) {
        if self.core.work(arrival, &|spare| self.recruit(spare)) {
            self.threads.leave();
            self.core.emit(|| Event::SpareEnded { spares: self.core.scheduler.spares.alive() });
        }
    }

    /// Starts a thread for a spare.
    fn recruit(self: &Arc<Self>, spare: Arc<Spare>) -> bool {
        let number = self.spares.fetch_add(1, Relaxed);
        let thread = WorkerThread::for_spare(number, Arc::clone(&spare), Arc::clone(self));
        let started = panics::guard(|| match &self.handler {
            Some(handler) => handler(thread),
            None => thread.spawn().map(|thread| self.threads.add(thread)),
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

impl fmt::Debug for Recruiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recruiter").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The threads that were started here, to be joined.
#[derive(Debug, Default)]
pub(super) struct Threads(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    running: Vec<JoinHandle<()>>,
    /// The last one that ended before the crew did: a thread that was not joined keeps its stack.
    ended: Option<JoinHandle<()>>,
}

impl Threads {
    pub(super) fn add(&self, thread: JoinHandle<()>) {
        self.0.lock().running.push(thread);
    }

    /// The calling thread ends, before the crew does: whoever ends next joins it.
    fn leave(&self) {
        let me = thread::current().id();
        let mut list = self.0.lock();
        let Some(place) = list.running.iter().position(|thread| thread.thread().id() == me) else { return };
        let own = list.running.swap_remove(place);
        let before = list.ended.replace(own);
        drop(list);
        before.map(JoinHandle::join);
    }

    /// Waits for all, which are about to end.
    pub(super) fn join(&self) {
        let List { running, ended } = mem::take(&mut *self.0.lock());
        for thread in running.into_iter().chain(ended) {
            let _its_panic_was_printed = thread.join();
        }
    }
}

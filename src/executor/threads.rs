//! The crew's threads: how they are recruited and started, and what a spawn handler gets of them.

use crate::cell::core::Core;
use crate::cell::event::Event;
use crate::cell::hook::HooksAside;
use crate::drops::{self, DropsAside};
use crate::sched::crew_thread;
use crate::sched::crew_thread::Arrival;
use crate::sched::scheduler::WorkerInit;
use crate::sched::spares::Spare;
use crate::sync::{AtomicUsize, Ordering::Relaxed};
use crate::user::{self, Site};
use crossbeam_channel::Sender;
use std::convert::Infallible;
use std::error::Error;
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
    pub(super) spare_handler: Option<SpareHandler>,
    /// Number of spares started so far.
    pub(super) spares: AtomicUsize,
    /// Never sent on. The channel is disconnected when the last thread has ended. A thread started
    /// by heist holds a copy until its thread-locals are gone. A thread started by a handler holds
    /// this one until `run` returns. The last field, so that everything else is dropped before.
    pub(super) alive: Sender<Infallible>,
}

impl Recruiter {
    /// Runs a thread of the crew until it ends.
    pub(super) fn work_until_end(self: &Arc<Self>, arrival: Arrival) {
        if self.core.run_thread(arrival, &|spare| self.recruit_spare(spare)) {
            // The hook may try to wait for the crew's end, which comes after this thread's. While
            // enlisted, the thread counts as the crew's, so the wait is refused.
            let _of_the_crew = self.core.scheduler.enter_dedicated();
            self.core.emit_event(|| Event::SpareEnded {
                spares: self.core.scheduler.spares.alive_threads(),
            });
        }
    }

    /// Starts a thread for a spare. Returns `false` if there is no thread.
    fn recruit_spare(self: &Arc<Self>, spare: Arc<Spare>) -> bool {
        // Numbers are never reused, so two spares of one executor never share a name.
        let number = self.spares.fetch_add(1, Relaxed);
        let thread = WorkerThread::for_spare(number, Arc::clone(&spare), Arc::clone(self));
        let started = user::run_guarded(Site::Handler, || match &self.spare_handler {
            Some(handler) => handler(thread),
            None => thread.spawn_thread(),
        });
        let error = match started {
            // A handler may return `Ok` and drop the thread unrun; then the spare is lost. A thread
            // dropped after this step is replaced.
            Ok(Ok(())) if spare.start.count_on() => {
                let core = Arc::clone(&self.core);
                self.tell_soon(move || Event::SpareStarted {
                    spares: core.scheduler.spares.alive_threads(),
                });
                return true;
            }
            Ok(Ok(())) => "the spare handler gave it up".to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic.to_string(),
        };
        // The handler may have passed the thread on before it failed.
        let given_up = spare.start.give_up();
        debug_assert!(given_up, "only this thread counts on it");
        self.tell_soon(|| Event::SpareFailed { error });
        false
    }
}

impl Recruiter {
    /// Tells the hook by an errand. The calling thread is about to block, perhaps with a deadline,
    /// and the hook may take its time.
    fn tell_soon(&self, event: impl FnOnce() -> Event + Send + 'static) {
        if self.core.has_hook() {
            let core = Arc::clone(&self.core);
            self.core.scheduler.run_as_errand(Site::Hook, move || core.emit_event(event));
        }
    }
}

/// Runs when the crew has ended: no thread is left that could work, or start another one.
impl Drop for Recruiter {
    fn drop(&mut self) {
        // Each may own its executor. Dropped as in a turn, that executor does not wait for the
        // crew, of which this thread is the last.
        let _of_the_crew = self.core.scheduler.enter_dedicated();
        // A forked child may have the last reference to its copy, and leaves the copy's locks
        // alone.
        if !self.core.is_forked() {
            // Here and not in the core's drop, since the hook may hold a reference to the core.
            self.core.let_go_of_hook();
        }
        // Taken out, since a panic of a field's drop would leave `run` and its thread.
        let handler = self.spare_handler.take();
        drops::run_or_put_off(move || user::run_contained(Site::Drop, || drop(handler)));
    }
}

impl fmt::Debug for Recruiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recruiter").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The work of one thread of an executor, to be run on a thread that the program starts. See
/// [`ExecutorBuilder::spawn_handler`](crate::ExecutorBuilder::spawn_handler) and
/// [`ExecutorBuilder::spare_handler`](crate::ExecutorBuilder::spare_handler).
///
/// Dropping a worker without running it makes
/// [`ExecutorBuilder::build`](crate::ExecutorBuilder::build) fail, and dropping a spare inside its
/// handler counts as a failed start. Once the crew counts on the thread, heist starts a thread of
/// its own in the place of one that is dropped, since work would wait for ever otherwise. After
/// [`std::mem::forget`] the crew lacks the thread without an error: work for
/// that worker waits for ever, and a shutdown waits until the deadline.
#[must_use = "a worker without a thread is missing in its crew"]
pub struct WorkerThread {
    name: String,
    index: usize,
    /// Gets an error if the thread cannot be pinned. Dropped once the thread is pinned.
    begun: Option<Sender<io::Error>>,
    arrival: Option<Arrival>,
    recruiter: Arc<Recruiter>,
    /// Whether this takes the place of a thread that was dropped.
    replaces: bool,
}

impl WorkerThread {
    pub(super) fn for_worker(
        seat: WorkerInit,
        begun: Option<Sender<io::Error>>,
        recruiter: Arc<Recruiter>,
    ) -> Self {
        let index = seat.index();
        let arrival = Some(Arrival::Worker(seat));
        let name = format!("{}-{index}", recruiter.name);
        WorkerThread { name, index, begun, arrival, recruiter, replaces: false }
    }

    pub(super) fn for_spare(number: usize, spare: Arc<Spare>, recruiter: Arc<Recruiter>) -> Self {
        let index = recruiter.core.workers() + number;
        let arrival = Some(Arrival::Spare(spare));
        let name = format!("{}-spare-{number}", recruiter.name);
        WorkerThread { name, index, begun: None, arrival, recruiter, replaces: false }
    }

    /// Returns 0, 1 and so on: first the workers, then the spares in the order in which they are
    /// started.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Returns `true` for a spare, and `false` for a worker that the crew begins with.
    #[must_use]
    pub fn is_spare(&self) -> bool {
        matches!(self.arrival, Some(Arrival::Spare(_)))
    }

    /// Returns the name that the thread should have.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the stack size that the thread should have, in bytes: see
    /// [`ExecutorBuilder::stack_size`](crate::ExecutorBuilder::stack_size).
    #[must_use]
    pub fn stack_size(&self) -> usize {
        self.recruiter.stack_size
    }

    /// Works until the executor has shut down, or until this thread has been a spare that was not
    /// needed for [`ExecutorBuilder::spare_keep_alive`](crate::ExecutorBuilder::spare_keep_alive).
    ///
    /// If the crew is [pinned](crate::ExecutorBuilder::pin_workers), the calling thread is pinned
    /// to the slot's core, again with each new slot. If the first pinning fails this returns at
    /// once, and [`ExecutorBuilder::build`](crate::ExecutorBuilder::build) fails.
    ///
    /// # Errors
    /// Fails in a forked child, and if the calling thread works for an executor already: inside a
    /// handler, a hook or a waker that a worker runs. The worker comes back inside the error, to be
    /// run on another thread.
    pub fn run(self) -> Result<(), RunError> {
        let forked = self.recruiter.core.is_forked();
        // A thread works for one crew at a time: its thread-locals name a single worker.
        if forked || crew_thread::works_already() {
            return Err(RunError { worker: Box::new(self), forked });
        }
        // The caller may be a destructor that heist calls, or a hook. Set aside until the last of
        // this crew is dropped, which `worker` may hold.
        let _aside = (DropsAside::set_aside(), HooksAside::set_aside());
        let mut worker = self;
        if let Some(begun) = worker.begun.take()
            && let Err(error) = worker.recruiter.core.scheduler.slots[worker.index].pin_here()
        {
            let _nobody_waits_any_more = begun.send(error);
            // The slot is lost, and `build` fails.
            return Ok(());
        }
        let arrival = worker.arrival.take().expect("taken only here and in the drop");
        if matches!(&arrival, Arrival::Spare(spare) if spare.start.is_given_up()) {
            // The handler failed after it had passed the thread on, so no slot is left to it.
            return Ok(());
        }
        worker.recruiter.work_until_end(arrival);
        Ok(())
    }

    /// Returns this thread's work for another thread, with the same name.
    fn replace_by(&self, arrival: Arrival) -> Self {
        WorkerThread {
            name: self.name.clone(),
            index: self.index,
            begun: None,
            arrival: Some(arrival),
            recruiter: Arc::clone(&self.recruiter),
            replaces: true,
        }
    }

    pub(super) fn spawn_thread(self) -> io::Result<()> {
        let core = Arc::clone(&self.recruiter.core);
        let (name, stack_size) = (self.name.clone(), self.stack_size());
        // A copy that outlives `run`: the thread's destructors count as the crew's.
        let alive = self.recruiter.alive.clone();
        let theirs = Arc::clone(&core);
        core.threads.start_thread(name, stack_size, alive, move || {
            let ran = self.run();
            debug_assert!(ran.is_ok(), "a new thread has no other work");
            theirs.threads.mark_exiting();
        })
    }
}

impl Drop for WorkerThread {
    fn drop(&mut self) {
        // Taken by `run`, unless that was never called or pinning failed.
        let Some(arrival) = self.arrival.take() else { return };
        let core = &self.recruiter.core;
        // In a forked child there is no crew that could lack a thread.
        if core.is_forked() {
            return;
        }
        let is_worker = matches!(arrival, Arrival::Worker(_));
        let start = match &arrival {
            Arrival::Worker(_) => &core.start,
            Arrival::Spare(spare) => &spare.start,
        };
        let counted_on = !start.give_up();
        // Without a thread the slot's work would wait for ever, and so would a shutdown. A second
        // failure is the system's, and would only repeat itself.
        if counted_on && !self.replaces {
            let error = match self.replace_by(arrival).spawn_thread() {
                Ok(()) => "a thread was given up, and heist has started another".to_string(),
                Err(error) => error.to_string(),
            };
            if !is_worker {
                self.recruiter.core.emit_event(|| Event::SpareFailed { error });
            }
        }
    }
}

impl fmt::Debug for WorkerThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerThread").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A [`WorkerThread`] that did not run, and the reason.
pub struct RunError {
    worker: Box<WorkerThread>,
    forked: bool,
}

impl RunError {
    /// Returns the worker, to be run on another thread. See [`WorkerThread`] for what a drop does.
    pub fn into_worker(self) -> WorkerThread {
        *self.worker
    }
}

impl fmt::Debug for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RunError").field(&self.worker).finish()
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {} not run: ", self.worker.name)?;
        f.write_str(if self.forked {
            "the process was forked since the executor was made"
        } else {
            "the calling thread works for an executor already; run it on a thread of its own"
        })
    }
}

impl Error for RunError {}

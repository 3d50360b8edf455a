//! Start of an executor: validation of the settings, and the start of the crew.

use super::{DEFAULT_CAPACITY, ExecutorBuilder};
use crate::cell::core::{self, Core};
use crate::cell::event::Event;
use crate::cell::hook::Hook;
use crate::cell::threads::DedicatedSettings;
use crate::cores::Cores;
use crate::executor::Executor;
use crate::executor::error::BuildError;
use crate::executor::threads::{Recruiter, WorkerThread};
use crate::mailbox::state::MAX_LEN;
use crate::sched::idle::MAX_WORKERS;
use crate::sched::scheduler::WorkerInit;
use crate::sched::spares::{MAX_SPARES, Spares};
use crate::sync::AtomicUsize;
use crate::time::Duration;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::error::Error;
use std::io;
use std::sync::Arc;

/// See [`ExecutorBuilder::max_spares`].
const DEFAULT_SPARES: usize = 64;
/// Each thread of a pinned crew must begin within this time. Otherwise the spawn handler keeps a
/// worker for later.
const BEGIN_DEADLINE: Duration = Duration::from_secs(10);

impl Executor {
    /// Starts an executor with default settings: a worker for each processor that this process may
    /// use.
    ///
    /// # Panics
    /// Panics if the threads cannot be started; [`ExecutorBuilder::build`] returns that as an
    /// error.
    #[track_caller]
    pub fn new() -> Self {
        match Self::builder().build() {
            Ok(executor) => executor,
            // A panic shows no sources, so the text has the system's own reason too.
            Err(error) => match error.source() {
                Some(source) => panic!("{error}: {source}"),
                None => panic!("{error}"),
            },
        }
    }

    /// Begins an executor with settings of its own.
    pub fn builder<'a>() -> ExecutorBuilder<'a> {
        ExecutorBuilder::new()
    }
}

impl Default for Executor {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

impl ExecutorBuilder<'_> {
    /// Starts the crew.
    ///
    /// # Errors
    /// Fails if a setting is zero or too large, if two contradict each other, if the calling thread
    /// may not use a core of the list, or if a thread cannot be started or pinned. Threads that
    /// heist had started by then have ended, or have not within 10 s.
    pub fn build(mut self) -> Result<Executor, BuildError> {
        let pinned = self.cores.as_ref().map(Vec::len);
        // The list of cores names the crew's size, unless `workers` does too; then both must agree.
        let workers = self.workers.or(pinned).unwrap_or_else(num_cpus::get);
        if !(1..=MAX_WORKERS).contains(&workers) {
            return Err(BuildError::Workers(workers));
        }
        let cores = self.cores.take().unwrap_or_default();
        let mut allowed = None;
        if let Some(pinned) = pinned {
            if pinned != workers {
                return Err(BuildError::CoresAndWorkers { cores: pinned, workers });
            }
            let allowed = allowed.insert(Cores::of_this_thread().map_err(BuildError::Pin)?);
            // Checked here, on the building thread: a core outside the mask would only fail later,
            // on the worker's own thread.
            if let Some(&core) = cores.iter().find(|&&core| !allowed.contains(core)) {
                return Err(BuildError::Core(core));
            }
        }
        let capacity = match (self.capacity, self.unbounded) {
            (Some(_), true) => return Err(BuildError::BoundedAndUnbounded),
            (None, true) => MAX_LEN,
            (capacity, false) => match u32::try_from(capacity.unwrap_or(DEFAULT_CAPACITY)) {
                // `MAX_LEN` itself means "unbounded", so it is no capacity.
                Ok(capacity @ 1..MAX_LEN) => capacity,
                _ => return Err(BuildError::Capacity(capacity.unwrap_or_default())),
            },
        };
        if self.limits.messages == 0 || self.limits.time.is_zero() {
            return Err(BuildError::Budget);
        }
        if self.stack_size == 0 {
            return Err(BuildError::StackSize);
        }
        if self.thread_name.contains('\0') {
            return Err(BuildError::ThreadName);
        }
        // A caller with a way of its own to start threads must not find threads that were started
        // otherwise.
        let nobody_starts_them = self.spawn_handler.is_some() && self.spare_handler.is_none();
        let spares = match self.spares {
            Some(1..) if nobody_starts_them => return Err(BuildError::SparesWithoutHandler),
            Some(spares) if spares > MAX_SPARES => return Err(BuildError::Spares(spares)),
            Some(spares) => spares,
            None if nobody_starts_them => 0,
            None => DEFAULT_SPARES,
        };
        let spares = Spares::new(spares, self.spare_keep_alive);
        let hook = join_hooks(self.hook.take(), self.events.take());
        let (core, seats) = Core::new(core::CoreSettings {
            workers,
            policy: self.policy,
            cores: &cores,
            capacity,
            limits: self.limits,
            spares,
            timing: self.timing,
            hook,
        });
        self.start_crew(core, seats, allowed)
    }

    fn start_crew(
        mut self,
        core: Arc<Core>,
        seats: Vec<WorkerInit>,
        pinned: Option<Cores>,
    ) -> Result<Executor, BuildError> {
        // Nothing is sent on this channel. The disconnection tells `shutdown` that the last thread
        // is gone, and can be waited for with a deadline.
        let (alive, gone) = crossbeam_channel::bounded(0);
        // Assembled before any thread is started, and declared before all that keeps the channel
        // connected. So a panic of the spawn handler, or of its drop, ends the threads started by
        // then.
        let executor = Executor::from_core(Arc::clone(&core), gone, self.drop_deadline);
        core.dedicated.accept_threads(DedicatedSettings {
            name: self.thread_name.clone(),
            stack_size: self.stack_size,
            cores: pinned.clone(),
            alive: alive.clone(),
        });
        let recruiter = Arc::new(Recruiter {
            core: Arc::clone(&core),
            name: self.thread_name,
            stack_size: self.stack_size,
            spare_handler: self.spare_handler.take(),
            spares: AtomicUsize::new(0),
            alive,
        });
        let (begun, begins) = crossbeam_channel::unbounded();
        let mut outcome = Ok(());
        for seat in seats {
            let begun = pinned.is_some().then(|| begun.clone());
            let worker = WorkerThread::for_worker(seat, begun, Arc::clone(&recruiter));
            outcome = match &mut self.spawn_handler {
                Some(handler) => handler(worker),
                None => worker.spawn_thread(),
            };
            if outcome.is_err() {
                break;
            }
        }
        // The threads keep these from now on, so the channels end with the last thread.
        drop((recruiter, begun, core));
        drop(self.spawn_handler.take());
        match outcome {
            Err(error) => {
                executor.abandon_crew(BEGIN_DEADLINE);
                Err(BuildError::Thread(error))
            }
            Ok(()) => match not_begun(executor.core(), pinned.is_some(), &begins) {
                Some(error) => {
                    executor.abandon_crew(BEGIN_DEADLINE);
                    Err(error)
                }
                None => Ok(executor),
            },
        }
    }
}

/// Returns the reason why a crew with all its threads handed out has not begun, if there is one.
fn not_begun(core: &Core, pinned: bool, begins: &Receiver<io::Error>) -> Option<BuildError> {
    // Disconnected once each worker has been pinned, or given up.
    let first = if pinned {
        begins.recv_timeout(BEGIN_DEADLINE)
    } else {
        Err(RecvTimeoutError::Disconnected)
    };
    match first {
        Ok(error) => Some(BuildError::Pin(error)),
        Err(RecvTimeoutError::Timeout) => Some(BuildError::ThreadLost),
        Err(RecvTimeoutError::Disconnected) => {
            (!core.start.count_on()).then_some(BuildError::ThreadLost)
        }
    }
}

fn join_hooks(hook: Option<Hook>, events: Option<Sender<Event>>) -> Option<Hook> {
    match (hook, events) {
        (hook, None) => hook,
        (hook, Some(events)) => Some(Box::new(move |event| {
            let _lost_if_full = events.try_send(event.clone());
            if let Some(hook) = &hook {
                hook(event);
            }
        })),
    }
}

//! Builder of an executor: its settings. `start` validates them and starts the crew.

mod start;

use crate::cell::core::Limits;
use crate::cell::event::Event;
use crate::cell::hook::Hook;
use crate::executor::events::Events;
use crate::executor::threads::{SpareHandler, WorkerThread};
use crate::sched::queue::Policy;
use crate::time::Duration;
use crossbeam_channel::Sender;
use std::fmt;
use std::io;

/// The default capacity of a mailbox: 1,024 messages.
///
/// A burst of a thousand messages (a page of rows, a batch of events) passes without a refusal, and
/// a sender that waits for room is woken for hundreds of messages at a time. An actor that cannot
/// keep up refuses messages while its backlog is still some 100 kB large and, at a microsecond a
/// message, a millisecond old. Nothing is allocated in advance.
pub const DEFAULT_CAPACITY: usize = 1024;

/// The default stack size of the crew's threads: 8 MiB, on 32-bit targets 2 MiB.
pub const DEFAULT_STACK_SIZE: usize = if size_of::<usize>() < 8 { 2 << 20 } else { 8 << 20 };

/// Default budget of a turn. In practice the time ends long turns; see
/// `docs/decisions/03-turns-and-budgets.md`.
const DEFAULT_LIMITS: Limits = Limits { messages: 4096, time: Duration::from_micros(100) };
const DEFAULT_SPARE_STAY: Duration = Duration::from_secs(5);
const DEFAULT_DROP_DEADLINE: Duration = Duration::from_secs(5);

type SpawnHandler<'a> = Box<dyn FnMut(WorkerThread) -> io::Result<()> + 'a>;

/// Settings for an [`Executor`](crate::Executor).
///
/// ```
/// use heist::{Executor, Policy};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let executor = Executor::builder()
///     .workers(2)
///     .thread_name("simulation")
///     .capacity(100)
///     .on_event(|event| eprintln!("{event}"))
///     .build()?;
/// assert_eq!(executor.workers(), 2);
///
/// let error = Executor::builder().workers(0).build().unwrap_err();
/// assert_eq!(error.to_string(), "executor not built: it needs 1 to 4096 workers, not 0");
/// # Ok(())
/// # }
/// ```
#[must_use = "an executor exists once `build` was called"]
pub struct ExecutorBuilder<'a> {
    workers: Option<usize>,
    cores: Option<Vec<usize>>,
    thread_name: String,
    stack_size: usize,
    spawn_handler: Option<SpawnHandler<'a>>,
    spares: Option<usize>,
    spare_keep_alive: Duration,
    spare_handler: Option<SpareHandler>,
    capacity: Option<usize>,
    unbounded: bool,
    limits: Limits,
    timing: bool,
    policy: Policy,
    drop_deadline: Duration,
    hook: Option<Hook>,
    events: Option<Sender<Event>>,
}

impl<'a> ExecutorBuilder<'a> {
    pub(crate) fn new() -> Self {
        ExecutorBuilder {
            workers: None,
            cores: None,
            thread_name: "heist".to_string(),
            stack_size: DEFAULT_STACK_SIZE,
            spawn_handler: None,
            spares: None,
            spare_keep_alive: DEFAULT_SPARE_STAY,
            spare_handler: None,
            capacity: None,
            unbounded: false,
            limits: DEFAULT_LIMITS,
            timing: false,
            policy: Policy::Stealing,
            drop_deadline: DEFAULT_DROP_DEADLINE,
            hook: None,
            events: None,
        }
    }

    /// Sets the number of workers: 1 to 4,096. Default: the number of processors available to this
    /// process, by affinity mask and cgroup quota.
    #[doc(alias("worker_threads", "num_threads"))]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Pins the workers: worker 0 to the first core of the list, worker 1 to the second, and so on.
    /// The crew has as many workers as the list has cores. A core is named by the system's number
    /// for it, and may be named more than once. Linux only. Default: the system places the threads.
    ///
    /// A pinned worker waits for its core while the core is busy with something else. Siblings
    /// steal its work, except for actors [pinned](crate::SpawnBuilder::on_worker) to the worker.
    /// [`build`](Self::build) returns once all workers are pinned, so a
    /// [`spawn_handler`](Self::spawn_handler) must have run each worker by then.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use heist::{BuildError, Executor};
    ///
    /// match Executor::builder().pin_workers([0, 1]).build() {
    ///     Ok(executor) => assert_eq!(executor.workers(), 2),
    ///     // Not on this machine, or not for this process: `taskset`, a container.
    ///     Err(error) => assert!(matches!(error, BuildError::Core(0 | 1))),
    /// }
    /// # }
    /// ```
    #[doc(alias("affinity", "core_ids"))]
    pub fn pin_workers(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.cores = Some(cores.into_iter().collect());
        self
    }

    /// Sets what the threads' names begin with; `-0`, `-1` and so on follow. Default: `heist`.
    pub fn thread_name(mut self, prefix: impl Into<String>) -> Self {
        self.thread_name = prefix.into();
        self
    }

    /// Sets the stack size of workers, spares and [dedicated](crate::Handle::spawn_dedicated)
    /// threads in bytes. Default: [`DEFAULT_STACK_SIZE`], 8 MiB (on 32-bit targets 2 MiB).
    ///
    /// A stack takes address space, and memory only as far down as a handler has ever come. So the
    /// default is what systems give the main thread of a program, and not the 2 MiB of the standard
    /// library.
    ///
    /// # Limits
    /// A handler, message or state that needs more stack than there is ends the process, as
    /// anywhere in Rust. The default is enough for messages and states of up to 512 KiB, in debug
    /// builds too. Send a larger one in a [`Box`].
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = bytes;
        self
    }

    /// Sets a function that starts the workers' threads. [`build`](Self::build) calls `handler`
    /// once for each worker. The handler must have [`WorkerThread::run`] called on a thread that
    /// does nothing else. Spares are started by a [`spare_handler`](Self::spare_handler), or not at
    /// all.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let executor = heist::Executor::builder()
    ///     .workers(2)
    ///     .spawn_handler(|worker| {
    ///         let thread = std::thread::Builder::new().name(format!("mine {}", worker.index()));
    ///         thread.spawn(|| worker.run())?;
    ///         Ok(())
    ///     })
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn spawn_handler(
        mut self,
        handler: impl FnMut(WorkerThread) -> io::Result<()> + 'a,
    ) -> Self {
        self.spawn_handler = Some(Box::new(handler));
        self
    }

    /// Sets the most spare threads, 0 to 4,096. Default: 64; none with a
    /// [`spawn_handler`](Self::spawn_handler) and no [`spare_handler`](Self::spare_handler).
    ///
    /// A spare takes over a worker's slot while the worker's thread blocks inside a handler or a
    /// hook: in [`blocking`](crate::blocking), in [`Ask::wait`](crate::Ask::wait), in
    /// [`ActorRef::send`](crate::ActorRef::send). A spare is started when it is first needed
    /// (`heist-spare-0`, `-1`, and so on), and ends when it has not been needed for
    /// [`spare_keep_alive`](Self::spare_keep_alive). The thread that had blocked is a spare
    /// afterwards: all threads are alike, and a name says how the thread began.
    ///
    /// # Limits
    /// As many handlers as there are spares can block at the same time at no cost to other actors.
    /// With no spare left, `blocking` and a wait keep their worker. The wait that would keep the
    /// last worker is refused ([`AskError::NoSpare`](crate::AskError::NoSpare)), since no thread
    /// would be left to run its target. Of 500 handlers that wait at the same time with 64 spares
    /// and 2 workers, 65 wait; the others are refused and get their asks back. Allow as many spares
    /// as handlers may wait at once, or ask by [`Context::ask_then`](crate::Context::ask_then),
    /// which blocks no thread. (A wait cannot queue for a spare: the last worker could then not run
    /// the actors that would free one.) A sleeping thread costs its stack, of which some 10 KiB are
    /// in memory.
    #[doc(alias = "max_blocking_threads")]
    pub fn max_spares(mut self, spares: usize) -> Self {
        self.spares = Some(spares);
        self
    }

    /// Sets how long a spare stays when it is not needed. Default: 5 s.
    #[doc(alias = "thread_keep_alive")]
    pub fn spare_keep_alive(mut self, stay: Duration) -> Self {
        self.spare_keep_alive = stay;
        self
    }

    /// Sets a function that starts spare threads, as [`spawn_handler`](Self::spawn_handler) starts
    /// the workers'. Called on a thread of the crew before that thread blocks, so the handler
    /// should not wait for anything: a timeout of that thread does not count the handler's time. If
    /// the handler fails or panics the event hook is [told](Event::SpareFailed), and no spare
    /// comes.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let executor = heist::Executor::builder()
    ///     .max_spares(4)
    ///     .spare_handler(|spare| {
    ///         let thread = std::thread::Builder::new().name(format!("mine, {}", spare.name()));
    ///         thread.spawn(|| spare.run())?;
    ///         Ok(())
    ///     })
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn spare_handler(
        mut self,
        handler: impl Fn(WorkerThread) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.spare_handler = Some(Box::new(handler));
        self
    }

    /// Sets how many messages may wait in a mailbox, unless an actor sets its own
    /// [capacity](crate::SpawnBuilder::capacity): 1 to 2^27 - 2. Default: [`DEFAULT_CAPACITY`].
    #[doc(alias = "mailbox")]
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = Some(messages);
        self
    }

    /// Makes mailboxes [unbounded](crate::SpawnBuilder::unbounded), unless an actor sets its own
    /// capacity. Contradicts [`capacity`](Self::capacity).
    pub fn unbounded(mut self) -> Self {
        self.unbounded = true;
        self
    }

    /// Sets the most messages in one turn, at least 1. Default: 4,096. (A turn never takes more
    /// messages than waited when it began.)
    #[doc(alias("throughput", "fairness", "budget", "reductions"))]
    pub fn budget_messages(mut self, messages: u32) -> Self {
        self.limits.messages = messages;
        self
    }

    /// Sets the time after which a turn ends, between two messages; more than zero. Default: 100
    /// µs.
    pub fn budget_time(mut self, time: Duration) -> Self {
        self.limits.time = time;
        self
    }

    /// Sets whether actors are timed, unless an actor sets its own
    /// [timing](crate::SpawnBuilder::timing). Times say how long messages wait and handlers take,
    /// for each actor ([`ActorRef::timing`](crate::ActorRef::timing)) and each worker
    /// ([`Stats`](crate::stats::Stats)), and which actors are the busiest
    /// ([`Handle::top`](crate::Handle::top)). Default: `false`, since timing reads the clock for
    /// each message; [`SpawnBuilder::timing`](crate::SpawnBuilder::timing) has the costs.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let executor = heist::Executor::builder().timing(true).build()?;
    /// assert!(executor.top(10).busiest.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Needs the feature `timing`, which is on by default.
    #[cfg(feature = "timing")]
    pub fn timing(mut self, on: bool) -> Self {
        self.timing = on;
        self
    }

    /// Sets where runnable actors are queued. Default: [`Policy::Stealing`]; the others are there
    /// for comparisons.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets how long the drop of the executor waits for its actors to end. Default: 5 s.
    pub fn drop_deadline(mut self, deadline: Duration) -> Self {
        self.drop_deadline = deadline;
        self
    }

    /// Sets a function that is told of each [`Event`]: panics, dead letters, replaced states,
    /// refused waits, spare threads, stuck actors. Default: none. heist itself prints nothing; the
    /// process's own panic hook prints as for any panic.
    ///
    /// `hook` may hold a [`Handle`](crate::Handle) or references of its own executor: the hook is
    /// dropped when the last thread of the crew ends. Nothing that happens later is told.
    ///
    /// # Limits
    /// A hook that causes an event on its own thread each time keeps that thread for ever: see
    /// [`Event`].
    #[doc(alias("metrics", "tracing", "log", "dead letters", "EventStream"))]
    pub fn on_event(mut self, hook: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.hook = Some(Box::new(hook));
        self
    }

    /// Puts the events into a channel of the given capacity, besides calling the hook, if any. An
    /// event that finds the channel full is lost. The channel is disconnected when the last thread
    /// of the crew has ended. See [`Events`]. Without capacity, an event is lost unless a thread
    /// waits for it at that moment.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (builder, events) = heist::Executor::builder().event_channel(100);
    /// let executor = builder.build()?;
    /// assert!(events.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn event_channel(mut self, capacity: usize) -> (Self, Events) {
        let (sender, events) = Events::new_channel(capacity);
        self.events = Some(sender);
        (self, events)
    }
}

impl fmt::Debug for ExecutorBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecutorBuilder")
            .field("workers", &self.workers)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

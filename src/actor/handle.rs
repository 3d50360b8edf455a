//! The handle: a way to spawn on an executor, to wait for it and to look at it.

use super::Actor;
use super::context::Context as ActorContext;
use super::dedicated::Dedicated;
use super::refs::ActorRef;
use super::spawn::{SpawnBuilder, Spawner};
use super::spawn_error::SpawnError;
use super::wait;
use crate::cell::core::Core;
use crate::cell::event::ShutdownReport;
use crate::cell::waits::Waiting;
use crate::error::WaitError;
use crate::sched::queue::Policy;
use crate::sched::quiescence::Quiescence;
use crate::sync::WakerKey;
use crate::time::{self, Duration, Instant};
use crate::user;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A way to reach an executor from anywhere, handlers included. Cheap to clone. A handle does not
/// keep the executor running. Until the last handle is dropped, what is left of an ended executor
/// stays.
///
/// [`Executor`](crate::Executor) dereferences to it.
///
/// ```
/// # use heist::{Actor, Executor};
/// # struct Job;
/// # impl Actor for Job {}
/// let executor = Executor::new();
/// let handle = executor.handle();
/// std::thread::spawn(move || {
///     let job = handle.spawn(Job);
///     job.detach(); // nobody will hold a reference; the executor's end is its end
/// });
/// ```
#[doc(alias("System", "ActorSystem", "Arbiter"))]
#[derive(Clone)]
#[must_use = "a handle does not keep its executor running"]
pub struct Handle {
    core: Arc<Core>,
}

impl Handle {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Handle { core }
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// Spawns an actor with default settings. Costs an allocation, and schedules a first turn, in
    /// which [`Actor::started`] runs. Never waits.
    ///
    /// The actor ends when the last reference to it is dropped: keep the one that this returns, or
    /// [`detach`](ActorRef::detach) it. Once the executor shuts down (for its own actors: once it
    /// has drained) this drops `actor` and returns a reference to an actor that has already ended
    /// and never ran; [`try_spawn`](Self::try_spawn) returns an error instead.
    #[doc(alias("start", "create", "actor_of"))]
    #[must_use = "dropping the last reference ends the actor; see ActorRef::detach"]
    pub fn spawn<A: Actor + Send>(&self, actor: A) -> ActorRef<A> {
        Spawner::new(&self.core).spawn(actor)
    }

    /// Spawns an actor with default settings.
    ///
    /// # Errors
    /// Fails once the executor shuts down, and in a forked child. The actor comes back inside the
    /// error.
    pub fn try_spawn<A: Actor + Send>(&self, actor: A) -> Result<ActorRef<A>, SpawnError<A>> {
        self.build(actor).try_spawn()
    }

    /// Begins an actor with settings of its own: a name, a capacity, a budget, a worker.
    pub fn build<A: Actor + Send>(&self, actor: A) -> SpawnBuilder<'_, A> {
        SpawnBuilder::begin(Spawner::new(&self.core), actor)
    }

    /// Spawns an actor with a thread of its own. `factory` makes the actor on that thread, so the
    /// actor need not be [`Send`]. For an actor that often blocks, or belongs to one thread: a
    /// device, a window, a library with thread-local state.
    ///
    /// The call starts a thread (some tens of microseconds, and a stack) and does not wait for the
    /// factory; messages wait in the mailbox meanwhile. The thread runs the turns of this actor and
    /// nothing else, sleeps between them, and ends with the actor. All promises hold for the actor,
    /// under every [`Policy`]. Its handlers may block and wait for answers, since no other actor
    /// waits behind them. The actor sends as any thread outside the crew does: at some tens of
    /// nanoseconds more, and actors made runnable by it go through the injector. If the factory
    /// panics, the actor has [panicked](crate::StopReason::Panicked).
    ///
    /// # Errors
    /// The factory comes back inside the error if the thread cannot be started, or the executor
    /// shuts down.
    ///
    /// ```
    /// # use heist::{Actor, Context, Executor, Handler};
    /// use std::{cell::RefCell, rc::Rc};
    ///
    /// /// Not `Send`.
    /// struct Log(Rc<RefCell<Vec<String>>>);
    /// impl Actor for Log {}
    /// impl Handler<String> for Log {
    ///     type Reply = usize;
    ///     fn handle(&mut self, line: String, _: &mut Context<Self>) -> usize {
    ///         self.0.borrow_mut().push(line);
    ///         self.0.borrow().len()
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let executor = Executor::new();
    /// let log = executor.spawn_dedicated(|| Log(Rc::default()))?;
    /// log.tell("one".to_string())?;
    /// assert_eq!(log.ask("two".to_string())?.wait()?, 2);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("spawn_in_thread", "pinned dispatcher", "SyncArbiter"))]
    pub fn spawn_dedicated<A, F>(&self, factory: F) -> Result<ActorRef<A>, SpawnError<F>>
    where
        A: Actor,
        F: FnOnce() -> A + Send + 'static,
    {
        self.build_dedicated(factory).try_spawn()
    }

    /// Begins an actor with a thread of its own, and with settings of its own.
    ///
    /// ```
    /// # use heist::{Actor, Executor};
    /// # struct Device;
    /// # impl Actor for Device {}
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let executor = Executor::new();
    /// let device = executor.build_dedicated(|| Device).name("device").capacity(8).try_spawn()?;
    /// assert_eq!(device.name(), Some("device"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn build_dedicated<F>(&self, factory: F) -> SpawnBuilder<'_, Dedicated<F>> {
        Spawner::new(&self.core).dedicated(factory)
    }

    /// Returns the number of workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.core.workers()
    }

    /// Returns the scheduling policy.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.core.scheduler.policy
    }

    /// Returns the report of the last shutdown that has returned, if any. The drop of an executor
    /// counts, unless it happened on a thread of the executor's own crew, which does not wait for
    /// the end.
    #[must_use]
    pub fn last_report(&self) -> Option<ShutdownReport> {
        // In a forked child a thread of the parent may hold the lock for ever.
        if self.core.is_forked() { None } else { self.core.report.lock().clone() }
    }

    /// Lists the actors of this executor that block in a handler or a hook until another actor has
    /// done something: which actor each waits for, and for how long. The list explains a stall,
    /// since a wait that closes a cycle was refused unless the cycle [cannot be
    /// seen](crate::Ask::wait). An actor that is waited for may belong to another executor.
    ///
    /// ```
    /// # use heist::{Actor, ActorRef, Context, Executor, Handler};
    /// # use std::time::Duration;
    /// # struct Asks(ActorRef<Slow>);
    /// # impl Actor for Asks {}
    /// # impl Handler<()> for Asks {
    /// #     type Reply = ();
    /// #     fn handle(&mut self, _: (), _: &mut Context<Self>) {
    /// #         self.0.ask(()).unwrap().wait().unwrap()
    /// #     }
    /// # }
    /// # struct Slow(std::sync::mpsc::Receiver<()>);
    /// # impl Actor for Slow {}
    /// # impl Handler<()> for Slow {
    /// #     type Reply = ();
    /// #     fn handle(&mut self, _: (), _: &mut Context<Self>) {
    /// #         heist::blocking(|| self.0.recv().unwrap())
    /// #     }
    /// # }
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let executor = Executor::new();
    /// # let (go_on, goes_on) = std::sync::mpsc::channel();
    /// let slow = executor.build(Slow(goes_on)).name("slow").spawn();
    /// let asks = executor.build(Asks(slow)).name("asks").spawn();
    /// asks.tell(())?;
    /// // ... some time later ...
    /// # while executor.waits().is_empty() { std::thread::yield_now() }
    /// for wait in executor.waits() {
    ///     println!("{wait}"); // "asks waits for slow, for 1.2s so far"
    /// #   assert!(wait.to_string().starts_with("asks waits for slow, for "));
    /// }
    /// # go_on.send(())?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn waits(&self) -> Vec<Waiting> {
        // In a forked child a thread of the parent may hold the lock for ever.
        if self.core.is_forked() { Vec::new() } else { self.core.waits.unfinished_waits() }
    }

    /// Blocks until the executor is quiescent: all messages accepted before this call, and all that
    /// they caused inside, are handled. Messages that come from outside meanwhile may prolong the
    /// wait.
    ///
    /// The call does not wait for an answer that a thread outside the crew owes, nor for a timer
    /// that is not due. A pool's replica with a next state to be made later does hold up the call.
    ///
    /// In a handler of another executor a cycle through this wait is not seen: if an actor of this
    /// executor waits for that handler's actor, both wait until a timeout.
    ///
    /// # Errors
    /// [`WaitError::OnCrew`] on a thread of this executor's crew; [`WaitError::NoSpare`] in a
    /// handler of another executor that has no spare left; [`WaitError::Forked`] in a forked child.
    #[doc(alias("drain", "quiesce", "flush"))]
    pub fn wait_idle(&self) -> Result<(), WaitError> {
        self.wait_idle_until(None)
    }

    /// Blocks until the executor is quiescent, for at most `timeout`.
    ///
    /// # Errors
    /// As [`wait_idle`](Self::wait_idle), and [`WaitError::TimedOut`].
    pub fn wait_idle_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        self.wait_idle_until(time::instant_after(timeout))
    }

    pub(crate) fn wait_idle_until(&self, until: Option<Instant>) -> Result<(), WaitError> {
        // First: in a child that was forked in a turn the thread still counts as one of the crew.
        if self.core.is_forked() {
            return Err(WaitError::Forked);
        }
        // A turn that waits is itself a reason why the executor is not quiescent.
        if self.core.on_crew() {
            return Err(WaitError::OnCrew);
        }
        wait::wait(&mut self.wait_idle_async(), until)?.ok_or(WaitError::TimedOut)
    }

    /// Returns a future that resolves when the executor is quiescent: the awaited form of
    /// [`wait_idle`](Self::wait_idle). Do not block on it in a handler: the turn that waits keeps
    /// its own crew from being quiescent.
    pub fn wait_idle_async(&self) -> WaitIdle {
        WaitIdle { core: Arc::clone(&self.core), ticket: None }
    }
}

impl<A> ActorContext<A> {
    /// Returns a handle of the actor's executor.
    pub fn handle(&self) -> Handle {
        Handle::new(self.header().core().share())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("workers", &self.workers())
            .field("policy", &self.policy())
            .finish()
    }
}

/// Quiescence, to be awaited. From [`Handle::wait_idle_async`]. In a forked child it never
/// resolves. [`std::mem::forget`] leaks what is left of the executor after its end.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct WaitIdle {
    core: Arc<Core>,
    /// The entry in the list of waiters: see [`crate::sched::quiescence`].
    ticket: Option<WakerKey>,
}

impl Future for WaitIdle {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let scheduler = &this.core.scheduler;
        if scheduler.is_forked() {
            return Poll::Pending; // for ever
        }
        // The first look is made without a ticket: most waits find the executor quiescent and leave
        // nothing behind.
        let mut want = this.ticket.is_some();
        loop {
            if want && scheduler.quiet.register_wait(&mut this.ticket, cx.waker()) {
                return Poll::Ready(());
            }
            match scheduler.check_quiescence() {
                Quiescence::Quiet => {
                    // The ticket would otherwise be woken for nothing.
                    scheduler.quiet.unregister_wait(this.ticket.take());
                    return Poll::Ready(());
                }
                // A thread from outside is between two steps, and no event will tell of the second
                // one. So this future asks to be polled again.
                Quiescence::Entering => {
                    std::thread::yield_now();
                    user::wake_by_ref(cx.waker());
                    return Poll::Pending;
                }
                // A look after the ticket was left: a thread that comes to rest from now on sees
                // the ticket.
                Quiescence::Busy if want => return Poll::Pending,
                Quiescence::Busy => want = true,
            }
        }
    }
}

impl Drop for WaitIdle {
    fn drop(&mut self) {
        // In a forked child a thread of the parent may hold the lock for ever.
        if self.ticket.is_some() && !self.core.is_forked() {
            self.core.scheduler.quiet.unregister_wait(self.ticket.take());
        }
    }
}

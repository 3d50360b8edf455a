//! An executor as its users hold it: to spawn on, to wait for, to look at.

use super::Actor;
use super::dedicated::Dedicated;
use super::refs::ActorRef;
use super::spawn::{SpawnBuilder, SpawnError, Spawner};
use super::wait;
use crate::cell::core::Core;
use crate::cell::event::Report;
use crate::cell::waits::Waiting;
use crate::error::WaitError;
use crate::sched::Quiescence;
use crate::sched::queue::Policy;
use crate::sync::WakerKey;
use crate::time::{self, Duration, Instant};
use crate::user;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A way to reach an executor from anywhere, handlers included. Cheap to clone. It does not keep the executor running.
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
#[derive(Clone)]
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

    /// Spawns an actor with what is default: an allocation, and a first turn scheduled, in which
    /// [`Actor::started`] runs. Never waits.
    ///
    /// The actor ends when the last reference to it is dropped: keep the one that this returns, or
    /// [`detach`](ActorRef::detach) it. Once the executor shuts down this returns a reference to an actor that has
    /// ended already and of which nothing ever ran; see [`try_spawn`](Self::try_spawn).
    #[must_use = "dropping the last reference ends the actor; see ActorRef::detach"]
    pub fn spawn<A: Actor + Send>(&self, actor: A) -> ActorRef<A> {
        Spawner::new(&self.core).spawn(actor)
    }

    /// Spawns an actor with what is default.
    ///
    /// # Errors
    /// Once the executor shuts down; the actor comes back inside the error.
    pub fn try_spawn<A: Actor + Send>(&self, actor: A) -> Result<ActorRef<A>, SpawnError<A>> {
        self.build(actor).try_spawn()
    }

    /// Begins an actor with a name, a capacity or a budget of its own.
    pub fn build<A: Actor + Send>(&self, actor: A) -> SpawnBuilder<'_, A> {
        SpawnBuilder::begin(Spawner::new(&self.core), actor)
    }

    /// Spawns an actor with a thread of its own, which `factory` makes there: so it need not be [`Send`]. For what blocks as a
    /// matter of course, or belongs to one thread: a device, a window, a library with thread-local state.
    ///
    /// Starts a thread (some tens of microseconds, and a stack) and does not wait for the factory: messages wait in the
    /// mailbox meanwhile. The thread runs this actor's turns and nothing else, sleeps when there are none, and ends with the
    /// actor. All that holds for actors holds for it, under every [`Policy`]; its handlers may block, and wait for answers, as they
    /// like, since nobody waits behind it. It sends as any thread outside the crew does, so at some tens of nanoseconds more,
    /// and what it makes ready goes through the injector. A factory that panics makes an actor that has [panicked](crate::StopReason::Panicked).
    ///
    /// # Errors
    /// The factory comes back inside the error when the thread cannot be started, or the executor shuts down.
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
    pub fn spawn_dedicated<A, F>(&self, factory: F) -> Result<ActorRef<A>, SpawnError<F>>
    where
        A: Actor,
        F: FnOnce() -> A + Send + 'static,
    {
        self.build_dedicated(factory).try_spawn()
    }

    /// Begins an actor with a thread of its own, and with a name, a capacity or a budget.
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

    /// How many workers the crew has.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.core.workers()
    }

    /// Where runnable actors go.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.core.scheduler.policy
    }

    /// How the last shutdown went, once there was one: also that of a dropped executor.
    #[must_use]
    pub fn last_report(&self) -> Option<Report> {
        if self.core.forked() { None } else { self.core.report.lock().clone() }
    }

    /// Lists which actors block in a handler or a hook until another one has done something, for whom, and for how long. For a stall that
    /// is to be explained: whatever waits in a cycle was refused, unless it is one that [cannot be seen](crate::Ask::wait).
    ///
    /// Of the actors of this executor; those they wait for may be another's.
    ///
    /// ```
    /// # use heist::{Actor, ActorRef, Context, Executor, Handler};
    /// # use std::time::Duration;
    /// # struct Asks(ActorRef<Slow>);
    /// # impl Actor for Asks {}
    /// # impl Handler<()> for Asks {
    /// #     type Reply = ();
    /// #     fn handle(&mut self, _: (), _: &mut Context<Self>) { self.0.ask(()).unwrap().wait().unwrap() }
    /// # }
    /// # struct Slow(std::sync::mpsc::Receiver<()>);
    /// # impl Actor for Slow {}
    /// # impl Handler<()> for Slow {
    /// #     type Reply = ();
    /// #     fn handle(&mut self, _: (), _: &mut Context<Self>) { heist::blocking(|| self.0.recv().unwrap()) }
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
        if self.core.forked() { Vec::new() } else { self.core.waits.all() }
    }

    /// Blocks until everything is quiet: all messages accepted before this call, and all that they caused, are handled.
    /// What comes from outside meanwhile may keep it waiting.
    ///
    /// An answer that somebody outside the crew still owes is not waited for, nor a timer that is not due yet.
    ///
    /// # Errors
    /// [`WaitError::OnCrew`] on a worker of this executor; [`WaitError::NoSpare`] on one of another's that has no spare left.
    pub fn wait_idle(&self) -> Result<(), WaitError> {
        self.wait_idle_until(None)
    }

    /// The same. Blocks for at most `timeout`.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`], [`WaitError::OnCrew`].
    pub fn wait_idle_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        self.wait_idle_until(time::after(timeout))
    }

    pub(crate) fn wait_idle_until(&self, until: Option<Instant>) -> Result<(), WaitError> {
        if self.core.on_crew() {
            return Err(WaitError::OnCrew);
        }
        if self.core.forked() {
            return Err(WaitError::Forked);
        }
        wait::wait(&mut self.wait_idle_async(), until)?.ok_or(WaitError::TimedOut)
    }

    /// Resolves when everything is quiet: the awaited form of [`wait_idle`](Self::wait_idle). Not for handlers: a worker that
    /// waits for it, by some `block_on` of its own, is what keeps its crew from being quiet.
    pub fn wait_idle_async(&self) -> WaitIdle {
        WaitIdle { core: Arc::clone(&self.core), ticket: None }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("workers", &self.workers()).field("policy", &self.policy()).finish()
    }
}

/// Quiescence, to be awaited. Forgetting it leaks what is left of the executor after its end.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct WaitIdle {
    core: Arc<Core>,
    /// See [`crate::sched::quiet`].
    ticket: Option<WakerKey>,
}

impl Future for WaitIdle {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let scheduler = &this.core.scheduler;
        if scheduler.forked() {
            return Poll::Pending; // for ever
        }
        let mut want = this.ticket.is_some();
        loop {
            if want && scheduler.quiet.want(&mut this.ticket, cx.waker()) {
                return Poll::Ready(());
            }
            match scheduler.quiescence() {
                Quiescence::Quiet => {
                    scheduler.quiet.forget(this.ticket.take());
                    return Poll::Ready(());
                }
                Quiescence::Entering => {
                    std::thread::yield_now();
                    user::wake_by_ref(cx.waker());
                    return Poll::Pending;
                }
                // A look after the ticket was left: whoever comes to rest from now on sees the ticket.
                Quiescence::Busy if want => return Poll::Pending,
                Quiescence::Busy => want = true,
            }
        }
    }
}

impl Drop for WaitIdle {
    fn drop(&mut self) {
        // A forked child's copy of the lock may be held by a thread that is not there.
        if self.ticket.is_some() && !self.core.forked() {
            self.core.scheduler.quiet.forget(self.ticket.take());
        }
    }
}

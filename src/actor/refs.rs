//! References to actors, which users hold.

use super::stopped::{self, Stopped, WeakStopped};
use crate::cell::counted::{Strong, Weak};
use crate::cell::header::Header;
use crate::cell::times::Timing;
use crate::error::{StopReason, WaitError};
use crate::id::ActorId;
use crate::mailbox::state::MAX_LEN;
use crate::sync::Ordering::Relaxed;
use crate::time::{self, Duration, Instant};
use crate::variance::Invariant;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// A reference to an actor of type `A`. Cheap to clone, to send and to share, whatever `A` is. Two
/// references are equal when they name the same actor.
///
/// An actor lives while one of these exists: an `ActorRef`, a [`Recipient`](crate::Recipient) or an
/// [`Asker`](crate::Asker) to it; a message for it; a turn of it; an unanswered
/// [`ask_then`](crate::Context::ask_then) or [`when_room`](crate::Context::when_room) of its own; a
/// [`Timer`](crate::Timer) that it armed for itself. When the last one goes, the actor ends. Its
/// code never runs inside the drop of a reference: a final turn is scheduled instead.
///
/// # Limits
/// A reference that outlives its executor is safe, and its methods return errors. Until the last
/// one is dropped it keeps what is left of the executor: queues, tables, and the chunk of memory (2
/// MiB) that holds the actor's cell. A [`WeakRef`] keeps the same;
/// an [`ActorId`] keeps nothing.
///
/// More than some 67 million references (2^26 - 2^20) to one actor at the same time abort the
/// process, as too many clones of an [`Arc`](std::sync::Arc) do.
///
/// ```
/// # use heist::{Actor, Context, Executor, Handler, StopReason};
/// # struct Counter(u64);
/// # impl Actor for Counter {}
/// # struct Add(u64);
/// # impl Handler<Add> for Counter {
/// #     type Reply = u64;
/// #     fn handle(&mut self, Add(n): Add, _: &mut Context<Self>) -> u64 { self.0 += n; self.0 }
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let executor = Executor::new();
/// let counter = executor.spawn(Counter(0));
/// counter.tell(Add(1))?;                         // never waits
/// counter.send(Add(1))?;                         // waits for room
/// assert_eq!(counter.ask(Add(1))?.wait()?, 3);   // waits for the answer
/// counter.stop();
/// assert_eq!(counter.wait_stopped()?, StopReason::Stopped);
/// assert!(counter.tell(Add(1)).is_err());
/// # Ok(())
/// # }
/// ```
#[doc(alias("mailbox", "Addr", "address", "Pid"))]
#[repr(transparent)]
#[must_use = "dropping the last reference ends the actor; see ActorRef::detach"]
pub struct ActorRef<A> {
    strong: Strong,
    /// The cell is of type `A`. `Send` and `Sync` whatever `A` is, since the actor itself stays on
    /// the crew.
    actor: Invariant<A>,
}

/// A snapshot of one actor's counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ActorStats {
    /// Messages handled so far, without those of the running turn.
    pub handled: u64,
    /// Messages that wait now, including those that the running turn has taken.
    pub waiting: usize,
    /// The highest number of messages that waited when a turn began.
    pub most_waiting: usize,
}

impl<A> ActorRef<A> {
    pub(crate) fn from_strong(strong: Strong) -> Self {
        ActorRef { strong, actor: PhantomData }
    }
    pub(crate) fn into_strong(self) -> Strong {
        self.strong
    }
    pub(crate) fn strong(&self) -> &Strong {
        &self.strong
    }
    #[inline]
    pub(crate) fn header(&self) -> &Header {
        self.strong.header()
    }
    #[inline]
    pub(crate) fn as_ptr(&self) -> NonNull<Header> {
        self.strong.as_ptr()
    }

    /// Returns the actor's id, unique in its executor.
    #[must_use]
    pub fn id(&self) -> ActorId {
        self.header().id()
    }

    /// Returns the name that the actor was spawned with, if any.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.header().cold_if_any()?.name.as_deref()
    }

    /// Returns how many messages wait now, including those that the running turn has taken. The
    /// number may be out of date when the caller reads it.
    #[doc(alias("mailbox", "queue length", "message_queue_len"))]
    #[must_use]
    pub fn len(&self) -> usize {
        self.header().state.load_snapshot().len() as usize
    }

    /// Returns `true` if no message waits now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the capacity of the mailbox; `None` for an unbounded one, which holds at most
    /// 2^27 - 1 messages.
    #[must_use]
    pub fn capacity(&self) -> Option<usize> {
        // An unbounded mailbox has the greatest length that the state word can count.
        let capacity = self.header().capacity;
        (capacity < MAX_LEN).then_some(capacity as usize)
    }

    /// Returns a snapshot of this actor's counts.
    #[must_use]
    pub fn stats(&self) -> ActorStats {
        let header = self.header();
        ActorStats {
            handled: header.handled_total(),
            waiting: self.len(),
            most_waiting: header.most_waiting.load(Relaxed) as usize,
        }
    }

    /// Returns how long the actor's messages waited and how long its handlers took; `None` unless
    /// the actor is timed: see [`SpawnBuilder::timing`](crate::SpawnBuilder::timing).
    ///
    /// Any thread may call this. The call never waits for a handler. A turn enters its times every
    /// 32 messages and at its end, so the latest may be missing. The call reads two histograms of a
    /// few hundred counts each, under a lock that only those turns take besides.
    #[must_use]
    pub fn timing(&self) -> Option<Timing> {
        let stopwatch = self.header().stopwatch()?;
        // In a forked child a thread of the parent may hold the stopwatch's lock for ever.
        (!self.header().core().is_forked()).then(|| stopwatch.read_timing())
    }

    /// Ends the actor once all accepted messages are handled. Closes the mailbox in one step:
    /// messages accepted before are handled, and later ones are refused. Returns at once, also if
    /// the mailbox is full; [`wait_stopped`](Self::wait_stopped) waits for the end.
    ///
    /// The actor does not wait for what it is owed. Answers to its own
    /// [`ask_then`](crate::Context::ask_then), notices of room, and its timers become dead letters
    /// if they come later. An actor that needs them stops itself in the last callback.
    ///
    /// For a replica of a [`Pool`](crate::Pool) this ends the present state only, and a new state
    /// follows.
    #[doc(alias("stop_gracefully", "terminate", "PoisonPill", "poison pill"))]
    pub fn stop(&self) {
        Header::stop_actor(self.as_ptr(), false);
    }

    /// Ends the actor after the message in hand, if any. Waiting messages become dead letters, and
    /// their askers are told. Returns at once.
    ///
    /// For a replica of a [`Pool`](crate::Pool) this does the same as [`stop`](Self::stop).
    #[doc(alias("kill", "exit"))]
    pub fn stop_now(&self) {
        Header::stop_actor(self.as_ptr(), true);
    }

    /// Returns `true` if the actor still accepts messages: until it is stopped, panics, or is
    /// closed by its executor. (A [`Pool`](crate::Pool)'s replica accepts them until its pool
    /// ends.)
    #[doc(alias("is_alive", "is_closed", "connected"))]
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.header().state.load_snapshot().is_closed()
    }

    /// Lets the actor live without references until it is stopped, panics, or its executor shuts
    /// down.
    pub fn detach(self) {
        // Before this reference goes, which may be the last one.
        self.header().state.set_detached();
    }

    /// Returns a reference that does not keep the actor alive.
    pub fn downgrade(&self) -> WeakRef<A> {
        // SAFETY: `self` has a count of the cell.
        WeakRef { weak: unsafe { Weak::add_to(self.as_ptr()) }, actor: PhantomData }
    }

    /// Blocks until the actor has ended, that is until [`stopped`](crate::Actor::stopped) has run
    /// and the state is dropped. Returns the reason.
    ///
    /// The call does not stop the actor. Inside a handler of another executor it waits as
    /// [`Ask::wait`](crate::Ask::wait) does.
    ///
    /// # Errors
    /// If the actor has not ended: [`WaitError::OnCrew`] on a thread of its executor's crew;
    /// [`WaitError::WouldDeadlock`] and [`WaitError::NoSpare`] in a handler of another executor;
    /// [`WaitError::Forked`] in a forked child.
    #[doc(alias("join", "watch", "monitor", "death watch", "wait_for_shutdown", "wait_for_stop"))]
    pub fn wait_stopped(&self) -> Result<StopReason, WaitError> {
        self.wait_stopped_until(None)
    }

    /// Blocks until the actor has ended, for at most `timeout`. Returns the reason.
    ///
    /// # Errors
    /// As [`wait_stopped`](Self::wait_stopped), and [`WaitError::TimedOut`].
    pub fn wait_stopped_timeout(&self, timeout: Duration) -> Result<StopReason, WaitError> {
        self.wait_stopped_until(time::instant_after(timeout))
    }

    fn wait_stopped_until(&self, until: Option<Instant>) -> Result<StopReason, WaitError> {
        stopped::wait_stopped_until(self.header(), &mut self.wait_stopped_async(), until)
    }

    /// Returns a future that resolves to the reason when the actor has ended.
    #[doc(alias("join", "watch", "monitor", "death watch", "closed"))]
    pub fn wait_stopped_async(&self) -> Stopped<A> {
        Stopped::new(self.strong.clone())
    }
}

impl<A> Clone for ActorRef<A> {
    #[inline]
    fn clone(&self) -> Self {
        ActorRef::from_strong(self.strong.clone())
    }
}

impl<A> PartialEq for ActorRef<A> {
    fn eq(&self, other: &Self) -> bool {
        self.as_ptr() == other.as_ptr()
    }
}

impl<A> Eq for ActorRef<A> {}

impl<A> Hash for ActorRef<A> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_ptr().hash(state);
    }
}

impl<A> fmt::Debug for ActorRef<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("ActorRef");
        out.field("id", &self.id().get()).field("type", &self.header().type_name());
        if let Some(name) = self.name() {
            out.field("name", &name);
        }
        out.finish()
    }
}

/// A reference that does not keep its actor alive. The memory of the actor's cell stays, and what
/// is left of the executor after its end, as with an [`ActorRef`].
///
/// ```
/// # use heist::{Actor, Executor};
/// # struct Idle;
/// # impl Actor for Idle {}
/// let executor = Executor::new();
/// let actor = executor.spawn(Idle);
/// let weak = actor.downgrade();
/// assert_eq!(weak.upgrade().as_ref(), Some(&actor));
/// actor.stop();
/// assert!(weak.upgrade().is_none());
/// ```
#[doc(alias("WeakActorRef", "WeakAddr", "downgrade"))]
#[must_use = "a reference has no effect by itself"]
pub struct WeakRef<A> {
    weak: Weak,
    /// The cell is of type `A`.
    actor: Invariant<A>,
}

impl<A> WeakRef<A> {
    pub(crate) fn header(&self) -> &Header {
        self.weak.header()
    }

    pub(crate) fn as_ptr(&self) -> NonNull<Header> {
        self.weak.as_ptr()
    }

    /// Makes the same reference for code that need not know the actor's type.
    pub(crate) fn untyped(self) -> WeakRef<()> {
        WeakRef { weak: self.weak, actor: PhantomData }
    }

    /// Returns an [`ActorRef`] if the actor still accepts messages.
    #[must_use]
    pub fn upgrade(&self) -> Option<ActorRef<A>> {
        // SAFETY: the transition added the count that the new reference owns.
        self.header()
            .state
            .try_upgrade()
            .then(|| ActorRef::from_strong(unsafe { Strong::from_raw(self.as_ptr()) }))
    }

    /// Returns the actor's id.
    #[must_use]
    pub fn id(&self) -> ActorId {
        self.header().id()
    }

    /// Blocks until the actor has ended, as [`ActorRef::wait_stopped`] does, without keeping the
    /// actor alive. Returns the reason. If nothing else keeps the actor, the wait ends with
    /// [`StopReason::Unreferenced`].
    ///
    /// # Errors
    /// As [`ActorRef::wait_stopped`].
    ///
    /// ```
    /// # use heist::{Actor, Executor, StopReason};
    /// # struct Idle;
    /// # impl Actor for Idle {}
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let executor = Executor::new();
    /// let actor = executor.spawn(Idle);
    /// let watcher = actor.downgrade();
    /// let watch = std::thread::spawn(move || watcher.wait_stopped());
    /// drop(actor);   // the last reference
    /// assert_eq!(watch.join().unwrap()?, StopReason::Unreferenced);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("join", "watch", "monitor", "death watch"))]
    pub fn wait_stopped(&self) -> Result<StopReason, WaitError> {
        self.wait_stopped_until(None)
    }

    /// Blocks as [`wait_stopped`](Self::wait_stopped) does, for at most `timeout`.
    ///
    /// # Errors
    /// As [`ActorRef::wait_stopped_timeout`].
    pub fn wait_stopped_timeout(&self, timeout: Duration) -> Result<StopReason, WaitError> {
        self.wait_stopped_until(time::instant_after(timeout))
    }

    fn wait_stopped_until(&self, until: Option<Instant>) -> Result<StopReason, WaitError> {
        stopped::wait_stopped_until(self.header(), &mut self.wait_stopped_async(), until)
    }

    /// Returns a future that resolves to the reason when the actor has ended, and does not keep the
    /// actor alive.
    #[doc(alias("join", "watch", "monitor", "death watch", "closed"))]
    pub fn wait_stopped_async(&self) -> WeakStopped {
        WeakStopped::new(self.weak.clone())
    }
}

impl<A> Clone for WeakRef<A> {
    fn clone(&self) -> Self {
        WeakRef { weak: self.weak.clone(), actor: PhantomData }
    }
}

impl<A> From<&ActorRef<A>> for WeakRef<A> {
    fn from(actor: &ActorRef<A>) -> Self {
        actor.downgrade()
    }
}

impl<A> From<ActorRef<A>> for WeakRef<A> {
    fn from(actor: ActorRef<A>) -> Self {
        actor.downgrade()
    }
}

/// Equal if the actor is the same. The cell's memory is kept, so its address names the actor also
/// after the end.
impl<A> PartialEq for WeakRef<A> {
    fn eq(&self, other: &Self) -> bool {
        self.as_ptr() == other.as_ptr()
    }
}

impl<A> Eq for WeakRef<A> {}

impl<A> Hash for WeakRef<A> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_ptr().hash(state);
    }
}

impl<A> fmt::Debug for WeakRef<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakRef").field("id", &self.id().get()).finish_non_exhaustive()
    }
}

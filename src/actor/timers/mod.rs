//! Timers: a message that comes later, once ([`once`]) or at an interval ([`interval`]), also to an
//! actor that is looked up when the timer is due (`relay`).
//!
//! A timer is one allocation, made when it is armed: first it lies in the scheduler's table, then,
//! due, it is itself the envelope in its actor's mailbox, and an interval's goes back into the
//! table. So there is at most one undelivered tick of each interval, whatever happens, and a tick
//! allocates nothing.
//!
//! | armed by | keeps the actor | when the actor ends before it is due |
//! |---|---|---|
//! | `Context` (the actor itself) | alive | dead letter, at the actor's end |
//! | `ActorRef` (any holder) | its memory only | dead letter, at the actor's end |

mod interval;
mod once;
#[cfg(feature = "directory")]
pub(crate) mod relay;

use super::refs::{ActorRef, WeakRef};
use crate::cell::header::Header;
use crate::error::Refusal;
use crate::sched::timers::Key;
use crate::time::Instant;
use std::error::Error;
use std::fmt;
use std::ptr::NonNull;

/// A timer that is armed. **Dropping it cancels it**; [`detach`](Self::detach) lets it go on
/// without this handle. [`std::mem::forget`] detaches it too, and leaks the memory that it keeps.
///
/// A timer ends with the actor that it is for, detached or not: if it is armed when the actor ends,
/// its message becomes a dead letter. A shutdown of the executor cancels all timers first, and
/// drops their messages. A timer of a `Directory` ends with the directory, and not with an actor.
///
/// A timer never fires early, and fires late if the process was stopped, if all workers are in long
/// turns, or if very many timers are due at once; otherwise a worker wakes up for it. Its message
/// overtakes the messages that wait in the mailbox; where several timers are due, their messages
/// and the ordinary ones alternate. Until its message is handled, a timer that is due can still be
/// cancelled.
///
/// # Limits
/// Messages of timers do not count against the mailbox's capacity, no matter which actor or thread
/// armed them. A [`tell_every`](crate::Context::tell_every) has at most one message in the mailbox
/// at a time. A [`tell_after`](crate::Context::tell_after) or [`tell_at`](crate::Context::tell_at)
/// has one once it is due, so their number is bounded only by how many timers the program arms: a
/// program that arms timers for an actor faster than the actor handles them fills its mailbox
/// beyond the capacity. Where the number must be bounded use one `tell_every`, or let the actor arm
/// timers for itself.
///
/// ```
/// use heist::timer::{IntervalMode, Tick};
/// use heist::{Actor, Context, Executor, Handler, Timer};
/// use std::time::Duration;
///
/// /// Ends after a while without a word, and looks at its watch meanwhile.
/// struct Session { idle: Option<Timer>, watch: Option<Timer> }
///
/// struct Idle;
/// struct Look { missed: u64 }
/// struct Word;
///
/// impl Session {
///     fn wait(&mut self, ctx: &mut Context<Self>) {
///         // The old timer, if any, is dropped here, and so cancelled.
///         self.idle = ctx.tell_after(Duration::from_millis(50), Idle).ok();
///     }
/// }
/// impl Actor for Session {
///     fn started(&mut self, ctx: &mut Context<Self>) {
///         let look = |tick: Tick| Look { missed: tick.missed };
///         let every = Duration::from_millis(5);
///         self.watch = ctx.tell_every(every, IntervalMode::FixedRate, look).ok();
///         self.wait(ctx);
///     }
/// }
/// impl Handler<Word> for Session {
///     type Reply = ();
///     fn handle(&mut self, _: Word, ctx: &mut Context<Self>) { self.wait(ctx) }
/// }
/// impl Handler<Look> for Session {
///     type Reply = ();
///     fn handle(&mut self, look: Look, _: &mut Context<Self>) { let _ = look.missed; }
/// }
/// impl Handler<Idle> for Session {
///     type Reply = ();
///     fn handle(&mut self, _: Idle, ctx: &mut Context<Self>) { ctx.stop() }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let executor = Executor::new();
/// let session = executor.spawn(Session { idle: None, watch: None });
/// session.tell(Word)?;
/// session.wait_stopped()?;
/// # Ok(())
/// # }
/// ```
#[doc(alias("interval", "delay"))]
#[must_use = "dropping a timer cancels it; see Timer::detach"]
pub struct Timer {
    /// The actor that the message is for. Keeps the memory in which the table lies.
    target: WeakRef<()>,
    /// `None` after `detach`, and after the end.
    key: Option<Key>,
}

/// From which instant the next tick of an interval is counted.
#[doc(alias = "MissedTickBehavior")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IntervalMode {
    /// From the instant when the last tick was due. Ticks are `period` apart and do not drift.
    /// Ticks that are late by whole periods are missed and counted; they never come in a burst.
    FixedRate,
    /// From the instant when the last tick had been handled. At least `period` lies between two
    /// ticks.
    FixedDelay,
}

/// One tick of an interval, given to the function that makes its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Tick {
    /// The number of this tick: 0, 1 and so on. Missed ticks are not counted.
    pub number: u64,
    /// Ticks that were missed between the one before and this one.
    pub missed: u64,
    /// The instant when this tick was due.
    pub due: Instant,
}

/// Why an interval was not armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimerError {
    /// The period is zero.
    ZeroPeriod,
    /// The actor stops or has stopped.
    Stopped,
    /// The executor shuts down, which cancels all timers; or it belongs to the parent of this
    /// forked process.
    ShuttingDown,
}

impl fmt::Display for TimerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimerError::ZeroPeriod => "an interval's period must be more than zero",
            TimerError::Stopped => "the actor has stopped",
            TimerError::ShuttingDown => "the executor is shutting down",
        })
    }
}

impl Error for TimerError {}

impl Timer {
    fn new<A>(target: WeakRef<A>, key: Key) -> Self {
        // A weak reference suffices: it keeps the core, in which the table of timers lies.
        Timer { target: target.untyped(), key: Some(key) }
    }

    /// Cancels the timer. Returns `true` if its message will not be handled. Of an interval, the
    /// tick that is being made or handled at this moment still goes on, and no other tick comes.
    /// Returns `false` if the timer was over: its message has been handled, is being handled, or
    /// became a dead letter.
    ///
    /// The message is dropped on this thread, unless the timer was due. Then it becomes a dead
    /// letter ([`Cancelled`](crate::event::DeadLetterReason::Cancelled)) when its turn comes.
    pub fn cancel(mut self) -> bool {
        self.end_timer()
    }

    /// Lets the timer go on without this handle. From now on only the end of its actor or of its
    /// executor cancels it.
    pub fn detach(mut self) {
        // The drop at the end of this call finds no key, and cancels nothing.
        self.key = None;
    }

    /// Returns `true` if the message is still to be handled, or if the interval goes on.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        let scheduler = &self.target.header().core().scheduler;
        // In a forked child the table may be locked for ever, and no timer fires.
        self.key.is_some_and(|key| !scheduler.is_forked() && scheduler.timers.is_valid(key))
    }

    fn end_timer(&mut self) -> bool {
        let scheduler = &self.target.header().core().scheduler;
        // Taken out, so that the drop after a `cancel` does nothing.
        self.key.take().is_some_and(|key| scheduler.cancel_timer(key))
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.end_timer();
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("actor", &self.target.id().get()).finish_non_exhaustive()
    }
}

/// The receiver of a timer, and the timer's reference to it.
enum TimerTarget<A> {
    /// The actor that armed the timer itself. The timer keeps it alive.
    Own(ActorRef<A>),
    /// Another actor. The timer keeps its memory only.
    Other(WeakRef<A>),
}

impl<A> TimerTarget<A> {
    fn as_ptr(&self) -> NonNull<Header> {
        match self {
            TimerTarget::Own(actor) => actor.as_ptr(),
            TimerTarget::Other(actor) => actor.as_ptr(),
        }
    }

    fn header(&self) -> &Header {
        match self {
            TimerTarget::Own(actor) => actor.header(),
            TimerTarget::Other(actor) => actor.header(),
        }
    }

    fn to_weak(&self) -> WeakRef<A> {
        match self {
            TimerTarget::Own(actor) => actor.downgrade(),
            TimerTarget::Other(actor) => actor.clone(),
        }
    }

    /// Returns why the actor takes no timer now, if so. The answer may be out of date.
    fn current_refusal(&self) -> Option<Refusal> {
        let header = self.header();
        header.state.load_snapshot().is_closed().then(|| {
            if header.core().is_closing() { Refusal::ShuttingDown } else { Refusal::Stopped }
        })
    }
}

/// Returns why the table took no timer for this actor.
fn not_armed(header: &Header) -> Refusal {
    let core = header.core();
    // Asked in this order: in a forked child nothing else holds, and a shutdown closes actors too.
    if core.is_forked() {
        Refusal::Forked
    } else if header.state.load_snapshot().is_closed() && !core.is_closing() {
        Refusal::Stopped
    } else {
        Refusal::ShuttingDown
    }
}

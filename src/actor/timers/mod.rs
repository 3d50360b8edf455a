//! Timers: a message that comes later, once ([`once`]) or at an interval ([`interval`]).
//!
//! A timer is one allocation, made when it is armed: first it lies in the scheduler's table, then, due, it is itself the
//! envelope in its actor's mailbox, and an interval's goes back into the table. So there is at most one undelivered tick of
//! each interval, whatever happens, and a tick allocates nothing.
//!
//! | armed by | keeps the actor | when the actor ends before it is due |
//! |---|---|---|
//! | `Context` (the actor itself) | alive | dead letter, at the actor's end |
//! | `ActorRef` (whoever holds one) | its memory only | dead letter, at the actor's end |

mod interval;
mod once;

use super::carried::carried;
use super::context::Context;
use super::refs::{ActorRef, WeakRef};
use super::{Actor, Receive};
use crate::cell::header::Header;
use crate::error::{Refusal, SendError};
use crate::sched::timers::Key;
use crate::time::{self, Duration, Instant};
use std::error::Error;
use std::fmt;
use std::ptr::NonNull;

/// A timer that is armed. **Dropping it cancels it**; [`detach`](Self::detach) lets it go its way.
/// Forgetting it is detaching it, and leaks the memory that it keeps.
///
/// A timer ends with the actor that it is for, whether it is kept somewhere or detached: what is armed when the actor ends is a
/// dead letter then.
///
/// A timer never fires early. It fires late when the process was stopped, or when all workers are in long turns; otherwise
/// a worker gets up for it, and it goes before the messages that wait in the mailbox. It is told once: a tick that is
/// due, but has not been handled yet, can still be cancelled.
///
/// ```
/// use heist::{Actor, Context, Executor, Fixed, Handler, Tick, Timer};
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
///         self.watch = ctx.tell_every(Duration::from_millis(5), Fixed::Rate, look).ok();
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
#[must_use = "dropping a timer cancels it; see Timer::detach"]
pub struct Timer {
    /// Of the actor whose message it is; keeps the memory that the table is in.
    target: WeakRef<()>,
    /// None: it goes its own way.
    key: Option<Key>,
}

/// From what an interval's next tick is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fixed {
    /// From when the last one was due: the ticks are `period` apart, and do not drift. What is late by whole periods
    /// is missed and counted, never made up for in a burst.
    Rate,
    /// From when the last one had been handled: there is at least `period` between two ticks.
    Delay,
}

/// One tick of an interval, for making its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Tick {
    /// 0, 1 and so on; those that were missed are not counted.
    pub number: u64,
    /// Ticks that were missed between the one before and this one.
    pub missed: u64,
    /// When it was due.
    pub due: Instant,
}

/// Why an interval was not armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimerError {
    /// A period of zero would be a tick all the time.
    ZeroPeriod,
    /// The actor stops or has stopped.
    Stopped,
    /// The executor shuts down: all timers are cancelled.
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
        Timer { target: target.untyped(), key: Some(key) }
    }

    /// Cancels it. `true`: its message will not be handled any more (an interval's: none from now on). `false`: it was
    /// over already.
    ///
    /// The message is dropped here and now, unless the timer was due: then it is a dead letter
    /// ([`Cancelled`](crate::DeadLetterReason::Cancelled)) when its turn comes.
    pub fn cancel(mut self) -> bool {
        self.end()
    }

    /// Lets the timer go its way without this: it can no longer be cancelled, but by its actor's or its executor's end.
    pub fn detach(mut self) {
        self.key = None;
    }

    /// Is it still to come, or an interval that goes on?
    #[must_use]
    pub fn is_armed(&self) -> bool {
        let scheduler = &self.target.header().core().scheduler;
        self.key.is_some_and(|key| !scheduler.forked() && scheduler.timers.is_valid(key))
    }

    fn end(&mut self) -> bool {
        let scheduler = &self.target.header().core().scheduler;
        self.key.take().is_some_and(|key| scheduler.cancel(key))
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("actor", &self.target.id().get()).finish_non_exhaustive()
    }
}

/// Whose timer it is.
enum Target<A> {
    /// Its own: it keeps the actor alive.
    Own(ActorRef<A>),
    /// Another's: it keeps the memory.
    Other(WeakRef<A>),
}

impl<A> Target<A> {
    fn as_ptr(&self) -> NonNull<Header> {
        match self {
            Target::Own(actor) => actor.as_ptr(),
            Target::Other(actor) => actor.as_ptr(),
        }
    }

    fn header(&self) -> &Header {
        match self {
            Target::Own(actor) => actor.header(),
            Target::Other(actor) => actor.header(),
        }
    }

    fn weak(&self) -> WeakRef<A> {
        match self {
            Target::Own(actor) => actor.downgrade(),
            Target::Other(actor) => actor.clone(),
        }
    }

    /// Why it takes no timer now, if so; the answer may be out of date.
    fn refusal(&self) -> Option<Refusal> {
        let header = self.header();
        header
            .state
            .peek()
            .closed()
            .then(|| if header.core().closing() { Refusal::ShuttingDown } else { Refusal::Stopped })
    }
}

/// Why the table took no timer for this actor.
fn not_armed(header: &Header) -> Refusal {
    let core = header.core();
    if core.forked() {
        Refusal::Forked
    } else if header.state.peek().closed() && !core.closing() {
        Refusal::Stopped
    } else {
        Refusal::ShuttingDown
    }
}

impl<A: Actor> Context<A> {
    /// Tells this actor itself `message` after `delay`. See [`Timer`]; it keeps this actor alive until then.
    ///
    /// The message is exempt from the mailbox's capacity, and goes before what waits in it.
    ///
    /// # Errors
    /// [`Refusal::Stopped`] once this actor stops, [`Refusal::ShuttingDown`] once its executor does; the message comes back.
    pub fn tell_after<M: Send + 'static>(
        &mut self,
        delay: Duration,
        message: M,
    ) -> Result<Timer, SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => once::arm::<A, M, _>(Target::Own(self.me().clone()), time::after(delay), message))
    }

    /// Tells this actor itself `message` at an instant, or as soon as possible if that has passed; otherwise as
    /// [`tell_after`](Self::tell_after).
    ///
    /// # Errors
    /// As there.
    pub fn tell_at<M: Send + 'static>(&mut self, at: Instant, message: M) -> Result<Timer, SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => once::arm::<A, M, _>(Target::Own(self.me().clone()), Some(at), message))
    }

    /// Tells this actor itself something every `period`, for the first time after one; `message` makes it, inside the
    /// actor's turn. See [`Timer`]; it keeps this actor alive until it is cancelled.
    ///
    /// Of one interval no more than one tick is under way: the next is armed when this one has been handled. A panic in
    /// `message` is one of the actor's.
    ///
    /// # Errors
    /// A period of zero; the actor stops; its executor does.
    pub fn tell_every<M, F>(
        &mut self,
        period: Duration,
        fixed: Fixed,
        message: F,
    ) -> Result<Timer, TimerError>
    where
        A: Receive<M>,
        M: Send + 'static,
        F: FnMut(Tick) -> M + Send + 'static,
    {
        interval::arm(Target::Own(self.me().clone()), period, fixed, message)
    }
}

impl<A: Actor> ActorRef<A> {
    /// Tells the actor `message` after `delay`. See [`Timer`]; unlike [`Context::tell_after`] it does not keep the actor
    /// alive: if the actor ends before, the message is a dead letter.
    ///
    /// The message is exempt from the capacity of the actor's mailbox, whoever arms the timer: beside its capacity a mailbox holds one
    /// message for each timer that is due.
    ///
    /// # Errors
    /// [`Refusal::Stopped`] once the actor stops, [`Refusal::ShuttingDown`] once its executor does; the message comes back.
    ///
    /// ```
    /// # use heist::{Actor, Context, Executor, Handler};
    /// # use std::time::Duration;
    /// # struct Lamp;
    /// # impl Actor for Lamp {}
    /// # struct Off;
    /// # impl Handler<Off> for Lamp { type Reply = (); fn handle(&mut self, _: Off, ctx: &mut Context<Self>) { ctx.stop() } }
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let executor = Executor::new();
    /// let lamp = executor.spawn(Lamp);
    /// lamp.tell_after(Duration::from_millis(10), Off)?.detach();
    /// let other = lamp.tell_after(Duration::from_secs(3600), Off)?;
    /// assert!(other.cancel());
    /// lamp.wait_stopped()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn tell_after<M: Send + 'static>(&self, delay: Duration, message: M) -> Result<Timer, SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => once::arm::<A, M, _>(Target::Other(self.downgrade()), time::after(delay), message))
    }

    /// Tells the actor `message` at an instant, or as soon as possible if that has passed; otherwise as
    /// [`tell_after`](Self::tell_after).
    ///
    /// # Errors
    /// As there.
    pub fn tell_at<M: Send + 'static>(&self, at: Instant, message: M) -> Result<Timer, SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => once::arm::<A, M, _>(Target::Other(self.downgrade()), Some(at), message))
    }

    /// Tells the actor something every `period`, for the first time after one; `message` makes it, inside the actor's turn.
    /// See [`Timer`]; unlike [`Context::tell_every`] it does not keep the actor alive, and ends with it.
    ///
    /// # Errors
    /// A period of zero; the actor stops; its executor does.
    ///
    /// ```
    /// # use heist::{Actor, Context, Executor, Fixed, Handler, TimerError};
    /// # use std::time::Duration;
    /// # struct Clock(u32);
    /// # impl Actor for Clock {}
    /// # #[derive(Clone)]
    /// # struct Second;
    /// # impl Handler<Second> for Clock {
    /// #     type Reply = ();
    /// #     fn handle(&mut self, _: Second, ctx: &mut Context<Self>) { self.0 += 1; if self.0 == 3 { ctx.stop() } }
    /// # }
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let executor = Executor::new();
    /// let clock = executor.spawn(Clock(0));
    /// let _ticking = clock.tell_every(Duration::from_millis(2), Fixed::Delay, |_| Second)?;
    /// clock.wait_stopped()?;
    /// let nonsense = clock.tell_every(Duration::ZERO, Fixed::Rate, |_| Second);
    /// assert_eq!(nonsense.unwrap_err(), TimerError::ZeroPeriod);
    /// # Ok(())
    /// # }
    /// ```
    pub fn tell_every<M, F>(&self, period: Duration, fixed: Fixed, message: F) -> Result<Timer, TimerError>
    where
        A: Receive<M>,
        M: Send + 'static,
        F: FnMut(Tick) -> M + Send + 'static,
    {
        interval::arm(Target::Other(self.downgrade()), period, fixed, message)
    }
}

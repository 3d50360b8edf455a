//! Intervals: a single box goes from the table of timers into the mailbox and back, again and
//! again.

use super::{IntervalMode, Tick, Timer, TimerError, TimerTarget, not_armed};
use crate::actor::cell_of::enter;
use crate::actor::context::Context;
use crate::actor::receive;
use crate::actor::refs::ActorRef;
use crate::actor::{Actor, Receive};
use crate::cell::dead_letters;
use crate::cell::deliver;
use crate::cell::envelope::{
    AnyEnvelope, Envelope, EnvelopeVtable, SentAt, Storage, timestamp_offset,
};
use crate::cell::event::DeadLetterReason;
use crate::cell::fail::InHand;
use crate::cell::header::Header;
use crate::cell::prepaid;
use crate::error::{AskError, Refusal};
use crate::memory::Held;
use crate::sched::timers::{Aim, Key, Timed};
use crate::time::{self, Duration, Instant};
use std::any::type_name;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ptr::NonNull;

impl<A: Actor> Context<A> {
    /// Tells this actor itself a message every `period`, first after one period. `message` makes
    /// each message, inside the actor's turn. See [`Timer`]. The timer keeps this actor alive until
    /// it is cancelled.
    ///
    /// At most one tick of an interval is under way: the next one is armed when this one has been
    /// handled. A panic in `message` counts as a panic in a handler of the actor. A panic in either
    /// ends the interval together with the actor; a pool's replica goes on, and so does the
    /// interval.
    ///
    /// # Errors
    /// Fails if the period is zero, this actor stops, or its executor shuts down.
    #[doc(alias("interval", "send_interval", "run_interval", "periodic"))]
    pub fn tell_every<M, F>(
        &mut self,
        period: Duration,
        mode: IntervalMode,
        message: F,
    ) -> Result<Timer, TimerError>
    where
        A: Receive<M>,
        M: Send + 'static,
        F: FnMut(Tick) -> M + Send + 'static,
    {
        arm_interval(TimerTarget::Own(self.me().clone()), period, mode, message)
    }
}

impl<A: Actor> ActorRef<A> {
    /// Tells the actor a message every `period`, first after one period. `message` makes each
    /// message, inside the actor's turn. See [`Timer`]. Unlike [`Context::tell_every`] the timer
    /// does not keep the actor alive, and ends with it. A [`Pool`](crate::Pool)'s replica does not
    /// end with its state, so the interval goes on, also after a panic over one of its ticks.
    ///
    /// At most one tick of an interval is in the mailbox, beside its capacity.
    ///
    /// # Errors
    /// Fails if the period is zero, the actor stops, or its executor shuts down.
    ///
    /// ```
    /// # use heist::timer::{IntervalMode, TimerError};
    /// # use heist::{Actor, Context, Executor, Handler};
    /// # use std::time::Duration;
    /// # struct Clock(u32);
    /// # impl Actor for Clock {}
    /// # #[derive(Clone)]
    /// # struct Second;
    /// # impl Handler<Second> for Clock {
    /// #     type Reply = ();
    /// #     fn handle(&mut self, _: Second, ctx: &mut Context<Self>) {
    /// #         self.0 += 1; if self.0 == 3 { ctx.stop() }
    /// #     }
    /// # }
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let executor = Executor::new();
    /// let clock = executor.spawn(Clock(0));
    /// let period = Duration::from_millis(2);
    /// let _ticking = clock.tell_every(period, IntervalMode::FixedDelay, |_| Second)?;
    /// clock.wait_stopped()?;
    /// let nonsense = clock.tell_every(Duration::ZERO, IntervalMode::FixedRate, |_| Second);
    /// assert_eq!(nonsense.unwrap_err(), TimerError::ZeroPeriod);
    /// # Ok(())
    /// # }
    /// ```
    pub fn tell_every<M, F>(
        &self,
        period: Duration,
        mode: IntervalMode,
        message: F,
    ) -> Result<Timer, TimerError>
    where
        A: Receive<M>,
        M: Send + 'static,
        F: FnMut(Tick) -> M + Send + 'static,
    {
        arm_interval(TimerTarget::Other(self.downgrade()), period, mode, message)
    }
}

#[repr(C)]
struct Interval<A, M, F> {
    envelope: Envelope,
    target: TimerTarget<A>,
    key: Key,
    period: Duration,
    mode: IntervalMode,
    /// When the tick that is to come, or under way, is due; `None` if never. A timed actor's ticks
    /// wait from this instant.
    due: SentAt,
    number: u64,
    missed: u64,
    make: F,
    message: PhantomData<fn() -> M>,
}

// SAFETY: the function that makes the messages and the references are `Send`. Only the mailbox
// touches the envelope's link, and it moves the envelope as a whole.
unsafe impl<A, M, F: Send> Send for Interval<A, M, F> {}

struct IntervalVtable<A, M, F>(PhantomData<(A, M, F)>);

impl<A, M, F> IntervalVtable<A, M, F>
where
    A: Receive<M>,
    M: Send + 'static,
    F: FnMut(Tick) -> M + Send + 'static,
{
    const INTERVAL: EnvelopeVtable = EnvelopeVtable::of_single(
        handle::<A, M, F>,
        discard_tick::<A, M, F>,
        timestamp_offset::<SentAt>(offset_of!(Interval<A, M, F>, due)),
        type_name::<M>,
    );
}

fn arm_interval<A, M, F>(
    target: TimerTarget<A>,
    period: Duration,
    mode: IntervalMode,
    make: F,
) -> Result<Timer, TimerError>
where
    A: Receive<M>,
    M: Send + 'static,
    F: FnMut(Tick) -> M + Send + 'static,
{
    if period.is_zero() {
        return Err(TimerError::ZeroPeriod);
    }
    // Saves the allocation if the actor has closed. The look under the lock below decides.
    match target.current_refusal() {
        None => {}
        Some(Refusal::ShuttingDown) => return Err(TimerError::ShuttingDown),
        Some(_) => return Err(TimerError::Stopped),
    }
    let weak = target.to_weak();
    weak.header().cold(); // the ticks will be linked there
    let due = time::instant_after(period);
    let mut interval = Box::new(Interval {
        envelope: Envelope::new(&IntervalVtable::<A, M, F>::INTERVAL),
        target,
        key: Key::NONE,
        period,
        mode,
        due: SentAt(due),
        number: 0,
        missed: 0,
        make,
        message: PhantomData,
    });
    let mut given = Key::NONE;
    // Whether the actor still accepts messages is checked under the timers' lock. An ending actor
    // takes the same lock after its close, so no timer is armed for an actor that is past that
    // step.
    let armed = weak.header().core().scheduler.arm_timer(
        due,
        || !weak.header().state.load_snapshot().is_closed(),
        |key| {
            given = key;
            interval.key = key;
            interval
        },
    );
    match not_armed(weak.header()) {
        // First, since the reason means nothing for a timer that is armed.
        _ if armed => Ok(Timer::new(weak, given)),
        Refusal::Stopped => Err(TimerError::Stopped),
        _ => Err(TimerError::ShuttingDown),
    }
}

impl<A, M, F> Timed for Interval<A, M, F>
where
    A: Receive<M>,
    M: Send + 'static,
    F: FnMut(Tick) -> M + Send + 'static,
{
    fn deliver_due(self: Box<Self>) -> Result<(), Box<dyn Timed>> {
        let target = self.target.as_ptr();
        // The box itself becomes the envelope, so a tick allocates nothing.
        let this = NonNull::from(Box::leak(self));
        // SAFETY: fired on a worker of the crew. The box holds a count of the cell, is an envelope
        // made for it, and is given up unless it comes back.
        unsafe {
            if deliver::deliver_tick(target, this.cast()) {
                Ok(())
            } else {
                Err(Box::from_raw(this.as_ptr()))
            }
        }
    }

    fn aim(&self) -> Option<&Aim> {
        self.target.header().cold_if_any().map(|cold| &cold.ticks.aim)
    }

    fn report_undeliverable(self: Box<Self>) {
        let header = self.target.header();
        if self.over() {
            dead_letters::count_undeliverable(header, type_name::<M>());
        } // otherwise it was cancelled at the same time
    }
}

impl<A, M, F> Interval<A, M, F> {
    /// Ends the timer. Returns `false` if it was cancelled before.
    fn over(&self) -> bool {
        self.target.header().core().scheduler.timers.end_timer(self.key)
    }

    /// Computes when the next tick is due and how many are missed before it, after a tick was
    /// handled.
    fn advance_tick(&mut self, due: Instant) {
        self.number += 1;
        (self.due.0, self.missed) = match self.mode {
            IntervalMode::FixedDelay => (time::instant_after(self.period), 0),
            IntervalMode::FixedRate => next_of_rate(due, self.period, time::now()),
        };
    }
}

/// Returns the first instant after `now` that lies whole periods after `due`, and the number of
/// such instants before it.
fn next_of_rate(due: Instant, period: Duration, now: Instant) -> (Option<Instant>, u64) {
    let late = now.saturating_duration_since(due).as_nanos();
    let missed = late / period.as_nanos();
    // `into` is less than a period, which is a `Duration`, so both parts fit.
    let into = late % period.as_nanos();
    let into = Duration::new((into / 1_000_000_000) as u64, (into % 1_000_000_000) as u32);
    // No tick is late by 2^64 ns, which are 584 years, so the number is not cut.
    (now.max(due).checked_add(period - into), missed as u64)
}

unsafe fn unbox_interval<A, M, F>(this: AnyEnvelope) -> Box<Interval<A, M, F>> {
    // SAFETY: called through the table with the only pointer to an envelope that `deliver_due`
    // gave up.
    unsafe { Box::from_raw(this.cast::<Interval<A, M, F>>().as_ptr()) }
}

/// An interval with a tick in hand. Each way out of the turn decides what becomes of it, panics
/// included.
struct TickInHand<'a, A, M, F>
where
    A: Receive<M>,
    M: Send + 'static,
    F: FnMut(Tick) -> M + Send + 'static,
{
    header: &'a Header,
    interval: Option<Box<Interval<A, M, F>>>,
    /// When the tick was due, once its message is being made or handled.
    begun: Option<Instant>,
}

impl<A, M, F> Drop for TickInHand<'_, A, M, F>
where
    A: Receive<M>,
    M: Send + 'static,
    F: FnMut(Tick) -> M + Send + 'static,
{
    fn drop(&mut self) {
        let Some(interval) = self.interval.take() else { return };
        match self.begun {
            // A panic. The supervisor decides later whether there is another state. If not, the
            // interval is armed when the actor ends, and becomes a dead letter like any timer.
            Some(due) if self.header.supervised().is_some() && !is_closed(self.header) => {
                arm_next(self.header, interval, due);
            }
            _ => _ = interval.over(),
        }
    }
}

fn is_closed(header: &Header) -> bool {
    header.state.load_snapshot().is_closed()
}

/// Arms the next tick, after the tick that was due at `due`. At most one tick is under way.
fn arm_next<A, M, F>(header: &Header, mut interval: Box<Interval<A, M, F>>, due: Instant)
where
    A: Receive<M>,
    M: Send + 'static,
    F: FnMut(Tick) -> M + Send + 'static,
{
    let core = header.core();
    // Counted from the instant when the tick was due, or after its handling: see `IntervalMode`.
    interval.advance_tick(due);
    core.count_here(|tally| &tally.missed_ticks, interval.missed);
    let (key, at) = (interval.key, interval.due.0);
    // Refused if the actor itself cancelled it, or if the executor shuts down. Then it ends here.
    if let Err(over) = core.scheduler.rearm_timer(key, at, interval) {
        // The key is valid until here. Ending it makes later cancels return `false`.
        core.scheduler.timers.end_timer(key);
        drop(over);
    }
}

unsafe fn handle<A, M, F>(this: AnyEnvelope, header: NonNull<Header>, _: Storage)
where
    A: Receive<M>,
    M: Send + 'static,
    F: FnMut(Tick) -> M + Send + 'static,
{
    prepaid::note_in_hand();
    let in_hand = InHand::<M>::begin();
    // SAFETY: called through the envelope's table with the only pointer to the envelope, in the
    // actor's turn, which keeps the cell.
    let (interval, header_ref) = unsafe { (unbox_interval::<A, M, F>(this), header.as_ref()) };
    let due = interval.due.0.expect("it was due");
    let mut going = TickInHand { header: header_ref, interval: Some(interval), begun: None };
    let interval = going.interval.as_mut().expect("just put there");
    // Cancelled between the due instant and the turn: accepted, but not handled.
    if !header_ref.core().scheduler.timers.is_valid(interval.key) {
        dead_letters::not_handled(header_ref, DeadLetterReason::Cancelled, type_name::<M>());
        // Dropped before the handling ends, so that a panic of the drop names the message.
        drop(going);
        return in_hand.end();
    }
    going.begun = Some(due);
    let message = (interval.make)(Tick { number: interval.number, missed: interval.missed, due });
    // SAFETY: a turn of this actor of type `A` runs here.
    unsafe {
        let (actor, mut ctx) = enter::<A>(header);
        receive::receive_alone(actor, message, &mut ctx);
    }
    if is_closed(header_ref) {
        drop(going); // the interval ends with its actor
        return in_hand.end();
    }
    arm_next(header_ref, going.interval.take().expect("still there"), due);
    in_hand.end();
}

unsafe fn discard_tick<A, M, F>(this: AnyEnvelope, _: AskError, _: Held<'_>) {
    // SAFETY: called through the envelope's table with the only pointer to the envelope.
    let interval = unsafe { unbox_interval::<A, M, F>(this) };
    interval.over();
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_by_whole_periods_is_missed() {
        let (due, ms) = (time::now(), Duration::from_millis);
        let next = |late: u64| next_of_rate(due, ms(10), due + ms(late));
        assert_eq!(next(0), (Some(due + ms(10)), 0));
        assert_eq!(next(9), (Some(due + ms(10)), 0));
        assert_eq!(next(10), (Some(due + ms(20)), 1));
        assert_eq!(next(3005), (Some(due + ms(3010)), 300));
        assert_eq!(next_of_rate(due, Duration::MAX, due), (due.checked_add(Duration::MAX), 0));
    }
}

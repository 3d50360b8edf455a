//! A message that comes once: the same box lies in the table of timers and is then the envelope.

use super::{Timer, TimerTarget, not_armed};
use crate::actor::carried::{Carried, carried};
use crate::actor::cell_of::enter;
use crate::actor::context::Context;
use crate::actor::receive;
use crate::actor::refs::ActorRef;
use crate::actor::{Actor, Receive};
use crate::cell::dead_letters;
use crate::cell::deliver;
use crate::cell::envelope::{
    AnyEnvelope, Envelope, EnvelopeVtable, SentAt, Storage, Timestamp, timestamp_offset,
};
use crate::cell::event::DeadLetterReason;
use crate::cell::fail::InHand;
use crate::cell::header::Header;
use crate::cell::prepaid;
use crate::error::{AskError, SendError};
use crate::memory::Held;
use crate::sched::timers::{Aim, Key, Timed};
use crate::time::{self, Duration, Instant};
use std::any::type_name;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ptr::NonNull;

impl<A: Actor> Context<A> {
    /// Tells this actor itself `message` after `delay`. See [`Timer`]. The timer keeps this actor
    /// alive until it fires.
    ///
    /// The message is exempt from the mailbox's capacity, and overtakes what waits there.
    ///
    /// # Errors
    /// [`Refusal::Stopped`](crate::Refusal::Stopped) once this actor stops,
    /// [`Refusal::ShuttingDown`](crate::Refusal::ShuttingDown) once its executor does. The message
    /// comes back inside the error.
    #[doc(alias("send_after", "notify_later", "run_later", "delay", "schedule_once"))]
    pub fn tell_after<M: Send + 'static>(
        &mut self,
        delay: Duration,
        message: M,
    ) -> Result<Timer, SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => arm_once::<A, M, _>(TimerTarget::Own(self.me().clone()), time::instant_after(delay), message))
    }

    /// Tells this actor itself `message` at an instant, or as soon as possible if that has passed.
    /// See [`tell_after`](Self::tell_after) for all else.
    ///
    /// # Errors
    /// As [`tell_after`](Self::tell_after).
    #[doc(alias("send_at", "schedule"))]
    pub fn tell_at<M: Send + 'static>(
        &mut self,
        at: Instant,
        message: M,
    ) -> Result<Timer, SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => arm_once::<A, M, _>(TimerTarget::Own(self.me().clone()), Some(at), message))
    }
}

impl<A: Actor> ActorRef<A> {
    /// Tells the actor `message` after `delay`. See [`Timer`]. Unlike [`Context::tell_after`] the
    /// timer does not keep the actor alive: if the actor ends before, the message is a dead letter.
    ///
    /// The message is exempt from the capacity of the actor's mailbox: beside its capacity the
    /// mailbox holds one message for each timer that is due, however many others have armed
    /// ([limits](Timer#limits)).
    ///
    /// # Errors
    /// [`Refusal::Stopped`](crate::Refusal::Stopped) once the actor stops,
    /// [`Refusal::ShuttingDown`](crate::Refusal::ShuttingDown) once its executor does,
    /// [`Refusal::Forked`](crate::Refusal::Forked) in a forked child. The message comes back inside
    /// the error.
    ///
    /// ```
    /// # use heist::{Actor, Context, Executor, Handler};
    /// # use std::time::Duration;
    /// # struct Lamp;
    /// # impl Actor for Lamp {}
    /// # struct Off;
    /// # impl Handler<Off> for Lamp {
    /// #     type Reply = ();
    /// #     fn handle(&mut self, _: Off, ctx: &mut Context<Self>) {
    /// #         ctx.stop()
    /// #     }
    /// # }
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
    pub fn tell_after<M: Send + 'static>(
        &self,
        delay: Duration,
        message: M,
    ) -> Result<Timer, SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => arm_once::<A, M, _>(TimerTarget::Other(self.downgrade()), time::instant_after(delay), message))
    }

    /// Tells the actor `message` at an instant, or as soon as possible if that has passed. See
    /// [`tell_after`](Self::tell_after) for all else.
    ///
    /// # Errors
    /// As [`tell_after`](Self::tell_after).
    pub fn tell_at<M: Send + 'static>(&self, at: Instant, message: M) -> Result<Timer, SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => arm_once::<A, M, _>(TimerTarget::Other(self.downgrade()), Some(at), message))
    }
}

#[repr(C)]
pub(super) struct Once<A, C, S> {
    pub(super) envelope: Envelope,
    /// When it is due.
    pub(super) sent: S,
    pub(super) target: TimerTarget<A>,
    pub(super) key: Key,
    /// The message, in a box if it is large.
    pub(super) message: C,
}

// SAFETY: message and references are `Send`. Only the mailbox touches the envelope's link, and it
// moves the envelope as a whole.
unsafe impl<A, C: Send, S: Timestamp> Send for Once<A, C, S> {}

pub(super) struct OnceVtable<A, M, C, S>(PhantomData<(A, M, C, S)>);

impl<A: Receive<M>, M: Send + 'static, C: Carried<M>, S: Timestamp> OnceVtable<A, M, C, S> {
    pub(super) const ONCE: EnvelopeVtable = EnvelopeVtable::of_single(
        handle::<A, M, C, S>,
        discard_once::<A, C, S>,
        timestamp_offset::<S>(offset_of!(Once<A, C, S>, sent)),
        type_name::<M>,
    );
}

fn arm_once<A: Receive<M>, M: Send + 'static, C: Carried<M>>(
    target: TimerTarget<A>,
    at: Option<Instant>,
    message: C,
) -> Result<Timer, SendError<C>> {
    if target.header().stopwatch().is_some() {
        // A timer that is due at once waits from now, not from the instant in the past.
        let due = at.map(|at| at.max(time::now()));
        arm_as(target, at, SentAt(due), &OnceVtable::<A, M, C, SentAt>::ONCE, message)
    } else {
        arm_as(target, at, (), &OnceVtable::<A, M, C, ()>::ONCE, message)
    }
}

/// Arms a timer with an envelope of this table, which is made for a `Once<A, C, S>`.
pub(super) fn arm_as<A: 'static, C: Send + 'static, S: Timestamp>(
    target: TimerTarget<A>,
    at: Option<Instant>,
    sent: S,
    vtable: &'static EnvelopeVtable,
    message: C,
) -> Result<Timer, SendError<C>> {
    // Saves the allocation if the actor has closed. The look under the lock below decides.
    if let Some(refusal) = target.current_refusal() {
        return Err(SendError::new(message, refusal));
    }
    let weak = target.to_weak();
    weak.header().cold(); // the tick will be linked there
    let envelope = Envelope::new(vtable);
    // In an option, so that the message comes back if the timer is not armed.
    let mut once = Some(Box::new(Once { envelope, sent, target, key: Key::NONE, message }));
    let mut given = Key::NONE;
    let armed = weak.header().core().scheduler.arm_timer(
        at,
        || !weak.header().state.load_snapshot().is_closed(),
        |key| {
            given = key;
            let mut once = once.take().expect("made once");
            once.key = key;
            once
        },
    );
    match once {
        None => {
            debug_assert!(armed, "it was taken to be armed");
            Ok(Timer::new(weak, given))
        }
        Some(once) => Err(SendError::new(once.message, not_armed(weak.header()))),
    }
}

impl<A: 'static, C: Send + 'static, S: Timestamp> Timed for Once<A, C, S> {
    fn deliver_due(self: Box<Self>) -> Result<(), Box<dyn Timed>> {
        let target = self.target.as_ptr();
        // The box itself becomes the envelope, so delivery allocates nothing.
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
        if header.core().scheduler.timers.end_timer(self.key) {
            // SAFETY: the envelope is this box's own.
            let message_type = unsafe { Envelope::message_type(NonNull::from(&self.envelope)) };
            dead_letters::count_undeliverable(header, message_type);
        } // otherwise it was cancelled at the same time
    }
}

pub(super) unsafe fn unbox_once<A, C, S>(this: AnyEnvelope) -> Box<Once<A, C, S>> {
    // SAFETY: called through the table with the only pointer to an envelope that `deliver_due`
    // gave up.
    unsafe { Box::from_raw(this.cast::<Once<A, C, S>>().as_ptr()) }
}

unsafe fn handle<A: Receive<M>, M: Send + 'static, C: Carried<M>, S: Timestamp>(
    this: AnyEnvelope,
    header: NonNull<Header>,
    _: Storage,
) {
    prepaid::note_in_hand();
    let in_hand = InHand::<M>::begin();
    // SAFETY: called through the envelope's table with the only pointer to the envelope, in the
    // actor's turn.
    unsafe {
        let once = unbox_once::<A, C, S>(this);
        let actor = header.as_ref();
        // A single step ends the timer and says whether it was cancelled before. So a `cancel` that
        // returned `true` is never followed by the handler.
        if !actor.core().scheduler.timers.end_timer(once.key) {
            dead_letters::not_handled(actor, DeadLetterReason::Cancelled, type_name::<M>());
            drop(once);
            return in_hand.end();
        }
        let (actor, mut ctx) = enter::<A>(header);
        receive::receive_alone(actor, once.message.arrive(), &mut ctx);
    }
    in_hand.end();
}

pub(super) unsafe fn discard_once<A, C, S>(this: AnyEnvelope, _: AskError, _: Held<'_>) {
    // SAFETY: called through the envelope's table with the only pointer to the envelope.
    let once = unsafe { unbox_once::<A, C, S>(this) };
    // A dead letter is over: from here on a `cancel` returns `false`.
    once.target.header().core().scheduler.timers.end_timer(once.key);
}

//! A timer of one actor, the *relay*, with a message for another actor, which the relay finds when
//! the timer is due.
//!
//! | the message is | in | leaves it by |
//! |---|---|---|
//! | armed | a timer of the relay | due; cancelled; the relay's end |
//! | due | the relay's mailbox, then its turn | passed on; given up |
//! | passed on | a new tick in the other actor's mailbox | that actor's turn, or its end |
//!
//! The timer's key stays valid on the whole way, so the timer can be cancelled until the message is
//! handled. The last step ends it, as for any timer.

use super::once::{Once, OnceVtable, arm_as, discard_once, unbox_once};
use super::{Timer, TimerTarget};
use crate::actor::carried::Carried;
use crate::actor::cell_of::enter;
use crate::actor::refs::ActorRef;
use crate::actor::{Actor, Receive};
use crate::cell::dead_letters;
use crate::cell::deliver;
use crate::cell::envelope::{
    AnyEnvelope, Envelope, EnvelopeVtable, SentAt, Storage, Timestamp, timestamp_offset,
};
use crate::cell::event::DeadLetterReason;
use crate::cell::header::Header;
use crate::cell::prepaid;
use crate::error::SendError;
use crate::sched::timers::Key;
use crate::time::Instant;
use std::any::type_name;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ptr::NonNull;

/// An actor that passes the messages of its timers on.
pub(crate) trait Relay<L>: Actor {
    /// The message in the letter, which events name.
    type Message;

    /// Passes a message on, or gives it up. Must not panic, since the relay would end.
    fn pass_on(&mut self, timer: DueTimer<'_>, letter: L);
}

/// A timer that is due, with its message in the hands of its relay. One of the two methods is
/// called.
#[must_use = "the timer is in the table until it is ended"]
pub(crate) struct DueTimer<'a> {
    key: Key,
    relay: &'a Header,
    message_type: &'static str,
}

impl DueTimer<'_> {
    /// Returns `true` if the timer was cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        !self.relay.core().scheduler.timers.is_valid(self.key)
    }

    /// Puts the message into an actor's mailbox, as a tick. The message comes back if the actor has
    /// closed. `due` is since when it waits. Runs no user code.
    pub(crate) fn deliver<A: Receive<M>, M: Send + 'static, C: Carried<M>>(
        &self,
        to: &ActorRef<A>,
        due: Option<Instant>,
        message: C,
    ) -> Result<(), C> {
        if to.header().stopwatch().is_some() {
            self.deliver_as::<A, M, C, _>(to, SentAt(due), message)
        } else {
            self.deliver_as::<A, M, C, _>(to, (), message)
        }
    }

    fn deliver_as<A: Receive<M>, M: Send + 'static, C: Carried<M>, S: Timestamp>(
        &self,
        to: &ActorRef<A>,
        sent: S,
        message: C,
    ) -> Result<(), C> {
        to.header().cold(); // the tick is linked there
        let envelope = Envelope::new(&OnceVtable::<A, M, C, S>::ONCE);
        let target = TimerTarget::Own(to.clone());
        let tick = Box::leak(Box::new(Once { envelope, sent, target, key: self.key, message }));
        let tick = NonNull::from(tick);
        // SAFETY: a turn of the relay runs here, on a thread of the crew, and the actor is of the
        // same executor. The box holds a count of the cell, is an envelope made for it, and is
        // given up unless it comes back.
        unsafe {
            if deliver::deliver_tick(to.as_ptr(), tick.cast()) {
                Ok(())
            } else {
                Err(Box::from_raw(tick.as_ptr()).message)
            }
        }
    }

    /// Ends the timer. Its message is a dead letter: cancelled, or else for this reason.
    pub(crate) fn give_up(self, reason: DeadLetterReason) {
        let cancelled = !self.relay.core().scheduler.timers.end_timer(self.key);
        let reason = if cancelled { DeadLetterReason::Cancelled } else { reason };
        dead_letters::not_handled(self.relay, reason, self.message_type);
    }
}

/// Arms a timer with a letter that `relay` passes on. The timer keeps the relay alive. The letter
/// comes back inside the error.
pub(crate) fn arm_relayed<P: Relay<L>, L: Send + 'static>(
    relay: ActorRef<P>,
    at: Option<Instant>,
    due: Option<Instant>,
    letter: L,
) -> Result<Timer, SendError<L>> {
    let timed = relay.header().stopwatch().is_some();
    let target = TimerTarget::Own(relay);
    if timed {
        arm_as(target, at, SentAt(due), &RelayedVtable::<P, L, SentAt>::RELAYED, letter)
    } else {
        arm_as(target, at, (), &RelayedVtable::<P, L, ()>::RELAYED, letter)
    }
}

struct RelayedVtable<P, L, S>(PhantomData<(P, L, S)>);

impl<P: Relay<L>, L: Send + 'static, S: Timestamp> RelayedVtable<P, L, S> {
    const RELAYED: EnvelopeVtable = EnvelopeVtable::of_single(
        handle_relayed::<P, L, S>,
        discard_once::<P, L, S>,
        timestamp_offset::<S>(offset_of!(Once<P, L, S>, sent)),
        type_name::<P::Message>,
    );
}

unsafe fn handle_relayed<P: Relay<L>, L: Send + 'static, S: Timestamp>(
    this: AnyEnvelope,
    header: NonNull<Header>,
    _: Storage,
) {
    prepaid::note_in_hand();
    // SAFETY: called through the envelope's table with the only pointer to the envelope, in the
    // relay's turn, which keeps its cell.
    unsafe {
        let once = *unbox_once::<P, L, S>(this);
        let (relay, _) = enter::<P>(header);
        let message_type = type_name::<P::Message>();
        let timer = DueTimer { key: once.key, relay: header.as_ref(), message_type };
        relay.pass_on(timer, once.message);
    }
}

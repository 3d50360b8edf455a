//! Supervised actors, with a state that is replaced at its end, and mailboxes shared by several of
//! them. The typed side of `cell::restart` and `cell::shared`.

use super::Actor;
use super::cell_of::CellOf;
use super::handle::Handle;
use super::refs::ActorRef;
use super::spawn::SpawnBuilder;
use super::spawn_error::SpawnError;
use crate::cell::dead_letters;
use crate::cell::envelope::{
    AnyEnvelope, Envelope, EnvelopeVtable, SentAt, Storage, Timestamp, timestamp_offset,
};
use crate::cell::event::ReplicaFailure;
use crate::cell::header::Header;
use crate::cell::room;
use crate::cell::sharing::Sharing;
use crate::cell::supervisor::{AfterLoss, Supervised, Supervisor};
use crate::error::{AskError, StopReason};
use crate::memory::Held;
use crate::sched::timers::Key;
use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::Waker;

/// The supervisor of an actor of type `A`. Called in the actor's turns, outside all locks but for
/// `on_successor_delayed`.
pub(crate) trait ReplicaSupervisor<A>: Send + 'static {
    /// Decides what follows, after a state was lost or could not be made.
    fn lost(&self, loss: &ReplicaFailure) -> AfterLoss;

    /// Makes a new state.
    fn make(&self) -> Result<A, String>;

    /// Called under the timers' lock with the key of the timer for which the successor waits.
    fn waits(&self, key: Key);

    /// Called once, when the actor has ended for good. Returns the wakers of waiters that this end
    /// concerns.
    fn ended(&self, reason: &StopReason) -> Vec<Waker>;
}

struct TypedSupervisor<A, S> {
    successors: S,
    actor: PhantomData<fn() -> A>,
}

impl<A: Actor, S: ReplicaSupervisor<A>> Supervisor for TypedSupervisor<A, S> {
    fn on_state_lost(&self, loss: &ReplicaFailure) -> AfterLoss {
        self.successors.lost(loss)
    }

    unsafe fn make_state(&self, this: NonNull<Header>) -> Result<(), String> {
        let actor = self.successors.make()?;
        // SAFETY: the supervisor was made for a cell of this type. The cell is vacant, and its turn
        // runs here.
        unsafe { CellOf::<A>::put_state(this, actor) };
        Ok(())
    }

    fn on_successor_delayed(&self, key: Key) {
        self.successors.waits(key);
    }

    fn on_actor_ended(&self, reason: &StopReason) -> Vec<Waker> {
        self.successors.ended(reason)
    }
}

impl<'a, A: Actor + Send> SpawnBuilder<'a, A> {
    /// Makes the actor supervised by `successors` and a taker from the queue that belongs to
    /// `sharing`.
    pub(crate) fn supervised(
        self,
        successors: impl ReplicaSupervisor<A>,
        sharing: &Arc<Sharing>,
    ) -> Self {
        let typed = TypedSupervisor { successors, actor: PhantomData };
        self.supervised_by(Supervised::for_replica(Box::new(typed), Arc::clone(sharing)))
    }
}

/// The receiver of the news of a queue's end.
pub(crate) trait QueueEnd: Send + 'static {
    /// Called once, when all messages that the queue had accepted are given away or dead. Returns
    /// the wakers of waiters that this end concerns.
    fn ended(&self, reason: &StopReason) -> Vec<Waker>;
}

/// The type of a queue's cell, which has no state.
struct QueueActor<A>(PhantomData<fn(A)>);

impl<A: 'static> Actor for QueueActor<A> {}

struct QueueSupervisor<E>(E);

impl<E: QueueEnd> Supervisor for QueueSupervisor<E> {
    // A queue's turns run no user code and end no state, so only `on_actor_ended` is ever called.
    fn on_state_lost(&self, _: &ReplicaFailure) -> AfterLoss {
        AfterLoss::End
    }

    unsafe fn make_state(&self, _: NonNull<Header>) -> Result<(), String> {
        Err("a queue has no state".to_string())
    }

    fn on_successor_delayed(&self, _: Key) {}

    fn on_actor_ended(&self, reason: &StopReason) -> Vec<Waker> {
        self.0.ended(reason)
    }
}

/// Spawns a mailbox for messages to actors of type `A`, from which all members of `sharing` take.
/// The queue is spawned before its members.
pub(crate) fn spawn_queue<A: Actor>(
    handle: &Handle,
    capacity: u32,
    timing: bool,
    end: impl QueueEnd,
    sharing: &Arc<Sharing>,
) -> Result<ActorRef<A>, QueueRefused> {
    let kept = Supervised::for_queue(Box::new(QueueSupervisor(end)), Arc::clone(sharing));
    let queue =
        // The pool's builder has checked the capacity.
        handle.build(QueueActor::<A>(PhantomData)).exact_capacity(capacity).timed(timing).supervised_by(kept).try_spawn();
    // The reference has another type than the cell: members of type `A` handle the messages.
    queue.map(|queue| ActorRef::from_strong(queue.into_strong())).map_err(QueueRefused::from)
}

/// The queue was refused, since the executor shuts down.
#[derive(Debug)]
pub(crate) struct QueueRefused;

impl<A> From<SpawnError<A>> for QueueRefused {
    fn from(_: SpawnError<A>) -> Self {
        QueueRefused
    }
}

impl<A> fmt::Debug for QueueActor<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueueActor")
    }
}

/// Calls `then` in a turn of the actor when all messages that are in its mailbox now, or wait in
/// line for room, have been handled. Calls it earlier if the actor ends before. The mark travels as
/// a message without a sender, exempt from the capacity, and is not counted.
pub(crate) fn send_mark<A>(actor: &ActorRef<A>, then: Box<dyn FnOnce() + Send>) {
    // A plain box and not a block of the pool: marks are rare.
    let mark =
        Box::new(MarkEnvelope { envelope: Envelope::new(&MARK_VTABLE), then, sent: SentAt::BLANK });
    // SAFETY: the box is given up to the mailbox or the line. There the functions of this type
    // handle or discard the box, once.
    unsafe {
        room::deliver_behind_line(
            actor.header(),
            actor.clone().into_strong(),
            NonNull::from(Box::leak(mark)).cast(),
        )
    };
}

#[repr(C)]
struct MarkEnvelope {
    envelope: Envelope,
    then: Box<dyn FnOnce() + Send>,
    /// Present in every mark, since the actor may be timed.
    sent: SentAt,
}

const MARK_VTABLE: EnvelopeVtable = EnvelopeVtable::of_single(
    handle_mark,
    discard_mark,
    timestamp_offset::<SentAt>(offset_of!(MarkEnvelope, sent)),
    type_name::<MarkEnvelope>,
)
.uncounted();

unsafe fn handle_mark(this: AnyEnvelope, header: NonNull<Header>, _: Storage) {
    // SAFETY: the actor's turn, which runs here, keeps the cell.
    dead_letters::not_a_message(unsafe { header.as_ref() });
    // SAFETY: the table belongs to envelopes boxed by `send_mark`, and no other pointer to the
    // envelope exists.
    (unsafe { Box::from_raw(this.cast::<MarkEnvelope>().as_ptr()) }.then)();
}

unsafe fn discard_mark(this: AnyEnvelope, _: AskError, _: Held<'_>) {
    // SAFETY: the table belongs to envelopes boxed by `send_mark`, and no other pointer to the
    // envelope exists.
    (unsafe { Box::from_raw(this.cast::<MarkEnvelope>().as_ptr()) }.then)();
}

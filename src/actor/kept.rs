//! Actors whose state is replaced when it ends, and mailboxes that several of them take from: the typed side of
//! `cell::restart` and `cell::shared`.

use super::Actor;
use super::cell_of::CellOf;
use super::context::AnyEnvelope;
use super::handle::Handle;
use super::refs::ActorRef;
use super::spawn::{SpawnBuilder, SpawnError};
use crate::cell::envelope::{Dating, Envelope, EnvelopeVtable, Place, Sent, place_of};
use crate::cell::event::Loss;
use crate::cell::header::Header;
use crate::cell::restart::{Keeper, Kept, Verdict};
use crate::cell::room;
use crate::cell::shared::Sharing;
use crate::error::{AskError, StopReason};
use crate::memory::Held;
use crate::sched::timers::Key;
use std::fmt;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ptr::NonNull;
use std::sync::Arc;

/// Who keeps an actor of type `A` going. Called in the actor's turns, outside all locks but where it says so.
pub(crate) trait Successors<A>: Send + 'static {
    /// A state is lost, or could not be made.
    fn lost(&self, loss: &Loss) -> Verdict;

    /// A new state.
    fn make(&self) -> Result<A, String>;

    /// The successor comes after a time: this key is its timer's. Under the timers' lock.
    fn waits(&self, key: Key);

    /// The actor has ended, for good.
    fn ended(&self, reason: &StopReason);
}

struct Typed<A, S> {
    successors: S,
    actor: PhantomData<fn() -> A>,
}

impl<A: Actor, S: Successors<A>> Keeper for Typed<A, S> {
    fn lost(&self, loss: &Loss) -> Verdict {
        self.successors.lost(loss)
    }

    unsafe fn renew(&self, this: NonNull<Header>) -> Result<(), String> {
        let actor = self.successors.make()?;
        // SAFETY: the caller's: the keeper was made for a cell of this type, which is vacant, in its turn.
        unsafe { CellOf::<A>::refill(this, actor) };
        Ok(())
    }

    fn waits(&self, key: Key) {
        self.successors.waits(key);
    }

    fn ended(&self, reason: &StopReason) {
        self.successors.ended(reason);
    }
}

impl<'a, A: Actor + Send> SpawnBuilder<'a, A> {
    /// An actor that goes on as `successors` says, and takes from the queue that belongs to `sharing`.
    pub(crate) fn kept(self, successors: impl Successors<A>, sharing: &Arc<Sharing>) -> Self {
        let typed = Typed { successors, actor: PhantomData };
        self.keep(Kept::replica(Box::new(typed), Arc::clone(sharing)))
    }
}

/// What the queue's keeper is told.
pub(crate) trait QueueEnd: Send + 'static {
    /// All that it had accepted is given away, or dead.
    fn ended(&self, reason: &StopReason);
}

/// The state of a queue: there is none.
struct Queue<A>(PhantomData<fn(A)>);

impl<A: 'static> Actor for Queue<A> {}

struct QueueKeeper<E>(E);

impl<E: QueueEnd> Keeper for QueueKeeper<E> {
    fn lost(&self, _: &Loss) -> Verdict {
        Verdict::End
    }

    unsafe fn renew(&self, _: NonNull<Header>) -> Result<(), String> {
        Err("a queue has no state".to_string())
    }

    fn waits(&self, _: Key) {}

    fn ended(&self, reason: &StopReason) {
        self.0.ended(reason);
    }
}

/// A mailbox for messages to actors of type `A`, which all members of `sharing` take from. Members come first.
pub(crate) fn spawn_queue<A: Actor>(
    handle: &Handle,
    capacity: u32,
    timing: bool,
    end: impl QueueEnd,
    sharing: &Arc<Sharing>,
) -> Result<ActorRef<A>, NoQueue> {
    let kept = Kept::queue(Box::new(QueueKeeper(end)), Arc::clone(sharing));
    let queue =
        handle.build(Queue::<A>(PhantomData)).exact_capacity(capacity).timing(timing).keep(kept).try_spawn();
    // Of another type than its state: what is sent there is handled by members, which are of type A.
    queue.map(|queue| ActorRef::from_strong(queue.into_strong())).map_err(NoQueue::from)
}

/// The executor shuts down.
#[derive(Debug)]
pub(crate) struct NoQueue;

impl<A> From<SpawnError<A>> for NoQueue {
    fn from(_: SpawnError<A>) -> Self {
        NoQueue
    }
}

impl<A> fmt::Debug for Queue<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queue")
    }
}

/// Calls `then` in a turn of the actor when all that is in its mailbox now, or waits in line for it, has been handled; or when the
/// actor ends before. A message without a sender, exempt from the capacity.
pub(crate) fn mark<A>(actor: &ActorRef<A>, then: Box<dyn FnOnce() + Send>) {
    let mark = Box::new(Mark { envelope: Envelope::new(&MARK), then, sent: Sent::BLANK });
    // SAFETY: the box is given up to the mailbox or the line, and handled or discarded there by this type's functions.
    unsafe {
        room::follow(actor.header(), actor.clone().into_strong(), NonNull::from(Box::leak(mark)).cast())
    };
}

#[repr(C)]
struct Mark {
    envelope: Envelope,
    then: Box<dyn FnOnce() + Send>,
    /// Always there, since the actor may be timed.
    sent: Sent,
}

const MARK: EnvelopeVtable = EnvelopeVtable {
    handle: handle_mark,
    discard: discard_mark,
    sent: place_of::<Sent>(offset_of!(Mark, sent)),
    batched: None,
};

unsafe fn handle_mark(this: AnyEnvelope, _: NonNull<Header>, _: Place) {
    // SAFETY: the caller's: the only pointer to what `mark` made.
    (unsafe { Box::from_raw(this.cast::<Mark>().as_ptr()) }.then)();
}

unsafe fn discard_mark(this: AnyEnvelope, _: AskError, _: Held<'_>) {
    // SAFETY: as above.
    (unsafe { Box::from_raw(this.cast::<Mark>().as_ptr()) }.then)();
}

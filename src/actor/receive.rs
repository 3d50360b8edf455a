//! How an envelope's message reaches the actor's [`Receive`]: alone, or with others in a batch.

use super::Receive;
use super::batch::{Batch, PoppedEnvelope};
use super::cell_of::enter;
use super::context::Context;
use super::reply::Reply;
use crate::cell::batch::Taking;
use crate::cell::dead_letters;
use crate::cell::envelope::AnyEnvelope;
use crate::cell::envelope::Batched;
use crate::cell::event::DeadLetterReason;
use crate::cell::fail::InHand;
use crate::cell::header::Header;
use std::any::{TypeId, type_name};
use std::ptr::NonNull;

/// Type of [`Batched::open`].
pub(super) type Open = unsafe fn(AnyEnvelope, &Header, NonNull<()>);

/// Type of [`Batched::handle`].
pub(super) type HandleBatch = unsafe fn(AnyEnvelope, &'static Batched, &Taking<'_>);

/// A [`Batched::expired`] for messages without a deadline.
pub(super) unsafe fn never_expires(_: AnyEnvelope) -> bool {
    false
}

/// Makes the entry of a table. Returns `None` if messages of type `M` come one by one.
pub(super) const fn batched_vtable<A: Receive<M>, M: Send + 'static>(
    open: Open,
    expired: unsafe fn(AnyEnvelope) -> bool,
) -> Option<Batched> {
    // A limit of zero messages does not compile.
    const { assert!(A::BATCH > 0, "a batch holds at least one message") };
    if A::BATCH > 1 {
        Some(Batched { message: TypeId::of::<M>(), open, expired, handle: handle_batch::<A, M> })
    } else {
        None
    }
}

/// Writes message and reply, as the last step of an [`Open`].
///
/// # Safety
/// `into` is the pointer that the opening function was given.
pub(super) unsafe fn put_pair<M, R>(into: NonNull<()>, message: M, reply: Reply<R>) {
    // SAFETY: `into` has room for the pair, and nothing is in there yet.
    unsafe { into.cast().write((message, reply)) };
}

/// The [`Batched::handle`] of all messages but prepaid ones.
///
/// # Safety
/// That of [`Batched::handle`].
pub(super) unsafe fn handle_batch<A: Receive<M>, M: Send + 'static>(
    first: AnyEnvelope,
    batched: &'static Batched,
    from: &Taking<'_>,
) {
    let in_hand = InHand::<M>::begin();
    let first = PoppedEnvelope { envelope: first, batched };
    // The handler is not called for a message that came too late. The next message begins a batch
    // of its own.
    if first.has_expired() {
        dead_letters::not_handled(from.header(), DeadLetterReason::Expired, type_name::<M>());
        // SAFETY: by the table the message is an `M` for an actor of type `A`. The actor's turn
        // runs here.
        unsafe { first.expire_message::<M, A::Reply>(from) };
        return in_hand.end();
    }
    let batch = Batch::from_first(first, from, A::BATCH);
    // SAFETY: called through the table, in a turn of an actor of type `A`.
    let (actor, mut ctx) = unsafe { enter::<A>(from.cell()) };
    actor.receive_batch(batch, &mut ctx);
    in_hand.end();
}

/// Calls the handler with a message. A panic names the message's type.
///
/// # Safety
/// Called in a turn of the actor behind `header`, which is of type `A`.
#[inline(always)]
pub(super) unsafe fn call_handler<A: Receive<M>, M: Send + 'static>(
    header: NonNull<Header>,
    message: M,
    reply: Reply<A::Reply>,
) {
    let in_hand = InHand::<M>::begin();
    // SAFETY: a turn of this actor of type `A` runs here.
    let (actor, mut ctx) = unsafe { enter::<A>(header) };
    actor.receive(message, reply, &mut ctx);
    in_hand.end();
}

/// Hands over a message that comes alone, as a batch if its type has batches.
#[inline]
pub(super) fn receive_alone<A: Receive<M>, M: Send + 'static>(
    actor: &mut A,
    message: M,
    ctx: &mut Context<A>,
) {
    if A::BATCH > 1 {
        actor.receive_batch(Batch::of_one(message, Reply::to_nobody()), ctx);
    } else {
        actor.receive(message, Reply::to_nobody(), ctx);
    }
}

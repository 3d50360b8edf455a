//! Kinds of asked messages, and the tables of their envelopes, which follow from the kind.

use super::envelope::{AskEnvelope, AskWithReplyEnvelope};
use crate::actor::Receive;
use crate::actor::carried::Carried;
use crate::actor::receive;
use crate::actor::reply::Reply;
use crate::cell::dead_letters;
use crate::cell::envelope::{AnyEnvelope, EnvelopeVtable, Storage, Timestamp};
use crate::cell::event::DeadLetterReason;
use crate::cell::fail::InHand;
use crate::cell::header::Header;
use crate::error::AskError;
use std::any::type_name;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// A kind of asked message. Chosen by type, so a parcel carries no pointer to a table.
pub(crate) trait AskKind: 'static {
    type Actor: Receive<Self::Message>;
    type Message: Send + 'static;
    /// The contents of the envelope: the message, perhaps in a box, perhaps with a deadline.
    type Carrier: Send + 'static;

    fn arrive(carrier: Self::Carrier) -> Self::Message;

    /// Returns `true` if the message's turn comes too late, so the message is not handled.
    fn has_expired(carrier: &Self::Carrier) -> bool;
}

/// The answer to an asked message.
pub(crate) type ReplyOf<T> = <<T as AskKind>::Actor as Receive<<T as AskKind>::Message>>::Reply;

/// A plain message, which travels as a `C`.
pub(crate) struct PlainAsk<A, M, C>(PhantomData<fn(A, M, C)>);

impl<A: Receive<M>, M: Send + 'static, C: Carried<M>> AskKind for PlainAsk<A, M, C> {
    type Actor = A;
    type Message = M;
    type Carrier = C;

    #[inline]
    fn arrive(carrier: C) -> M {
        carrier.arrive()
    }

    #[inline]
    fn has_expired(_: &C) -> bool {
        false
    }
}

/// The tables of the envelopes for messages of kind `T`.
pub(super) struct AskVtables<T, S>(PhantomData<fn(T, S)>);

impl<T: AskKind, S: Timestamp> AskVtables<T, S> {
    /// The table of an [`AskEnvelope`].
    ///
    /// `()` stands in the place of `S`: dated or not, the message lies at the same place, and one
    /// copy of the handler's code serves both.
    pub(super) const ASKED: EnvelopeVtable = EnvelopeVtable {
        handle: handle_asked::<T>,
        discard: AskEnvelope::<T::Carrier, ReplyOf<T>, ()>::discard_ask,
        sent: AskEnvelope::<T::Carrier, ReplyOf<T>, S>::SENT,
        batched: receive::batched_vtable::<T::Actor, T::Message>(
            open_asked::<T>,
            asked_has_expired::<T>,
        ),
        mark_taken: Some(AskEnvelope::<T::Carrier, ReplyOf<T>, ()>::mark_taken),
        message_type: type_name::<T::Message>,
        counted: true,
    };
    /// The table of an [`AskWithReplyEnvelope`].
    pub(super) const WITH_REPLY: EnvelopeVtable = EnvelopeVtable {
        handle: handle_with_reply::<T, S>,
        discard: AskWithReplyEnvelope::<T::Carrier, ReplyOf<T>, S>::discard_ask,
        sent: AskWithReplyEnvelope::<T::Carrier, ReplyOf<T>, S>::SENT,
        batched: receive::batched_vtable::<T::Actor, T::Message>(
            open_with_reply::<T, S>,
            with_reply_has_expired::<T, S>,
        ),
        // The asker of such an envelope waits for another address.
        mark_taken: None,
        message_type: type_name::<T::Message>,
        counted: true,
    };
}

unsafe fn handle_asked<T: AskKind>(this: AnyEnvelope, header: NonNull<Header>, _: Storage) {
    // SAFETY: called through the envelope's table with the only pointer to the envelope, in the
    // actor's turn. From here on the reply is the replier's side.
    unsafe {
        let (carrier, reply) = AskEnvelope::<T::Carrier, ReplyOf<T>, ()>::take_parts(this);
        handle_carrier::<T>(carrier, reply, header);
    }
}

unsafe fn handle_with_reply<T: AskKind, S: Timestamp>(
    this: AnyEnvelope,
    header: NonNull<Header>,
    _: Storage,
) {
    // SAFETY: called through the envelope's table with the only pointer to the envelope, in the
    // actor's turn.
    unsafe {
        let held = header.as_ref().pool_held();
        let (carrier, reply) =
            AskWithReplyEnvelope::<T::Carrier, ReplyOf<T>, S>::take_and_free(this, held);
        handle_carrier::<T>(carrier, reply, header);
    }
}

/// Handles the message, or tells the asker that it came too late.
///
/// # Safety
/// Called in a turn of the actor behind `header`, which is of type `T::Actor`.
#[inline]
unsafe fn handle_carrier<T: AskKind>(
    carrier: T::Carrier,
    reply: Reply<ReplyOf<T>>,
    header: NonNull<Header>,
) {
    // SAFETY: a turn of this actor of type `T::Actor` runs here.
    unsafe {
        // Read here and not by a timer: an expired message costs nothing before its turn comes.
        if T::has_expired(&carrier) {
            let in_hand = InHand::<T::Message>::begin();
            let message_type = type_name::<T::Message>();
            dead_letters::not_handled(header.as_ref(), DeadLetterReason::Expired, message_type);
            reply.fail_with(AskError::Expired); // told even if the message's drop panics
            drop(carrier);
            in_hand.end();
        } else {
            receive::call_handler::<T::Actor, T::Message>(header, T::arrive(carrier), reply);
        }
    }
}

/// Opens an envelope for a batch.
unsafe fn open_asked<T: AskKind>(this: AnyEnvelope, _: &Header, into: NonNull<()>) {
    // SAFETY: called through the envelope's table with the only pointer to the envelope. `into` has
    // room for message and reply.
    unsafe {
        let (carrier, reply) = AskEnvelope::<T::Carrier, ReplyOf<T>, ()>::take_parts(this);
        receive::put_pair(into, T::arrive(carrier), reply);
    }
}

/// Opens an envelope for a batch.
unsafe fn open_with_reply<T: AskKind, S: Timestamp>(
    this: AnyEnvelope,
    header: &Header,
    into: NonNull<()>,
) {
    // SAFETY: called through the envelope's table with the only pointer to the envelope. `into` has
    // room for message and reply.
    unsafe {
        let held = header.pool_held();
        let (carrier, reply) =
            AskWithReplyEnvelope::<T::Carrier, ReplyOf<T>, S>::take_and_free(this, held);
        receive::put_pair(into, T::arrive(carrier), reply);
    }
}

unsafe fn asked_has_expired<T: AskKind>(this: AnyEnvelope) -> bool {
    // SAFETY: called through the envelope's table, with the message still there.
    T::has_expired(unsafe { AskEnvelope::<T::Carrier, ReplyOf<T>, ()>::message_ptr(this).as_ref() })
}

unsafe fn with_reply_has_expired<T: AskKind, S: Timestamp>(this: AnyEnvelope) -> bool {
    // SAFETY: called through the envelope's table, with the message still there.
    T::has_expired(unsafe {
        AskWithReplyEnvelope::<T::Carrier, ReplyOf<T>, S>::message_ptr(this).as_ref()
    })
}

//! Asked messages on their way into an envelope, undated or dated as the actor needs it.

use super::envelope::{AskEnvelope, AskEnvelopeHead, AskWithReplyEnvelope};
use super::kind::{AskKind, AskVtables, ReplyOf};
use crate::actor::reply::Reply;
use crate::cell::deliver::Parcel;
use crate::cell::envelope::{AnyEnvelope, SentAt};
use crate::cell::header::Header;
use crate::memory::Heap;
use std::ptr::NonNull;

/// A question of kind `T` on its way into an envelope.
pub(crate) struct AskParcel<T: AskKind> {
    carrier: T::Carrier,
    target: NonNull<Header>,
}

impl<T: AskKind> AskParcel<T> {
    /// Makes a question. The caller holds `target` until the question was sent or given up.
    pub(super) fn new(carrier: T::Carrier, target: NonNull<Header>) -> Self {
        AskParcel { carrier, target }
    }

    pub(super) fn into_carrier(self) -> T::Carrier {
        self.carrier
    }
}

impl<T: AskKind> Parcel for AskParcel<T> {
    /// The asker's side.
    type Receipt = NonNull<AskEnvelopeHead<ReplyOf<T>>>;

    #[inline]
    fn receipt_for(envelope: AnyEnvelope) -> Self::Receipt {
        // The envelope itself is the receipt: its block holds the slot.
        envelope.cast()
    }

    #[inline]
    fn into_envelope(self, heap: &Heap) -> AnyEnvelope {
        let vtable = &AskVtables::<T, ()>::ASKED;
        AskEnvelope::<_, ReplyOf<T>, ()>::new_boxed(heap, vtable, self.target, self.carrier)
    }
    fn into_dated_envelope(self, heap: &Heap) -> AnyEnvelope {
        let vtable = &AskVtables::<T, SentAt>::ASKED;
        AskEnvelope::<_, ReplyOf<T>, SentAt>::new_boxed(heap, vtable, self.target, self.carrier)
    }
}

/// A message of kind `T` and its reply, on their way into an envelope.
pub(crate) struct AskWithReplyParcel<T: AskKind> {
    carrier: T::Carrier,
    reply: Reply<ReplyOf<T>>,
}

impl<T: AskKind> AskWithReplyParcel<T> {
    pub(super) fn new(carrier: T::Carrier, reply: Reply<ReplyOf<T>>) -> Self {
        AskWithReplyParcel { carrier, reply }
    }

    pub(super) fn into_parts(self) -> (T::Carrier, Reply<ReplyOf<T>>) {
        (self.carrier, self.reply)
    }
}

impl<T: AskKind> Parcel for AskWithReplyParcel<T> {
    type Receipt = ();

    fn receipt_for(_: AnyEnvelope) {}

    fn into_envelope(self, heap: &Heap) -> AnyEnvelope {
        let vtable = &AskVtables::<T, ()>::WITH_REPLY;
        AskWithReplyEnvelope::<_, _, ()>::new_boxed(heap, vtable, self.reply, self.carrier)
    }
    fn into_dated_envelope(self, heap: &Heap) -> AnyEnvelope {
        let vtable = &AskVtables::<T, SentAt>::WITH_REPLY;
        AskWithReplyEnvelope::<_, _, SentAt>::new_boxed(heap, vtable, self.reply, self.carrier)
    }
}

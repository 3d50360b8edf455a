//! Told messages in envelopes: the block of a message without an asker, and the tables of functions
//! that handle, discard and open it.

use super::Receive;
use super::carried::Carried;
use super::receive;
use super::reply::Reply;
use crate::cell::batch::Taking;
use crate::cell::envelope::{
    AnyEnvelope, Batched, Envelope, EnvelopeVtable, SentAt, Storage, Timestamp, timestamp_offset,
};
use crate::cell::header::Header;
use crate::cell::prepaid;
use crate::error::AskError;
use crate::mailbox::link::Node;
use crate::mailbox::segment::{self, Segment};
use crate::memory::{self, Heap, Held, Kind};
use crate::sched::worker::Worker;
use std::any::{TypeId, type_name};
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ptr::NonNull;

/// A message without an asker.
#[repr(C)]
pub(crate) struct TellEnvelope<M, S> {
    envelope: Envelope,
    message: M,
    sent: S,
}

/// The functions for a told message: in an undated envelope, in a dated one, and in a segment, if
/// the type may be in one.
pub(super) struct TellVtables {
    pub(super) undated: EnvelopeVtable,
    pub(super) dated: EnvelopeVtable,
    pub(super) segment: Option<segment::SegmentKind>,
}

/// The tables for messages of type `M` that travel as a `C`.
pub(super) struct TellVtablesOf<A, M, C>(PhantomData<(A, M, C)>);

impl<A: Receive<M>, M: Send + 'static, C: Carried<M>> TellVtablesOf<A, M, C> {
    pub(super) const PLAIN: TellVtables = TellVtables {
        segment: {
            // `UNDATED` is a constant of its own, since a constant cannot point into itself.
            let table: *const EnvelopeVtable = &Self::UNDATED;
            // Batches take envelopes only, since a batch looks at a message before it takes it. And
            // `take_message` must find the message where a slot has it, right behind the place of
            // an envelope.
            let behind = offset_of!(TellEnvelope<C, ()>, message) == size_of::<Envelope>();
            match Self::UNDATED.batched {
                None if behind => segment::SegmentKind::for_message::<C>(
                    TypeId::of::<M>(),
                    table.cast(),
                    move_to_envelope::<A, M, C>,
                    free_segment::<C>,
                ),
                _ => None,
            }
        },
        ..Self::ORDINARY
    };
    const UNDATED: EnvelopeVtable = Self::ORDINARY.undated;
    const ORDINARY: TellVtables = Self::vtables(
        handle::<A, M, C>,
        handle_dated::<A, M, C>,
        open_for_batch::<M, C, A::Reply>,
        receive::handle_batch::<A, M>,
    );
    // Prepaid messages lie in envelopes only. Their functions note the handling first.
    pub(super) const AGAIN: TellVtables = Self::vtables(
        handle_prepaid::<A, M, C, true>,
        handle_prepaid_dated::<A, M, C, true>,
        open_prepaid::<M, C, A::Reply, true>,
        handle_prepaid_batch::<A, M, C, true>,
    );
    pub(super) const NOTICE: TellVtables = Self::vtables(
        handle_prepaid::<A, M, C, false>,
        handle_prepaid_dated::<A, M, C, false>,
        open_prepaid::<M, C, A::Reply, false>,
        handle_prepaid_batch::<A, M, C, false>,
    );

    const fn vtables(
        handle: HandleFn,
        handle_dated: HandleFn,
        open: receive::Open,
        handle_batch: receive::HandleBatch,
    ) -> TellVtables {
        let (discard, sent) = (
            discard_told::<C>,
            timestamp_offset::<SentAt>(offset_of!(TellEnvelope<C, SentAt>, sent)),
        );
        // Made twice: each table owns its entry, which is not `Copy`.
        let undated = batched_vtable::<A, M>(open, handle_batch);
        let dated = batched_vtable::<A, M>(open, handle_batch);
        TellVtables {
            undated: EnvelopeVtable {
                handle,
                discard,
                // No instant: the front of an envelope lies at offset 0, never an instant.
                sent: 0,
                batched: undated,
                mark_taken: None,
                message_type: type_name::<M>,
                counted: true,
            },
            dated: EnvelopeVtable {
                handle: handle_dated,
                discard,
                sent,
                batched: dated,
                mark_taken: None,
                message_type: type_name::<M>,
                counted: true,
            },
            segment: None,
        }
    }
}

/// Told messages have no deadline.
const fn batched_vtable<A: Receive<M>, M: Send + 'static>(
    open: receive::Open,
    handle: receive::HandleBatch,
) -> Option<Batched> {
    match receive::batched_vtable::<A, M>(open, receive::never_expires) {
        Some(batched) => Some(Batched { handle, ..batched }),
        None => None,
    }
}

type HandleFn = unsafe fn(AnyEnvelope, NonNull<Header>, Storage);

impl<M: Send + 'static, S: Timestamp> TellEnvelope<M, S> {
    #[inline]
    pub(super) fn new_boxed(
        heap: &Heap,
        vtable: &'static EnvelopeVtable,
        sent: S,
        message: M,
    ) -> AnyEnvelope {
        let make = || TellEnvelope { envelope: Envelope::new(vtable), message, sent };
        memory::alloc_with(heap, Kind::Message, make).cast()
    }

    /// Takes the message out of an envelope of its own.
    ///
    /// # Safety
    /// `this` is the only pointer to an envelope of this type, and `held` is of its pool.
    #[inline]
    unsafe fn take_boxed(this: AnyEnvelope, held: Held<'_>) -> M {
        // SAFETY: no other pointer to the envelope exists, and the envelope of this type lies in a
        // block of its own.
        unsafe { Self::take_message(this, Storage::Boxed, held) }
    }

    /// Takes the message out of an envelope or a slot.
    ///
    /// # Safety
    /// `this` is the only pointer to an envelope of this type, or to where the envelope of a
    /// message in a slot would be. `held` is of its pool.
    #[inline]
    unsafe fn take_message(this: AnyEnvelope, place: Storage, held: Held<'_>) -> M {
        let this: NonNull<Self> = this.cast();
        // SAFETY: the message is there and is read once. For a message in a slot only the message
        // itself is read: naming its place touches no envelope and needs none to be aligned there.
        // An envelope of its own comes from the pool of `held`.
        unsafe {
            let message = (&raw const (*this.as_ptr()).message).read();
            // A slot is not freed by itself. Its segment goes when all slots are passed.
            if place == Storage::Boxed {
                Worker::with_heap(|here| {
                    memory::free_without_drop(here, Kind::Message, this, held)
                });
            }
            message
        }
    }
}

/// Moves a message out of its slot into an envelope.
///
/// # Safety
/// The slot has a message that travels as a `C`, taken out once, in a turn of the actor behind
/// `whose`.
unsafe fn move_to_envelope<A, M, C>(slot: NonNull<()>, whose: NonNull<()>) -> *mut Node
where
    A: Receive<M>,
    M: Send + 'static,
    C: Carried<M>,
{
    // SAFETY: the caller owns the message in the slot and does not read it again. `whose` is the
    // header of the actor in its turn here.
    unsafe {
        let (message, header) = (slot.cast::<C>().read(), whose.cast::<Header>());
        let table = &TellVtablesOf::<A, M, C>::PLAIN.undated;
        Envelope::node_of(
            header
                .as_ref()
                .core()
                .with_heap(|heap| TellEnvelope::new_boxed(heap, table, (), message)),
        )
    }
}

/// Frees a segment.
///
/// # Safety
/// All messages of the segment are gone, and this is the only pointer to it.
unsafe fn free_segment<M>(segment: NonNull<Segment>) {
    // SAFETY: `TellVtablesOf` made the segment, and all its slots are passed. The mailbox's
    // receiver frees the segment: a turn, on a thread that holds the core until after the turn, or
    // a pool that empties a hold and has a handle. So the memory pool lives.
    Worker::with_heap(|here| unsafe { segment::free_memory::<M>(here, segment, Held::promised()) });
}

/// Takes the message out of an envelope, dated or not.
///
/// # Safety
/// `this` is the only pointer to an envelope made by a [`TellParcel`] of this type, and `held` is
/// of the envelope's pool.
pub(crate) unsafe fn take_from_envelope<M: Send + 'static>(this: AnyEnvelope, held: Held<'_>) -> M {
    // SAFETY: the table says which of the two types the envelope has, and no other pointer to it
    // exists.
    unsafe {
        if Envelope::is_dated(this) {
            TellEnvelope::<M, SentAt>::take_boxed(this, held)
        } else {
            TellEnvelope::<M, ()>::take_boxed(this, held)
        }
    }
}

unsafe fn handle<A: Receive<M>, M: Send + 'static, C: Carried<M>>(
    this: AnyEnvelope,
    header: NonNull<Header>,
    place: Storage,
) {
    // SAFETY: called through the table, in a turn of the addressed actor of type `A`. The message
    // is read once, and comes from the actor's pool.
    unsafe {
        // Taken before the handler runs, so a message sent by the handler may use the freed block
        // again.
        let message = TellEnvelope::<C, ()>::take_message(this, place, header.as_ref().pool_held());
        receive::call_handler::<A, M>(header, message.arrive(), Reply::to_nobody());
    }
}

/// Notes that a turn has come to a prepaid message, before any user code. With `AGAIN` the actor
/// may then prepay the next one.
fn come_to_prepaid<const AGAIN: bool>(header: &Header) {
    prepaid::note_in_hand();
    if AGAIN {
        header.again.set(false);
    }
}

unsafe fn handle_prepaid<A: Receive<M>, M: Send + 'static, C: Carried<M>, const AGAIN: bool>(
    this: AnyEnvelope,
    header: NonNull<Header>,
    place: Storage,
) {
    // SAFETY: called through the table, in a turn of the addressed actor of type `A`. The message
    // is read once, and comes from the actor's pool.
    unsafe {
        come_to_prepaid::<AGAIN>(header.as_ref());
        handle::<A, M, C>(this, header, place);
    }
}

/// Handles a dated message by packing it once more, as an undated one. So a handler is compiled
/// into one place only, as if no actor were timed.
unsafe fn handle_dated<A: Receive<M>, M: Send + 'static, C: Carried<M>>(
    this: AnyEnvelope,
    header: NonNull<Header>,
    _: Storage,
) {
    // SAFETY: called through the table of dated envelopes, in the actor's turn, with the only
    // pointer. The new envelope is an undated one of this type.
    unsafe {
        let message = TellEnvelope::<C, SentAt>::take_boxed(this, header.as_ref().pool_held());
        let table = &TellVtablesOf::<A, M, C>::PLAIN.undated;
        let undated = header
            .as_ref()
            .core()
            .with_heap(|heap| TellEnvelope::new_boxed(heap, table, (), message));
        handle::<A, M, C>(undated, header, Storage::Boxed);
    }
}

unsafe fn handle_prepaid_dated<
    A: Receive<M>,
    M: Send + 'static,
    C: Carried<M>,
    const AGAIN: bool,
>(
    this: AnyEnvelope,
    header: NonNull<Header>,
    place: Storage,
) {
    // SAFETY: called through the table of dated envelopes, in a turn of the addressed actor of type
    // `A`, with the only pointer to the envelope.
    unsafe {
        come_to_prepaid::<AGAIN>(header.as_ref());
        handle_dated::<A, M, C>(this, header, place);
    }
}

/// Opens an envelope for a batch, dated or not.
unsafe fn open_for_batch<M: Send + 'static, C: Carried<M>, R: Send + 'static>(
    this: AnyEnvelope,
    header: &Header,
    into: NonNull<()>,
) {
    // SAFETY: called through the envelope's table with the only pointer to the envelope. `into` has
    // room for message and reply.
    unsafe {
        receive::put_pair::<M, R>(
            into,
            take_from_envelope::<C>(this, header.pool_held()).arrive(),
            Reply::to_nobody(),
        )
    };
}

unsafe fn open_prepaid<M: Send + 'static, C: Carried<M>, R: Send + 'static, const AGAIN: bool>(
    this: AnyEnvelope,
    header: &Header,
    into: NonNull<()>,
) {
    come_to_prepaid::<AGAIN>(header);
    // SAFETY: called through the envelope's table with the only pointer to the envelope. `into` has
    // room for message and reply.
    unsafe { open_for_batch::<M, C, R>(this, header, into) };
}

/// Handles a batch that begins with a prepaid message. The message is noted before the handler
/// runs, as the handler may forget the batch and never open it. Batches of other messages take no
/// step more for this.
unsafe fn handle_prepaid_batch<A, M, C, const AGAIN: bool>(
    first: AnyEnvelope,
    _: &'static Batched,
    from: &Taking<'_>,
) where
    A: Receive<M>,
    M: Send + 'static,
    C: Carried<M>,
{
    come_to_prepaid::<AGAIN>(from.header());
    // An ordinary message's table opens the same envelope, without a second note.
    let ordinary = &TellVtablesOf::<A, M, C>::PLAIN.undated.batched;
    let ordinary = ordinary.as_ref().expect("messages of this type come in batches");
    // SAFETY: called through the table of a message of type `M`, in a turn of the actor of type
    // `A`. `first` is the only pointer to the envelope.
    unsafe { (ordinary.handle)(first, ordinary, from) };
}

unsafe fn discard_told<M: Send + 'static>(this: AnyEnvelope, _: AskError, held: Held<'_>) {
    // SAFETY: called through the envelope's table with the only pointer to the envelope, and `held`
    // is of its pool.
    drop(unsafe { take_from_envelope::<M>(this, held) });
}

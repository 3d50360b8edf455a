//! Told messages: an envelope with a message and no way back, in one block; or, where many wait,
//! the message alone in a [segment]'s slot.

use super::carried::{Carried, carried};
use super::cell_of::enter;
use super::receive;
use super::refs::ActorRef;
use super::reply::Reply;
use super::{Actor, Receive};
use crate::cell::deliver::{Lane, Origin, Parcel, deliver, push_alone};
use crate::cell::envelope::Batched;
use crate::cell::envelope::{
    AnyEnvelope, Envelope, EnvelopeVtable, SentAt, Storage, Timestamp, timestamp_offset,
};
use crate::cell::header::Header;
use crate::cell::prepaid;
use crate::error::{AskError, SendError, TellManyError};
use crate::mailbox::inbox::Filled;
use crate::mailbox::link::Node;
use crate::mailbox::segment::{self, Segment};
use crate::memory::{self, Heap, Held, Kind};
use crate::sched::worker::Worker;
use crate::variance::Invariant;
use std::any::TypeId;
use std::cell::Cell;
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
struct TellVtables {
    undated: EnvelopeVtable,
    dated: EnvelopeVtable,
    segment: Option<segment::SegmentKind>,
}

/// The tables for messages of type `M` that travel as a `C`.
struct TellVtablesOf<A, M, C>(PhantomData<(A, M, C)>);

impl<A: Receive<M>, M: Send + 'static, C: Carried<M>> TellVtablesOf<A, M, C> {
    const PLAIN: TellVtables = TellVtables {
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
        ..Self::vtables(handle::<A, M, C>, handle_dated::<A, M, C>, open_for_batch::<M, C, A::Reply>)
    };
    const UNDATED: EnvelopeVtable =
        Self::vtables(handle::<A, M, C>, handle_dated::<A, M, C>, open_for_batch::<M, C, A::Reply>).undated;
    // Prepaid messages lie in envelopes only. Their functions note the handling first.
    const AGAIN: TellVtables = Self::vtables(
        handle_prepaid::<A, M, C, true>,
        handle_prepaid_dated::<A, M, C, true>,
        open_prepaid::<M, C, A::Reply, true>,
    );
    const NOTICE: TellVtables = Self::vtables(
        handle_prepaid::<A, M, C, false>,
        handle_prepaid_dated::<A, M, C, false>,
        open_prepaid::<M, C, A::Reply, false>,
    );

    const fn vtables(handle: HandleFn, handle_dated: HandleFn, open: receive::Open) -> TellVtables {
        let (discard, sent) =
            (discard_told::<C>, timestamp_offset::<SentAt>(offset_of!(TellEnvelope<C, SentAt>, sent)));
        let (undated, dated) = (batched_vtable::<A, M>(open), batched_vtable::<A, M>(open));
        TellVtables {
            undated: EnvelopeVtable { handle, discard, sent: 0, batched: undated, mark_taken: None },
            dated: EnvelopeVtable { handle: handle_dated, discard, sent, batched: dated, mark_taken: None },
            segment: None,
        }
    }
}

/// Told messages have no deadline.
const fn batched_vtable<A: Receive<M>, M: Send + 'static>(open: receive::Open) -> Option<Batched> {
    receive::batched_vtable::<A, M>(open, receive::never_expires)
}

type HandleFn = unsafe fn(AnyEnvelope, NonNull<Header>, Storage);

/// A message on its way into an envelope.
pub(crate) struct TellParcel<M> {
    message: M,
    /// Made for messages of type `M`.
    table: &'static TellVtables,
    made_for: Invariant<M>,
}

impl<C: Send + 'static> TellParcel<C> {
    #[inline]
    pub(crate) fn for_tell<A: Receive<M>, M: Send + 'static>(message: C) -> Self
    where
        C: Carried<M>,
    {
        TellParcel { message, table: &TellVtablesOf::<A, M, C>::PLAIN, made_for: PhantomData }
    }

    /// Makes the message that [`Context::tell_self`](super::context::Context::tell_self) prepays.
    pub(crate) fn for_tell_self<A: Receive<M>, M: Send + 'static>(message: C) -> Self
    where
        C: Carried<M>,
    {
        TellParcel { message, table: &TellVtablesOf::<A, M, C>::AGAIN, made_for: PhantomData }
    }

    /// Makes the message that [`Context::when_room`](super::context::Context::when_room) prepays.
    pub(crate) fn for_room_notice<A: Receive<M>, M: Send + 'static>(message: C) -> Self
    where
        C: Carried<M>,
    {
        TellParcel { message, table: &TellVtablesOf::<A, M, C>::NOTICE, made_for: PhantomData }
    }

    pub(crate) fn into_message(self) -> C {
        self.message
    }

    /// Packs an envelope before a place is reserved for it, for a sender that waits for room. `at`
    /// is the receiver.
    pub(crate) fn pack_for(self, at: &Header) -> AnyEnvelope {
        // Whether an actor is timed never changes, so the choice holds until the delivery.
        let dated = at.stopwatch().is_some();
        at.core()
            .with_heap(|heap| if dated { self.into_dated_envelope(heap) } else { self.into_envelope(heap) })
    }
}

/// With fewer messages than this in a mailbox a segment would take more memory than envelopes do.
const WORTH_A_SEGMENT: u32 = 6;
/// Number of messages that begin no segment after a message has met a segment of another type.
/// Where types alternate, each segment would have one message.
const NO_SEGMENTS_FOR: u32 = 32;

thread_local! {
    /// Number of messages until this thread begins a segment again.
    static MIXED: Cell<u32> = const { Cell::new(0) };
}

/// Returns `true` if messages of several types have lately met in mailboxes. Counts the call as one
/// message.
#[inline]
fn types_are_mixed() -> bool {
    let left = MIXED.get();
    if left > 0 {
        MIXED.set(left - 1);
    }
    left > 0
}

impl<M: Send + 'static> Parcel for TellParcel<M> {
    type Receipt = ();

    #[inline]
    fn receipt_for(_: AnyEnvelope) {}

    /// Puts the message into a segment where many messages wait, if its type may be in one.
    #[inline]
    unsafe fn put_into_mailbox(self, to: &Header, from: &impl Origin) {
        let TellParcel { mut message, table, made_for } = self;
        // Decided without a look at what lies on top: in a mailbox with a message now and then the
        // processor cannot predict that branch.
        if let Some(kind) = &table.segment {
            // SAFETY: `kind` is the kind of messages that travel as an `M`, by `PLAIN`.
            message = match unsafe { to.inbox.fill_top_segment(kind, message) } {
                Filled::Done => return,
                Filled::NoSegment(message)
                    if to.state.load_snapshot().len() >= WORTH_A_SEGMENT && !types_are_mixed() =>
                {
                    // SAFETY: `kind` is the kind of `M`. The segment was just begun, so it is on no
                    // queue. A place is reserved for the message.
                    return unsafe {
                        let segment = from.with_heap(|heap| segment::new_with_first(heap, kind, message));
                        to.inbox.push_segment(segment);
                    };
                }
                // One attempt only: a push costs one step as well, and needs no other sender to
                // stand still.
                Filled::NoSegment(message) | Filled::Contended(message) => message,
                Filled::OtherType(message) => {
                    // The types alternate at the moment, so the next segments would hold one
                    // message each.
                    MIXED.set(NO_SEGMENTS_FOR);
                    message
                }
            };
        }
        // SAFETY: a place is reserved in the mailbox of `to`, and the table is made for its type.
        unsafe { push_alone(TellParcel { message, table, made_for }, to, from) };
    }

    #[inline]
    fn into_envelope(self, heap: &Heap) -> AnyEnvelope {
        TellEnvelope::new_boxed(heap, &self.table.undated, (), self.message)
    }
    fn into_dated_envelope(self, heap: &Heap) -> AnyEnvelope {
        TellEnvelope::new_boxed(heap, &self.table.dated, SentAt::BLANK, self.message)
    }
}

impl<M: Send + 'static, S: Timestamp> TellEnvelope<M, S> {
    #[inline]
    fn new_boxed(heap: &Heap, vtable: &'static EnvelopeVtable, sent: S, message: M) -> AnyEnvelope {
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
                Worker::with_heap(|here| memory::free_without_drop(here, Kind::Message, this, held));
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
    // header of the actor whose turn runs here.
    unsafe {
        let (message, header) = (slot.cast::<C>().read(), whose.cast::<Header>());
        let table = &TellVtablesOf::<A, M, C>::PLAIN.undated;
        Envelope::node_of(
            header.as_ref().core().with_heap(|heap| TellEnvelope::new_boxed(heap, table, (), message)),
        )
    }
}

/// Frees a segment.
///
/// # Safety
/// All messages of the segment are gone, and this is the only pointer to it.
unsafe fn free_segment<M>(segment: NonNull<Segment>) {
    // SAFETY: `TellVtablesOf` made the segment, and all its slots are passed. The mailbox's
    // receiver frees it: either a turn, whose thread holds the core until after the turn, or a pool
    // that empties a hold and has a handle. So the memory pool lives.
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
        let (actor, mut ctx) = enter::<A>(header);
        actor.receive(message.arrive(), Reply::to_nobody(), &mut ctx);
    }
}

/// Notes that a turn has come to a prepaid message. With `AGAIN` the actor may then prepay the next
/// one.
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
    // SAFETY: called through the table, with the contract of `handle`.
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
        let undated =
            header.as_ref().core().with_heap(|heap| TellEnvelope::new_boxed(heap, table, (), message));
        handle::<A, M, C>(undated, header, Storage::Boxed);
    }
}

unsafe fn handle_prepaid_dated<A: Receive<M>, M: Send + 'static, C: Carried<M>, const AGAIN: bool>(
    this: AnyEnvelope,
    header: NonNull<Header>,
    place: Storage,
) {
    // SAFETY: called through the table, with the contract of `handle_dated`.
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
    // SAFETY: called through the table, with the contract of `open`.
    unsafe { open_for_batch::<M, C, R>(this, header, into) };
}

unsafe fn discard_told<M: Send + 'static>(this: AnyEnvelope, _: AskError, held: Held<'_>) {
    // SAFETY: called through the envelope's table with the only pointer to the envelope, and `held`
    // is of its pool.
    drop(unsafe { take_from_envelope::<M>(this, held) });
}

impl<A: Actor> ActorRef<A> {
    /// Sends a message. Never waits, wherever it is called.
    ///
    /// Messages from one sender are handled in the order sent. The cost is a few tens of
    /// nanoseconds.
    ///
    /// # Limits
    /// A message of more than 4 KiB is moved into a box, and out of it for the handler. With the
    /// default [stack](crate::ExecutorBuilder::stack_size) a message of up to 512 KiB can be sent,
    /// in debug builds too. A larger one may overflow the stack, which ends the process: send a
    /// [`Box`].
    ///
    /// # Errors
    /// The message comes back inside the error if the mailbox is full, the actor has stopped, the
    /// executor shuts down, or the process was forked.
    ///
    /// ```
    /// # use heist::{Actor, Context, Executor, Handler};
    /// # struct Log(Vec<String>);
    /// # impl Actor for Log {}
    /// impl Handler<String> for Log {
    ///     type Reply = ();
    ///     fn handle(&mut self, line: String, _: &mut Context<Self>) {
    ///         self.0.push(line);
    ///     }
    /// }
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let executor = Executor::new();
    /// let log = executor.spawn(Log(Vec::new()));
    /// log.tell("a line".to_string())?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("cast", "notify", "do_send", "try_send", "post"))]
    #[inline]
    pub fn tell<M: Send + 'static>(&self, message: M) -> Result<(), SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => self.tell_as::<M, _>(message))
    }

    #[inline]
    pub(crate) fn tell_as<M: Send + 'static, C: Carried<M>>(&self, message: C) -> Result<(), SendError<C>>
    where
        A: Receive<M>,
    {
        // SAFETY: `self` is a strong reference; the envelope is made for an actor of type `A`.
        match unsafe { deliver(self.as_ptr(), TellParcel::for_tell::<A, M>(message), Lane::Ordinary) } {
            Ok(_) => Ok(()),
            Err((telling, refusal)) => Err(SendError::new(telling.into_message(), refusal)),
        }
    }

    /// Sends all messages of an iterator, in order, up to the first that is refused. Returns how
    /// many messages were accepted.
    ///
    /// # Errors
    /// The error holds the refused message, the rest of the iterator, and the number of messages
    /// accepted before.
    #[doc(alias("send_all", "extend"))]
    pub fn tell_many<I>(&self, messages: I) -> Result<usize, TellManyError<I::Item, I::IntoIter>>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        A: Receive<I::Item>,
    {
        let mut rest = messages.into_iter();
        let mut accepted = 0;
        // One by one: each message is accepted or refused by itself, as if told alone.
        while let Some(message) = rest.next() {
            if let Err(error) = self.tell(message) {
                let refusal = error.refusal();
                return Err(TellManyError::new(accepted, error.into_message(), rest, refusal));
            }
            accepted += 1;
        }
        Ok(accepted)
    }
}

//! `tell`: messages without a way back. Each goes into an envelope of its own, or, where many wait,
//! alone into a [segment]'s slot.

use super::carried::{Carried, carried};
use super::refs::ActorRef;
use super::told::{TellEnvelope, TellVtables, TellVtablesOf};
use super::{Actor, Receive};
use crate::cell::deliver::{Lane, Origin, Parcel, deliver, push_alone};
use crate::cell::envelope::{AnyEnvelope, SentAt, Timestamp};
use crate::cell::header::Header;
use crate::error::{SendError, TellManyError};
use crate::mailbox::inbox::Filled;
use crate::mailbox::segment;
use crate::memory::Heap;
use crate::variance::Invariant;
use std::cell::Cell;
use std::marker::PhantomData;

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
        at.core().with_heap(|heap| {
            if dated { self.into_dated_envelope(heap) } else { self.into_envelope(heap) }
        })
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
                        let segment =
                            from.with_heap(|heap| segment::new_with_first(heap, kind, message));
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
    #[doc(alias("cast", "notify", "do_send", "try_send", "post", "fire and forget"))]
    #[inline]
    pub fn tell<M: Send + 'static>(&self, message: M) -> Result<(), SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => self.tell_as::<M, _>(message))
    }

    #[inline]
    pub(crate) fn tell_as<M: Send + 'static, C: Carried<M>>(
        &self,
        message: C,
    ) -> Result<(), SendError<C>>
    where
        A: Receive<M>,
    {
        // SAFETY: `self` is a strong reference; the envelope is made for an actor of type `A`.
        match unsafe {
            deliver(self.as_ptr(), TellParcel::for_tell::<A, M>(message), Lane::Ordinary)
        } {
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

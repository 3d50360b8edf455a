//! Told messages: an envelope with a message and no way back, in one block.

use super::context::{AnyEnvelope, enter};
use super::refs::ActorRef;
use super::reply::Reply;
use super::{Actor, Receive};
use crate::cell::envelope::{Dating, Envelope, EnvelopeVtable, Lane, Parcel, Sent, deliver, place_of};
use crate::cell::header::Header;
use crate::error::{AskError, SendError, TellManyError};
use crate::memory::{self, Heap, Kind};
use crate::sched::local::Local;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ptr::NonNull;

/// A message that nobody waits for the answer of.
#[repr(C)]
pub(crate) struct Told<M, S> {
    envelope: Envelope,
    sent: S,
    message: M,
}

struct PlainTable<A, M, S>(PhantomData<(A, M, S)>);

impl<A: Receive<M>, M: Send + 'static, S: Dating> PlainTable<A, M, S> {
    const SENT: usize = place_of::<S>(offset_of!(Told<M, S>, sent));
    const PLAIN: EnvelopeVtable = EnvelopeVtable {
        handle: Told::<M, S>::handle::<A>,
        discard: Told::<M, S>::discard,
        sent: Self::SENT,
    };
    const AGAIN: EnvelopeVtable = EnvelopeVtable {
        handle: Told::<M, S>::handle_again::<A>,
        discard: Told::<M, S>::discard,
        sent: Self::SENT,
    };
}

/// A message on its way into an envelope.
pub(crate) struct Telling<M> {
    message: M,
    vtable: &'static EnvelopeVtable,
    /// The same of a dated envelope.
    dated: &'static EnvelopeVtable,
}

impl<M: Send + 'static> Telling<M> {
    #[inline]
    pub(crate) fn plain<A: Receive<M>>(message: M) -> Self {
        Telling { message, vtable: &PlainTable::<A, M, ()>::PLAIN, dated: &PlainTable::<A, M, Sent>::PLAIN }
    }

    /// The one that [`Context::again`](super::context::Context::again) prepays.
    pub(crate) fn again<A: Receive<M>>(message: M) -> Self {
        Telling { message, vtable: &PlainTable::<A, M, ()>::AGAIN, dated: &PlainTable::<A, M, Sent>::AGAIN }
    }

    pub(crate) fn into_message(self) -> M {
        self.message
    }

    /// An envelope before a place is known for it: for one who will wait for that. `at` is where it will be sent.
    pub(crate) fn pack_for(self, at: &Header) -> AnyEnvelope {
        at.core().with_heap(|heap| self.pack(heap, at.stopwatch().is_some()))
    }
}

impl<M: Send + 'static> Parcel for Telling<M> {
    #[inline]
    fn pack(self, heap: &Heap, dated: bool) -> AnyEnvelope {
        if dated {
            Told::boxed(heap, self.dated, Sent::BLANK, self.message)
        } else {
            Told::boxed(heap, self.vtable, (), self.message)
        }
    }
}

/// The message back.
///
/// # Safety
/// With the only pointer to an envelope that a [`Telling`] of this type made.
pub(crate) unsafe fn unwrap<M: Send + 'static>(this: AnyEnvelope) -> M {
    // SAFETY: the caller's.
    unsafe {
        if Envelope::is_dated(this) { Told::<M, Sent>::unwrap(this) } else { Told::<M, ()>::unwrap(this) }
    }
}

impl<M: Send + 'static, S: Dating> Told<M, S> {
    #[inline]
    fn boxed(heap: &Heap, vtable: &'static EnvelopeVtable, sent: S, message: M) -> AnyEnvelope {
        memory::boxed(heap, Kind::Message, Told { envelope: Envelope::new(vtable), sent, message }).cast()
    }

    /// # Safety
    /// With the only pointer to an envelope of this type.
    unsafe fn unwrap(this: AnyEnvelope) -> M {
        // SAFETY: the caller's.
        Local::with_heap(|here| unsafe { memory::unboxed(here, Kind::Message, this.cast::<Self>()) }.message)
    }

    unsafe fn handle<A: Receive<M>>(this: AnyEnvelope, header: NonNull<Header>, local: &Local) {
        // SAFETY: the caller's: our envelope, in the actor's turn.
        unsafe {
            let told = memory::unboxed(Some(local.heap()), Kind::Message, this.cast::<Self>());
            let (actor, mut ctx) = enter::<A>(header);
            actor.receive(told.message, Reply::nobody(), &mut ctx);
        }
    }

    unsafe fn handle_again<A: Receive<M>>(this: AnyEnvelope, header: NonNull<Header>, local: &Local) {
        // SAFETY: the caller's.
        unsafe {
            header.as_ref().again.set(false);
            Self::handle::<A>(this, header, local);
        }
    }

    unsafe fn discard(this: AnyEnvelope, _: AskError) {
        // SAFETY: the caller's.
        drop(unsafe { Self::unwrap(this) });
    }
}

impl<A: Actor> ActorRef<A> {
    /// Sends a message. Never waits, wherever it is called.
    ///
    /// Messages from one sender are handled in the order sent. The cost is a few tens of
    /// nanoseconds.
    ///
    /// # Errors
    /// The message comes back inside the error when the mailbox is full, the actor has stopped, or the executor shuts
    /// down.
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
    #[inline]
    pub fn tell<M: Send + 'static>(&self, message: M) -> Result<(), SendError<M>>
    where
        A: Receive<M>,
    {
        // SAFETY: `self` is a strong reference; the envelope is made for an actor of its type.
        match unsafe { deliver(self.as_ptr(), Telling::plain::<A>(message), Lane::Ordinary) } {
            Ok(_) => Ok(()),
            Err((telling, refusal)) => Err(SendError::new(telling.into_message(), refusal)),
        }
    }

    /// Sends all messages of an iterator, in order, up to the first that is refused. Returns how many there were.
    ///
    /// # Errors
    /// The refused message, the rest of the iterator, and how many were accepted before.
    pub fn tell_many<I>(&self, messages: I) -> Result<usize, TellManyError<I::Item, I::IntoIter>>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        A: Receive<I::Item>,
    {
        let mut rest = messages.into_iter();
        let mut accepted = 0;
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

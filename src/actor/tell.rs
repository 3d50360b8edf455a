//! Told messages: an envelope with a message and no way back, in one block.

use super::context::{AnyEnvelope, enter};
use super::refs::ActorRef;
use super::reply::Reply;
use super::{Actor, Receive};
use crate::cell::envelope::{Envelope, EnvelopeVtable, Lane, Parcel, deliver};
use crate::cell::header::Header;
use crate::error::{AskError, SendError, TellManyError};
use crate::memory::{self, Heap, Kind};
use crate::sched::local::Local;
use std::ptr::NonNull;

/// A message that nobody waits for the answer of.
#[repr(C)]
pub(crate) struct Told<M> {
    envelope: Envelope,
    message: M,
}

struct PlainTable<A, M>(std::marker::PhantomData<(A, M)>);

impl<A: Receive<M>, M: Send + 'static> PlainTable<A, M> {
    const PLAIN: EnvelopeVtable =
        EnvelopeVtable { handle: Told::<M>::handle::<A>, discard: Told::<M>::discard };
    const AGAIN: EnvelopeVtable =
        EnvelopeVtable { handle: Told::<M>::handle_again::<A>, discard: Told::<M>::discard };
}

/// A message on its way into an envelope.
pub(crate) struct Telling<M> {
    message: M,
    vtable: &'static EnvelopeVtable,
}

impl<M: Send + 'static> Telling<M> {
    #[inline]
    pub(crate) fn plain<A: Receive<M>>(message: M) -> Self {
        Telling { message, vtable: &PlainTable::<A, M>::PLAIN }
    }

    /// The one that [`Context::again`](super::context::Context::again) prepays.
    pub(crate) fn again<A: Receive<M>>(message: M) -> Self {
        Telling { message, vtable: &PlainTable::<A, M>::AGAIN }
    }

    pub(crate) fn into_message(self) -> M {
        self.message
    }

    /// An envelope before a place is known for it: for one who will wait for that. `at` is where it will be sent.
    pub(crate) fn pack_for(self, at: &Header) -> AnyEnvelope {
        at.core().with_heap(|heap| self.pack(heap))
    }
}

impl<M: Send + 'static> Parcel for Telling<M> {
    #[inline]
    fn pack(self, heap: &Heap) -> AnyEnvelope {
        let Telling { message, vtable } = self;
        memory::boxed(heap, Kind::Message, Told { envelope: Envelope::new(vtable), message }).cast()
    }
}

impl<M: Send + 'static> Told<M> {
    /// The message back.
    ///
    /// # Safety
    /// With the only pointer to an envelope that this type made.
    #[inline]
    pub(crate) unsafe fn unwrap(this: AnyEnvelope) -> M {
        // SAFETY: packed by `Telling`.
        Local::with_heap(
            |here| unsafe { memory::unboxed(here, Kind::Message, this.cast::<Told<M>>()) }.message,
        )
    }

    unsafe fn handle<A: Receive<M>>(this: AnyEnvelope, header: NonNull<Header>) {
        // SAFETY: the caller's: our envelope, in the actor's turn.
        unsafe {
            let message = Self::unwrap(this);
            let (actor, mut ctx) = enter::<A>(header);
            actor.receive(message, Reply::nobody(), &mut ctx);
        }
    }

    unsafe fn handle_again<A: Receive<M>>(this: AnyEnvelope, header: NonNull<Header>) {
        // SAFETY: the caller's.
        unsafe {
            header.as_ref().again.set(false);
            Self::handle::<A>(this, header);
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

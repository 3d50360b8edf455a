//! Told messages: an envelope with a message and no way back, in one allocation.

use super::context::{AnyEnvelope, enter};
use super::refs::ActorRef;
use super::reply::Reply;
use super::{Actor, Receive};
use crate::cell::envelope::{Envelope, EnvelopeVtable, Lane, deliver, refused_already};
use crate::cell::header::Header;
use crate::error::{AskError, SendError, TellManyError};
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

impl<M: Send + 'static> Told<M> {
    fn boxed(vtable: &'static EnvelopeVtable, message: M) -> AnyEnvelope {
        NonNull::from(Box::leak(Box::new(Told { envelope: Envelope::new(vtable), message }))).cast()
    }

    #[inline]
    pub(crate) fn plain<A: Receive<M>>(message: M) -> AnyEnvelope {
        Self::boxed(&PlainTable::<A, M>::PLAIN, message)
    }

    /// The one that [`Context::again`](super::context::Context::again) prepays.
    pub(crate) fn again<A: Receive<M>>(message: M) -> AnyEnvelope {
        Self::boxed(&PlainTable::<A, M>::AGAIN, message)
    }

    /// The message back.
    ///
    /// # Safety
    /// With the only pointer to an envelope that this type made.
    #[inline]
    pub(crate) unsafe fn unwrap(this: AnyEnvelope) -> M {
        // SAFETY: made by `boxed`.
        unsafe { Box::from_raw(this.cast::<Told<M>>().as_ptr()) }.message
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
    /// Messages from one sender are handled in the order sent. The cost is one allocation and a few tens of
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
        if let Some(refusal) = refused_already(self.header()) {
            return Err(SendError::new(message, refusal));
        }
        let told = Told::<M>::plain::<A>(message);
        // SAFETY: `self` is a strong reference; the envelope was made for an actor of its type.
        match unsafe { deliver(self.as_ptr(), told, Lane::Ordinary) } {
            Ok(()) => Ok(()),
            // SAFETY: refused, so it is ours again.
            Err(refusal) => Err(SendError::new(unsafe { Told::<M>::unwrap(told) }, refusal)),
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

//! Forwarding: another actor answers a request, and a wait for the answer counts as one for that
//! actor.

use super::AskWithReplyParcel;
use super::kind::PlainAsk;
use crate::actor::carried::{Carried, is_large};
use crate::actor::context::Context;
use crate::actor::refs::ActorRef;
use crate::actor::reply::Reply;
use crate::actor::{Actor, Receive};
use crate::cell::deliver::{Lane, deliver};
use crate::cell::event::Event;
use crate::cell::waits::ActorKey;
use crate::error::{Refusal, Sealed};
use crate::id::WaitCycle;
use std::error::Error;
use std::fmt;

/// A request that was not forwarded, and the reason. Holds the message and the reply.
pub struct ForwardError<M, R: 'static> {
    request: Sealed<(M, Reply<R>)>,
    refusal: Refusal,
    cycle: Option<WaitCycle>,
}

impl<M, R: 'static> ForwardError<M, R> {
    /// Returns the reason.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        self.refusal
    }

    /// Returns, after [`Refusal::WouldDeadlock`], the actors that would wait for one another.
    #[must_use]
    pub fn cycle(&self) -> Option<&WaitCycle> {
        self.cycle.as_ref()
    }

    /// Returns the message and the reply, unchanged.
    pub fn into_parts(self) -> (M, Reply<R>) {
        self.request.0
    }
}

impl<M, R: 'static> ForwardError<Box<M>, R> {
    #[cold]
    fn unboxed(self) -> ForwardError<M, R> {
        let (message, reply) = self.request.0;
        ForwardError {
            request: Sealed((*message, reply)),
            refusal: self.refusal,
            cycle: self.cycle,
        }
    }
}

impl<M, R: 'static> fmt::Debug for ForwardError<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardError").field("refusal", &self.refusal).finish_non_exhaustive()
    }
}

impl<M, R: 'static> fmt::Display for ForwardError<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request not forwarded: {}", self.refusal)
    }
}

impl<M, R: 'static> Error for ForwardError<M, R> {}

impl<A: Actor> Context<A> {
    /// Sends a message to an actor that is to answer in this one's place. Never waits.
    ///
    /// Prefer this to moving the reply inside a message. A forward is recorded: an actor that
    /// [waits](crate::Ask::wait) for the answer counts as waiting for `target` from now on. So a
    /// cycle of waits through `target` is refused, and a wait that involves only this actor is not.
    ///
    /// # Errors
    /// As [`ActorRef::tell`], and [`Refusal::WouldDeadlock`] if `target` waits for the actor that
    /// waits for the answer. Message and reply come back inside the error.
    ///
    /// ```
    /// use heist::{Actor, ActorRef, Context, Executor, Handler, Receive, Reply};
    ///
    /// struct Shard;
    /// impl Actor for Shard {}
    /// struct Get(u64);
    /// impl Handler<Get> for Shard {
    ///     type Reply = u64;
    ///     fn handle(&mut self, Get(key): Get, _: &mut Context<Self>) -> u64 { 2 * key }
    /// }
    ///
    /// struct Router(Vec<ActorRef<Shard>>);
    /// impl Actor for Router {}
    /// impl Receive<Get> for Router {
    ///     type Reply = u64;
    ///     fn receive(&mut self, Get(key): Get, reply: Reply<u64>, ctx: &mut Context<Self>) {
    ///         let shard = &self.0[key as usize % self.0.len()];
    ///         if let Err(refused) = ctx.forward(shard, Get(key), reply) {
    ///             drop(refused); // the asker is told that there is no answer
    ///         }
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let executor = Executor::new();
    /// let router = executor.spawn(Router(vec![executor.spawn(Shard), executor.spawn(Shard)]));
    /// assert_eq!(router.ask(Get(21))?.wait()?, 42);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("delegate", "redirect"))]
    pub fn forward<B, M>(
        &mut self,
        target: &ActorRef<B>,
        message: M,
        reply: Reply<B::Reply>,
    ) -> Result<(), ForwardError<M, B::Reply>>
    where
        B: Receive<M>,
        M: Send + 'static,
    {
        // The same choice as for other sends. The error holds two values, so the usual macro does
        // not fit.
        if const { is_large::<M>() } {
            self.forward_as::<B, M, _>(target, Box::new(message), reply)
                .map_err(ForwardError::unboxed)
        } else {
            self.forward_as::<B, M, M>(target, message, reply)
        }
    }

    fn forward_as<B, M, C>(
        &mut self,
        target: &ActorRef<B>,
        message: C,
        reply: Reply<B::Reply>,
    ) -> Result<(), ForwardError<C, B::Reply>>
    where
        B: Receive<M>,
        M: Send + 'static,
        C: Carried<M>,
    {
        let refused = |message, reply, refusal, cycle| {
            Err(ForwardError { request: Sealed((message, reply)), refusal, cycle })
        };
        // Recorded before the message is sent. Otherwise its handler could wait before the forward
        // is known.
        let before = match reply.record_forward(ActorKey::from_header(target.header())) {
            Ok(before) => before,
            Err(cycle) => {
                self.header().core().emit_event(|| Event::WaitRefused { cycle: cycle.clone() });
                return refused(message, reply, Refusal::WouldDeadlock, Some(cycle));
            }
        };
        match target.try_send_with_reply::<M, C>(message, reply) {
            Ok(()) => Ok(()),
            Err((message, reply, refusal)) => {
                // No message is on the way, so waits count for the asked actor again.
                reply.restore_forward(before);
                refused(message, reply, refusal, None)
            }
        }
    }
}

impl<A: Actor> ActorRef<A> {
    /// Sends a message, with `reply` for the answer. Returns both if the message is refused.
    pub(super) fn try_send_with_reply<M: Send + 'static, C: Carried<M>>(
        &self,
        message: C,
        reply: Reply<A::Reply>,
    ) -> Result<(), (C, Reply<A::Reply>, Refusal)>
    where
        A: Receive<M>,
    {
        let asking = AskWithReplyParcel::<PlainAsk<A, M, C>>::new(message, reply);
        // SAFETY: `self` is a strong reference, and the envelope is made for an actor of type `A`.
        match unsafe { deliver(self.as_ptr(), asking, Lane::Ordinary) } {
            Ok(()) => Ok(()),
            Err((asking, refusal)) => {
                let (message, reply) = asking.into_parts();
                Err((message, reply, refusal))
            }
        }
    }
}

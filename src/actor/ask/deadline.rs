//! Asks with a deadline: the message carries the deadline, and the turn that comes to the message
//! reads the clock.
//!
//! Such a message has a table of its own, so asks without a deadline pay nothing.

use super::kind::AskKind;
use super::parcel::{AskParcel, AskWithReplyParcel};
use super::{Ask, callback};
use crate::actor::carried::{Carried, carried};
use crate::actor::context::Context;
use crate::actor::refs::ActorRef;
use crate::actor::reply::Reply;
use crate::actor::{Actor, Receive};
use crate::cell::deliver::{Lane, deliver};
use crate::error::{AskError, Refusal, SendError};
use crate::time::{self, Duration, Instant};
use std::marker::PhantomData;

struct Expiring<M> {
    deadline: Instant,
    message: M,
}

struct AskByDeadline<A, M, C>(PhantomData<fn(A, M, C)>);

impl<A: Receive<M>, M: Send + 'static, C: Carried<M>> AskKind for AskByDeadline<A, M, C> {
    type Actor = A;
    type Message = M;
    type Carrier = Expiring<C>;

    fn arrive(carrier: Expiring<C>) -> M {
        carrier.message.arrive()
    }

    fn has_expired(carrier: &Expiring<C>) -> bool {
        time::now() >= carrier.deadline
    }
}

impl<A: Actor> ActorRef<A> {
    /// Asks as [`ask`](Self::ask) does, with a deadline. If the actor comes to the message only
    /// after the deadline, the message is not handled: it becomes a dead letter
    /// ([`Expired`](crate::event::DeadLetterReason::Expired)), and the asker gets
    /// [`AskError::Expired`]. A handler that has begun in time is not interrupted.
    ///
    /// The asker is told when the message's turn comes. To stop waiting at the deadline itself,
    /// wait with a [timeout](Ask::wait_timeout).
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    ///
    /// ```
    /// # use heist::{Actor, AskError, Context, Executor, Handler};
    /// # use std::time::{Duration, Instant};
    /// # struct Doubler;
    /// # impl Actor for Doubler {}
    /// # impl Handler<u32> for Doubler {
    /// #     type Reply = u32;
    /// #     fn handle(&mut self, n: u32, _: &mut Context<Self>) -> u32 { 2 * n }
    /// # }
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let executor = Executor::new();
    /// let doubler = executor.spawn(Doubler);
    /// let mut in_time = doubler.ask_deadline(21, Instant::now() + Duration::from_secs(60))?;
    /// assert_eq!(in_time.wait()?, 42);
    /// let mut too_late = doubler.ask_deadline(21, Instant::now())?;
    /// assert_eq!(too_late.wait(), Err(AskError::Expired));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("call_timeout", "expires", "ttl"))]
    pub fn ask_deadline<M: Send + 'static>(
        &self,
        message: M,
        deadline: Instant,
    ) -> Result<Ask<A::Reply>, SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => self.ask_deadline_as::<M, _>(message, deadline))
    }

    /// Asks as [`ask_deadline`](Self::ask_deadline) does, with a deadline that lies `timeout` after
    /// this call. The wait for the answer is not cut short: see [`Ask::wait_timeout`].
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn ask_timeout<M: Send + 'static>(
        &self,
        message: M,
        timeout: Duration,
    ) -> Result<Ask<A::Reply>, SendError<M>>
    where
        A: Receive<M>,
    {
        match time::instant_after(timeout) {
            Some(deadline) => self.ask_deadline(message, deadline),
            // Later than any instant.
            None => self.ask(message),
        }
    }

    pub(crate) fn ask_deadline_as<M: Send + 'static, C: Carried<M>>(
        &self,
        message: C,
        deadline: Instant,
    ) -> Result<Ask<A::Reply>, SendError<C>>
    where
        A: Receive<M>,
    {
        let expiring = Expiring { deadline, message };
        let asking = AskParcel::<AskByDeadline<A, M, C>>::new(expiring, self.as_ptr());
        // SAFETY: `self` is a strong reference, and the envelope is made for an actor of type `A`.
        match unsafe { deliver(self.as_ptr(), asking, Lane::Ordinary) } {
            Ok(head) => Ok(Ask::new(head)),
            Err((asking, refusal)) => Err(SendError::new(asking.into_carrier().message, refusal)),
        }
    }
}

impl<A: Actor> Context<A> {
    /// Asks another actor without waiting, as [`ask_then`](Self::ask_then) does, with a deadline as
    /// [`ask_deadline`](ActorRef::ask_deadline) has one.
    ///
    /// # Errors
    /// As [`ActorRef::ask`]; `then` is dropped.
    pub fn ask_then_deadline<B, M, F>(
        &mut self,
        target: &ActorRef<B>,
        message: M,
        deadline: Instant,
        then: F,
    ) -> Result<(), SendError<M>>
    where
        B: Receive<M>,
        M: Send + 'static,
        F: FnOnce(&mut A, Result<B::Reply, AskError>, &mut Context<A>) + Send + 'static,
    {
        let Some(reply) = callback::reply_by_callback(self.me().clone(), then) else {
            return Err(SendError::new(message, Refusal::Forked));
        };
        carried!(message => target.send_with_reply_by::<M, _>(message, deadline, reply))
    }
}

impl<B: Actor> ActorRef<B> {
    fn send_with_reply_by<M: Send + 'static, C: Carried<M>>(
        &self,
        message: C,
        deadline: Instant,
        reply: Reply<B::Reply>,
    ) -> Result<(), SendError<C>>
    where
        B: Receive<M>,
    {
        let expiring = Expiring { deadline, message };
        let asking = AskWithReplyParcel::<AskByDeadline<B, M, C>>::new(expiring, reply);
        // SAFETY: `self` is a strong reference, and the envelope is made for an actor of type `B`.
        match unsafe { deliver(self.as_ptr(), asking, Lane::Ordinary) } {
            Ok(()) => Ok(()),
            Err((asking, refusal)) => {
                let (expiring, reply) = asking.into_parts();
                reply.cancel_ask();
                Err(SendError::new(expiring.message, refusal))
            }
        }
    }
}

//! Messages of an actor to itself: at once, or when another actor's mailbox has room.

use super::Receive;
use super::carried::{Carried, carried};
use super::context::Context;
use super::refs::ActorRef;
use super::tell::TellParcel;
use super::told;
use crate::cell::deliver::{Lane, deliver};
use crate::cell::room;
use crate::error::{Refusal, SendError};

impl<A> Context<A> {
    /// Sends this actor itself a message, behind all that waits, whether or not its mailbox has
    /// room: for long work in steps. Only one such message may be under way at a time.
    ///
    /// # Errors
    /// [`Refusal::Full`] while the message before is under way; [`Refusal::Stopped`] once the actor
    /// stops, [`Refusal::ShuttingDown`] once its executor has closed it. The message comes back
    /// inside the error.
    #[doc(alias("yield", "self_send", "continue"))]
    pub fn tell_self<M: Send + 'static>(&mut self, message: M) -> Result<(), SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => self.tell_self_as::<M, _>(message))
    }

    fn tell_self_as<M: Send + 'static, C: Carried<M>>(
        &mut self,
        message: C,
    ) -> Result<(), SendError<C>>
    where
        A: Receive<M>,
    {
        let header = self.header();
        // One prepaid message at a time. Otherwise an actor could fill a mailbox beyond its
        // capacity.
        if header.again.get() {
            return Err(SendError::new(message, Refusal::Full));
        }
        // SAFETY: the turn keeps the cell alive, and the envelope is made for this actor.
        match unsafe {
            deliver(self.me().as_ptr(), TellParcel::for_tell_self::<A, M>(message), Lane::Prepaid)
        } {
            Ok(_) => {
                // Set after the delivery, which may fail. The message cannot be handled before this
                // turn ends.
                header.again.set(true);
                Ok(())
            }
            Err((telling, refusal)) => Err(SendError::new(telling.into_message(), refusal)),
        }
    }

    /// Sends `message` to this actor itself once `target`'s mailbox has fallen to half its
    /// capacity, or `target` has stopped (the next `tell` says which). Sends it at once if that is
    /// the case now. The message is exempt from this actor's capacity. A request that is not
    /// fulfilled yet keeps this actor alive, and `target` accepts no plain `tell` or `ask` before
    /// it has that much room.
    ///
    /// If many actors wait for the same target, their messages come in the order of the requests, a
    /// few at a time: one for each quarter of the capacity that is free, and more after each turn
    /// of the target that leaves room. So the first actors do not find the room taken by the
    /// others, and none waits for an actor that has nothing to send.
    ///
    /// # Limits
    /// Messages that the actor keeps meanwhile lie in its own state, which nothing bounds. Bound
    /// that buffer, or drop messages.
    ///
    /// # Errors
    /// [`Refusal::Full`] if this actor waits for the same target already, and [`Refusal::Forked`]
    /// in a forked child. The message comes back inside the error.
    #[doc(alias("backpressure", "poll_ready"))]
    pub fn when_room<B, M: Send + 'static>(
        &mut self,
        target: &ActorRef<B>,
        message: M,
    ) -> Result<(), SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => self.when_room_as::<B, M, _>(target, message))
    }

    fn when_room_as<B, M: Send + 'static, C: Carried<M>>(
        &mut self,
        target: &ActorRef<B>,
        message: C,
    ) -> Result<(), SendError<C>>
    where
        A: Receive<M>,
    {
        // The list's lock may have been held in the parent.
        if target.header().core().is_forked() {
            return Err(SendError::new(message, Refusal::Forked));
        }
        // Packed now: the notice may be delivered at once, or later by a turn of the target.
        let told = TellParcel::for_room_notice::<A, M>(message).pack_for(self.header());
        let me = ActorRef::clone(self.me()).into_strong();
        room::notify_owner(target.header(), me, told).map_err(|()| {
            // SAFETY: refused, so the only pointer is this call's again, to an envelope that
            // `for_room_notice` made.
            let message = unsafe { told::take_from_envelope(told, self.header().pool_held()) };
            SendError::new(message, Refusal::Full)
        })
    }
}

//! Delivery of exempt messages: answers, notices of room, and marks behind them in line.
//!
//! The receiver has paid for such a message, so its mailbox's capacity does not count. The message
//! becomes a dead letter only if the actor has closed, or at the maximum of any mailbox.

use super::counted::Strong;
use super::dead_letters;
use super::deliver::{Lane, Parcel, deliver, deliver_uncounted};
use super::envelope::Envelope;
use crate::drops;
use crate::error::AskError;
use crate::memory::Heap;
use crate::user::{self, Site};
use std::ptr::NonNull;

/// Delivers a notice, which the actor has prepaid. If the actor has closed meanwhile, or
/// its mailbox is at the maximum, the message becomes a dead letter and is dropped here. Such a
/// message may be an answer with its callback, which may own another reply, and so on, so the drop
/// goes through [`drops::run_or_put_off`].
///
/// # Safety
/// The envelope is made for an actor of the owner's type, and the caller gives up the only pointer
/// to it.
#[inline]
pub(crate) unsafe fn deliver_notice(owner: Strong, envelope: NonNull<Envelope>) {
    // SAFETY: `owner` is a strong reference. The envelope is made for the actor's type and was
    // given up to this call.
    match unsafe { deliver(owner.as_ptr(), envelope, Lane::Prepaid) } {
        Ok(()) => drop(owner), // the message keeps the actor
        Err((envelope, _)) => refused_exempt(owner, envelope),
    }
}

/// Delivers a mark, which no actor has sent. A refused mark is discarded at once, and is not put
/// off behind a user's drops: it runs no user code, and a pool waits for it. A mark is no message,
/// so it is counted neither as accepted nor as a dead letter.
///
/// # Safety
/// As for [`deliver_notice`].
pub(crate) unsafe fn deliver_mark(owner: Strong, envelope: NonNull<Envelope>) {
    // SAFETY: `owner` is a strong reference. The envelope is made for the actor's type and was
    // given up to this call.
    match unsafe { deliver_uncounted(owner.as_ptr(), envelope) } {
        Ok(()) => drop(owner), // the mark keeps the actor
        // SAFETY: the delivery was refused, so again no other pointer exists. The owner's reference
        // keeps the pool.
        Err(mark) => unsafe {
            Envelope::discard_message(mark, AskError::Stopped, owner.header().pool_held());
        },
    }
}

/// Delivers an answer, as [`deliver_notice`] does.
///
/// # Safety
/// The envelope is made for an actor of the owner's type, and the caller gives up the only pointer
/// to it.
pub(crate) unsafe fn deliver_answer(owner: Strong, envelope: NonNull<Envelope>) {
    // SAFETY: `owner` is a strong reference. The envelope is made for the actor's type and was
    // given up to this call.
    match unsafe { deliver(owner.as_ptr(), Answer(envelope), Lane::Exempt) } {
        Ok(()) => drop(owner), // the message keeps the actor
        Err((Answer(envelope), _)) => refused_exempt(owner, envelope),
    }
}

/// An answer in its envelope. A separate parcel type, so the delivery of answers is compiled for a
/// single lane.
struct Answer(NonNull<Envelope>);

impl Parcel for Answer {
    type Receipt = ();

    fn receipt_for(_: NonNull<Envelope>) {}
    fn into_envelope(self, _: &Heap) -> NonNull<Envelope> {
        self.0
    }
    fn into_dated_envelope(self, _: &Heap) -> NonNull<Envelope> {
        self.0
    }
}

/// Counts and drops an exempt message after a refusal.
#[cold]
fn refused_exempt(owner: Strong, envelope: NonNull<Envelope>) {
    // SAFETY: the delivery was refused, so again no other pointer exists.
    let message_type = unsafe { Envelope::message_type(envelope) };
    dead_letters::count_undeliverable(owner.header(), message_type);
    // Bounded nesting: the message may own another answer, and so on.
    drops::run_or_put_off(move || {
        let held = owner.header().pool_held();
        // SAFETY: the delivery was refused, so again no other pointer exists. The owner's reference
        // keeps the pool.
        let _ = user::run_guarded_for(Site::Drop, &AskError::Stopped, || unsafe {
            Envelope::discard_message(envelope, AskError::Stopped, held);
        });
    });
}

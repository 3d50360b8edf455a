//! Batches: a handler's single call for several messages of the same type in a row.
//!
//! A batch takes nothing ahead. The turn has popped the first message. Each further message is
//! popped when the handler asks for it, if the message is of the same type and lies at the head of
//! the mailbox then. A message that the handler does not ask for stays where it is, so nothing
//! needs to be put back. Whatever ends a batch half-way leaves the turn in the state that it would
//! have without the batch:
//!
//! | a batch ends because | the remaining messages |
//! |---|---|
//! | it has as many messages as the limit of their type | begin the next batch |
//! | the next message is of another type, or nothing is linked | are left to the turn |
//! | the turn has had what waited when it began, or its budget | are left to a later turn |
//! | the handler wants no more | begin the next batch |
//! | the handler panics | become dead letters, or the successor handles them |
//! | of `stop_now`, or the stop of a replica | become dead letters; the successor handles them |
//!
//! An envelope's table names the message's type and the function that opens the envelope. Told or
//! asked, with a deadline or without, dated or not: all envelopes of one message type for one actor
//! type open to the same two values, the message and its reply. Comparing tables instead of types
//! would not do. Tables differ by all of these kinds, and the compiler may duplicate a table or
//! merge the tables of two types.
//!
//! Ticks of timers have a queue of their own, so a batch never mixes them with other messages. A
//! message from a pool's shared queue goes the same way, and comes as a batch of one.

use super::cold::Cold;
use super::dead_letters;
use super::envelope::{Batched, Envelope};
use super::event::DeadLetterReason;
use super::header::Header;
use super::lap::TurnTimer;
use crate::mailbox::link::Node;
use crate::time::Instant;
use crate::user;
use std::any::{Any, TypeId};
use std::cell::Cell;
use std::ptr::NonNull;

/// The means by which a timed actor's turn measures.
pub(super) type TimedTurn<'a> = (&'a TurnTimer<'a>, &'a Cold);

/// A batch's view of the turn.
#[derive(Debug)]
pub(crate) struct Taking<'a> {
    this: NonNull<Header>,
    /// Messages of the turn so far, the one in hand included.
    total: Cell<u32>,
    /// Upper limit of `total`.
    most: u32,
    /// Messages that were taken off the inbox and not handled yet.
    rest: Cell<*mut Node>,
    timed: Option<TimedTurn<'a>>,
}

/// Results of a batch, for the turn.
pub(super) struct BatchResult {
    pub(super) total: u32,
    pub(super) rest: *mut Node,
    pub(super) outcome: Result<(), Box<dyn Any + Send>>,
}

/// Handles a batch. `total` counts the first message already.
///
/// # Safety
/// Called in the turn of the actor that `first` was popped for, with the only pointer to `first`.
/// `rest` is the turn's list of taken messages. The part that is left comes back.
#[cold] // most actors have no batches
#[inline(never)]
pub(super) unsafe fn handle_batch(
    first: NonNull<Envelope>,
    batched: &'static Batched,
    this: NonNull<Header>,
    total: u32,
    most: u32,
    rest: *mut Node,
    timed: Option<TimedTurn<'_>>,
) -> BatchResult {
    // SAFETY: the turn keeps the cell.
    let header = unsafe { this.as_ref() };
    // A message from a shared queue came the way of ticks, ahead of the mailbox. So it comes alone.
    let alone = header.cold_if_any().is_some_and(|cold| cold.ticks.tick_is_in_hand());
    let most = if alone { total } else { most };
    // The turn's counts go in and come back by value, so the turn can keep its own copies in
    // registers.
    let taking = Taking { this, total: Cell::new(total), most, rest: Cell::new(rest), timed };
    // SAFETY: `first` was just popped in the actor's turn, and `batched` comes from the table of
    // `first`.
    let outcome = user::catch_panic(|| unsafe { (batched.handle)(first, batched, &taking) });
    BatchResult { total: taking.total.get(), rest: taking.rest.get(), outcome }
}

/// A message that was popped for a batch.
pub(crate) struct Taken {
    pub(crate) envelope: NonNull<Envelope>,
    pub(crate) batched: &'static Batched,
    /// When the message was sent, if the actor is timed.
    pub(crate) sent: Option<Instant>,
}

impl Taking<'_> {
    /// Returns the actor's cell.
    pub(crate) fn cell(&self) -> NonNull<Header> {
        self.this
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: `handle` was called in a turn of this cell. The turn still runs and keeps the
        // cell.
        unsafe { self.this.as_ref() }
    }

    /// Returns the number of messages left to the turn.
    pub(crate) fn messages_left(&self) -> u32 {
        self.most - self.total.get()
    }

    /// Pops the next message if it is of this type and neither the turn nor the actor has to end.
    ///
    /// # Safety
    /// Called inside the turn, by a batch's handler. The popped envelope belongs to the caller.
    pub(crate) unsafe fn pop_same_type(&self, message: TypeId) -> Option<Taken> {
        let header = self.header();
        // The hint suffices here. A stop that is not seen yet costs one more message, as in a turn
        // without batches.
        if self.messages_left() == 0 || header.stop_is_hinted() {
            return None;
        }
        // SAFETY: the batch runs inside the actor's turn, which owns the receiver's end. All nodes
        // of the inbox are envelopes: types with batches stay out of segments.
        unsafe {
            // The message is looked at before it is taken, so one of another type needs no putting
            // back.
            let envelope = Envelope::from_node(header.inbox.peek_node(&self.rest)?);
            let batched =
                Envelope::batch_table(envelope).filter(|batched| batched.message == message)?;
            let _the_same = header.inbox.pop_from(&self.rest);
            self.total.set(self.total.get() + 1);
            Some(Taken { envelope, batched, sent: Envelope::sent_at(envelope) })
        }
    }

    /// Makes the message sent at `sent` the one in hand, for timing.
    pub(crate) fn begin_message(&self, sent: Option<Instant>) {
        if let Some((lap, cold)) = self.timed {
            lap.end_message();
            // SAFETY: `lap` measures the turn that runs here, and both lists belong to the actor's
            // mailbox.
            unsafe { lap.begin_message(sent, self.rest.get(), cold.ticks.inbox().load_taken()) };
        }
    }

    /// Counts the message popped last as expired. The message in hand is still the one before.
    pub(crate) fn count_expired(&self, message_type: &'static str) {
        dead_letters::passed_over(self.header(), DeadLetterReason::Expired, message_type);
    }
}

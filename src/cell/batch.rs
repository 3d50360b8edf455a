//! Batches: messages of one type that come one behind the other are handled in one call.
//!
//! A batch takes nothing ahead. Its first message is the one that the turn has popped; each further one is popped when the
//! handler asks for it, if it is of the same type and lies at the head of the mailbox then. What the handler does not ask for
//! stays where it is, so there is nothing to put back, and whatever ends a batch half-way leaves to the turn what it would have
//! had without it:
//!
//! | a batch ends because | the rest |
//! |---|---|
//! | it has as many as its type's limit says | begins the next one |
//! | the next message is of another type, or nothing is linked | has its turn |
//! | the turn has had what waited when it began, or its budget | has a later turn |
//! | the handler wants no more | begins the next one |
//! | the handler panics | is what waits behind a panic: dead letters, or a successor's |
//! | `stop_now`; a replica's stop | dead letters; the successor's |
//!
//! What an envelope is of is said by its table: the type's id, and how to open it. Told or asked, with a deadline or
//! without, dated or not: envelopes of one message type for one actor type open to the same two things, the message and its
//! reply. Tables themselves would not do for that: they differ by all of these, and the compiler may have two of one, or merge
//! those of two types.
//!
//! Timers' ticks have a queue of their own, and are in no batch but their own.

use super::envelope::Envelope;
use super::event::DeadLetterReason;
use super::header::{Cold, Header};
use super::stopwatch::Lap;
use super::ticks;
use crate::mailbox::inbox::Node;
use crate::time::Instant;
use crate::user;
use std::any::{Any, TypeId};
use std::cell::Cell;
use std::ptr::NonNull;

/// In the table of an envelope that may be in a batch.
#[derive(Debug)]
pub(crate) struct Batched {
    /// The message's type.
    pub(crate) message: TypeId,
    /// Writes message and reply, as the actor's type and the message's say, to where it is told; frees the envelope.
    pub(crate) open: unsafe fn(NonNull<Envelope>, &Header, NonNull<()>),
    /// Returns `true` if its deadline has passed.
    pub(crate) expired: unsafe fn(NonNull<Envelope>) -> bool,
    /// Handles a batch that begins with this envelope. May panic.
    pub(crate) handle: unsafe fn(NonNull<Envelope>, &'static Batched, &Taking<'_>),
}

/// What a timed actor's turn measures with.
pub(super) type Timed<'a> = (&'a Lap<'a>, &'a Cold);

/// A turn as its batch sees it.
#[derive(Debug)]
pub(crate) struct Taking<'a> {
    this: NonNull<Header>,
    /// The turn's messages so far, the one in hand included.
    total: Cell<u32>,
    /// The most that they may become.
    most: u32,
    /// What was taken off the inbox and not handled yet.
    rest: Cell<*mut Node>,
    timed: Option<Timed<'a>>,
}

/// What a batch has left of its turn.
pub(super) struct After {
    pub(super) total: u32,
    pub(super) rest: *mut Node,
    pub(super) outcome: Result<(), Box<dyn Any + Send>>,
}

/// Handles a batch. `total` counts its first message already.
///
/// # Safety
/// In the turn of the actor that `first` was popped for. `rest` is what the turn has of the inbox, and what is left of it comes
/// back.
#[cold] // for whoever has no batches
#[inline(never)]
pub(super) unsafe fn handle(
    first: NonNull<Envelope>,
    batched: &'static Batched,
    this: NonNull<Header>,
    total: u32,
    most: u32,
    rest: *mut Node,
    timed: Option<Timed<'_>>,
) -> After {
    let taking = Taking { this, total: Cell::new(total), most, rest: Cell::new(rest), timed };
    // SAFETY: the caller's.
    let outcome = user::catch(|| unsafe { (batched.handle)(first, batched, &taking) });
    After { total: taking.total.get(), rest: taking.rest.get(), outcome }
}

/// What was popped for a batch.
pub(crate) struct Taken {
    pub(crate) envelope: NonNull<Envelope>,
    pub(crate) batched: &'static Batched,
    /// What a timed actor has of it.
    pub(crate) sent: Option<Instant>,
}

impl Taking<'_> {
    /// The actor.
    pub(crate) fn this(&self) -> NonNull<Header> {
        self.this
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: `handle` was called in its turn, which goes on and keeps it.
        unsafe { self.this.as_ref() }
    }

    /// At most so many more can be taken in this turn.
    pub(crate) fn left(&self) -> u32 {
        self.most - self.total.get()
    }

    /// Pops the next message, if it is of this type, and the turn and the actor go on.
    ///
    /// # Safety
    /// Inside the turn, in a batch's handler. What is popped is the caller's.
    pub(crate) unsafe fn pop(&self, message: TypeId) -> Option<Taken> {
        let header = self.header();
        if self.left() == 0 || header.killed() {
            return None;
        }
        // SAFETY: inside the turn: the receiver's end is ours, and what is in there is envelopes.
        unsafe {
            let envelope = Envelope::from_node(header.inbox.first_of(&self.rest)?);
            let batched = Envelope::batched(envelope).filter(|batched| batched.message == message)?;
            let _the_same = header.inbox.pop_from(&self.rest);
            self.total.set(self.total.get() + 1);
            Some(Taken { envelope, batched, sent: Envelope::sent(envelope) })
        }
    }

    /// The message sent at `sent` is the one in hand from now on.
    pub(crate) fn in_hand(&self, sent: Option<Instant>) {
        if let Some((lap, cold)) = self.timed {
            lap.stop();
            // SAFETY: in the turn, which these are of.
            unsafe { lap.start(sent, self.rest.get(), cold.ticks.inbox().begin()) };
        }
    }

    /// What was popped last has expired. The one in hand is still the one before.
    pub(crate) fn passed_over(&self) {
        ticks::passed_over(self.header(), DeadLetterReason::Expired);
    }
}

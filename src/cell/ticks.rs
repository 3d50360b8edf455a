//! Ticks: messages that a timer sends. Ticks have a queue of their own, and overtake.
//!
//! A tick that is due goes before the waiting messages. Otherwise a full mailbox would make every
//! timer late. Where both kinds wait they alternate, so timers that are due all the time do not
//! keep the messages waiting for ever. Ticks among themselves come in the order in which they were
//! due.
//!
//! A tick has a place in the mailbox like any other message. The place is counted in `LEN`, is
//! exempt from the capacity, and keeps the actor until the tick is handled. Only the link goes
//! elsewhere, into the cold part, which an actor has from its first timer on. Actors without timers
//! pay nothing.
//!
//! A tick may be due and then not be wanted any more: its timer was cancelled, or its deadline has
//! passed. Such a tick was accepted but is not handled. The tick becomes a dead letter in its turn.

use crate::mailbox::inbox::Inbox;
use crate::mailbox::link::Node;
use crate::sched::timers::Aim;
use std::cell::Cell;
use std::ptr::NonNull;

/// An actor's ticks that are due. All methods but the push are for the holder of the runnable.
#[derive(Debug)]
pub(crate) struct Ticks {
    inbox: Inbox,
    /// Whether the last message was a tick.
    last: Cell<bool>,
    /// The armed timers for this actor.
    pub(crate) aim: Aim,
}

impl Default for Ticks {
    fn default() -> Self {
        Ticks { inbox: Inbox::new(), last: Cell::new(false), aim: Aim::default() }
    }
}

impl Ticks {
    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Returns `true` if the message in hand is a tick, or came the way of ticks. For a turn.
    pub(super) fn tick_is_in_hand(&self) -> bool {
        self.last.get()
    }

    /// Pops the next tick, or else what `message` returns: the next message. After a tick the
    /// message comes first.
    ///
    /// # Safety
    /// The caller is the receiver: it holds the runnable.
    #[inline]
    pub(crate) unsafe fn pop_or<T>(
        &self,
        whose: NonNull<()>,
        as_is: impl FnOnce(*mut Node) -> T,
        message: impl Fn() -> Option<T>,
    ) -> Option<T> {
        // Cleared even if no message waits: then another tick may follow this one.
        if self.last.replace(false)
            && let Some(message) = message()
        {
            return Some(message);
        }
        // SAFETY: the caller holds the runnable and so is the receiver. All nodes are envelopes of
        // this actor.
        let tick = unsafe { self.inbox.pop(whose) };
        self.last.set(tick.is_some());
        tick.map(as_is).or_else(message)
    }
}

//! Messages that a mailbox's owner has prepaid and that do not count against other messages:
//! notices of room, `tell_self`, ticks.
//!
//! Prepaid messages have a place in the mailbox like all messages, so the state word's `LEN` counts
//! them. But a mailbox is full only when the number of waiting *ordinary* messages reaches its
//! capacity. Their number is `LEN` minus the count of prepaid messages in the cold part. A sender
//! reads the count only where `LEN` alone says full, so other senders do not pay for it.
//!
//! **The bound is exact**: a mailbox never holds more ordinary messages than its capacity. For that
//! the count must never exceed the number of prepaid messages in `LEN` at the moment of the
//! sender's step:
//!
//! | step | in this order |
//! |---|---|
//! | a prepaid message comes | `LEN` + 1, then the count + 1 |
//! | a turn has handled n of them | the count − n under the room list's lock, then `LEN` − n |
//! | a sender for which `LEN` says full | under that lock: reads the count, reserves beside it |
//!
//! By the first two rows the count is never ahead of `LEN`. By the lock no prepaid message that the
//! sender has counted leaves before the sender's step.
//!
//! A sender that comes between the two steps of a prepaid message may find no room for that moment.
//! Such a sender is refused, or waits for room as usual, which is safe because the actor is
//! scheduled.
//!
//! A message in hand counts until the end of its turn, as an ordinary message does.
//!
//! **Why notices cannot keep mailboxes full for each other**: see [`room`](super::room).
//!
//! Answers to `ask_then` are exempt from the capacity too, but do count in the length. Each answer
//! was preceded by a message that an actor handled, so answers cannot keep each other going.
//!
//! Loom model: `models::prepaid`. Needed orderings: `cargo xtask weaken`, group `prepaid`.

use crate::sync::{AtomicU32, Ordering::*};
use std::cell::Cell;

/// Number of waiting prepaid messages.
#[derive(Debug, Default)]
pub(crate) struct Prepaid(AtomicU32);

impl Prepaid {
    /// Counts a message with a reserved place that is linked next.
    pub(crate) fn add_one(&self) {
        // Release: pairs with the Acquire in `read_count`. A reader of the new count then sees a
        // `LEN` with the message.
        self.0.fetch_add(1, Release);
    }

    /// Returns the count. For a caller with the room list's lock, under which the count does not
    /// fall.
    pub(crate) fn read_count(&self) -> u32 {
        self.0.load(Acquire)
    }

    /// Subtracts handled messages. Called by a turn with the room list's lock, before the turn
    /// gives their places back.
    pub(crate) fn subtract_handled(&self, messages: u32) {
        // Relaxed: a reader that must not miss this holds the lock.
        self.0.fetch_sub(messages, Relaxed);
    }

    pub(crate) fn has_any(&self) -> bool {
        self.0.load(Relaxed) > 0
    }
}

thread_local! {
    /// Notes of the turn on this thread for the turn's end. The low half counts messages that
    /// became dead letters instead of being handled, the high half counts prepaid messages. In a
    /// single word, so the usual end of a turn compares once.
    static NOTED: Cell<u64> = const { Cell::new(0) };
}

pub(super) const PREPAID: u64 = 1 << 32;

/// Notes that a turn has come to a prepaid message.
pub(crate) fn note_in_hand() {
    NOTED.set(NOTED.get() + PREPAID);
}

/// Notes that a turn has come to a message that is not handled.
pub(super) fn note_unhandled() {
    NOTED.set(NOTED.get() + 1);
}

#[inline]
pub(super) fn noted() -> u64 {
    NOTED.get()
}

pub(super) fn set_noted(notes: u64) {
    NOTED.set(notes);
}

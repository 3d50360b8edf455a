//! Messages that a mailbox's owner has prepaid, and that do not count against the others: notices of room, `again`, ticks.
//!
//! They have their place in the mailbox like all messages, so the state word's `LEN` counts them. But a mailbox is full only when
//! as many *ordinary* messages wait as its capacity says: `LEN` less the prepaid ones, whose count is here, in the cold part. A
//! sender looks at it only where `LEN` alone says full, so the others do not pay for it.
//!
//! **The bound is exact**: there are never more ordinary messages than the capacity. For that the count must not be higher than
//! what `LEN` has of them, at the moment of the sender's step:
//!
//! | step | in this order | so |
//! |---|---|---|
//! | a prepaid message comes | `LEN` + 1, then the count + 1 | the count is never ahead of `LEN` |
//! | a turn has handled n of them | the count − n, under the room list's lock; then `LEN` − n | likewise |
//! | a sender for which `LEN` says full | under the same lock: reads the count, reserves with so much more room | none that it has read leaves in between |
//!
//! A sender that meets a prepaid message between its two steps may find no room for that moment. It is refused, or waits for room
//! as usual: the actor is scheduled.
//!
//! Model: `models::prepaid`. Weakened orderings: the rows `prepaid` of `scripts/weaken-orderings.sh`.
//!
//! A message in hand counts until its turn's end, as an ordinary one does.
//!
//! **Why notices cannot keep mailboxes full for each other**: see [`room`](super::room).
//!
//! Answers to `ask_then` are exempt from the capacity too, but do count in the length. Each was preceded by a message that
//! somebody handled, so they cannot keep each other going.

use super::header::Header;
use crate::mailbox::state::{MAX_LEN, Reserve};
use crate::sync::{AtomicU32, Ordering::*};
use std::cell::Cell;

/// How many prepaid messages wait.
#[derive(Debug, Default)]
pub(crate) struct Prepaid(AtomicU32);

impl Prepaid {
    /// A place was reserved for one that is about to be linked.
    pub(crate) fn add_one(&self) {
        // Release: pairs with the Acquire in `read`, whose reader then sees a `LEN` that has it.
        self.0.fetch_add(1, Release);
    }

    /// For a caller with the room list's lock: under that it does not get less.
    pub(crate) fn read(&self) -> u32 {
        self.0.load(Acquire)
    }

    /// For a turn with the room list's lock, before it gives their places back.
    pub(crate) fn handled(&self, messages: u32) {
        // Relaxed: whoever must not miss it has the lock.
        self.0.fetch_sub(messages, Relaxed);
    }

    pub(crate) fn any(&self) -> bool {
        self.0.load(Relaxed) > 0
    }
}

/// Reserves a place for an ordinary message where `LEN` alone says that the mailbox is full. `outside`: its sender is no
/// worker of the crew.
#[cold]
pub(super) fn reserve_beside(header: &Header, outside: bool) -> Reserve {
    let Some(cold) = header.cold_if_any().filter(|cold| cold.prepaid.any()) else { return Reserve::Full };
    let _list = cold.room.lock();
    header.state.reserve(header.capacity.saturating_add(cold.prepaid.read()).min(MAX_LEN), outside)
}

thread_local! {
    /// What the turn on this thread has come to, and its end is to know: messages that were not handled, but became dead letters,
    /// and, in 2^32, prepaid ones.
    static NOTED: Cell<u64> = const { Cell::new(0) };
}

const PREPAID: u64 = 1 << 32;

/// A turn has come to a prepaid message.
pub(crate) fn in_hand() {
    NOTED.set(NOTED.get() + PREPAID);
}

/// A turn has come to a message that is not handled.
pub(super) fn unhandled() {
    NOTED.set(NOTED.get() + 1);
}

/// The end of a turn: how many messages were not handled. Before places are given back.
#[inline]
pub(super) fn take_noted(header: &Header) -> u32 {
    if NOTED.get() == 0 { 0 } else { settle(header, 0) }
}

/// In the middle of a turn, before places are given back.
pub(super) fn settle_here(header: &Header) {
    settle(header, u64::from(u32::MAX));
}

/// Takes what was noted, but for `keep`.
#[cold]
fn settle(header: &Header, keep: u64) -> u32 {
    let noted = NOTED.get();
    NOTED.set(noted & keep);
    let prepaid = (noted / PREPAID) as u32;
    if prepaid > 0 {
        let cold = header.cold();
        let _list = cold.room.lock();
        cold.prepaid.handled(prepaid);
    }
    noted as u32
}

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
use super::header::Header;
use super::turn::Run;
use std::any::TypeId;
use std::ptr::NonNull;

/// How a batch takes an envelope that is not its first.
#[derive(Debug)]
pub(crate) struct Take {
    /// The message's type.
    pub(crate) message: TypeId,
    /// Writes message and reply to where it is told, as the actor's type and the message's say; frees the envelope. False: it
    /// came too late, and is dead and gone. May panic.
    pub(crate) open: unsafe fn(NonNull<Envelope>, &Header, NonNull<()>) -> bool,
}

impl Run<'_> {
    /// At most so many more can be taken in this turn.
    pub(crate) fn left(&self) -> u32 {
        self.most - self.total.get()
    }

    /// Takes the next message, if it is of this type; it is the one in hand then. Those that came too late are passed over.
    ///
    /// # Safety
    /// Inside the handler of such a message. `into` has room for what [`Take::open`] writes for this type, and for this
    /// mailbox's actor.
    pub(crate) unsafe fn take(&self, message: TypeId, into: NonNull<()>) -> bool {
        let header = self.header;
        while self.left() > 0 && !header.killed() {
            // SAFETY: inside the turn, whose run this is: so the receiver's end is ours, and what is in there is envelopes.
            unsafe {
                let Some(first) = header.inbox.first_of(&self.rest) else { return false };
                let envelope = Envelope::from_node(first);
                let Some(take) = Envelope::take(envelope).filter(|take| take.message == message) else {
                    return false;
                };
                let popped = header.inbox.pop_from(&self.rest);
                debug_assert_eq!(popped, Some(first));
                // Before anything that may panic: it is out of the mailbox.
                self.total.set(self.total.get() + 1);
                let sent = Envelope::sent(envelope);
                if (take.open)(envelope, header, into) {
                    if let Some((lap, cold)) = self.timed {
                        lap.stop();
                        lap.start(sent, self.rest.get(), cold.ticks.inbox().begin());
                    }
                    return true;
                }
            }
        }
        false
    }
}

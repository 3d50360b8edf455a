//! Accounts for messages that were accepted and are not handled.

use super::event::{DeadLetterReason, Event};
use super::header::Header;
use super::prepaid;

/// Accounts for a tick or another exempt message that the mailbox has refused: it counts as
/// accepted and dead.
#[cold]
pub(crate) fn count_undeliverable(header: &Header, message_type: &'static str) {
    let core = header.core();
    let reason = if !header.state.load_snapshot().is_closed() {
        DeadLetterReason::Full // the one other reason to refuse what is exempt
    } else if core.is_closing() {
        DeadLetterReason::Shutdown
    } else {
        DeadLetterReason::Stopped
    };
    core.count_here(|tally| &tally.accepted, 1);
    dead_letters(header, reason, message_type, 1);
}

/// Accounts for a message in hand that is not handled after all. Called inside the actor's turn.
#[cold]
pub(crate) fn not_handled(header: &Header, reason: DeadLetterReason, message_type: &'static str) {
    if let Some(stopwatch) = header.stopwatch() {
        stopwatch.not_handled();
    }
    passed_over(header, reason, message_type);
}

/// Accounts for a mark in hand, which counts as no message. Called inside the actor's turn.
#[cold]
pub(crate) fn not_a_message(header: &Header) {
    if let Some(stopwatch) = header.stopwatch() {
        stopwatch.not_handled();
    }
    prepaid::note_unhandled();
}

/// Accounts for a message passed over by a batch, while another message is in hand. Called inside
/// the actor's turn.
#[cold]
pub(crate) fn passed_over(header: &Header, reason: DeadLetterReason, message_type: &'static str) {
    prepaid::note_unhandled();
    dead_letters(header, reason, message_type, 1);
}

/// Messages that one turn leaves unhandled, counted by type for the event hook.
///
/// The list has room for a few types, since it lies on the turn's stack. It is told when it has no
/// room for another type, and at the end.
pub(super) struct LeftByType<'a> {
    header: &'a Header,
    reason: DeadLetterReason,
    /// Without a hook, types are not told apart.
    told: bool,
    types: [(&'static str, u64); TYPES],
    used: usize,
}

/// Number of types that [`LeftByType`] counts at the same time.
const TYPES: usize = 8;

impl<'a> LeftByType<'a> {
    pub(super) fn new(header: &'a Header, reason: DeadLetterReason) -> Self {
        let told = header.core().has_hook();
        LeftByType { header, reason, told, types: [("", 0); TYPES], used: 0 }
    }

    /// Adds a message.
    pub(super) fn add(&mut self, message_type: &'static str) {
        // Compared as texts, since the name of one type may lie at several addresses.
        let known = self.types[..self.used]
            .iter_mut()
            .find(|(known, _)| !self.told || *known == message_type);
        if let Some((_, count)) = known {
            *count += 1;
            return;
        }
        if self.used == TYPES {
            self.tell();
        }
        self.types[self.used] = (message_type, 1);
        self.used += 1;
    }

    /// Counts and tells what was added.
    pub(super) fn tell(&mut self) {
        for (message_type, count) in &self.types[..std::mem::take(&mut self.used)] {
            dead_letters(self.header, self.reason, message_type, *count);
        }
    }
}

fn dead_letters(header: &Header, reason: DeadLetterReason, message_type: &'static str, count: u64) {
    let core = header.core();
    core.count_dead(reason, count);
    core.emit_event(|| Event::DeadLetters {
        actor: header.id(),
        name: header.name(),
        type_name: header.type_name(),
        message_type,
        reason,
        count,
    });
}

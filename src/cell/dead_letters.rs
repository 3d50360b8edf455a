//! Accounts for messages that were accepted and are not handled.

use super::event::{DeadLetterReason, Event};
use super::header::Header;
use super::prepaid;

/// Accounts for a tick or another exempt message that the mailbox has refused: it counts as
/// accepted and dead.
#[cold]
pub(crate) fn count_undeliverable(header: &Header) {
    let core = header.core();
    let reason = if !header.state.load_snapshot().is_closed() {
        DeadLetterReason::Full // the one other reason to refuse what is exempt
    } else if core.is_closing() {
        DeadLetterReason::Shutdown
    } else {
        DeadLetterReason::Stopped
    };
    core.count_here(|tally| &tally.accepted, 1);
    dead_letter(header, reason);
}

/// Accounts for a message in hand that is not handled after all. Called inside the actor's turn.
#[cold]
pub(crate) fn not_handled(header: &Header, reason: DeadLetterReason) {
    if let Some(stopwatch) = header.stopwatch() {
        stopwatch.not_handled();
    }
    passed_over(header, reason);
}

/// Accounts for a message passed over by a batch, while another message is in hand. Called inside
/// the actor's turn.
#[cold]
pub(crate) fn passed_over(header: &Header, reason: DeadLetterReason) {
    prepaid::note_unhandled();
    dead_letter(header, reason);
}

fn dead_letter(header: &Header, reason: DeadLetterReason) {
    let core = header.core();
    core.count_dead(reason, 1);
    core.emit_event(|| Event::DeadLetters {
        actor: header.id(),
        type_name: header.type_name(),
        reason,
        count: 1,
    });
}

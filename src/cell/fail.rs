//! What a panic in an actor's code leads to: the actor fails, and the event hook is told.

use super::event::{Event, PanicPlace};
use super::header::{Header, Phase, Reason};
use crate::panics::PanicText;

/// Fails the actor after a panic: nothing more is accepted or handled.
pub(super) fn fail_actor(header: &Header, text: PanicText) {
    header.reason.set(Reason::Panicked);
    *header.cold().panic.lock() = Some(text.clone());
    let scheduled = header.state.set_closed(true);
    debug_assert!(!scheduled, "we hold the runnable");
    let place =
        if header.phase.get() == Phase::New { PanicPlace::Started } else { PanicPlace::Handler };
    count_panic(header, place, text);
}

/// Counts a panic, and tells the hook.
pub(super) fn count_panic(header: &Header, place: PanicPlace, text: PanicText) {
    let core = header.core();
    core.count_here(|tally| &tally.panicked, 1);
    core.emit_event(|| Event::Panicked {
        actor: header.id(),
        type_name: header.type_name(),
        place,
        text,
    });
}

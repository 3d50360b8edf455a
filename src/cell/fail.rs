//! The consequences of a panic in an actor's code: the actor fails, and the event hook is told.

use super::event::{Event, PanicPlace};
use super::header::{Header, Phase, Reason};
use crate::panics::PanicText;
use std::any::type_name;
use std::cell::Cell;
use std::marker::PhantomData;

thread_local! {
    /// Type of the message left by a panic in its handling, until the turn catches the panic.
    static LEFT: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Handling of one message of type `M`, which a panic then names. Only unwinding code uses the
/// name, so a message that does not panic costs nothing for this.
#[must_use = "each way out but a panic calls `end`"]
pub(crate) struct InHand<M>(PhantomData<fn() -> M>);

impl<M> InHand<M> {
    /// Begins the handling. Declared before all that the handling may drop, so that a panic comes
    /// here last.
    #[inline(always)]
    pub(crate) fn begin() -> Self {
        InHand(PhantomData)
    }

    /// Ends the handling without a panic.
    #[inline(always)]
    pub(crate) fn end(self) {
        std::mem::forget(self);
    }
}

impl<M> Drop for InHand<M> {
    #[cold]
    fn drop(&mut self) {
        LEFT.set(Some(type_name::<M>()));
    }
}

/// A panic that a turn has caught.
#[derive(Clone, Debug)]
pub(super) struct CaughtPanic {
    pub(super) text: PanicText,
    /// Type of the message in hand, if there was one.
    message_type: Option<&'static str>,
}

impl CaughtPanic {
    /// Takes what the panic left. Called first after the turn has caught it.
    pub(super) fn of_turn(text: PanicText) -> Self {
        CaughtPanic { text, message_type: LEFT.take() }
    }

    /// Makes the panic of a hook, a factory or a state's drop.
    pub(super) fn of_no_message(text: PanicText) -> Self {
        CaughtPanic { text, message_type: None }
    }
}

/// Fails the actor after a panic: nothing more is accepted or handled.
pub(super) fn fail_actor(header: &Header, panic: CaughtPanic) {
    header.reason.set(Reason::Panicked);
    *header.cold().panic.lock() = Some(panic.text.clone());
    let scheduled = header.state.set_closed(true);
    debug_assert!(!scheduled, "we hold the runnable");
    let place =
        if header.phase.get() == Phase::New { PanicPlace::Started } else { PanicPlace::Handler };
    count_panic(header, place, panic);
}

/// Counts a panic, and tells the hook.
pub(super) fn count_panic(header: &Header, place: PanicPlace, panic: CaughtPanic) {
    tell_panic(header, place, panic.message_type, panic.text);
}

/// Counts a panic over a message of a given type, or over none, and tells the hook.
pub(super) fn tell_panic(
    header: &Header,
    place: PanicPlace,
    message_type: Option<&'static str>,
    text: PanicText,
) {
    let core = header.core();
    core.count_here(|tally| &tally.panicked, 1);
    core.emit_event(|| Event::Panicked {
        actor: header.id(),
        name: header.name(),
        type_name: header.type_name(),
        message_type,
        place,
        text,
    });
}

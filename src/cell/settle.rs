//! Settles the prepaid messages that a turn has handled, before their places are given back.
//!
//! The order of the steps, and its reason, are in [`prepaid`](super::prepaid).

use super::header::Header;
use super::prepaid::{PREPAID, noted, set_noted};

/// Settles the notes at the end of a turn, before places are given back. Returns the number of
/// messages that were not handled.
#[inline]
pub(super) fn take_noted(header: &Header) -> u32 {
    if noted() == 0 { 0 } else { take_notes(header, 0) }
}

/// Settles the prepaid messages in the middle of a turn, before places are given back. The other
/// half stays until the turn's end.
pub(super) fn settle_here(header: &Header) {
    take_notes(header, u64::from(u32::MAX));
}

/// Takes the notes, except for the bits in `keep`.
#[cold]
fn take_notes(header: &Header, keep: u64) -> u32 {
    let noted = noted();
    set_noted(noted & keep);
    let prepaid = (noted / PREPAID) as u32;
    if prepaid > 0 {
        let cold = header.cold();
        let _list = cold.room.lock();
        cold.prepaid.subtract_handled(prepaid);
    }
    noted as u32
}

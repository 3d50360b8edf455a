//! A thread of the crew, as far as it is its own and not its worker's.

use std::cell::Cell;
use std::ptr;

thread_local! {
    static CURRENT: Cell<*const ()> = const { Cell::new(ptr::null()) };
}

/// Marks whose turn runs on this thread: opaque here, compared by the floors above. Null between turns.
#[inline]
pub(crate) fn set_current(current: *const ()) {
    CURRENT.set(current);
}

/// Whose turn runs on this thread.
#[inline]
pub(crate) fn current() -> *const () {
    CURRENT.get()
}

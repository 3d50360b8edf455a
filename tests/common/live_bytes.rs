//! Counts the live bytes of the whole process. A test that uses this is alone in its file, and
//! makes a [`Counting`] its global allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

pub(crate) struct Counting;

static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);

// SAFETY: every call is forwarded to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size() as i64, Relaxed);
        // SAFETY: `GlobalAlloc` requires a layout of non-zero size, and `System` requires nothing
        // else.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size() as i64, Relaxed);
        // SAFETY: `at` was allocated by `System` with this layout, because every allocation is
        // forwarded to `System`.
        unsafe { System.dealloc(at, layout) }
    }
}

pub(crate) fn live_bytes() -> i64 {
    LIVE_BYTES.load(Relaxed)
}

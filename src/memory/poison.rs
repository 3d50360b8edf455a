//! Free blocks that nobody may touch, under AddressSanitizer with `--cfg heist_poison`: see `scripts/sanitize.sh`. Otherwise nothing.
//!
//! A free block's first words link it to others, so what lies behind them is poisoned. That a block is used after it was freed is then
//! reported at the first access beyond these words, by whichever thread.

use super::SMALLEST;

/// A block is given back.
#[inline(always)]
pub(super) fn poison(block: *mut u8, size: usize) {
    if cfg!(heist_poison) {
        asan::poison(block.wrapping_add(SMALLEST), size - SMALLEST);
    }
}

/// A block is handed out, or a region is used in another way.
#[inline(always)]
pub(super) fn unpoison(at: *mut u8, size: usize) {
    if cfg!(heist_poison) {
        asan::unpoison(at, size);
    }
}

#[cfg(heist_poison)]
mod asan {
    unsafe extern "C" {
        fn __asan_poison_memory_region(at: *const u8, size: usize);
        fn __asan_unpoison_memory_region(at: *const u8, size: usize);
    }

    pub(super) fn poison(at: *mut u8, size: usize) {
        // SAFETY: the region is a part of a block that its last holder has given up.
        unsafe { __asan_poison_memory_region(at, size) }
    }

    pub(super) fn unpoison(at: *mut u8, size: usize) {
        // SAFETY: the region is the caller's.
        unsafe { __asan_unpoison_memory_region(at, size) }
    }
}

#[cfg(not(heist_poison))]
mod asan {
    pub(super) fn poison(_: *mut u8, _: usize) {}
    pub(super) fn unpoison(_: *mut u8, _: usize) {}
}

//! Poisoning of free blocks under AddressSanitizer with `--cfg heist_poison`; see
//! `scripts/sanitize.sh`. Does nothing in other builds.
//!
//! A free block's first words are links, so only the memory behind those words is poisoned. A use
//! after free is then reported at the first access beyond the links, on any thread.

use super::sizes::SMALLEST;

/// Poisons a block given back.
#[inline(always)]
pub(super) fn poison(block: *mut u8, size: usize) {
    if cfg!(heist_poison) {
        asan::poison(block.wrapping_add(SMALLEST), size - SMALLEST);
    }
}

/// Unpoisons a block when it is handed out, or a region before another use.
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
        // SAFETY: the region is part of a free block, so poisoning affects no valid access.
        unsafe { __asan_poison_memory_region(at, size) }
    }

    pub(super) fn unpoison(at: *mut u8, size: usize) {
        // SAFETY: the region lies inside a chunk of the pool, and the caller alone has it.
        unsafe { __asan_unpoison_memory_region(at, size) }
    }
}

#[cfg(not(heist_poison))]
mod asan {
    pub(super) fn poison(_: *mut u8, _: usize) {}
    pub(super) fn unpoison(_: *mut u8, _: usize) {}
}

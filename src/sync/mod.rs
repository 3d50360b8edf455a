//! Floor 0: the only room that names the standard library's (or loom's) atomics, fences and locks.
//!
//! All rooms above import their synchronization from here. One switch (`--cfg heist_loom`)
//! therefore puts the whole crate on loom's model. Another one (`--cfg heist_chaos`) makes
//! [`chaos`] yield at random where a protocol is most delicate. In a normal build `chaos` does
//! nothing.

#[cfg(all(debug_assertions, not(heist_loom)))]
mod checked;
mod claim;
mod counter;
mod pad;
mod parker;
#[cfg_attr(heist_loom, path = "model.rs")]
mod primitives;
mod wakers;

pub(crate) use claim::Claim;
pub(crate) use counter::Counter;
pub(crate) use pad::Padded;
pub(crate) use parker::{Parker, ThreadWaker};
pub(crate) use primitives::*;
// Errors only: a channel's calls return them to users.
pub(crate) use std::sync::mpsc::{RecvError, RecvTimeoutError, TryRecvError};
pub(crate) use wakers::{WakerKey, Wakers};

/// Fetches the cache line at `at` exclusively, since the caller will write to it soon. The address
/// need not be valid.
#[inline(always)]
pub(crate) fn prefetch<T>(at: *const T) {
    #[cfg(all(target_arch = "x86_64", not(any(miri, heist_no_prefetchw))))]
    // SAFETY: the instruction is a hint and accesses no memory. Processors without it execute a
    // no-op, except for those named in `docs/platforms.md`, for which the instruction can be
    // compiled out.
    unsafe {
        // `prefetchw` asks for the line in exclusive state. A plain prefetch would fetch it shared,
        // and the write would have to ask again.
        std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, readonly, preserves_flags));
    }
    let _ = at;
}

/// Waits for a moment after a failed compare-and-swap. Another core has the cache line and most
/// likely needs it again at once. Leaving the line there for a moment is cheaper for both cores
/// than moving it for each step.
#[cold]
pub(crate) fn back_off() {
    if cfg!(not(heist_loom)) {
        // Not in a model: a pause is a yield there, and would only add executions.
        (0..PAUSES).for_each(|_| spin_hint());
    }
}

/// Half a microsecond where a pause takes 40 cycles, two or three where it takes 140. Meanwhile the
/// other core sends some 50 messages into the same mailbox.
const PAUSES: u32 = 64;

/// Returns a stripe below `stripes`, which is a power of two or 1. The stripe is always the same
/// for a thread.
pub(crate) fn thread_stripe(stripes: usize) -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    // The address of a thread's own variable tells threads apart without a global counter.
    let address = HERE.with(|here| std::ptr::from_ref(here) as u64);
    // Fibonacci hashing: thread-locals lie at equal distances, so their low bits say little.
    (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % stripes
}

/// A point at which a thread may lose its processor, to widen a window of nanoseconds.
#[cfg(not(heist_chaos))]
#[inline(always)]
pub(crate) fn chaos() {}

#[cfg(heist_chaos)]
pub(crate) use chaotic::chaos;

#[cfg(heist_chaos)]
mod chaotic {
    use std::cell::Cell;

    thread_local! {
        // Seeded by the address of the thread's own copy: different in each thread, without a
        // global.
        static SEED: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) fn chaos() {
        let draw = SEED.with(|seed| {
            let mut x = seed.get();
            if x == 0 {
                x = (std::ptr::from_ref(seed) as u64) ^ 0x9e37_79b9_7f4a_7c15;
            }
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            seed.set(x);
            x >> 32
        });
        match draw % 64 {
            // Mostly nothing, since a delay everywhere would only slow all threads down together.
            0..4 => std::thread::yield_now(),
            4..8 => (0..draw % 512).for_each(|_| std::hint::spin_loop()),
            8 if draw % 4096 == 8 => std::thread::sleep(std::time::Duration::from_micros(50)),
            _ => {}
        }
    }
}

//! Atomics, fences, locks and cells: the standard library's and parking_lot's. Under loom
//! `model.rs` takes this file's place.

#[cfg(debug_assertions)]
pub(crate) use super::checked::{Condvar, Mutex, MutexGuard, RwLock, held_locks};
#[cfg(not(debug_assertions))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};

/// Returns how many locks of this crate the calling thread holds: 0 in release builds, which do
/// not count.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn held_locks() -> u32 {
    0
}

pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

/// `std::cell::UnsafeCell` with loom's interface, so that the models see each access.
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }
    #[inline(always)]
    pub(crate) fn with<R>(&self, access: impl FnOnce(*const T) -> R) -> R {
        access(self.0.get())
    }
    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, access: impl FnOnce(*mut T) -> R) -> R {
        access(self.0.get())
    }
}

/// Gives the other hardware thread a moment, in loops that wait for a few nanoseconds.
pub(crate) fn spin_hint() {
    std::hint::spin_loop();
}

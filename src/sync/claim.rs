//! The right to be alone with something, for longer than a guard's scope: taken in one function, given up in another.

#[cfg(not(heist_loom))]
mod real {
    use parking_lot::lock_api::{GuardNoSend, RawMutex as _};

    /// Held by one at a time. Whoever takes it sees what the one before did.
    pub(crate) struct Claim(parking_lot::RawMutex);

    impl Claim {
        pub(crate) fn new() -> Self {
            Claim(parking_lot::RawMutex::INIT)
        }

        /// Waits for whoever holds it.
        #[inline]
        pub(crate) fn take(&self) {
            let _stateless = self.0.lock();
        }

        #[must_use]
        pub(crate) fn try_take(&self) -> bool {
            self.0.try_lock().is_some()
        }

        /// # Safety
        /// The caller holds it.
        #[inline]
        pub(crate) unsafe fn give(&self) {
            // SAFETY: the caller's.
            unsafe { self.0.unlock(GuardNoSend::new()) };
        }
    }
}

#[cfg(heist_loom)]
mod real {
    use crate::sync::{AtomicBool, Ordering::*, spin_hint};

    /// For models, which do not run anything that is claimed.
    pub(crate) struct Claim(AtomicBool);

    impl Claim {
        pub(crate) fn new() -> Self {
            Claim(AtomicBool::new(false))
        }
        pub(crate) fn take(&self) {
            while !self.try_take() {
                spin_hint();
            }
        }
        #[must_use]
        pub(crate) fn try_take(&self) -> bool {
            !self.0.swap(true, Acquire)
        }
        pub(crate) unsafe fn give(&self) {
            self.0.swap(false, Release); // a store that meets others' exchanges would be explored in impossible orders
        }
    }
}

pub(crate) use real::Claim;

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Claim")
    }
}

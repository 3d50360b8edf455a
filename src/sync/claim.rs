//! Exclusive access for longer than a guard's scope: taken in one function, given up in another.

#[cfg(not(heist_loom))]
mod real {
    use parking_lot::lock_api::RawMutex as _;

    /// A lock without a guard. A thread that takes the claim sees everything done by the previous
    /// holder.
    pub(crate) struct Claim(parking_lot::RawMutex);

    impl Claim {
        pub(crate) fn new() -> Self {
            Claim(parking_lot::RawMutex::INIT)
        }

        /// Takes the claim, and waits for the current holder.
        #[inline]
        pub(crate) fn take_or_wait(&self) {
            self.0.lock();
        }

        #[must_use]
        /// Takes the claim if it is free. Returns `true` on success.
        pub(crate) fn try_take(&self) -> bool {
            self.0.try_lock()
        }

        /// Releases the claim.
        ///
        /// # Safety
        /// The caller holds the claim.
        #[inline]
        pub(crate) unsafe fn give_up(&self) {
            // SAFETY: the caller holds the claim, so the lock is locked.
            unsafe { self.0.unlock() };
        }
    }
}

#[cfg(heist_loom)]
mod real {
    use crate::sync::primitives::{AtomicBool, Ordering::*, spin_hint};

    /// A spin lock for models. No model keeps a claim for long.
    pub(crate) struct Claim(AtomicBool);

    impl Claim {
        pub(crate) fn new() -> Self {
            Claim(AtomicBool::new(false))
        }
        pub(crate) fn take_or_wait(&self) {
            while !self.try_take() {
                spin_hint();
            }
        }
        #[must_use]
        pub(crate) fn try_take(&self) -> bool {
            // Acquire: pairs with the Release of the exchange in `give_up`.
            !self.0.swap(true, Acquire)
        }
        pub(crate) unsafe fn give_up(&self) {
            // An exchange, not a store: loom would explore a store against other exchanges in
            // impossible orders.
            self.0.swap(false, Release);
        }
    }
}

pub(crate) use real::Claim;

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Claim")
    }
}

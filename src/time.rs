//! Floor 0: the one place that reads the clock, so that time can be made virtual later. Always monotonic.

pub(crate) use std::time::{Duration, Instant};

#[cfg(not(heist_steps))]
#[inline]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// For counting instructions: 50 ns pass with each reading, so that what depends on time does not depend on how slowly
/// the program runs while it is counted.
#[cfg(heist_steps)]
pub(crate) fn now() -> Instant {
    thread_local! {
        static START: Instant = Instant::now();
        static READINGS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }
    let readings = READINGS.get() + 1;
    READINGS.set(readings);
    START.with(|start| *start + Duration::from_nanos(50 * readings))
}

/// `now + duration`; `None` when that lies beyond what the clock can say, which is as good as never.
pub(crate) fn after(duration: Duration) -> Option<Instant> {
    now().checked_add(duration)
}

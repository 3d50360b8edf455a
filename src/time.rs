//! Floor 0: the only place that reads the clock, so that time can be made virtual later. Always
//! monotonic.

pub(crate) use std::time::{Duration, Instant};

#[cfg(not(heist_steps))]
#[inline]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The clock for counting instructions. Each reading advances it by 50 ns, so that time-dependent
/// behaviour does not depend on the speed of the counted program.
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

/// Returns `now + duration`, or `None` if the clock cannot represent it, which is as good as never.
pub(crate) fn instant_after(duration: Duration) -> Option<Instant> {
    now().checked_add(duration)
}

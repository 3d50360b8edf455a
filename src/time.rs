//! Floor 0: the one place that reads the clock, so that time can be made virtual later. Always monotonic.

pub(crate) use std::time::{Duration, Instant};

pub(crate) fn now() -> Instant {
    Instant::now()
}

/// `now + duration`; `None` when that lies beyond what the clock can say, which is as good as never.
pub(crate) fn after(duration: Duration) -> Option<Instant> {
    now().checked_add(duration)
}

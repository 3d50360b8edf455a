//! Measures queue delay, the time from sending a message to the beginning of its handling. A sample
//! of the messages carries a stamp, and the delay goes into a histogram when the message is
//! handled.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Delays in nanoseconds, to 1 %.
pub(crate) type Delay = Histogram<u64>;

const DIGITS: u8 = 2;
/// Approximate number of sampled messages in a run: enough for p99.9, and few enough to cost next
/// to nothing.
const SAMPLES: usize = 100_000;
/// Number of histograms that threads share.
const STRIPES: usize = 16;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static STRIPE: Cell<usize> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES);
}

/// The send time of a sampled message. Eight bytes, so that messages stay small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp(u64);

impl Stamp {
    /// The stamp of a message outside the sample.
    pub(crate) const NONE: Stamp = Stamp(0);

    pub(crate) fn now() -> Self {
        Self::at(Instant::now())
    }

    fn at(time: Instant) -> Self {
        Self((time.saturating_duration_since(*START).as_nanos() as u64).max(1))
    }
}

/// Selects the messages of a run that are in the sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    every: usize,
}

impl Sample {
    /// Samples every n-th of `messages`. The step is odd, so that it does not coincide with streams
    /// that repeat in even steps.
    pub(crate) fn of(messages: usize) -> Self {
        let every = messages.div_ceil(SAMPLES).max(1);
        Self { every: if every == 1 { 1 } else { every | 1 } }
    }

    pub(crate) fn every(self) -> usize {
        self.every
    }

    /// Returns the stamp of message number `at`, which is sent now.
    #[inline]
    pub(crate) fn stamp(self, at: usize) -> Stamp {
        if at.is_multiple_of(self.every) { Stamp::now() } else { Stamp::NONE }
    }

    /// Returns the stamp of message number `at`, which was due at `due`.
    pub(crate) fn stamp_due(self, at: usize, due: Instant) -> Stamp {
        if at.is_multiple_of(self.every) { Stamp::at(due) } else { Stamp::NONE }
    }
}

/// Collects the delays of one run.
#[derive(Debug)]
pub(crate) struct Delays {
    stripes: [Mutex<Delay>; STRIPES],
}

impl Delays {
    /// Makes a collector that lives until the program ends, so that a quarter of a million actors
    /// can refer to it for free. There is one of about 100 kB for each run.
    pub(crate) fn leaked() -> &'static Self {
        LazyLock::force(&START); // before anything is sent
        Box::leak(Box::new(Self { stripes: std::array::from_fn(|_| Mutex::new(empty())) }))
    }

    /// Records the delay of a message at the beginning of its handling.
    #[inline]
    pub(crate) fn arrived(&self, stamp: Stamp) {
        if stamp != Stamp::NONE {
            self.note(Stamp::now().0.saturating_sub(stamp.0));
        }
    }

    #[cold]
    fn note(&self, nanoseconds: u64) {
        let stripe = &self.stripes[STRIPE.with(Cell::get)];
        // A panic under the lock leaves a histogram that lacks one value.
        let mut stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
        stripe.record(nanoseconds).expect("it grows with what it is given");
    }

    /// Returns all delays so far and empties the collector.
    pub(crate) fn take(&self) -> Delay {
        let mut all = empty();
        for stripe in &self.stripes {
            let mut stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            all += &*stripe;
            stripe.reset();
        }
        all
    }
}

fn empty() -> Delay {
    Delay::new(DIGITS).expect("a valid number of digits")
}

/// Returns the delay that the given part of the messages did not exceed, or `None` without
/// messages.
pub(crate) fn quantile(delays: &Delay, part: f64) -> Option<Duration> {
    (!delays.is_empty()).then(|| Duration::from_nanos(delays.value_at_quantile(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_of_all_threads_are_collected_once() {
        let delays = Delays::leaked();
        std::thread::scope(|scope| {
            for thread in 0..40_u64 {
                scope.spawn(move || (1..=25).for_each(|n| delays.note(1_000 * (25 * thread + n))));
            }
        });
        delays.arrived(Stamp::NONE);
        let all = delays.take();
        assert_eq!(all.len(), 1_000);
        let median = quantile(&all, 0.5).unwrap().as_secs_f64() * 1e6;
        assert!((median - 500.0).abs() <= 5.0, "{median} us");
        assert!(delays.take().is_empty());
        assert_eq!(quantile(&delays.take(), 0.5), None);
    }

    #[test]
    fn a_stamp_is_taken_of_a_part() {
        for (messages, every) in
            [(0, 1), (1, 1), (100_000, 1), (100_001, 3), (336_776, 5), (2_000_000, 21)]
        {
            let sample = Sample::of(messages);
            assert_eq!(sample.every(), every);
            let stamped = (0..1_000).filter(|&at| sample.stamp(at) != Stamp::NONE).count();
            assert_eq!(stamped, 1_000_usize.div_ceil(every));
        }
    }

    #[test]
    fn a_delay_is_counted_from_when_a_message_was_sent_or_due() {
        let delays = Delays::leaked();
        let due = Instant::now();
        delays.arrived(Sample::of(1).stamp_due(0, due));
        assert!(delays.take().max() <= due.elapsed().as_nanos() as u64 * 102 / 100);
        // Due an hour ago, or as far back as stamps can reach.
        let long_ago = due.checked_sub(Duration::from_secs(3_600)).unwrap_or(due);
        delays.arrived(Sample::of(1).stamp_due(0, long_ago));
        let least = due.duration_since(*START).as_nanos() as u64;
        assert!(delays.take().max() >= least);
        delays.arrived(Stamp::now());
        assert_eq!(delays.take().len(), 1);
    }
}

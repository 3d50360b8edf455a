//! Durations as they are collected and read: counts, sums and percentiles.
//!
//! Counts, sums and maxima are exact. Percentiles come from [buckets](super::buckets)
//! that grow with the values. An actor has coarse histograms, since there may be many
//! actors. A worker has finer ones.
//!
//! | histogram | values in one bucket differ by (31 ns at least) | bytes for times up to 1 ms | at the most |
//! |---|---|---|---|
//! | an actor's | 7 % | 800 | 3,100 |
//! | a worker's | 1 % | 4,700 | 19,000 |
//!
//! Beyond a millisecond a histogram grows by half or more at a time, and so allocates three times
//! in its life.

use super::buckets::Buckets;
use crate::time::Duration;

/// A count of events, and how long they took.
///
/// ```
/// # use heist::{Actor, Context, Executor, Handler};
/// # struct Worker;
/// # impl Actor for Worker {}
/// # struct Job;
/// # impl Handler<Job> for Worker {
/// #     type Reply = ();
/// #     fn handle(&mut self, _: Job, _: &mut Context<Self>) {}
/// # }
/// # #[cfg(not(feature = "timing"))]
/// # fn main() {}
/// # #[cfg(feature = "timing")]
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let executor = Executor::builder().timing(true).build()?;
/// let worker = executor.spawn(Worker);
/// worker.tell_many((0..100).map(|_| Job)).map_err(|refused| refused.to_string())?;
/// executor.wait_idle()?;
/// let handling = worker.timing().expect("it is timed").handling;
/// assert_eq!(handling.count, 100);
/// assert!(handling.p50 <= handling.p99 && handling.p99 <= handling.max);
/// assert!(handling.max <= handling.total);
/// assert_eq!(handling.mean(), handling.total / 100);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct DurationStats {
    /// The number of events.
    pub count: u64,
    /// The sum of their times; exact.
    pub total: Duration,
    /// The longest time; exact.
    pub max: Duration,
    /// The median: half of the events took no longer. Percentiles are never too short, and too long
    /// by at most 7 % for one actor and 1 % for workers, or by 31 ns where that is more. A time of
    /// more than about an hour counts as that in percentiles.
    pub p50: Duration,
    /// The time that 90 % of the events did not exceed.
    pub p90: Duration,
    /// The time that 99 % of the events did not exceed.
    pub p99: Duration,
    /// The time that 99.9 % of the events did not exceed.
    pub p999: Duration,
}

impl DurationStats {
    /// Returns the mean; zero if the count is zero.
    #[must_use]
    pub fn mean(&self) -> Duration {
        let mean = self.total.as_nanos().checked_div(u128::from(self.count)).unwrap_or(0);
        Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX))
    }
}

/// Times of one timed actor's messages. From [`ActorRef::timing`](crate::ActorRef::timing).
///
/// ```
/// # use heist::{Actor, Executor};
/// # struct Idle;
/// # impl Actor for Idle {}
/// # #[cfg(not(feature = "timing"))]
/// # fn main() {}
/// # #[cfg(feature = "timing")]
/// # fn main() {
/// let executor = Executor::new();
/// let timed = executor.build(Idle).timing(true).spawn();
/// assert_eq!(timed.timing().map(|timing| timing.wait.count), Some(0));
/// assert_eq!(executor.spawn(Idle).timing(), None);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Timing {
    /// From the moment when the mailbox accepted a message to the beginning of its handler. The
    /// message of a timer waits from the moment when it was due.
    pub wait: DurationStats,
    /// The time in handlers, including those that panicked.
    pub handling: DurationStats,
}

/// Times of the turns of timed actors on one worker, or on all. In [`Stats`](crate::stats::Stats)
/// and [`WorkerStats`](crate::stats::WorkerStats).
///
/// ```
/// # use heist::{Actor, Executor};
/// # struct Idle;
/// # impl Actor for Idle {}
/// # #[cfg(not(feature = "timing"))]
/// # fn main() {}
/// # #[cfg(feature = "timing")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let executor = Executor::builder().timing(true).build()?;
/// let _idle = executor.spawn(Idle);
/// executor.wait_idle()?;
/// let timing = executor.stats().timing.expect("a timed actor had a turn");
/// assert_eq!(timing.queued.count, 1);      // in which it was started,
/// assert_eq!(timing.handling.count, 0);    // which is no message
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CrewTiming {
    /// Run-queue delay: from the moment when an actor became runnable (by a message while it was
    /// idle, or by the end of a turn with more to do) to the beginning of its turn. One for each
    /// turn.
    pub queued: DurationStats,
    /// As [`Timing::wait`].
    pub wait: DurationStats,
    /// As [`Timing::handling`].
    pub handling: DurationStats,
}

/// Times as they are collected, in ns.
#[derive(Debug)]
pub(crate) struct Record {
    count: u64,
    total: u64,
    max: u64,
    digits: u8,
    /// Made with the first time.
    buckets: Option<Buckets>,
}

impl Record {
    /// Makes the record of one of many actors.
    pub(crate) fn coarse() -> Self {
        Record { count: 0, total: 0, max: 0, digits: 1, buckets: None }
    }

    /// Makes the record of a worker.
    pub(crate) fn fine() -> Self {
        Record { digits: 2, ..Record::coarse() }
    }

    fn buckets_mut(&mut self) -> &mut Buckets {
        self.buckets.get_or_insert_with(|| Buckets::new(self.digits))
    }

    pub(crate) fn add_time(&mut self, ns: u64) {
        self.count += 1;
        self.total = self.total.saturating_add(ns);
        self.max = self.max.max(ns);
        self.buckets_mut().add_time(ns);
    }

    /// Adds all times of another record of the same kind.
    pub(crate) fn add_all(&mut self, other: &Record) {
        self.count += other.count;
        self.total = self.total.saturating_add(other.total);
        self.max = self.max.max(other.max);
        if let Some(others) = &other.buckets {
            self.buckets_mut().add_all(others);
        }
    }

    pub(crate) fn read_times(&self) -> DurationStats {
        let percentiles = self.buckets.as_ref().map_or([0; 4], Buckets::percentiles);
        // The end of a bucket may lie beyond the longest time.
        let [p50, p90, p99, p999] = percentiles.map(|ns| Duration::from_nanos(ns.min(self.max)));
        let (total, max) = (Duration::from_nanos(self.total), Duration::from_nanos(self.max));
        DurationStats { count: self.count, total, max, p50, p90, p99, p999 }
    }
}

/// The record of one worker.
#[derive(Debug)]
pub(crate) struct CrewRecord {
    pub(crate) queued: Record,
    pub(crate) wait: Record,
    pub(crate) handling: Record,
}

impl Default for CrewRecord {
    fn default() -> Self {
        CrewRecord { queued: Record::fine(), wait: Record::fine(), handling: Record::fine() }
    }
}

impl CrewRecord {
    pub(crate) fn add_all(&mut self, other: &CrewRecord) {
        self.queued.add_all(&other.queued);
        self.wait.add_all(&other.wait);
        self.handling.add_all(&other.handling);
    }

    pub(crate) fn read_timing(&self) -> CrewTiming {
        CrewTiming {
            queued: self.queued.read_times(),
            wait: self.wait.read_times(),
            handling: self.handling.read_times(),
        }
    }
}

#[cfg(all(test, not(heist_loom), feature = "timing"))]
mod tests {
    use super::super::buckets::{SHORTEST, USUAL};
    use super::*;

    fn ns(n: u64) -> Duration {
        Duration::from_nanos(n)
    }

    #[test]
    fn nothing_is_zero() {
        assert_eq!(Record::coarse().read_times(), DurationStats::default());
        assert_eq!(DurationStats::default().mean(), Duration::ZERO);
    }

    #[test]
    fn sums_are_exact_and_percentiles_a_little_too_long_at_most() {
        for (mut record, error) in [(Record::coarse(), 0.07), (Record::fine(), 0.01)] {
            (1..=100_000).for_each(|i| record.add_time(i * 100));
            let times = record.read_times();
            assert_eq!((times.count, times.max), (100_000, ns(10_000_000)));
            assert_eq!(times.total, ns(100 * 100_000 * 100_001 / 2));
            assert_eq!(times.mean(), ns(5_000_050));
            for (percentile, exact) in
                [(times.p50, 5e6), (times.p90, 9e6), (times.p99, 9.9e6), (times.p999, 9.99e6)]
            {
                let ratio = percentile.as_nanos() as f64 / exact;
                assert!((1.0..=1.0 + error).contains(&ratio), "{ratio} for {exact}");
            }
        }
    }

    #[test]
    fn what_is_longer_than_all_buckets_counts_in_full() {
        let mut record = Record::coarse();
        record.add_time(u64::MAX / 4);
        record.add_time(0);
        let times = record.read_times();
        assert_eq!((times.count, times.total, times.max), (2, ns(u64::MAX / 4), ns(u64::MAX / 4)));
        assert!(times.p50 < ns(SHORTEST) && times.p999 > Duration::from_secs(3600));
    }

    #[test]
    fn the_whole_is_the_sum_of_its_parts() {
        let (mut one, mut other, mut all) = (Record::fine(), Record::fine(), Record::fine());
        for i in 1..1000 {
            one.add_time(i * i);
            other.add_time(i * i * i * i);
            all.add_time(i * i);
            all.add_time(i * i * i * i);
        }
        let mut sum = Record::fine();
        for part in [&one, &Record::fine(), &other] {
            sum.add_all(part);
        }
        assert_eq!(sum.read_times(), all.read_times());
    }

    /// Checks the table above. The vector inside may have twice the room while it grows, no more.
    #[test]
    fn histograms_are_small() {
        let bytes = |mut record: Record, longest: u64| {
            record.add_time(longest);
            record.buckets.map_or(0, |buckets| buckets.bytes())
        };
        for (longest, coarse, fine) in
            [(0, 800, 4_700), (USUAL, 800, 4_700), (u64::MAX, 2_200, 16_000)]
        {
            assert!(
                bytes(Record::coarse(), longest) <= coarse,
                "{}",
                bytes(Record::coarse(), longest)
            );
            assert!(bytes(Record::fine(), longest) <= fine, "{}", bytes(Record::fine(), longest));
        }
    }
}

//! Percentiles of durations, in buckets that grow with the values: histograms of hdrhistogram.
//!
//! Without the feature `timing` no actor can be timed. Then the buckets are empty, and heist does
//! without the crate hdrhistogram.

/// Values below which 50, 90, 99 and 99.9 % of the entries lie.
pub(super) type Percentiles = [u64; 4];

#[cfg(not(feature = "timing"))]
pub(super) use empty::Buckets;
#[cfg(feature = "timing")]
pub(super) use filled::Buckets;
#[cfg(all(test, not(heist_loom), feature = "timing"))]
pub(super) use filled::{SHORTEST, USUAL};

#[cfg(feature = "timing")]
mod filled {
    use super::Percentiles;
    use hdrhistogram::Histogram;

    /// The shortest time, in ns, that a histogram distinguishes from zero: about the cost of a
    /// reading of the clock.
    pub(in crate::cell) const SHORTEST: u64 = 32;
    /// The greatest value that a new histogram can hold.
    pub(in crate::cell) const USUAL: u64 = 1_000_000;
    /// Longer times count in a histogram as this, a bit more than an hour.
    const LONGEST: u64 = (1 << 42) - 1;

    #[derive(Debug)]
    pub(in crate::cell) struct Buckets(Histogram<u32>);

    impl Buckets {
        /// Makes buckets of values that agree in so many decimal digits.
        pub(in crate::cell) fn new(digits: u8) -> Self {
            // Made for usual times, and grows by itself for longer ones.
            let mut fresh = Histogram::new_with_bounds(SHORTEST, USUAL, digits)
                .expect("these bounds are possible");
            fresh.auto(true);
            Buckets(fresh)
        }

        pub(in crate::cell) fn add_time(&mut self, ns: u64) {
            let recorded = self.0.record(ns.min(LONGEST));
            debug_assert!(recorded.is_ok(), "it grows as far as this");
        }

        pub(in crate::cell) fn add_all(&mut self, other: &Buckets) {
            let added = self.0.add(&other.0);
            debug_assert!(added.is_ok(), "it grows as far as the other");
        }

        pub(in crate::cell) fn percentiles(&self) -> Percentiles {
            let mut found = [0; 4];
            let values = self.0.value_at_quantiles([0.5, 0.9, 0.99, 0.999]);
            found.iter_mut().zip(values).for_each(|(at, value)| *at = value);
            found
        }

        #[cfg(test)]
        pub(in crate::cell) fn bytes(&self) -> usize {
            self.0.distinct_values() * size_of::<u32>()
        }
    }
}

#[cfg(not(feature = "timing"))]
mod empty {
    use super::Percentiles;

    #[derive(Debug)]
    pub(in crate::cell) struct Buckets;

    impl Buckets {
        pub(in crate::cell) fn new(_digits: u8) -> Self {
            Buckets
        }

        pub(in crate::cell) fn add_time(&mut self, _ns: u64) {}

        pub(in crate::cell) fn add_all(&mut self, _other: &Buckets) {}

        pub(in crate::cell) fn percentiles(&self) -> Percentiles {
            [0; 4]
        }
    }
}

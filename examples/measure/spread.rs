//! Computes the evenness of a load over the workers, in three figures.

use std::time::Duration;

/// Figures of the workers' busy times, which include time for which the system preempted a busy
/// worker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The busiest worker's time divided by the mean: 1 is even, and the number of workers means
    /// that one worker did everything. Shows how much longer the whole took than necessary.
    pub(crate) most: f64,
    /// The standard deviation divided by the mean (the coefficient of variation): 0 is even.
    pub(crate) variation: f64,
    /// Jain's index of fairness, `(sum x)^2 / (n * sum x^2)`: 1 is even, and `k / n` means that k
    /// of n workers shared everything evenly.
    pub(crate) jain: f64,
}

impl Spread {
    /// Returns the figures, or `None` if no worker was busy.
    pub(crate) fn of(busy: &[Duration]) -> Option<Self> {
        let n = busy.len() as f64;
        let busy: Vec<f64> = busy.iter().map(Duration::as_secs_f64).collect();
        let sum: f64 = busy.iter().sum();
        if sum == 0.0 {
            return None;
        }
        let mean = sum / n;
        let variance = busy.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let squares: f64 = busy.iter().map(|x| x * x).sum();
        Some(Self {
            most: busy.iter().copied().fold(0.0, f64::max) / mean,
            variation: variance.sqrt() / mean,
            jain: sum * sum / (n * squares),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(milliseconds: &[u64]) -> Spread {
        let busy: Vec<_> = milliseconds.iter().copied().map(Duration::from_millis).collect();
        Spread::of(&busy).unwrap()
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn an_even_load_and_one_worker_for_all_are_the_bounds() {
        for n in 1..10_usize {
            let even = spread(&vec![7; n]);
            assert!(
                close(even.most, 1.0) && close(even.variation, 0.0) && close(even.jain, 1.0),
                "{even:?}"
            );
            let mut one = vec![0; n];
            one[n / 2] = 5;
            let one = spread(&one);
            let workers = n as f64;
            assert!(close(one.most, workers) && close(one.jain, 1.0 / workers), "{one:?}");
            assert!(close(one.variation, (workers - 1.0).sqrt()), "{one:?}");
        }
    }

    #[test]
    fn known_values() {
        // Mean 2.5, variance 1.25, squares 30.
        let four = spread(&[1, 2, 3, 4]);
        assert!(close(four.most, 1.6) && close(four.variation, 0.2_f64.sqrt()), "{four:?}");
        assert!(close(four.jain, 100.0 / 120.0), "{four:?}");
        // Two of four workers share all work.
        assert!(close(spread(&[3, 0, 0, 3]).jain, 0.5));
    }

    #[test]
    fn jain_and_the_variation_say_the_same() {
        for busy in [&[1, 1, 9][..], &[5, 4, 3, 2, 1], &[100, 1]] {
            let spread = spread(busy);
            assert!(close(spread.jain, 1.0 / (1.0 + spread.variation.powi(2))), "{spread:?}");
        }
    }

    #[test]
    fn a_crew_that_did_nothing_has_no_spread() {
        assert_eq!(Spread::of(&[Duration::ZERO; 3]), None);
        assert_eq!(Spread::of(&[]), None);
    }
}

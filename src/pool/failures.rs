//! Counts the states lost within a window of time, in bounded memory for any window.

use crate::time::{Duration, Instant};
use std::collections::VecDeque;

/// Number of losses with an entry each. Later ones share an entry with losses of the same part of
/// the window.
const EXACT: usize = 64;
/// Number of parts of the window.
const PARTS: u32 = 64;

/// The losses within a window, oldest first, in at most [`EXACT`] + [`PARTS`] + 1 entries.
///
/// Up to [`EXACT`] losses are counted exactly. Beyond that, an entry leaves the window with its
/// first loss. So a loss counts for the whole window except for one part.
#[derive(Debug, Default)]
pub(super) struct FailureWindow {
    /// For each entry, the instant of its first loss and the number of losses.
    entries: VecDeque<(Instant, u64)>,
    sum: u64,
}

impl FailureWindow {
    /// Adds a loss. Returns the number of losses within the window.
    pub(super) fn add_failure(&mut self, now: Instant, window: Duration) -> u64 {
        while let Some(&(at, count)) = self.entries.front()
            && now.saturating_duration_since(at) > window
        {
            // The sum is kept, so that a loss costs no walk over the entries.
            self.sum -= count;
            self.entries.pop_front();
        }
        let full = self.entries.len() >= EXACT;
        match self.entries.back_mut() {
            Some((at, count)) if full && now.saturating_duration_since(*at) < window / PARTS => {
                *count += 1
            }
            // Up to `EXACT` entries, each loss has its own.
            _ => self.entries.push_back((now, 1)),
        }
        self.sum += 1;
        self.sum
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;
    use crate::time;

    #[test]
    fn a_million_losses_take_a_few_entries() {
        for window in [Duration::MAX, Duration::from_secs(1000)] {
            let (mut losses, start) = (FailureWindow::default(), time::now());
            for n in 0..1_000_000u64 {
                // 700 s in all.
                let now = start + Duration::from_micros(700 * n);
                assert_eq!(losses.add_failure(now, window), n + 1);
            }
            assert!(
                losses.entries.len() <= EXACT + PARTS as usize + 1,
                "{} entries",
                losses.entries.len()
            );
        }
    }

    #[test]
    fn a_loss_leaves_the_window() {
        let (mut losses, start, window) =
            (FailureWindow::default(), time::now(), Duration::from_millis(64));
        let at = |ms| start + Duration::from_millis(ms);
        for n in 0..50 {
            assert_eq!(losses.add_failure(at(n), window), n + 1, "one a millisecond");
        }
        assert_eq!(losses.add_failure(at(64), window), 51, "the first is as old as the window");
        assert_eq!(losses.add_failure(at(65), window), 51, "and has left it");
        assert_eq!(losses.add_failure(at(1000), window), 1);
        // 10 in each millisecond, so that entries are shared. The count is right except for one
        // part of the window.
        let mut counted = 0;
        for n in 10_000..20_000u64 {
            counted = losses.add_failure(start + Duration::from_micros(100 * n), window);
            assert!(losses.entries.len() <= EXACT + PARTS as usize + 1);
        }
        assert!((630..=641).contains(&counted), "{counted} of 640 in the window");
    }
}

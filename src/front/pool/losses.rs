//! How many states were lost within a window of time: counts, so that a window may be as long as one likes.

use crate::time::{Duration, Instant};
use std::collections::VecDeque;

/// So many losses have an entry each. Beyond, those of the same part of the window share one.
const EXACT: usize = 64;
/// Parts of the window.
const PARTS: u32 = 64;

/// The losses within a window, oldest first, in at most [`EXACT`] + [`PARTS`] + 1 entries.
///
/// Up to [`EXACT`] losses are counted exactly. Beyond, an entry leaves the window with the first of its losses, so a loss counts
/// for the whole window but a part.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// When the first of these was, and how many they are.
    entries: VecDeque<(Instant, u64)>,
    sum: u64,
}

impl Losses {
    /// Adds one, and returns how many there are within the window.
    pub(super) fn add(&mut self, now: Instant, window: Duration) -> u64 {
        while let Some(&(at, count)) = self.entries.front()
            && now.saturating_duration_since(at) > window
        {
            self.sum -= count;
            self.entries.pop_front();
        }
        let full = self.entries.len() >= EXACT;
        match self.entries.back_mut() {
            Some((at, count)) if full && now.saturating_duration_since(*at) < window / PARTS => *count += 1,
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
            let (mut losses, start) = (Losses::default(), time::now());
            for n in 0..1_000_000u64 {
                let now = start + Duration::from_micros(700 * n); // 700 s in all
                assert_eq!(losses.add(now, window), n + 1);
            }
            assert!(losses.entries.len() <= EXACT + PARTS as usize + 1, "{} entries", losses.entries.len());
        }
    }

    #[test]
    fn a_loss_leaves_the_window() {
        let (mut losses, start, window) = (Losses::default(), time::now(), Duration::from_millis(64));
        let at = |ms| start + Duration::from_millis(ms);
        for n in 0..50 {
            assert_eq!(losses.add(at(n), window), n + 1, "one a millisecond");
        }
        assert_eq!(losses.add(at(64), window), 51, "the first is as old as the window");
        assert_eq!(losses.add(at(65), window), 51, "and has left it");
        assert_eq!(losses.add(at(1000), window), 1);
        // 10 each millisecond, so that entries are shared: the count is right but for one part of the window.
        let mut counted = 0;
        for n in 10_000..20_000u64 {
            counted = losses.add(start + Duration::from_micros(100 * n), window);
            assert!(losses.entries.len() <= EXACT + PARTS as usize + 1);
        }
        assert!((630..=641).contains(&counted), "{counted} of 640 in the window");
    }
}

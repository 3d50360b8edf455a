//! Records the activity of each worker over time, from readings of its counts.
//!
//! A worker updates its busy time every few turns and when it runs out of work. A reading is
//! therefore exact while the worker sleeps, and otherwise as old as the last update. Busy time is
//! spread evenly between two updates. The total is right, and the resolution is the longer of the
//! distance of readings and the time of 32 turns.

use std::time::Duration;

/// Readings beyond this number are thinned out to half, again and again, so that memory is bounded
/// however long a run takes.
const MOST: usize = 4_096;

/// A reading of one worker, in nanoseconds from the beginning of the run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    pub(crate) busy: u64,
    /// The worker's share of the idle hands so far; see [`sampler`](super::sampler).
    pub(crate) idle: u64,
    pub(crate) parked: bool,
}

/// All readings of a run.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    readings: Vec<(Duration, Box<[Reading]>)>,
    /// One reading in this many is kept.
    step: usize,
    offered: usize,
}

/// A worker's share of each of some equal parts of the time, from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lane {
    pub(crate) busy: Vec<f64>,
    pub(crate) idle: Vec<f64>,
}

impl Timeline {
    pub(crate) fn new() -> Self {
        Self { readings: Vec::new(), step: 1, offered: 0 }
    }

    /// Adds a reading of all workers, later than all earlier readings.
    pub(crate) fn offer(&mut self, at: Duration, workers: &[Reading]) {
        if self.offered.is_multiple_of(self.step) {
            self.keep(at, workers);
        }
        self.offered += 1;
        if self.readings.len() > MOST {
            let mut place = 0..;
            self.readings
                .retain(|_| place.next().is_some_and(|place: usize| place.is_multiple_of(2)));
            self.step *= 2;
        }
    }

    /// Keeps the first or last reading, which must not be thinned out.
    pub(crate) fn keep(&mut self, at: Duration, workers: &[Reading]) {
        self.readings.push((at, workers.into()));
    }

    pub(crate) fn end(&self) -> Duration {
        self.readings.last().map_or(Duration::ZERO, |(at, _)| *at)
    }

    pub(crate) fn workers(&self) -> usize {
        self.readings.last().map_or(0, |(_, workers)| workers.len())
    }

    /// Divides the time into at most `parts` parts, and into no more than there are readings.
    pub(crate) fn lanes(&self, parts: usize) -> Vec<Lane> {
        let parts = parts.min(self.readings.len()).max(1);
        (0..self.workers()).map(|worker| self.lane(worker, parts)).collect()
    }

    fn lane(&self, worker: usize, parts: usize) -> Lane {
        let last = self.readings.len() - 1;
        let mut known = u64::MAX;
        let (mut busy, mut idle) = (Vec::new(), Vec::new());
        for (place, (at, workers)) in self.readings.iter().enumerate() {
            let (at, reading) = (at.as_nanos() as f64, workers[worker]);
            if reading.parked || reading.busy != known || place == last {
                busy.push((at, reading.busy as f64));
                known = reading.busy;
            }
            idle.push((at, reading.idle as f64));
        }
        let end = self.end().as_nanos() as f64;
        Lane { busy: shares(&busy, end, parts), idle: shares(&idle, end, parts) }
    }
}

/// Returns the growth of a count, known at some moments, in each part of the time, divided by the
/// part's length.
fn shares(knots: &[(f64, f64)], end: f64, parts: usize) -> Vec<f64> {
    let width = (end / parts as f64).max(f64::MIN_POSITIVE);
    let edges: Vec<f64> = (0..=parts).map(|edge| value_at(knots, edge as f64 * width)).collect();
    edges.windows(2).map(|edge| ((edge[1] - edge[0]) / width).clamp(0.0, 1.0)).collect()
}

fn value_at(knots: &[(f64, f64)], at: f64) -> f64 {
    let after = knots.partition_point(|(time, _)| *time < at);
    match (after.checked_sub(1).map(|before| knots[before]), knots.get(after)) {
        (Some((from, low)), Some(&(to, high))) => low + (high - low) * (at - from) / (to - from),
        (Some((_, value)), None) => value,
        (None, first) => first.map_or(0.0, |(_, value)| *value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn timeline(readings: &[(u64, u64, bool)]) -> Timeline {
        let mut timeline = Timeline::new();
        for &(at, busy, parked) in readings {
            let reading = Reading { busy: busy * MS, idle: 0, parked };
            timeline.offer(Duration::from_millis(at), &[reading]);
        }
        timeline
    }

    #[test]
    fn busy_time_lies_where_it_was_spent() {
        // Busy for 2 ms, asleep for 2, busy for 4, of which the first 3 are reported late.
        let readings = [
            (0, 0, true),
            (1, 1, false),
            (2, 2, true),
            (3, 2, true),
            (4, 2, true),
            (5, 2, false),
            (6, 2, false),
            (7, 5, false),
            (8, 6, true),
        ];
        let lanes = timeline(&readings).lanes(8);
        assert_eq!(lanes[0].busy, [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(lanes[0].idle, [0.0; 8]);
    }

    #[test]
    fn there_are_no_more_parts_than_readings() {
        let lanes = timeline(&[(0, 0, true), (10, 5, true)]).lanes(100);
        assert_eq!(lanes[0].busy, [0.5, 0.5]);
        assert!(Timeline::new().lanes(10).is_empty());
    }

    #[test]
    fn a_long_run_is_thinned_out_and_keeps_its_total() {
        let mut long = Timeline::new();
        let reading =
            |at: u64| [Reading { busy: at / 2 * MS, idle: 0, parked: at.is_multiple_of(2) }];
        (0..50_000).for_each(|at| long.offer(Duration::from_millis(at), &reading(at)));
        long.keep(Duration::from_millis(50_000), &reading(50_000));
        assert!(long.readings.len() <= MOST + 1, "{}", long.readings.len());
        let lane = &long.lanes(10)[0];
        assert!(lane.busy.iter().all(|share| (share - 0.5).abs() < 0.01), "{lane:?}");
    }
}

//! Samples a crew twice a millisecond: the activity of each worker over time, and how long workers
//! slept while work waited.
//!
//! # Idle hands
//!
//! In each sample, the number of idle hands is the number of sleeping workers, but at most the
//! number of waiting actors. Actors count wherever they wait, even where the policy keeps sleepers
//! from taking them, because that is the cost of a policy. The time between two samples counts half
//! by the first and half by the second. A worker that reports busy time was not idle, so that late
//! samples, when all processors are busy, do not exaggerate.
//!
//! The figure is a sample, not an account. It is right on average if sample times are independent
//! of the load, with a standard error of about `sqrt(figure * 0.5 ms)`. Two choices could be made
//! differently. A LIFO slot counts as waiting work, though its owner often runs it sooner than a
//! wake takes. A woken worker counts as asleep until it runs, which is what waiting work
//! experiences.
//!
//! An exact account would need a timestamp whenever an actor becomes runnable, on the path of every
//! message.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use heist::Handle;
use heist::stats::Stats;

use super::timeline::{Reading, Timeline};

const EVERY: Duration = Duration::from_micros(500);

/// What was seen of a crew.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Summed over the workers.
    pub(crate) idle_hands: Duration,
    pub(crate) looks: u64,
    pub(crate) timeline: Timeline,
}

/// A thread that samples until told to stop.
pub(crate) struct Sampler {
    stop: Sender<(Duration, Stats)>,
    thread: JoinHandle<Seen>,
}

impl Sampler {
    /// Starts sampling. `began` and `before` mark the beginning of the measurement.
    pub(crate) fn start(executor: Handle, began: Instant, before: &Stats) -> Self {
        let (stop, stopped) = mpsc::channel::<(Duration, Stats)>();
        let mut eye = Eye::new(before);
        let look = move || {
            loop {
                match stopped.recv_timeout(EVERY) {
                    Err(RecvTimeoutError::Timeout) => eye.look(began.elapsed(), &executor.stats()),
                    Err(RecvTimeoutError::Disconnected) => return eye.seen,
                    Ok((at, last)) => return eye.last(at, &last),
                }
            }
        };
        Self { stop, thread: thread::spawn(look) }
    }

    /// Ends the measurement at time `at` with the counts `last`.
    pub(crate) fn stop(self, at: Duration, last: Stats) -> Seen {
        // If the sampler has panicked, the join reports it.
        let _ = self.stop.send((at, last));
        self.thread.join().expect("looking does not panic")
    }
}

/// Accumulates the samples.
struct Eye {
    before: Vec<u64>,
    readings: Vec<Reading>,
    /// The last sample.
    at: Duration,
    hands: Vec<f64>,
    seen: Seen,
}

impl Eye {
    fn new(before: &Stats) -> Self {
        let readings = vec![Reading { parked: true, ..Reading::default() }; before.workers.len()];
        let mut timeline = Timeline::new();
        timeline.offer(Duration::ZERO, &readings);
        Self {
            before: before.workers.iter().map(|worker| worker.busy.as_nanos() as u64).collect(),
            hands: vec![0.0; readings.len()],
            readings,
            at: Duration::ZERO,
            seen: Seen { idle_hands: Duration::ZERO, looks: 0, timeline },
        }
    }

    fn look(&mut self, at: Duration, now: &Stats) {
        self.count(at, now);
        self.seen.looks += 1;
        self.seen.timeline.offer(at, &self.readings);
    }

    fn last(mut self, at: Duration, now: &Stats) -> Seen {
        self.count(at, now);
        self.seen.timeline.keep(at, &self.readings);
        self.seen
    }

    fn count(&mut self, at: Duration, now: &Stats) {
        let passed = at.saturating_sub(self.at).as_nanos() as f64;
        self.at = at;
        let asleep = now.workers.iter().filter(|worker| worker.is_parked()).count();
        // All sleepers share in the work that waited.
        let share = (now.waiting_actors as f64 / asleep.max(1) as f64).min(1.0);
        for (index, worker) in now.workers.iter().enumerate() {
            let hand = if worker.is_parked() { share } else { 0.0 };
            let then = std::mem::replace(&mut self.hands[index], hand);
            let busy = (worker.busy.as_nanos() as u64).saturating_sub(self.before[index]);
            let reading = &mut self.readings[index];
            let free = (passed - busy.saturating_sub(reading.busy) as f64).max(0.0);
            let idle = ((then + hand) / 2.0 * passed).min(free) as u64;
            *reading = Reading { busy, idle: reading.idle + idle, parked: worker.is_parked() };
            self.seen.idle_hands += Duration::from_nanos(idle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heist::stats::WorkerStats;

    /// Makes statistics with the given sleepers and number of waiting actors.
    fn stats(asleep: &[bool], waiting: u64) -> Stats {
        let mut stats = Stats::default();
        stats.workers = vec![WorkerStats::default(); asleep.len()];
        stats
            .workers
            .iter_mut()
            .zip(asleep)
            .for_each(|(worker, asleep)| worker.parks = u64::from(*asleep));
        stats.waiting_actors = waiting;
        stats
    }

    #[test]
    fn idle_hands_are_sleepers_for_whom_there_is_something_to_do() {
        let (all, half, none) = ([true; 4], [true, false, true, false], [false; 4]);
        let ms = Duration::from_millis;
        let mut eye = Eye::new(&stats(&all, 0));
        eye.look(ms(10), &stats(&all, 0)); // nothing to do
        eye.look(ms(20), &stats(&none, 9)); // no worker sleeps
        assert_eq!(eye.seen.idle_hands, Duration::ZERO);
        eye.look(ms(30), &stats(&half, 9)); // from none to two
        assert_eq!(eye.seen.idle_hands, ms(10));
        eye.look(ms(40), &stats(&half, 9));
        assert_eq!(eye.seen.idle_hands, ms(30));
        eye.look(ms(50), &stats(&all, 1)); // four sleep, one of them could work
        assert_eq!(eye.seen.idle_hands, ms(45));
        let mut late = stats(&all, 9); // all sleep, but one has only just fallen asleep
        late.workers[0].busy = ms(8);
        eye.look(ms(60), &late);
        assert_eq!(eye.seen.idle_hands, ms(45) + Duration::from_micros(3 * 6_250 + 2_000));
        late.waiting_actors = 0;
        let seen = eye.last(ms(70), &late);
        assert_eq!((seen.idle_hands, seen.looks), (ms(45 + 20) + Duration::from_micros(20_750), 6));
        assert_eq!(seen.timeline.end(), ms(70));
    }
}

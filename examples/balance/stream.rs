//! Sends the events, all at once or at a steady pace.

use std::thread;
use std::time::{Duration, Instant};

use crate::actor::Event;
use crate::data::Events;
use crate::measure::delay::Sample;

pub(crate) struct Stream<'a> {
    events: &'a Events,
    sample: Sample,
    /// Time between two events.
    interval: Duration,
}

impl<'a> Stream<'a> {
    /// Sends events as fast as they are accepted.
    pub(crate) fn flood(events: &'a Events) -> Self {
        Self { events, sample: Sample::of(events.list.len()), interval: Duration::ZERO }
    }

    /// Sends events at a pace that keeps `processors` busy for `load` per cent of the time. Returns
    /// `None` for a load of 0 and for events without cost.
    pub(crate) fn paced(events: &'a Events, load: f64, processors: usize) -> Option<Self> {
        let mean_us = events.total_us() / events.list.len() as f64;
        let interval_us = mean_us / processors as f64 / (load / 100.0);
        let paced = load > 0.0 && mean_us > 0.0;
        paced.then(|| Self {
            interval: Duration::from_secs_f64(interval_us / 1e6),
            ..Self::flood(events)
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        if self.interval.is_zero() { "all at once" } else { "at a steady pace" }
    }

    pub(crate) fn a_second(&self) -> f64 {
        1.0 / self.interval.as_secs_f64()
    }

    pub(crate) fn len(&self) -> usize {
        self.events.list.len()
    }

    /// Passes each event with its key to `send`, in order. A sender that is late sends all due
    /// events at once. Reasons to be late are a long sleep, a full mailbox, or threads that leave
    /// no processor. Delays count from an event's due time, because a late sender would otherwise
    /// make them shorter.
    pub(crate) fn each<E>(
        &self,
        mut send: impl FnMut(usize, Event) -> Result<(), E>,
    ) -> Result<(), E> {
        let began = Instant::now();
        let mut due = Duration::ZERO;
        for (&(key, cost), row) in self.events.list.iter().zip(0_u32..) {
            let stamp = if self.interval.is_zero() {
                self.sample.stamp(row as usize)
            } else {
                let early = due.saturating_sub(began.elapsed());
                if !early.is_zero() {
                    thread::sleep(early);
                }
                let was_due = began + due;
                due += self.interval;
                self.sample.stamp_due(row as usize, was_due)
            };
            send(key as usize, Event { row, cost, stamp })?;
        }
        Ok(())
    }
}

//! Defines the state of a key. An event costs CPU time, is counted, and changes a hash that depends
//! on the order.

use std::hash::{DefaultHasher, Hash, Hasher};

use heist::{Actor, Context, Handler};

use crate::data::{Events, Keys};
use crate::measure::delay::{Delays, Stamp};
use crate::measure::machine::Cost;

/// An event on its way to its actor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    /// The row in the file, so that no two events are equal.
    pub(crate) row: u32,
    pub(crate) cost: Cost,
    pub(crate) stamp: Stamp,
}

/// What is known of a key's events in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) events: u64,
    pub(crate) order: u64,
}

impl Log {
    pub(crate) fn add(&mut self, row: u32) {
        self.events += 1;
        let mut hasher = DefaultHasher::new();
        (self.order, row).hash(&mut hasher);
        self.order = hasher.finish();
    }
}

/// The state of a key, for an actor and for a thread.
pub(crate) struct Key {
    log: Log,
    delays: &'static Delays,
}

impl Key {
    pub(crate) fn new(delays: &'static Delays) -> Self {
        Self { log: Log::default(), delays }
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.delays.arrived(event.stamp);
        event.cost.spend();
        self.log.add(event.row);
    }

    pub(crate) fn log(&self) -> Log {
        self.log
    }
}

impl Actor for Key {}

impl Handler<Event> for Key {
    type Reply = ();

    fn handle(&mut self, event: Event, _: &mut Context<Self>) {
        self.event(event);
    }
}

/// Asks an actor for its log at the end.
pub(crate) struct Report;

impl Handler<Report> for Key {
    type Reply = Log;

    fn handle(&mut self, _: Report, _: &mut Context<Self>) -> Log {
        self.log()
    }
}

/// Computes the expected logs in a plain loop.
pub(crate) fn sequential(events: &Events) -> Vec<Log> {
    let mut logs = vec![Log::default(); events.keys.len()];
    for (&(key, _), row) in events.list.iter().zip(0..) {
        logs[key as usize].add(row);
    }
    logs
}

/// Describes the differences from the sequential pass, or returns `None` if there are none.
pub(crate) fn differences(keys: &Keys, expected: &[Log], found: &[Log]) -> Option<String> {
    const SHOWN: usize = 5;
    let pairs =
        (0..expected.len().max(found.len())).map(|key| (key, expected.get(key), found.get(key)));
    let different: Vec<_> = pairs.filter(|(_, expected, found)| expected != found).collect();
    if different.is_empty() {
        return None;
    }
    let mut text =
        format!("{} keys differ from the sequential pass, among them\n", different.len());
    for (key, expected, found) in different.into_iter().take(SHOWN) {
        text += &format!("  {:?}: sequential {expected:?}, here {found:?}\n", keys.name(key));
    }
    Some(text)
}

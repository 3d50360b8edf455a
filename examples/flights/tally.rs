//! Counts flights in whole numbers, so that results can be compared exactly, and computes the
//! counts in a sequential pass without actors.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::data::{Day, Flight, Flights};

/// A flight is late if the delay exceeds this many minutes.
pub(crate) const LATE: i16 = 15;

/// Delays at one end of some flights, in minutes (early is negative).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delays {
    pub(crate) known: u32,
    pub(crate) late: u32,
    pub(crate) total: i64,
    pub(crate) most: Option<i16>,
}

impl Delays {
    fn add(&mut self, delay: Option<i16>) {
        let Some(minutes) = delay else { return };
        self.known += 1;
        self.late += u32::from(minutes > LATE);
        self.total += i64::from(minutes);
        self.most = self.most.max(delay);
    }

    pub(crate) fn mean(&self) -> Option<f64> {
        (self.known > 0).then(|| self.total as f64 / f64::from(self.known))
    }
}

/// All counts of some flights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) flights: u32,
    /// Never left.
    pub(crate) cancelled: u32,
    /// Left, but did not arrive at its destination.
    pub(crate) diverted: u32,
    pub(crate) departures: Delays,
    pub(crate) arrivals: Delays,
    pub(crate) air_minutes: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, flight: &Flight) {
        self.flights += 1;
        match (flight.departure_delay, flight.arrival_delay) {
            (None, _) => self.cancelled += 1,
            (Some(_), None) => self.diverted += 1,
            (Some(_), Some(_)) => {}
        }
        self.departures.add(flight.departure_delay);
        self.arrivals.add(flight.arrival_delay);
        self.air_minutes += u64::from(flight.air_minutes.unwrap_or(0));
    }
}

/// A tally of flights in a known order, and a hash that any other order would change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) order: u64,
    pub(crate) tally: Tally,
}

impl Log {
    pub(crate) fn add(&mut self, flight: &Flight) {
        self.tally.add(flight);
        let mut hasher = DefaultHasher::new();
        (self.order, flight).hash(&mut hasher);
        self.order = hasher.finish();
    }
}

/// The flights of an airport, departures and arrivals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) leaving: Tally,
    pub(crate) coming: Tally,
}

/// The results of all actors of a run, found or expected, with one entry for each actor. Aircraft
/// and days get their flights from one sender, so the order is part of the result. The others get
/// messages from many aircraft at once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Results {
    pub(crate) aircraft: Vec<Log>,
    /// By aircraft and day.
    pub(crate) days: BTreeMap<(u32, Day), Log>,
    pub(crate) routes: Vec<Tally>,
    pub(crate) airports: Vec<Traffic>,
    pub(crate) carriers: Vec<Tally>,
}

impl Results {
    /// Computes the expected results in a plain loop.
    pub(crate) fn sequential(flights: &Flights) -> Self {
        let mut results = Self {
            aircraft: vec![Log::default(); flights.aircraft.len()],
            days: BTreeMap::new(),
            routes: vec![Tally::default(); flights.routes.len()],
            airports: vec![Traffic::default(); flights.airports.len()],
            carriers: vec![Tally::default(); flights.carriers.len()],
        };
        for flight in &flights.list {
            results.aircraft[flight.aircraft as usize].add(flight);
            results.days.entry((flight.aircraft, flight.day)).or_default().add(flight);
            results.routes[flight.route as usize].add(flight);
            results.airports[flight.origin as usize].leaving.add(flight);
            results.airports[flight.dest as usize].coming.add(flight);
            results.carriers[flight.carrier as usize].add(flight);
        }
        results
    }

    /// Returns the number of actors, one for each entry.
    pub(crate) fn len(&self) -> usize {
        let named =
            self.aircraft.len() + self.routes.len() + self.airports.len() + self.carriers.len();
        named + self.days.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tests::{SOME, parsed};

    #[test]
    fn counts_delays_cancelled_and_diverted() {
        let flights = parsed(&SOME.replace(",2,11,227", ",40,,")).unwrap();
        let results = Results::sequential(&flights);
        let united = results.carriers[0];
        assert_eq!(
            (united.flights, united.cancelled, united.diverted, united.air_minutes),
            (3, 0, 1, 410)
        );
        assert_eq!(united.departures, Delays { known: 3, late: 1, total: 43, most: Some(40) });
        assert_eq!(united.arrivals, Delays { known: 2, late: 1, total: 2, most: Some(20) });
        assert_eq!(results.carriers[1].cancelled, 1);
        assert_eq!(results.airports[1].coming.flights, 3, "IAH");
        assert_eq!((results.days.len(), results.len()), (4, 3 + 4 + 3 + 5 + 2));
    }

    #[test]
    fn the_log_tells_the_order() {
        let flights = parsed(SOME).unwrap();
        let (mut log, mut other) = (Log::default(), Log::default());
        flights.list.iter().for_each(|flight| log.add(flight));
        flights.list.iter().rev().for_each(|flight| other.add(flight));
        assert_eq!(log.tally, other.tally);
        assert_ne!(log.order, other.order);
    }
}

//! Defines the actors of the example. An actor handles one message at a time, so its counts are
//! plain fields without locks or atomics.

use std::collections::BTreeMap;
use std::sync::Arc;

use heist::{Actor, ActorRef, Context, Handler};

use crate::data::{Day, Flight};
use crate::measure::delay::{Delays, Sample, Stamp};
use crate::measure::machine::Cost;
use crate::outbox::{Flush, Outbox};
use crate::tally::{Log, Tally, Traffic};

/// A flight on its way to an actor.
#[derive(Clone, Copy)]
pub(crate) struct Told {
    pub(crate) flight: Flight,
    stamp: Stamp,
}

/// The cost of a message, and the measurement of its delay.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    pub(crate) cost: Cost,
    pub(crate) delays: &'static Delays,
    pub(crate) sample: Sample,
}

impl Work {
    /// Stamps a flight that is about to be sent. The wait in an outbox counts from here.
    pub(crate) fn tell(self, flight: Flight) -> Told {
        Told { flight, stamp: self.sample.stamp(flight.row as usize) }
    }

    /// Begins the handling of a flight.
    fn begin(self, told: Told) -> Flight {
        self.delays.arrived(told.stamp);
        self.cost.spend();
        told.flight
    }
}

/// Asks an actor for its result at the end.
#[derive(Clone, Copy)]
pub(crate) struct Report;

// ---- the ends of the stream: they only count -----------------------------------------------

/// One day of one aircraft. Only the aircraft sends to its days, in the order of the flights.
pub(crate) struct AircraftDay {
    work: Work,
    log: Log,
}

impl Actor for AircraftDay {}

impl Handler<Told> for AircraftDay {
    type Reply = ();

    fn handle(&mut self, told: Told, _: &mut Context<Self>) {
        let flight = self.work.begin(told);
        self.log.add(&flight);
    }
}

impl Handler<Report> for AircraftDay {
    type Reply = Log;

    fn handle(&mut self, _: Report, _: &mut Context<Self>) -> Log {
        self.log
    }
}

/// A route or a carrier, which only counts its flights.
pub(crate) struct Counter {
    work: Work,
    tally: Tally,
}

impl Counter {
    pub(crate) fn new(work: Work) -> Self {
        Self { work, tally: Tally::default() }
    }
}

impl Actor for Counter {}

impl Handler<Told> for Counter {
    type Reply = ();

    fn handle(&mut self, told: Told, _: &mut Context<Self>) {
        let flight = self.work.begin(told);
        self.tally.add(&flight);
    }
}

impl Handler<Report> for Counter {
    type Reply = Tally;

    fn handle(&mut self, _: Report, _: &mut Context<Self>) -> Tally {
        self.tally
    }
}

// ---- airports: they count, and pass their departures on ------------------------------------

pub(crate) struct Airport {
    work: Work,
    traffic: Traffic,
    carriers: Arc<[ActorRef<Counter>]>,
    to_carriers: Outbox<Told>,
}

/// A flight as seen by one of its two airports.
pub(crate) enum Movement {
    Leaving(Told),
    Coming(Told),
}

/// Messages up to this size need no allocation.
const _: () = assert!(size_of::<Movement>() <= 64);

impl Airport {
    pub(crate) fn new(work: Work, carriers: Arc<[ActorRef<Counter>]>) -> Self {
        Self { work, traffic: Traffic::default(), carriers, to_carriers: Outbox::new() }
    }
}

impl Actor for Airport {}

impl Handler<Movement> for Airport {
    type Reply = ();

    fn handle(&mut self, movement: Movement, ctx: &mut Context<Self>) {
        match movement {
            Movement::Leaving(told) => {
                let flight = self.work.begin(told);
                self.traffic.leaving.add(&flight);
                self.to_carriers.send(
                    &self.carriers[flight.carrier as usize],
                    self.work.tell(flight),
                    ctx,
                );
            }
            Movement::Coming(told) => self.traffic.coming.add(&self.work.begin(told)),
        }
    }
}

impl Handler<Flush<Counter>> for Airport {
    type Reply = ();

    fn handle(&mut self, flush: Flush<Counter>, ctx: &mut Context<Self>) {
        self.to_carriers.flush(flush, ctx);
    }
}

/// An airport's answer to [`Report`].
pub(crate) struct AirportReport {
    pub(crate) traffic: Traffic,
    /// Messages that had to wait for room.
    pub(crate) kept: u64,
}

impl Handler<Report> for Airport {
    type Reply = AirportReport;

    fn handle(&mut self, _: Report, _: &mut Context<Self>) -> AirportReport {
        AirportReport { traffic: self.traffic, kept: self.to_carriers.kept() }
    }
}

// ---- aircraft: they count, and tell four others of every flight ----------------------------

pub(crate) struct Aircraft {
    work: Work,
    log: Log,
    /// The days on which the aircraft has flown. The references keep the actors alive.
    days: BTreeMap<Day, ActorRef<AircraftDay>>,
    ground: Arc<Ground>,
    flights: Outbox<Told>,
    movements: Outbox<Movement>,
}

/// The actors that all aircraft share, by key.
pub(crate) struct Ground {
    pub(crate) routes: Vec<ActorRef<Counter>>,
    pub(crate) airports: Vec<ActorRef<Airport>>,
}

impl Aircraft {
    pub(crate) fn new(work: Work, ground: Arc<Ground>) -> Self {
        let (flights, movements) = (Outbox::new(), Outbox::new());
        Self { work, log: Log::default(), days: BTreeMap::new(), ground, flights, movements }
    }
}

impl Actor for Aircraft {}

impl Handler<Told> for Aircraft {
    type Reply = ();

    fn handle(&mut self, told: Told, ctx: &mut Context<Self>) {
        let flight = self.work.begin(told);
        self.log.add(&flight);

        let new_day = || ctx.spawn(AircraftDay { work: self.work, log: Log::default() });
        let day = self.days.entry(flight.day).or_insert_with(new_day);
        let work = self.work;
        self.flights.send(day, work.tell(flight), ctx);

        let Ground { routes, airports } = &*self.ground;
        self.flights.send(&routes[flight.route as usize], work.tell(flight), ctx);
        self.movements.send(
            &airports[flight.origin as usize],
            Movement::Leaving(work.tell(flight)),
            ctx,
        );
        self.movements.send(
            &airports[flight.dest as usize],
            Movement::Coming(work.tell(flight)),
            ctx,
        );
    }
}

impl Handler<Flush<AircraftDay>> for Aircraft {
    type Reply = ();

    fn handle(&mut self, flush: Flush<AircraftDay>, ctx: &mut Context<Self>) {
        self.flights.flush(flush, ctx);
    }
}

impl Handler<Flush<Counter>> for Aircraft {
    type Reply = ();

    fn handle(&mut self, flush: Flush<Counter>, ctx: &mut Context<Self>) {
        self.flights.flush(flush, ctx);
    }
}

impl Handler<Flush<Airport>> for Aircraft {
    type Reply = ();

    fn handle(&mut self, flush: Flush<Airport>, ctx: &mut Context<Self>) {
        self.movements.flush(flush, ctx);
    }
}

/// An aircraft's answer to [`Report`]: its own result, and references to its days.
pub(crate) struct AircraftReport {
    pub(crate) log: Log,
    pub(crate) days: Vec<(Day, ActorRef<AircraftDay>)>,
    /// Messages that had to wait for room.
    pub(crate) kept: u64,
}

impl Handler<Report> for Aircraft {
    type Reply = AircraftReport;

    fn handle(&mut self, _: Report, _: &mut Context<Self>) -> AircraftReport {
        AircraftReport {
            log: self.log,
            days: self.days.iter().map(|(day, actor)| (*day, actor.clone())).collect(),
            kept: self.flights.kept() + self.movements.kept(),
        }
    }
}

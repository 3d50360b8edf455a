//! The actors. Each handles one message at a time, so each simply has its counts as fields: no locks, no atomics.

use std::collections::BTreeMap;
use std::sync::Arc;

use heist::{Actor, ActorRef, Context, Handler};

use crate::data::{Day, Flight};
use crate::measure::machine::Cost;
use crate::outbox::{Flush, Outbox};
use crate::tally::{Log, Tally, Traffic};

/// The question that is put to every actor at the end.
#[derive(Clone, Copy)]
pub(crate) struct Report;

// ---- the ends of the stream: they only count --------------------------------------------------------------------

/// A day of one aircraft. Its aircraft alone sends to it, in the order of the flights.
pub(crate) struct AircraftDay {
    cost: Cost,
    log: Log,
}

impl Actor for AircraftDay {}

impl Handler<Flight> for AircraftDay {
    type Reply = ();

    fn handle(&mut self, flight: Flight, _: &mut Context<Self>) {
        self.cost.spend();
        self.log.add(&flight);
    }
}

impl Handler<Report> for AircraftDay {
    type Reply = Log;

    fn handle(&mut self, _: Report, _: &mut Context<Self>) -> Log {
        self.log
    }
}

/// A route or a carrier: all it does is to count the flights that it is told of.
pub(crate) struct Counter {
    cost: Cost,
    tally: Tally,
}

impl Counter {
    pub(crate) fn new(cost: Cost) -> Self {
        Self { cost, tally: Tally::default() }
    }
}

impl Actor for Counter {}

impl Handler<Flight> for Counter {
    type Reply = ();

    fn handle(&mut self, flight: Flight, _: &mut Context<Self>) {
        self.cost.spend();
        self.tally.add(&flight);
    }
}

impl Handler<Report> for Counter {
    type Reply = Tally;

    fn handle(&mut self, _: Report, _: &mut Context<Self>) -> Tally {
        self.tally
    }
}

// ---- airports: they count, and pass their departures on -----------------------------------------------------------

pub(crate) struct Airport {
    cost: Cost,
    traffic: Traffic,
    carriers: Arc<[ActorRef<Counter>]>,
    to_carriers: Outbox<Flight>,
}

/// A flight as one of its two airports sees it.
pub(crate) enum Movement {
    Leaving(Flight),
    Coming(Flight),
}

impl Airport {
    pub(crate) fn new(cost: Cost, carriers: Arc<[ActorRef<Counter>]>) -> Self {
        Self { cost, traffic: Traffic::default(), carriers, to_carriers: Outbox::new() }
    }
}

impl Actor for Airport {}

impl Handler<Movement> for Airport {
    type Reply = ();

    fn handle(&mut self, movement: Movement, ctx: &mut Context<Self>) {
        self.cost.spend();
        match movement {
            Movement::Leaving(flight) => {
                self.traffic.leaving.add(&flight);
                self.to_carriers.send(&self.carriers[flight.carrier as usize], flight, ctx);
            }
            Movement::Coming(flight) => self.traffic.coming.add(&flight),
        }
    }
}

impl Handler<Flush<Counter>> for Airport {
    type Reply = ();

    fn handle(&mut self, flush: Flush<Counter>, ctx: &mut Context<Self>) {
        self.to_carriers.flush(flush, ctx);
    }
}

/// What an airport answers to [`Report`].
pub(crate) struct AirportReport {
    pub(crate) traffic: Traffic,
    /// messages that had to wait for room
    pub(crate) kept: u64,
}

impl Handler<Report> for Airport {
    type Reply = AirportReport;

    fn handle(&mut self, _: Report, _: &mut Context<Self>) -> AirportReport {
        AirportReport { traffic: self.traffic, kept: self.to_carriers.kept() }
    }
}

// ---- aircraft: they count, and tell four others of every flight ---------------------------------------------------

pub(crate) struct Aircraft {
    cost: Cost,
    log: Log,
    /// Those that it has flown on. To hold the references keeps the actors alive.
    days: BTreeMap<Day, ActorRef<AircraftDay>>,
    ground: Arc<Ground>,
    flights: Outbox<Flight>,
    movements: Outbox<Movement>,
}

/// The actors that all aircraft share, by key.
pub(crate) struct Ground {
    pub(crate) routes: Vec<ActorRef<Counter>>,
    pub(crate) airports: Vec<ActorRef<Airport>>,
}

impl Aircraft {
    pub(crate) fn new(cost: Cost, ground: Arc<Ground>) -> Self {
        let (flights, movements) = (Outbox::new(), Outbox::new());
        Self { cost, log: Log::default(), days: BTreeMap::new(), ground, flights, movements }
    }
}

impl Actor for Aircraft {}

impl Handler<Flight> for Aircraft {
    type Reply = ();

    fn handle(&mut self, flight: Flight, ctx: &mut Context<Self>) {
        self.cost.spend();
        self.log.add(&flight);

        let new_day = || ctx.spawn(AircraftDay { cost: self.cost, log: Log::default() });
        let day = self.days.entry(flight.day).or_insert_with(new_day);
        self.flights.send(day, flight, ctx);

        let Ground { routes, airports } = &*self.ground;
        self.flights.send(&routes[flight.route as usize], flight, ctx);
        self.movements.send(&airports[flight.origin as usize], Movement::Leaving(flight), ctx);
        self.movements.send(&airports[flight.dest as usize], Movement::Coming(flight), ctx);
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

/// What an aircraft answers to [`Report`]: its own result, and whom to ask for those of its days.
pub(crate) struct AircraftReport {
    pub(crate) log: Log,
    pub(crate) days: Vec<(Day, ActorRef<AircraftDay>)>,
    /// messages that had to wait for room
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

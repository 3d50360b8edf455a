//! Spawns the actors for one run, streams the flights through them, and asks every actor for its
//! result.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use heist::stats::Stats;
use heist::{ActorRef, Executor, Policy, Receive};

use crate::actors::{Aircraft, Airport, Counter, Ground, Report, Work};
use crate::data::Flights;
use crate::measure::delay::{Delays, Sample};
use crate::measure::machine::Cost;
use crate::measure::meter::{Meter, Run};
use crate::measure::progress::Watch;
use crate::tally::Results;

/// Deadline of the shutdown after the run. A shutdown takes far less time unless something hangs.
const SHUTDOWN: Duration = Duration::from_secs(60);

/// Runs the flights through actors under `policy`. Returns an error if heist refuses or loses
/// anything. The caller checks the results.
pub(crate) fn run(
    flights: &Flights,
    policy: Policy,
    workers: Option<usize>,
    cost: Cost,
    label: &str,
) -> Result<(Run, Results), Box<dyn Error>> {
    // A flight is sent to its aircraft, its day, its route, two airports and its carrier.
    let work = Work { cost, delays: Delays::leaked(), sample: Sample::of(6 * flights.list.len()) };
    let mut builder = Executor::builder().policy(policy);
    if let Some(workers) = workers {
        builder = builder.workers(workers);
    }
    let executor = builder.build()?;

    let aircraft_and_ground = spawn(&executor, flights, work);
    let (aircraft, ground, carriers) = &aircraft_and_ground;
    executor.wait_idle()?;

    // All aircraft exist by now. Each spawns its days when it reaches them.
    let watch = Watch::start(label, flights.list.len(), executor.handle());
    let meter = Meter::start(&executor);
    for (sent, flight) in flights.list.iter().enumerate() {
        // `send` waits while this aircraft's mailbox is full, which is allowed outside the crew.
        aircraft[flight.aircraft as usize].send(work.tell(*flight))?;
        watch.sent(sent + 1);
    }
    // Covers all flights and all messages that the actors sent because of them.
    executor.wait_idle()?;
    let measured = meter.stop(work.delays.take());
    let actors = executor.stats().live_actors;
    drop(watch);

    let (results, kept) = ask(aircraft, ground, carriers)?;
    drop(aircraft_and_ground);
    executor.shutdown(SHUTDOWN)?;
    nothing_lost(&executor.stats())?;
    if actors != results.len() as u64 {
        return Err(format!("{actors} actors lived, but {} answered", results.len()).into());
    }
    Ok((Run { kept: Some(kept), ..measured }, results))
}

type Spawned = (Vec<ActorRef<Aircraft>>, Arc<Ground>, Arc<[ActorRef<Counter>]>);

/// Spawns from the end of the stream to its beginning, so that each actor gets the references to
/// its receivers.
fn spawn(executor: &Executor, flights: &Flights, work: Work) -> Spawned {
    let counters = |n: usize| (0..n).map(|_| executor.spawn(Counter::new(work)));
    let carriers: Arc<[_]> = counters(flights.carriers.len()).collect();
    let airport = |_| executor.spawn(Airport::new(work, Arc::clone(&carriers)));
    let airports = (0..flights.airports.len()).map(airport).collect();
    let ground = Arc::new(Ground { routes: counters(flights.routes.len()).collect(), airports });
    let aircraft = |_| executor.spawn(Aircraft::new(work, Arc::clone(&ground)));
    ((0..flights.aircraft.len()).map(aircraft).collect(), ground, carriers)
}

/// Asks every actor. Also returns the number of messages that had to wait for room.
fn ask(
    aircraft: &[ActorRef<Aircraft>],
    ground: &Ground,
    carriers: &[ActorRef<Counter>],
) -> Result<(Results, u64), Box<dyn Error>> {
    let airports = ask_all(&ground.airports)?;
    let mut kept = airports.iter().map(|report| report.kept).sum();
    let mut results = Results {
        aircraft: Vec::with_capacity(aircraft.len()),
        days: BTreeMap::new(),
        routes: ask_all(&ground.routes)?,
        airports: airports.into_iter().map(|report| report.traffic).collect(),
        carriers: ask_all(carriers)?,
    };
    for (report, key) in ask_all(aircraft)?.into_iter().zip(0..) {
        let (days, actors): (Vec<_>, Vec<_>) = report.days.into_iter().unzip();
        results.days.extend(days.into_iter().map(|day| (key, day)).zip(ask_all(&actors)?));
        results.aircraft.push(report.log);
        kept += report.kept;
    }
    Ok((results, kept))
}

/// Asks all actors before waiting, so that they work on all answers at once.
fn ask_all<A, R>(actors: &[ActorRef<A>]) -> Result<Vec<R>, Box<dyn Error>>
where
    A: Receive<Report, Reply = R>,
    R: Send + 'static,
{
    let asks = actors.iter().map(|actor| actor.ask(Report)).collect::<Result<Vec<_>, _>>()?;
    asks.into_iter().map(|mut ask| Ok(ask.wait()?)).collect()
}

/// Checks heist's own counts: every accepted message must have been handled.
fn nothing_lost(stats: &Stats) -> Result<(), String> {
    let Stats { accepted, handled, panicked, .. } = *stats;
    let dead = stats.dead_letters.total();
    if accepted == handled && panicked == 0 && dead == 0 {
        return Ok(());
    }
    Err(format!(
        "of {accepted} messages {handled} were handled, {panicked} panicked, {dead} became dead letters"
    ))
}

//! One run: spawn the actors, stream the flights through them, ask every actor for its result.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use heist::{ActorRef, Executor, Policy, Receive, Stats};

use crate::actors::{Aircraft, Airport, Counter, Ground, Report};
use crate::data::Flights;
use crate::measure::machine::{self, Cost};
use crate::measure::progress::Watch;
use crate::tally::Results;

/// How long the actors get to end when all is done. It takes far less; this is for when something hangs.
const SHUTDOWN: Duration = Duration::from_secs(60);

/// What a run took.
pub(crate) struct Run {
    pub(crate) policy: Policy,
    pub(crate) actors: u64,
    /// From the first flight sent to the last message handled; the other figures are of this time too.
    pub(crate) makespan: Duration,
    /// CPU time of the whole process, or `None` where the system does not tell.
    pub(crate) cpu: Option<Duration>,
    /// by worker
    pub(crate) busy: Vec<Duration>,
    pub(crate) messages: u64,
    pub(crate) steals: u64,
    pub(crate) parks: u64,
    /// Messages that waited in an outbox because a mailbox was full.
    pub(crate) kept: u64,
}

/// Runs the flights through actors under `policy`. `Err` when heist refuses or loses anything; whether the results
/// are right is for the caller to see.
pub(crate) fn run(
    flights: &Flights,
    policy: Policy,
    workers: Option<usize>,
    cost: Cost,
    label: &str,
) -> Result<(Run, Results), Box<dyn Error>> {
    let mut builder = Executor::builder().policy(policy);
    if let Some(workers) = workers {
        builder = builder.workers(workers);
    }
    let executor = builder.build()?;

    let aircraft_and_ground = spawn(&executor, flights, cost);
    let (aircraft, ground, carriers) = &aircraft_and_ground;
    executor.wait_idle()?;

    // Every aircraft exists; each spawns its days as it comes to them.
    let watch = Watch::start(label, flights.list.len(), executor.handle());
    let (before, cpu_before) = (executor.stats(), machine::cpu_time());
    let began = Instant::now();
    for (sent, flight) in flights.list.iter().enumerate() {
        // `send` waits while this aircraft's mailbox is full. It may: this is not an actor's thread.
        aircraft[flight.aircraft as usize].send(*flight)?;
        watch.sent(sent + 1);
    }
    // All flights, and all that the actors told each other because of them.
    executor.wait_idle()?;
    let makespan = began.elapsed();
    let (after, cpu_after) = (executor.stats(), machine::cpu_time());
    drop(watch);

    let (results, kept) = ask(aircraft, ground, carriers)?;
    drop(aircraft_and_ground);
    executor.shutdown(SHUTDOWN)?;
    nothing_lost(&executor.stats())?;
    if after.live_actors != results.len() as u64 {
        return Err(format!("{} actors lived, but {} answered", after.live_actors, results.len()).into());
    }

    let sum = |of: fn(&heist::WorkerStats) -> u64| {
        let total = |stats: &Stats| stats.workers.iter().map(of).sum::<u64>();
        total(&after) - total(&before)
    };
    let run = Run {
        policy,
        actors: after.live_actors,
        makespan,
        cpu: cpu_after.zip(cpu_before).and_then(|(after, before)| after.checked_sub(before)),
        busy: after
            .workers
            .iter()
            .zip(&before.workers)
            .map(|(after, before)| after.busy - before.busy)
            .collect(),
        messages: after.handled - before.handled,
        steals: sum(|worker| worker.steals),
        parks: sum(|worker| worker.parks),
        kept,
    };
    Ok((run, results))
}

type Spawned = (Vec<ActorRef<Aircraft>>, Arc<Ground>, Arc<[ActorRef<Counter>]>);

/// Spawns from the end of the stream to its beginning, so that each actor can be given those that it sends to.
fn spawn(executor: &Executor, flights: &Flights, cost: Cost) -> Spawned {
    let counters = |n: usize| (0..n).map(|_| executor.spawn(Counter::new(cost)));
    let carriers: Arc<[_]> = counters(flights.carriers.len()).collect();
    let airport = |_| executor.spawn(Airport::new(cost, Arc::clone(&carriers)));
    let airports = (0..flights.airports.len()).map(airport).collect();
    let ground = Arc::new(Ground { routes: counters(flights.routes.len()).collect(), airports });
    let aircraft = |_| executor.spawn(Aircraft::new(cost, Arc::clone(&ground)));
    ((0..flights.aircraft.len()).map(aircraft).collect(), ground, carriers)
}

/// Asks every actor; also returns how many messages had to wait for room.
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

/// Asks first and waits then: the actors work on all answers at once.
fn ask_all<A, R>(actors: &[ActorRef<A>]) -> Result<Vec<R>, Box<dyn Error>>
where
    A: Receive<Report, Reply = R>,
    R: Send + 'static,
{
    let asks = actors.iter().map(|actor| actor.ask(Report)).collect::<Result<Vec<_>, _>>()?;
    asks.into_iter().map(|ask| Ok(ask.wait()?)).collect()
}

/// heist counts what it accepts and what becomes of it: all of it has to have been handled.
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

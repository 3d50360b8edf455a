//! One run on a crew: an actor for each key, spawned when the key first comes.

use std::error::Error;
use std::time::Duration;

use heist::{ActorRef, Executor, Policy, Stats};

use crate::actor::{Key, Log, Report};
use crate::measure::delay::Delays;
use crate::measure::meter::{Meter, Run};
use crate::measure::progress::Watch;
use crate::stream::Stream;

/// How long the actors get to end when all is done. It takes far less; this is for when something hangs.
const SHUTDOWN: Duration = Duration::from_secs(60);

/// `Err` when heist refuses or loses anything; whether the results are right is for the caller to see.
pub(crate) fn run(
    stream: &Stream<'_>,
    keys: usize,
    policy: Policy,
    workers: usize,
    capacity: usize,
    label: &str,
) -> Result<(Run, Vec<Log>), Box<dyn Error>> {
    let executor = Executor::builder().policy(policy).workers(workers).capacity(capacity).build()?;
    executor.wait_idle()?;
    let delays = Delays::leaked();
    let mut actors: Vec<Option<ActorRef<Key>>> = vec![None; keys];

    let watch = Watch::start(label, stream.len(), executor.handle());
    let meter = Meter::start(&executor);
    stream.each(|key, event| {
        let actor = actors[key].get_or_insert_with(|| executor.spawn(Key::new(delays)));
        watch.sent(event.row as usize + 1);
        // Waits while this key's mailbox is full. It may: this is not an actor's thread.
        actor.send(event)
    })?;
    executor.wait_idle()?;
    let run = meter.stop(delays.take());
    drop(watch);

    let asks = actors.iter().flatten().map(|actor| actor.ask(Report)).collect::<Result<Vec<_>, _>>()?;
    let logs = asks.into_iter().map(|ask| ask.wait()).collect::<Result<Vec<_>, _>>()?;
    drop(actors);
    executor.shutdown(SHUTDOWN)?;
    nothing_lost(&executor.stats())?;
    Ok((run, logs))
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

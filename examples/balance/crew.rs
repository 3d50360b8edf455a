//! Runs the stream on a crew, with an actor for each key that is spawned at the key's first event.

use std::error::Error;
use std::time::Duration;

use heist::stats::Stats;
use heist::{ActorRef, Executor, Policy};

use crate::actor::{Key, Log, Report};
use crate::measure::delay::Delays;
use crate::measure::meter::{Meter, Run};
use crate::measure::progress::Watch;
use crate::stream::Stream;

/// Deadline of the shutdown after the run. A shutdown takes far less time unless something hangs.
const SHUTDOWN: Duration = Duration::from_secs(60);

/// Runs the stream. Returns an error if heist refuses or loses anything. The caller checks the
/// results.
pub(crate) fn run(
    stream: &Stream<'_>,
    keys: usize,
    policy: Policy,
    workers: usize,
    capacity: usize,
    label: &str,
) -> Result<(Run, Vec<Log>), Box<dyn Error>> {
    let executor =
        Executor::builder().policy(policy).workers(workers).capacity(capacity).build()?;
    executor.wait_idle()?;
    let delays = Delays::leaked();
    let mut actors: Vec<Option<ActorRef<Key>>> = vec![None; keys];

    let watch = Watch::start(label, stream.len(), executor.handle());
    let meter = Meter::start(&executor);
    stream.each(|key, event| {
        let actor = actors[key].get_or_insert_with(|| executor.spawn(Key::new(delays)));
        watch.sent(event.row as usize + 1);
        // Waits while this key's mailbox is full, which is allowed outside the crew.
        actor.send(event)
    })?;
    executor.wait_idle()?;
    let run = meter.stop(delays.take());
    drop(watch);

    let asks =
        actors.iter().flatten().map(|actor| actor.ask(Report)).collect::<Result<Vec<_>, _>>()?;
    let logs = asks.into_iter().map(|mut ask| ask.wait()).collect::<Result<Vec<_>, _>>()?;
    drop(actors);
    executor.shutdown(SHUTDOWN)?;
    nothing_lost(&executor.stats())?;
    Ok((run, logs))
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

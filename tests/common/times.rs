//! Provides helpers for tests of timing statistics: timed puppets, slow handlers, and checks of
//! measured times.

use super::*;
use heist::stats::{DurationStats, Timing};
use heist::*;
use std::time::{Duration, Instant};

/// How long a slow handler takes.
pub(crate) const D: Duration = Duration::from_millis(3);

pub(crate) fn spin(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {}
}

/// Keeps its handler busy for the given time.
pub(crate) struct Spin(pub(crate) Duration);

impl Handler<Spin> for Puppet {
    type Reply = ();
    fn handle(&mut self, Spin(time): Spin, _: &mut Context<Self>) {
        spin(time);
    }
}

/// Asks for the age of the message itself.
pub(crate) struct Age;

impl Handler<Age> for Puppet {
    type Reply = Option<Duration>;
    fn handle(&mut self, _: Age, ctx: &mut Context<Self>) -> Option<Duration> {
        ctx.message_age()
    }
}

pub(crate) fn timed(executor: &Executor) -> ActorRef<Puppet> {
    executor.build(Puppet::default()).unbounded().timing(true).spawn()
}

#[track_caller]
pub(crate) fn timing(actor: &ActorRef<Puppet>) -> Timing {
    actor.timing().expect("it is timed")
}

/// Checks that percentiles, maximum, total and count are consistent with each other.
#[track_caller]
pub(crate) fn assert_sound(times: &DurationStats) {
    assert!(
        times.p50 <= times.p90 && times.p90 <= times.p99 && times.p99 <= times.p999,
        "{times:?}"
    );
    assert!(
        times.p999 <= times.max && times.max <= times.total && times.mean() <= times.max,
        "{times:?}"
    );
    let least =
        times.max + times.p50 * u32::try_from(times.count.saturating_sub(1) / 2).unwrap() / 2;
    assert!(times.total >= least, "half of them took half of that at least: {times:?}");
}

/// Checks, at a quiet moment, that each handled message has one wait time and one handling time.
#[track_caller]
pub(crate) fn assert_complete(actor: &ActorRef<Puppet>) -> Timing {
    let (timing, handled) = (timing(actor), actor.stats().handled);
    assert_eq!((timing.wait.count, timing.handling.count), (handled, handled));
    assert_sound(&timing.wait);
    assert_sound(&timing.handling);
    timing
}

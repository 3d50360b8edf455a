//! Timed puppets, handlers that take long, and what holds for all times that were measured.

use super::*;
use heist::*;
use std::time::{Duration, Instant};

/// How long those take that are to take long.
pub(crate) const D: Duration = Duration::from_millis(3);

pub(crate) fn spin(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {}
}

/// Keeps its handler busy.
pub(crate) struct Spin(pub(crate) Duration);

impl Handler<Spin> for Puppet {
    type Reply = ();
    fn handle(&mut self, Spin(time): Spin, _: &mut Context<Self>) {
        spin(time);
    }
}

/// How old is this message?
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

/// Counts and sums fit together, whatever was measured.
#[track_caller]
pub(crate) fn assert_sound(times: &Times) {
    assert!(times.p50 <= times.p90 && times.p90 <= times.p99 && times.p99 <= times.p999, "{times:?}");
    assert!(times.p999 <= times.max && times.max <= times.total && times.mean() <= times.max, "{times:?}");
    let least = times.max + times.p50 * u32::try_from(times.count.saturating_sub(1) / 2).unwrap() / 2;
    assert!(times.total >= least, "half of them took half of that at least: {times:?}");
}

/// At a quiet moment: one wait and one handling for each message handled.
#[track_caller]
pub(crate) fn assert_complete(actor: &ActorRef<Puppet>) -> Timing {
    let (timing, handled) = (timing(actor), actor.stats().handled);
    assert_eq!((timing.wait.count, timing.handling.count), (handled, handled));
    assert_sound(&timing.wait);
    assert_sound(&timing.handling);
    timing
}

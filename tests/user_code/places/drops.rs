//! Defines places in drops: messages and answers that are dropped without being handled.

use crate::Place;
use crate::rig::{Latch, Outcome, Ping, Puppet, Rig, Run, Springs, poll_once, within};
use heist::timer::IntervalMode;
use heist::{AskError, Context, Handler};
use std::sync::atomic::Ordering::Release;
use std::task::Waker;
use std::time::{Duration, Instant};

pub const PLACES: &[Place] = &[
    ("message/refused", refused),
    ("message/killed-small", killed::<8>),
    ("message/killed-large", killed::<600>),
    ("message/killed-in-a-row", killed_in_a_row),
    ("message/panicked", panicked),
    ("message/shutdown", shutdown),
    ("message/expired", expired),
    ("message/timer-cancelled", timer_cancelled),
    ("message/timer-dropped", timer_dropped),
    ("message/timer-to-the-dead", timer_to_the_dead),
    ("message/timer-at-shutdown", timer_at_shutdown),
    ("message/due-and-cancelled", due_and_cancelled),
    ("message/interval-closure", interval_closure),
    ("message/interval-closure-drop", interval_closure_drop),
    ("message/send-given-up", send_given_up),
    ("message/send-never-polled", send_never_polled),
    ("message/send-to-the-dead", send_to_the_dead),
    ("message/notice-dropped", notice_dropped),
    ("answer/asker-gone", answer_asker_gone),
    ("answer/not-taken", answer_not_taken),
    ("callback/dropped", callback_dropped),
];

fn refused(rig: &Rig) -> Outcome {
    let actor = rig.puppet();
    actor.stop();
    let message = Springs::<8>::new(&rig.trap());
    rig.arm();
    rig.caught(|| drop(actor.tell(message)));
    Outcome::Done
}

/// Checks that a panic in the drop of a dead letter was contained and counted for the actor.
fn counts_a_panic(rig: &Rig) {
    if rig.act().panics() {
        within("the panic is counted", || rig.handle().stats().panicked >= 1);
    }
}

fn killed<const N: usize>(rig: &Rig) -> Outcome {
    let actor = rig.puppet();
    let held = rig.hold(&actor);
    actor.tell(Springs::<N>::new(&rig.trap())).expect("room");
    actor.tell(Ping).expect("room");
    actor.stop_now();
    rig.arm();
    held.open();
    rig.sprung();
    counts_a_panic(rig);
    actor.wait_stopped().expect("from outside");
    Outcome::Done
}

/// Sends enough messages to fill segments.
fn killed_in_a_row(rig: &Rig) -> Outcome {
    let actor = rig.puppet();
    let held = rig.hold(&actor);
    for _ in 0..100 {
        actor.tell(Springs::<1>::new(&rig.trap())).expect("room");
    }
    actor.stop_now();
    rig.arm();
    held.open();
    rig.sprung();
    counts_a_panic(rig);
    actor.wait_stopped().expect("from outside");
    if rig.alive() {
        assert_eq!(rig.handle().stats().dead_letters.killed, 100);
    }
    Outcome::Done
}

fn panicked(rig: &Rig) -> Outcome {
    let actor = rig.puppet();
    let held = rig.hold(&actor);
    actor.tell(Run(|_: &mut Puppet, _: &mut Context<Puppet>| panic!("planned"))).expect("room");
    actor.tell(Springs::<8>::new(&rig.trap())).expect("room");
    let mut ask = actor.ask(Springs::<8>::new(&rig.trap())).expect("room");
    rig.arm();
    held.open();
    rig.sprung();
    assert!(matches!(ask.wait(), Err(AskError::Panicked(_))));
    Outcome::Done
}

fn shutdown(rig: &Rig) -> Outcome {
    if !rig.alive() {
        return Outcome::Skip("the executor is being shut down");
    }
    let actor = rig.puppet();
    let held = rig.hold(&actor);
    actor.tell(Springs::<8>::new(&rig.trap())).expect("room");
    rig.world.closing.store(true, Release);
    rig.arm();
    let executor = rig.world.executor.lock().take().expect("one");
    let ending = std::thread::spawn(move || executor.shutdown_now(Duration::from_secs(15)));
    held.open();
    let report = ending.join().expect("no panic").expect("from outside");
    assert!(report.complete, "{report:?}");
    Outcome::Done
}

fn expired(rig: &Rig) -> Outcome {
    let actor = rig.puppet();
    rig.stops(&actor);
    let held = rig.hold(&actor);
    let mut ask = actor.ask_deadline(Springs::<8>::new(&rig.trap()), Instant::now()).expect("room");
    rig.arm();
    held.open();
    rig.sprung();
    assert_eq!(ask.wait(), Err(AskError::Expired));
    Outcome::Done
}

const FAR: Duration = Duration::from_secs(3600);

fn timer_cancelled(rig: &Rig) -> Outcome {
    let actor = rig.puppet();
    rig.stops(&actor);
    let timer = actor.tell_after(FAR, Springs::<8>::new(&rig.trap())).expect("armed");
    rig.arm();
    let cancelled = rig.caught(|| timer.cancel());
    assert_ne!(cancelled, Some(false));
    rig.sprung();
    Outcome::Done
}

fn timer_dropped(rig: &Rig) -> Outcome {
    let actor = rig.puppet();
    let timer = actor.tell_after(FAR, Springs::<8>::new(&rig.trap())).expect("armed");
    rig.arm();
    rig.caught(|| drop(timer));
    rig.sprung();
    Outcome::Done
}

fn timer_to_the_dead(rig: &Rig) -> Outcome {
    let actor = rig.puppet();
    let timer =
        actor.tell_after(Duration::from_millis(20), Springs::<8>::new(&rig.trap())).expect("armed");
    timer.detach();
    rig.arm();
    actor.stop();
    rig.sprung();
    Outcome::Done
}

fn timer_at_shutdown(rig: &Rig) -> Outcome {
    if !rig.alive() {
        return Outcome::Skip("the executor is being shut down");
    }
    let actor = rig.puppet();
    actor.tell_after(FAR, Springs::<8>::new(&rig.trap())).expect("armed").detach();
    rig.world.closing.store(true, Release);
    rig.arm();
    let executor = rig.world.executor.lock().take().expect("one");
    let report = executor.shutdown(Duration::from_secs(15)).expect("from outside");
    assert!(report.complete, "{report:?}");
    Outcome::Done
}

/// The tick is in the mailbox when its timer is cancelled.
fn due_and_cancelled(rig: &Rig) -> Outcome {
    let actor = rig.puppet();
    rig.stops(&actor);
    let held = rig.hold(&actor);
    let accepted = rig.handle().stats().accepted;
    let timer = actor.tell_after(Duration::ZERO, Springs::<8>::new(&rig.trap())).expect("armed");
    within("the tick is due", || rig.handle().stats().accepted > accepted);
    rig.arm();
    rig.caught(|| timer.cancel());
    held.open();
    rig.sprung();
    Outcome::Done
}

fn interval_closure(rig: &Rig) -> Outcome {
    let (actor, trap) = (rig.puppet(), rig.trap());
    rig.stops(&actor);
    rig.arm();
    let timer = actor.tell_every(Duration::from_millis(1), IntervalMode::FixedRate, move |_| {
        trap.spring();
        Ping
    });
    rig.sprung();
    drop(timer);
    Outcome::Done
}

fn interval_closure_drop(rig: &Rig) -> Outcome {
    let (actor, dropped) = (rig.puppet(), Springs::<8>::new(&rig.trap()));
    let timer = actor.tell_every(FAR, IntervalMode::FixedRate, move |_| {
        let _kept = &dropped;
        Ping
    });
    rig.arm();
    rig.caught(|| drop(timer));
    rig.sprung();
    Outcome::Done
}

fn send_given_up(rig: &Rig) -> Outcome {
    let actor = rig.handle().build(Puppet::default()).capacity(1).spawn();
    rig.stops(&actor);
    let held = rig.hold(&actor);
    rig.fill(&actor);
    let mut sending = actor.send_async(Springs::<8>::new(&rig.trap()));
    assert!(poll_once(&mut sending, Waker::noop()).is_pending());
    rig.arm();
    rig.caught(|| drop(sending));
    rig.sprung();
    held.open();
    Outcome::Done
}

fn send_never_polled(rig: &Rig) -> Outcome {
    let actor = rig.puppet();
    let sending = actor.send_async(Springs::<8>::new(&rig.trap()));
    rig.arm();
    rig.caught(|| drop(sending));
    Outcome::Done
}

fn send_to_the_dead(rig: &Rig) -> Outcome {
    let actor = rig.handle().build(Puppet::default()).capacity(1).spawn();
    let held = rig.hold(&actor);
    rig.fill(&actor);
    let mut sending = actor.send_async(Springs::<8>::new(&rig.trap()));
    assert!(poll_once(&mut sending, Waker::noop()).is_pending());
    actor.stop_now();
    held.open();
    actor.wait_stopped().expect("from outside");
    rig.arm();
    rig.caught(|| drop(sending));
    rig.sprung();
    Outcome::Done
}

/// The actor ends while a notice of room is on its way to it.
fn notice_dropped(rig: &Rig) -> Outcome {
    let target = rig.handle().build(Puppet::default()).capacity(1).spawn();
    let held = rig.hold(&target);
    rig.fill(&target);
    let (actor, told) = (rig.puppet(), Latch::default());
    let (to, asked, message) = (target.clone(), told.clone(), Springs::<8>::new(&rig.trap()));
    let run = Run(move |_: &mut Puppet, ctx: &mut Context<Puppet>| {
        assert!(ctx.when_room(&to, message).is_ok());
        asked.open();
    });
    actor.tell(run).expect("room");
    told.wait();
    rig.arm();
    actor.stop_now();
    actor.wait_stopped().expect("from outside");
    held.open();
    rig.sprung();
    Outcome::Done
}

struct Give(Springs<8>);

impl Handler<Give> for Puppet {
    type Reply = Springs<8>;
    fn handle(&mut self, Give(answer): Give, _: &mut Context<Self>) -> Springs<8> {
        answer
    }
}

fn answer_asker_gone(rig: &Rig) -> Outcome {
    let actor = rig.puppet();
    rig.stops(&actor);
    let held = rig.hold(&actor);
    let ask = actor.ask(Give(Springs::new(&rig.trap()))).expect("room");
    drop(ask);
    rig.arm();
    held.open();
    rig.sprung();
    Outcome::Done
}

fn answer_not_taken(rig: &Rig) -> Outcome {
    let actor = rig.puppet();
    rig.stops(&actor);
    let ask = actor.ask(Give(Springs::new(&rig.trap()))).expect("room");
    within("the answer is there", || ask.is_ready());
    rig.arm();
    rig.caught(|| drop(ask));
    rig.sprung();
    Outcome::Done
}

/// The callback's captures are dropped after the callback's own actor has ended.
fn callback_dropped(rig: &Rig) -> Outcome {
    let (actor, other) = (rig.puppet(), rig.puppet());
    let held = rig.hold(&other);
    let (told, captured) = (Latch::default(), Springs::<8>::new(&rig.trap()));
    let (asked, to) = (told.clone(), other.clone());
    let run = Run(move |_: &mut Puppet, ctx: &mut Context<Puppet>| {
        let sent = ctx.ask_then(&to, Ping, move |_, _, _| drop(captured));
        assert!(sent.is_ok());
        asked.open();
    });
    actor.tell(run).expect("room");
    told.wait();
    actor.stop_now();
    actor.wait_stopped().expect("from outside");
    rig.arm();
    held.open();
    rig.sprung();
    Outcome::Done
}

//! Defines places in event hooks.

use crate::Place;
use crate::acts::Act;
use crate::rig::{Latch, Outcome, Ping, Puppet, Rig, Run};
use heist::{ActorRef, Context, Event, Executor, StopReason};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

pub const PLACES: &[Place] = &[
    ("event/panicked", panicked),
    ("event/dead-letters", dead_letters),
    ("event/spare-started", spare_started),
    ("event/spare-started-alone", spare_started_alone),
];

/// Makes a separate executor. Its event hook springs the trap at the chosen event.
fn with_hook(rig: &Rig, chosen: fn(&Event) -> bool) -> Executor {
    let trap = rig.trap();
    let hook = move |event: &Event| {
        if chosen(event) {
            trap.spring();
        }
    };
    let builder = Executor::builder().workers(2).thread_name("mx").on_event(hook);
    builder.drop_deadline(Duration::from_secs(10)).build().expect("an executor")
}

/// Lets the prober check that actors of the hook's executor go on while the hook runs.
fn goes_on(rig: &Rig, executor: &Executor) {
    let handle = executor.handle();
    *rig.world.also.lock() = Some(Box::new(move || {
        let actor = handle.spawn(Puppet::default());
        actor.ask(Ping).expect("room").wait().expect("an answer");
    }));
}

fn panicked(rig: &Rig) -> Outcome {
    let executor = with_hook(rig, |event| matches!(event, Event::Panicked { .. }));
    goes_on(rig, &executor);
    let actor = executor.spawn(Puppet::default());
    rig.arm();
    actor.tell(Run(|_: &mut Puppet, _: &mut Context<Puppet>| panic!("planned"))).expect("room");
    rig.sprung();
    assert!(matches!(actor.wait_stopped(), Ok(StopReason::Panicked(_))));
    Outcome::Done
}

fn dead_letters(rig: &Rig) -> Outcome {
    let executor = with_hook(rig, |event| matches!(event, Event::DeadLetters { .. }));
    goes_on(rig, &executor);
    let actor = executor.spawn(Puppet::default());
    let held = rig.hold(&actor);
    actor.tell(Ping).expect("room");
    actor.stop_now();
    rig.arm();
    held.open();
    rig.sprung();
    assert_eq!(actor.wait_stopped(), Ok(StopReason::Killed));
    assert_eq!(executor.stats().dead_letters.killed, 1);
    Outcome::Done
}

fn spare_started(rig: &Rig) -> Outcome {
    let executor = with_hook(rig, |event| matches!(event, Event::SpareStarted { .. }));
    goes_on(rig, &executor);
    let actor = executor.spawn(Puppet::default());
    rig.arm();
    let until = Latch::default();
    let release = until.clone();
    actor
        .tell(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
            heist::blocking(|| release.wait())
        }))
        .expect("room");
    rig.sprung();
    until.open();
    assert_eq!(actor.ask(Ping).expect("room").wait(), Ok(()));
    Outcome::Done
}

/// The hook waits for an actor of its own executor, and the only worker is about to block.
fn spare_started_alone(rig: &Rig) -> Outcome {
    if rig.act() != Act::Ask {
        return Outcome::Skip("the same with two workers");
    }
    let (trap, asked) = (rig.trap(), Arc::new(Mutex::new(None::<ActorRef<Puppet>>)));
    let theirs = Arc::clone(&asked);
    let hook = move |event: &Event| {
        let actor = theirs.lock().take();
        if let (Event::SpareStarted { .. }, Some(actor)) = (event, actor) {
            let _ = actor.ask(Ping).map(|mut ask| ask.wait());
            trap.spring();
        }
    };
    let executor = Executor::builder()
        .workers(1)
        .thread_name("mx")
        .on_event(hook)
        .build()
        .expect("an executor");
    *asked.lock() = Some(executor.spawn(Puppet::default()));
    let actor = executor.spawn(Puppet::default());
    rig.arm();
    actor
        .tell(Run(|_: &mut Puppet, _: &mut Context<Puppet>| heist::blocking(|| ())))
        .expect("room");
    rig.sprung();
    Outcome::Done
}

//! Tests how one call of `stats()` reports parked workers and waiting actors.

mod common;

use common::*;
use heist::*;

fn asleep(executor: &Executor) -> usize {
    executor.stats().workers.iter().filter(|worker| worker.is_parked()).count()
}

/// Each waiting actor counts once, however many messages it has, wherever the policy queues it.
#[test]
fn statistics_say_what_waits_behind_a_turn() {
    for policy in POLICIES {
        let executor = build(Executor::builder().workers(1).policy(policy));
        let puppets: Vec<_> = (0..5).map(|_| executor.spawn(Puppet::default())).collect();
        let busy = executor.spawn(Puppet::default());
        settle(&executor);
        assert_eq!(executor.stats().waiting_actors, 0);

        let held = Held::hold(&busy);
        assert_eq!((executor.stats().waiting_actors, asleep(&executor)), (0, 0), "{policy:?}");
        for puppet in &puppets {
            puppet.tell(Note(1)).unwrap();
            puppet.tell(Note(2)).unwrap();
        }
        assert_eq!((executor.stats().waiting_actors, asleep(&executor)), (5, 0), "{policy:?}");

        held.release();
        settle(&executor);
        assert_eq!(executor.stats().waiting_actors, 0, "{policy:?}");
        within(LONG, "the worker sleeps", || asleep(&executor) == 1);
        shut_down(&executor);
    }
}

/// The running worker's own queues must be visible to `stats()`, including the LIFO slot.
#[test]
fn statistics_say_what_a_turn_made_ready() {
    for policy in POLICIES {
        let executor = build(Executor::builder().workers(1).policy(policy));
        let puppets: Vec<_> = (0..3).map(|_| executor.spawn(Puppet::default())).collect();
        let teller = executor.spawn(Puppet::default());
        settle(&executor);
        let handle = executor.handle();
        let tell_and_look = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
            puppets.iter().for_each(|puppet| puppet.tell(Note(1)).unwrap());
            handle.stats().waiting_actors
        });
        assert_eq!(answer(teller.ask(tell_and_look).unwrap()).unwrap(), 3, "{policy:?}");
        shut_down(&executor);
    }
}

/// Under `Sharded` no worker steals, so `stats()` must show a parked worker beside waiting work.
#[test]
fn statistics_show_idle_hands_where_nobody_steals() {
    let executor = build(Executor::builder().workers(2).policy(Policy::Sharded));
    let busy = executor.spawn(Puppet::default());
    let elsewhere = apart_from(&executor, &busy);
    settle(&executor);
    let held = Held::hold(&busy);
    // Of many puppets, some belong to the worker that is held.
    let puppets: Vec<_> = (0..64).map(|_| executor.spawn(Puppet::default())).collect();
    puppets.iter().for_each(|puppet| puppet.tell(Note(1)).unwrap());
    within(LONG, "one sleeps while work waits for the other", || {
        asleep(&executor) == 1 && executor.stats().waiting_actors > 0
    });
    held.release();
    settle(&executor);
    drop((puppets, elsewhere));
    shut_down(&executor);
}

/// Bound actors that the worker itself makes ready wait in a queue of their own.
#[test]
fn bound_actors_behind_a_long_turn_wait() {
    const BOUND: usize = 100;
    let executor = crew(1);
    let bound: Vec<_> =
        (0..BOUND).map(|_| executor.build(Puppet::default()).on_worker(0).spawn()).collect();
    settle(&executor);
    let teller = executor.spawn(Puppet::default());
    let handle = executor.handle();
    let waiting = inside(&teller, move |_, _| {
        bound.iter().for_each(|actor| actor.tell(Note(1)).unwrap());
        (handle.stats().waiting_actors, bound)
    });
    assert_eq!(waiting.0, BOUND as u64);
    settle(&executor);
    assert_eq!(executor.stats().waiting_actors, 0);
}

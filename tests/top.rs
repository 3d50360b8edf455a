//! Tests `Handle::top`: the busiest actors and the longest-waiting ones, with and without timing.

mod common;

use common::*;
use heist::stats::{Top, TopActor};
use heist::*;
use std::time::{Duration, Instant};

const D: Duration = Duration::from_millis(2);

fn spin(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {}
}

fn named(executor: &Executor, name: &str, timing: bool) -> ActorRef<Puppet> {
    executor.build(Puppet::default()).name(name).unbounded().timing(timing).spawn()
}

fn names(actors: &[TopActor]) -> Vec<&str> {
    actors.iter().map(|actor| actor.name.as_deref().unwrap_or("-")).collect()
}

fn busy(actor: &ActorRef<Puppet>, time: Duration) {
    inside(actor, move |_, _| spin(time));
}

#[test]
fn nobody_has_done_anything_in_a_new_executor() {
    let executor = build(Executor::builder().workers(1).timing(true));
    assert_eq!(executor.top(10), Top::default());
    let _idle = executor.spawn(Puppet::default());
    settle(&executor);
    assert_eq!(executor.top(10), Top::default());
    assert_eq!(executor.top(usize::MAX), Top::default());
}

#[test]
fn the_busiest_are_those_with_the_longest_handling_time() {
    for workers in CREWS {
        let executor = &crew(workers);
        let actors: Vec<_> = (0..20).map(|i| named(executor, &format!("a{i}"), true)).collect();
        // A few long messages outrank many short ones. The least times of the long messages lie far
        // apart.
        for (i, actor) in actors.iter().enumerate().rev() {
            if [3, 11, 7].contains(&i) {
                busy(actor, D * [0, 0, 0, 200, 0, 0, 0, 20, 0, 0, 0, 50][i]);
            } else {
                (0..50).for_each(|n| actor.tell(Note(n)).unwrap());
            }
        }
        settle(executor);
        let top = executor.top(3);
        assert!(top.longest_waiting.is_empty());
        // On a loaded machine, a short message may have been interrupted for long. Only the order
        // of the listed actors is certain.
        let shown: Vec<_> = top.busiest.iter().map(|actor| actor.handling.unwrap()).collect();
        assert!(shown.is_sorted_by(|a, b| a >= b), "{shown:?}");
        assert_eq!(top.busiest[0].name.as_deref(), Some("a3"), "{:?}", top.busiest);
        assert!(shown[0] >= 200 * D && shown[1] >= 50 * D && shown[2] >= 20 * D, "{shown:?}");
        let first = &top.busiest[0];
        assert_eq!((first.id, first.handled, first.waiting), (actors[3].id(), 1, 0));
        assert_eq!(first.type_name, std::any::type_name::<Puppet>());
        assert_eq!(first.handling, actors[3].timing().map(|timing| timing.handling.total));
        // All actors are listed in one order, whatever `k` is.
        let all = executor.top(1000).busiest;
        assert_eq!(all.len(), 20);
        assert!(all.is_sorted_by(|a, b| a.handling >= b.handling));
        for k in 0..=20 {
            assert_eq!(executor.top(k).busiest, all[..k]);
        }
    }
}

/// An actor that has not returned from its handler counts as busy.
#[test]
fn a_handler_under_way_counts_as_busy() {
    let executor = crew(2);
    let (stuck, done) = (named(&executor, "stuck", true), named(&executor, "done", true));
    busy(&done, D);
    let held = Held::hold(&stuck);
    within(LONG, "it has been busy for longer than the other", || {
        let top = executor.top(2);
        names(&top.busiest) == ["stuck", "done"] && top.busiest[0].handling > Some(2 * D)
    });
    let stuck = &executor.top(1).busiest[0];
    assert_eq!(
        (stuck.handled, stuck.waiting, stuck.oldest),
        (0, 1, None),
        "nothing waits behind it"
    );
    drop(held);
    settle(&executor);
}

#[test]
fn the_longest_waiting_are_those_with_the_oldest_message() {
    for policy in POLICIES {
        let executor = build(Executor::builder().workers(1).policy(policy));
        let blocker = named(&executor, "blocker", true);
        let actors: Vec<_> = (0..4).map(|i| named(&executor, &format!("a{i}"), true)).collect();
        settle(&executor);
        let held = Held::hold(&blocker);
        let mut told = Vec::new();
        for i in [2, 0, 3, 1] {
            told.push(Instant::now());
            actors[i].tell(Note(0)).unwrap();
            spin(D);
            // Younger messages change nothing.
            (0..10 * i as u64).for_each(|n| actors[i].tell(Note(n)).unwrap());
        }
        let top = executor.top(3);
        let now = Instant::now();
        assert_eq!(names(&top.longest_waiting), ["a2", "a0", "a3"]);
        for (actor, told) in top.longest_waiting.iter().zip(&told) {
            let age = actor.oldest.expect("timed");
            assert!(age >= D && age <= now - *told, "{age:?}");
        }
        assert_eq!(top.longest_waiting[0].waiting, 21);
        assert_eq!(top.longest_waiting[1].waiting, 1);
        // The blocker is busy, but not listed as waiting until messages wait for it.
        assert_eq!(executor.top(10).longest_waiting.len(), 4);
        blocker.tell(Note(1)).unwrap();
        blocker.tell(Note(2)).unwrap();
        assert_eq!(names(&executor.top(10).longest_waiting), ["a2", "a0", "a3", "a1", "blocker"]);
        drop(held);
        settle(&executor);
        assert!(executor.top(10).longest_waiting.is_empty());
    }
}

/// The second message of a running turn, and a message that arrives during the turn.
#[test]
fn who_waits_behind_a_handler_is_known_however_it_came() {
    let executor = crew(2);
    let actor = named(&executor, "actor", true);
    let held = Held::hold(&actor);
    let (second, entered) = Held::queue(&actor);
    let early = Instant::now();
    actor.tell(Note(1)).unwrap(); // taken together with `second`
    spin(D);
    drop(held);
    entered.wait();
    let oldest = || executor.top(1).longest_waiting.first().and_then(|actor| actor.oldest);
    let taken = oldest().expect("the note waits");
    assert!(taken >= D && taken <= early.elapsed());
    let (third, entered) = Held::queue(&actor);
    drop(second);
    entered.wait(); // the note is over, and nothing else has come
    assert_eq!(oldest(), None);
    let tick = actor.tell_after(Duration::ZERO, Note(2)).unwrap();
    within(LONG, "a tick waits", || oldest().is_some());
    let before = Instant::now();
    spin(D);
    actor.tell(Note(3)).unwrap();
    assert!(oldest() >= Some(D), "the tick is older than the note");
    assert!(before.elapsed() >= D);
    drop(third);
    settle(&executor);
    assert_eq!(oldest(), None);
    tick.detach();
}

/// Actors without timing are ranked by their counts, behind timed actors.
#[test]
fn those_that_are_not_timed_are_ranked_by_counts() {
    let executor = crew(1);
    let actors: Vec<_> = (0..4).map(|i| named(&executor, &format!("a{i}"), i == 0)).collect();
    for (i, n) in [(0, 1), (1, 20), (2, 30), (3, 10)] {
        (0..n).for_each(|n| actors[i].tell(Note(n)).unwrap());
    }
    settle(&executor);
    let busiest = executor.top(3).busiest;
    assert_eq!(names(&busiest), ["a0", "a2", "a1"]);
    assert_eq!((busiest[1].handled, busiest[1].handling), (30, None));

    let blocker = executor.spawn(Puppet::default());
    let held = Held::hold(&blocker);
    for (i, n) in [(3, 3), (1, 2), (0, 1)] {
        (0..n).for_each(|n| actors[i].tell(Note(n)).unwrap());
    }
    let waiting = executor.top(4).longest_waiting;
    assert_eq!(
        names(&waiting),
        ["a0", "a3", "a1", "-"],
        "the blocker has one in hand, as a2 has one that waits"
    );
    assert_eq!((waiting[1].waiting, waiting[1].oldest), (3, None));
    drop(held);
    settle(&executor);
}

#[test]
fn the_dead_are_not_listed() {
    let executor = crew(2);
    let (dead, alive) = (named(&executor, "dead", true), named(&executor, "alive", true));
    busy(&dead, D);
    busy(&alive, Duration::ZERO);
    dead.stop();
    ended(&dead);
    assert_eq!(names(&executor.top(10).busiest), ["alive"]);
}

/// More than one part of the registry, shards of several workers, and actors that come and go
/// meanwhile.
#[test]
fn many_actors_that_come_and_go_are_looked_through() {
    let executor = build(Executor::builder().workers(2).timing(true));
    let actors: Vec<_> = (0..3000).map(|i| named(&executor, &format!("a{i}"), i % 3 > 0)).collect();
    let spawner = executor.spawn(Puppet::default());
    let over = Latch::new();
    let until = over.clone();
    let churn = Run(move |_: &mut Puppet, ctx: &mut Context<Puppet>| {
        while !until.is_open() {
            let child = ctx.build(Puppet::default()).name("child").spawn();
            child.tell(Note(1)).unwrap();
        }
    });
    spawner.tell(churn).unwrap();
    actors.iter().for_each(|actor| actor.tell(Note(1)).unwrap());
    busy(&actors[1234], 100 * D);
    for _ in 0..20 {
        let top = executor.top(50);
        assert!(top.busiest.is_sorted_by(|a, b| a.handling >= b.handling));
        assert!(top.busiest.len() <= 50 && top.longest_waiting.len() <= 50);
    }
    over.open();
    settle(&executor);
    let busiest = executor.top(2).busiest; // the churning actor may have been busier
    assert!(busiest.iter().any(|actor| actor.id == actors[1234].id()), "{busiest:?}");
}

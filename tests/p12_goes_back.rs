//! Tests P12, small: the memory of a burst is returned to the system whichever thread drops the
//! last reference, even if that is an outside thread and the crew sleeps.

mod common;

use common::*;
use heist::{Actor, ActorRef, Ask, Executor};

const BURST: usize = 200_000;
/// One kept chunk, and some chunks of which only a few slabs are in use.
const LITTLE: u64 = 8 << 20;

struct Two(#[allow(dead_code)] [u64; 2]);

impl Actor for Two {}

#[track_caller]
fn goes_back(executor: &Executor, high: u64, what: &str) {
    let low = executor.stats().memory;
    assert!(high >= 2 * LITTLE, "{what}: {high} bytes are no burst");
    assert!(low <= LITTLE, "{what}: {low} bytes of {high} stay while the crew sleeps");
}

/// No worker runs after the drop, so the outside thread must return the memory of the cells.
#[test]
fn p12_memory_goes_back_when_a_thread_outside_drops_the_last_references() {
    for workers in [1, 2] {
        let executor = crew(workers);
        let actors: Vec<ActorRef<Two>> =
            (0..BURST as u64).map(|n| executor.spawn(Two([n; 2]))).collect();
        actors.iter().for_each(|actor| actor.stop());
        settle(&executor);
        assert_eq!(executor.stats().live_actors, 0);
        let high = executor.stats().memory;
        drop(actors);
        goes_back(&executor, high, "cells");
        shut_down(&executor);
    }
}

/// No worker runs after the drop, so the outside thread must return the memory of the answers.
#[test]
fn p12_memory_goes_back_when_a_thread_outside_drops_answers() {
    for workers in [1, 2] {
        let executor = crew(workers);
        let actor = executor.build(Puppet::default()).unbounded().spawn();
        let asks: Vec<Ask<u64>> = (0..BURST as u64).map(|n| actor.ask(Note(n)).unwrap()).collect();
        settle(&executor);
        let high = executor.stats().memory;
        drop(asks);
        goes_back(&executor, high, "answers");
        shut_down(&executor);
    }
}

/// The cells were made by workers and belong to the workers' heaps.
#[test]
fn p12_memory_goes_back_when_several_threads_outside_drop_what_workers_made() {
    for workers in [1, 2] {
        let executor = crew(workers);
        let puppet = executor.spawn(Puppet::default());
        let actors: Vec<ActorRef<Two>> = inside(&puppet, |_, ctx| {
            let handle = ctx.handle();
            (0..BURST as u64).map(|n| handle.spawn(Two([n; 2]))).collect()
        });
        actors.iter().for_each(|actor| actor.stop());
        settle(&executor);
        let high = executor.stats().memory;
        let shares: Vec<Vec<_>> = actors.chunks(BURST / 4).map(<[_]>::to_vec).collect();
        std::thread::scope(|scope| {
            for share in shares {
                scope.spawn(move || drop(share));
            }
            drop(actors);
        });
        goes_back(&executor, high, "cells of workers");
        shut_down(&executor);
    }
}

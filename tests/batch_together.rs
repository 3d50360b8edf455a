//! Tests batches combined with other features: timing, timers, blocking, pools, keys, placement,
//! and many senders.

mod common;

use common::batches::*;
use common::*;
use heist::strategy::{SharedQueue, ToIndex};
use heist::*;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[test]
fn each_message_of_a_timed_actor_counts_and_knows_its_age() {
    on_every_crew(|executor| {
        let calls = Calls::default();
        let aged = || What::Do(Box::new(|ctx| assert!(ctx.message_age().is_some())));
        let plans = VecDeque::from([(1, aged()), (3, aged())]);
        let member = executor.build(Member { plans, ..Member::new(&calls) }).timing(true).spawn();
        let held = pause(&member);
        (0..7).for_each(|n| member.tell(item(n)).unwrap());
        let paused = Instant::now();
        while paused.elapsed() < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
        held.release();
        settle(executor);
        assert_eq!(calls_of(&calls), [vec![0, 1, 2, 3], vec![4, 5, 6]]);
        let timing = member.timing().unwrap();
        assert_eq!((timing.wait.count, timing.handling.count), (8, 8));
        // Seven messages have waited for the eighth.
        assert!(timing.wait.total >= 7 * Duration::from_millis(2), "{timing:?}");
    });
}

#[test]
fn what_a_batch_does_at_its_end_is_handling_time_of_its_last_message() {
    on_every_crew(|executor| {
        let long = Duration::from_millis(3);
        let spin = What::Do(Box::new(move |_| {
            let begun = Instant::now();
            while begun.elapsed() < long {
                std::hint::spin_loop();
            }
        }));
        let calls = Calls::default();
        let plans = VecDeque::from([(2, spin)]);
        let member = executor.build(Member { plans, ..Member::new(&calls) }).timing(true).spawn();
        let held = pause(&member);
        member.tell(item(0)).unwrap();
        member.tell(item(1)).unwrap();
        // Expires before its turn and takes none of the measured time.
        let late = member.ask_deadline(item(2), Instant::now()).unwrap();
        held.release();
        assert_eq!(answer(late), Err(AskError::Expired));
        settle(executor);
        let handling = member.timing().unwrap().handling;
        assert!(handling.count == 3 && handling.max >= long, "{handling:?}");
    });
}

/// A batch holds only messages of the mailbox. A tick overtakes them and is handled alone.
#[test]
fn timers_messages_come_alone() {
    on_every_crew(|executor| {
        let calls = Calls::default();
        let member = executor.spawn(Member::new(&calls));
        let held = pause(&member);
        let tick = |n| member.tell_after(Duration::ZERO, item(n)).unwrap();
        let ticks = [tick(10), tick(11)];
        (0..3).for_each(|n| member.tell(item(n)).unwrap());
        held.release();
        within(LONG, "all come", || calls_of(&calls).concat().len() == 5);
        let calls = calls_of(&calls);
        assert!(
            calls.iter().all(|call| call.len() == 1 || call.iter().all(|&n| n < 10)),
            "{calls:?}"
        );
        drop(ticks);
        settle(executor);
    });
}

#[test]
fn a_batch_goes_on_when_its_turn_has_lost_its_worker() {
    on_every_crew(|executor| {
        let (member, calls) = member(executor, [(2, What::Block)]);
        let held = pause(&member);
        let asks: Vec<_> = (0..6).map(|n| member.ask(item(n)).unwrap()).collect();
        held.release();
        for (ask, n) in asks.into_iter().zip(0..) {
            assert_eq!(answer(ask), Ok(n + 1000));
        }
        settle(executor);
        assert_eq!(calls_of(&calls), [vec![0, 1, 2, 3], vec![4, 5]]);
    });
}

/// Makes a pool with one replica. All states share a log, and the first state has the given plan.
fn pool_of_one(executor: &Executor, plan: (usize, What)) -> (Pool<Member>, Calls) {
    let (calls, plan) = (Calls::default(), Mutex::new(Some(plan)));
    let shared = Arc::clone(&calls);
    let make = move |_| Member {
        plans: plan.lock().unwrap().take().into_iter().collect(),
        ..Member::new(&shared)
    };
    (executor.pool(1, make).build().unwrap(), calls)
}

/// Messages that a failed batch has not taken must not be lost with the old state.
#[test]
fn what_a_replica_has_not_taken_is_its_successors() {
    quiet_panics();
    on_every_crew(|executor| {
        for what in [What::Panic, What::StopNow, What::Stop] {
            let panics = matches!(what, What::Panic);
            let (pool, calls) = pool_of_one(executor, (2, what));
            let replica = pool.replica(0).unwrap();
            let held = pause(&replica);
            let asks: Vec<_> = (0..6).map(|n| pool.ask(ToIndex(0), item(n)).unwrap()).collect();
            held.release();
            for (ask, n) in asks.into_iter().zip(0..) {
                if panics && n == 1 {
                    assert_eq!(cause(ask), INTENDED);
                } else {
                    assert_eq!(answer(ask), Ok(n + 1000));
                }
            }
            settle(executor);
            assert_eq!(calls_of(&calls), [vec![0, 1], vec![2, 3, 4, 5]]);
        }
    });
}

#[test]
fn a_shared_queue_hands_out_one_at_a_time() {
    on_every_crew(|executor| {
        let (pool, calls) = pool_of_one(executor, (9, What::Leave));
        let held = pause(&pool.replica(0).unwrap());
        (0..5).for_each(|n| pool.tell(SharedQueue, item(n)).unwrap());
        held.release();
        settle(executor);
        assert_eq!(calls_of(&calls), [[0], [1], [2], [3], [4]]);
    });
}

/// A message from the queue goes before the messages in the replica's own mailbox, and those are no
/// part of its batch.
#[test]
fn a_message_from_a_shared_queue_comes_alone() {
    on_every_crew(|executor| {
        for timed in [false, true] {
            let calls = Calls::default();
            let shared = Arc::clone(&calls);
            let pool =
                executor.pool(1, move |_| Member::new(&shared)).timing(timed).build().unwrap();
            let held = pause(&pool.replica(0).unwrap());
            (0..3).for_each(|n| pool.tell(SharedQueue, item(10 + n)).unwrap());
            (0..3).for_each(|n| pool.tell(ToIndex(0), item(n)).unwrap());
            held.release();
            settle(executor);
            let calls = calls_of(&calls);
            assert_eq!(calls.concat().len(), 6);
            assert!(
                calls.iter().all(|call| call.len() == 1 || call.iter().all(|&n| n < 10)),
                "{calls:?}"
            );
        }
    });
}

#[test]
fn actors_by_key_kept_and_dedicated_ones_have_batches_too() {
    on_every_crew(|executor| {
        let calls = Calls::default();
        let shared = Arc::clone(&calls);
        let directory = Directory::new(executor, move |_: &u64| Member::new(&shared));
        let factory = Arc::clone(&calls);
        let members = [
            directory.get(&7),
            executor.build(Member::new(&calls)).on_worker(0).spawn(),
            executor.spawn_dedicated(move || Member::new(&factory)).unwrap(),
        ];
        for member in members {
            calls.lock().unwrap().clear();
            let held = pause(&member);
            (0..6).for_each(|n| member.tell(item(n)).unwrap());
            held.release();
            settle(executor);
            assert_eq!(calls_of(&calls), [vec![0, 1, 2, 3], vec![4, 5]]);
        }
    });
}

/// Many senders at once, with everything else going on.
#[test]
fn each_senders_messages_come_in_order_and_are_counted() {
    on_every_crew(|executor| {
        let (member, calls) = member(executor, []);
        let senders: Vec<_> = (0..3).map(|_| executor.spawn(Puppet::default())).collect();
        for (sender, s) in senders.iter().zip(0..) {
            let to = member.clone();
            let flood = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                for n in 0..300 {
                    to.tell(item(s * 1000 + n)).unwrap();
                    if n % 50 == 0 {
                        to.tell(Single(s * 1000 + n)).unwrap();
                    }
                }
            });
            sender.tell(flood).unwrap();
        }
        settle(executor);
        let calls = calls_of(&calls);
        assert!(calls.iter().all(|call| (1..=LIMIT).contains(&call.len())));
        for s in 0..3 {
            let of_one = |n: &u64| n / 1000 == s;
            let numbers: Vec<u64> =
                calls.concat().into_iter().filter(of_one).map(|n| n % 1000).collect();
            assert!(numbers.is_sorted(), "{numbers:?}");
            assert_eq!(numbers.len(), 306);
        }
    });
}

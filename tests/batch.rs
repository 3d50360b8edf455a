//! Tests batches, in which one call handles several waiting messages of one type.
//! `batch_together.rs` combines batches with other features.
//!
//! A receiver is paused while its batch is sent. A turn takes what waits when the turn begins, so a
//! batch sent during one turn is complete when the next begins.

mod common;

use common::batches::*;
use common::*;
use heist::stats::Stats;
use heist::*;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

#[test]
fn what_waits_comes_in_batches_in_order_and_within_the_limit() {
    on_every_crew(|executor| {
        let (member, calls) = member(executor, []);
        let held = pause(&member);
        (0..10).for_each(|n| member.tell(item(n)).unwrap());
        held.release();
        settle(executor);
        assert_eq!(calls_of(&calls), [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
        assert_eq!(member.stats().handled, 11);
    });
}

#[test]
fn a_batch_waits_for_nothing() {
    on_every_crew(|executor| {
        let (member, calls) = member(executor, []);
        for n in 0..3 {
            assert_eq!(answer(member.ask(item(n)).unwrap()), Ok(n + 1000));
        }
        assert_eq!(calls_of(&calls), [[0], [1], [2]]);
    });
}

#[test]
fn a_message_of_another_type_ends_a_batch() {
    on_every_crew(|executor| {
        let (member, calls) = member(executor, []);
        let held = pause(&member);
        for n in [0, 1] {
            member.tell(item(n)).unwrap();
        }
        member.tell(Single(2)).unwrap();
        member.tell(Single(3)).unwrap();
        member.tell(item(4)).unwrap();
        for n in [5, 6] {
            member.tell(Other(n, None)).unwrap();
        }
        member.tell(item(7)).unwrap();
        held.release();
        settle(executor);
        assert_eq!(calls_of(&calls), [vec![0, 1], vec![2], vec![3], vec![4], vec![5, 6], vec![7]]);
    });
}

/// Messages are told, sent, asked, asked with a deadline, and asked by an actor, with timing and
/// without.
#[test]
fn all_ways_to_send_mix_and_each_asker_gets_its_own_answer() {
    on_every_crew(|executor| {
        for timed in [false, true] {
            let calls = Calls::default();
            let member = executor.build(Member::new(&calls)).timing(timed).spawn();
            let asking = executor.spawn(Puppet::default());
            let held = pause(&member);
            member.tell(item(0)).unwrap();
            let first = member.ask(item(1)).unwrap();
            let (target, far) = (member.clone(), Instant::now() + Duration::from_secs(LONG));
            inside(&asking, move |_, ctx| {
                let log =
                    |me: &mut Puppet, answer: Result<u64, AskError>, _: &mut Context<Puppet>| {
                        me.log.push(answer.expect("it is answered"));
                    };
                ctx.ask_then(&target, item(2), log).unwrap();
                ctx.ask_then_deadline(&target, item(3), far, log).unwrap();
            });
            let second = member.ask_deadline(item(4), far).unwrap();
            member.send(item(5)).unwrap();
            let third = member.ask(item(6)).unwrap();
            held.release();
            settle(executor);
            assert_eq!(calls_of(&calls), [vec![0, 1, 2, 3], vec![4, 5, 6]], "timed: {timed}");
            let answers = [first, second, third].map(|ask| answer(ask).unwrap());
            assert_eq!(answers, [1001, 1004, 1006]);
            assert_eq!(log_of(&asking, 2), [1002, 1003]);
        }
    });
}

/// `tell_self` allows one message under way. A batch that takes the message must count it as
/// handled.
#[test]
fn its_own_again_may_be_in_a_batch_and_be_sent_in_one() {
    on_every_crew(|executor| {
        let first = What::Do(Box::new(|ctx| {
            ctx.me().tell(item(1)).unwrap();
            ctx.tell_self(item(10)).unwrap();
            assert!(ctx.tell_self(item(99)).unwrap_err().is_full(), "one at a time");
            ctx.me().tell(item(2)).unwrap();
        }));
        // The batch has taken the message of `tell_self`, so the next `tell_self` may follow.
        let second = What::Do(Box::new(|ctx| ctx.tell_self(item(11)).unwrap()));
        let (member, calls) = member(executor, [(1, first), (2, second)]);
        member.tell(item(0)).unwrap();
        settle(executor);
        assert_eq!(calls_of(&calls), [vec![0], vec![1, 10, 2], vec![11]]);
    });
}

#[test]
fn a_panic_anywhere_answers_all_with_the_cause() {
    quiet_panics();
    on_every_crew(|executor| {
        for at in 1..=LIMIT {
            for at_the_end in [false, true] {
                let tokens = Tokens::new();
                let before = executor.stats();
                let calls = Calls::default();
                let plans = VecDeque::from([(at, What::Panic)]);
                let member = executor.spawn(Member { plans, at_the_end, ..Member::new(&calls) });
                let held = pause(&member);
                let asks = (0..7).map(|n| member.ask(Item(n, Some(tokens.token()))).unwrap());
                let asks: Vec<_> = asks.collect();
                held.release();
                for (ask, n) in asks.into_iter().zip(0..) {
                    if n + 1 < at as u64 && !at_the_end {
                        assert_eq!(answer(ask), Ok(n + 1000), "answered before the panic");
                    } else {
                        assert_eq!(cause(ask), INTENDED, "{n} of a batch that panics at {at}");
                    }
                }
                assert!(
                    matches!(ended(&member), StopReason::Panicked(text) if text.to_string() == INTENDED)
                );
                settle(executor);
                tokens.assert_each_dropped_once();
                let after = executor.stats();
                // Taken messages count as handled. The others are dead letters.
                assert_eq!(after.handled - before.handled, 1 + at as u64);
                let panicked = |stats: &Stats| stats.dead_letters.panicked;
                assert_eq!(panicked(&after) - panicked(&before), 7 - at as u64);
                assert_eq!(calls_of(&calls), [(0..at as u64).collect::<Vec<_>>()]);
            }
        }
    });
}

#[test]
fn what_is_not_taken_stays_at_the_head_in_order() {
    on_every_crew(|executor| {
        let (member, calls) = member(executor, [(2, What::Leave), (1, What::Leave)]);
        let held = pause(&member);
        let asks: Vec<_> = (0..5).map(|n| member.ask(item(n)).unwrap()).collect();
        member.tell(Single(5)).unwrap();
        held.release();
        for (ask, n) in asks.into_iter().zip(0..) {
            assert_eq!(answer(ask), Ok(n + 1000));
        }
        settle(executor);
        assert_eq!(calls_of(&calls), [vec![0, 1], vec![2], vec![3, 4], vec![5]]);
    });
}

/// Only the message already taken out of the mailbox belongs to the dropped batch.
#[test]
fn a_batch_that_is_dropped_unread_drops_its_first_message_only() {
    on_every_crew(|executor| {
        let (calls, tokens) = (Calls::default(), Tokens::new());
        let member = executor.spawn(Member { blind: true, ..Member::new(&calls) });
        let held = pause(&member);
        let asks: Vec<_> =
            (0..3).map(|n| member.ask(Item(n, Some(tokens.token()))).unwrap()).collect();
        held.release();
        for ask in asks {
            assert_eq!(answer(ask), Err(AskError::NoReply));
        }
        settle(executor);
        tokens.assert_each_dropped_once();
        assert_eq!((calls_of(&calls).len(), member.stats().handled), (3, 4));
    });
}

#[test]
fn a_batch_ends_with_the_turns_budget() {
    on_every_crew(|executor| {
        let calls = Calls::default();
        let member = executor.build(Member::new(&calls)).budget_messages(3).spawn();
        let held = pause(&member);
        (0..8).for_each(|n| member.tell(item(n)).unwrap());
        held.release();
        settle(executor);
        assert_eq!(calls_of(&calls), [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7]]);
    });
}

/// A turn handles only messages that waited when the turn began. Batches follow the same rule.
#[test]
fn a_batch_ends_with_what_waited_when_its_turn_began() {
    on_every_crew(|executor| {
        let tell = |n| {
            What::Do(Box::new(move |ctx: &mut Context<Member>| ctx.me().tell(item(n)).unwrap()))
        };
        let (member, calls) = member(executor, [(1, tell(2)), (1, tell(3))]);
        let held = pause(&member);
        (0..2).for_each(|n| member.tell(item(n)).unwrap());
        held.release();
        settle(executor);
        assert_eq!(calls_of(&calls), [vec![0, 1], vec![2], vec![3]]);
    });
}

#[test]
fn stop_now_ends_a_batch_and_the_rest_is_dead() {
    on_every_crew(|executor| {
        let before = dead(executor).killed;
        let (member, calls) = member(executor, [(2, What::StopNow)]);
        let held = pause(&member);
        let asks: Vec<_> = (0..6).map(|n| member.ask(item(n)).unwrap()).collect();
        held.release();
        for (ask, n) in asks.into_iter().zip(0..) {
            assert_eq!(answer(ask), if n < 2 { Ok(n + 1000) } else { Err(AskError::Stopped) });
        }
        assert_eq!(ended(&member), StopReason::Killed);
        settle(executor);
        assert_eq!((calls_of(&calls), dead(executor).killed - before), (vec![vec![0, 1]], 4));
    });
}

#[test]
fn stop_handles_what_was_accepted_before() {
    on_every_crew(|executor| {
        let (member, calls) = member(executor, [(2, What::Stop)]);
        let held = pause(&member);
        (0..6).for_each(|n| member.tell(item(n)).unwrap());
        held.release();
        assert_eq!(ended(&member), StopReason::Stopped);
        settle(executor);
        assert_eq!(calls_of(&calls), [vec![0, 1, 2, 3], vec![4, 5]]);
        assert_eq!(member.tell(item(6)).unwrap_err().refusal(), Refusal::Stopped);
    });
}

#[test]
fn what_has_expired_is_left_out_and_does_not_count() {
    on_every_crew(|executor| {
        for timed in [false, true] {
            let (before, calls) = (dead(executor).expired, Calls::default());
            let member = executor.build(Member::new(&calls)).timing(timed).spawn();
            let held = pause(&member);
            let past = Instant::now();
            let late = |n| member.ask_deadline(item(n), past).unwrap();
            let mut expired = vec![late(0)];
            member.tell(item(1)).unwrap();
            expired.extend([late(2), late(3)]);
            (4..7).for_each(|n| member.tell(item(n)).unwrap());
            expired.push(late(7));
            member.tell(item(8)).unwrap();
            held.release();
            for ask in expired {
                assert_eq!(answer(ask), Err(AskError::Expired));
            }
            settle(executor);
            assert_eq!(calls_of(&calls), [vec![1, 4, 5, 6], vec![8]]);
            assert_eq!((member.stats().handled, dead(executor).expired - before), (6, 4));
            if timed {
                assert_eq!(member.timing().unwrap().handling.count, 6);
            }
        }
    });
}

/// Places returned too early would let a batch exceed the capacity of the mailbox.
#[test]
fn a_batch_keeps_its_places_until_it_returns() {
    on_every_crew(|executor| {
        let fill = What::Do(Box::new(|ctx| {
            ctx.me().tell(item(3)).unwrap();
            assert!(ctx.me().tell(item(9)).unwrap_err().is_full());
        }));
        let (calls, plans) = (Calls::default(), VecDeque::from([(3, fill)]));
        let member = executor.build(Member { plans, ..Member::new(&calls) }).capacity(4).spawn();
        let held = pause(&member); // takes one place of the mailbox
        (0..3).for_each(|n| member.tell(item(n)).unwrap());
        held.release();
        settle(executor);
        (4..9).for_each(|n| member.send(item(n)).unwrap());
        settle(executor);
        assert_eq!(calls_of(&calls)[..2], [vec![0, 1, 2], vec![3]]);
        assert_eq!(calls_of(&calls).concat(), (0..9).collect::<Vec<_>>());
    });
}

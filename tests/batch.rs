//! Batches: messages of one type that wait one behind the other, in one call.
//!
//! Who is to find a batch waiting is paused meanwhile: a turn takes what waits when it begins, so all that is sent during
//! one turn is there when the next one begins.

mod common;

use common::*;
use heist::strategy::{SharedQueue, ToIndex};
use heist::*;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

type Act = Box<dyn FnOnce(&mut Context<Member>) + Send>;

/// What is to be done in a batch after its so-many-th message, from 1.
enum What {
    Panic,
    StopNow,
    Stop,
    /// Takes no more.
    Leave,
    Block,
    Do(Act),
}

/// The numbers in each call, one after another.
type Calls = Arc<Mutex<Vec<Vec<u64>>>>;

/// Notes what comes in each call, and answers with a number of its own for each.
#[derive(Default)]
struct Member {
    calls: Calls,
    /// For one batch each.
    plans: VecDeque<(usize, What)>,
    /// Answers are kept until the batch is over.
    at_the_end: bool,
    /// Takes nothing at all.
    blind: bool,
}

impl Actor for Member {}

impl Member {
    fn new(calls: &Calls) -> Self {
        Member { calls: Arc::clone(calls), ..Member::default() }
    }

    fn begin(&self) {
        self.calls.lock().unwrap().push(Vec::new());
    }

    fn note(&self, n: u64) {
        self.calls.lock().unwrap().last_mut().unwrap().push(n);
    }
}

struct Item(u64, Option<Token>);

fn item(n: u64) -> Item {
    Item(n, None)
}

const LIMIT: usize = 4;

impl Receive<Item> for Member {
    type Reply = u64;
    const BATCH: usize = LIMIT;

    fn receive(&mut self, _: Item, _: Reply<u64>, _: &mut Context<Self>) {
        panic!("messages that may come in batches do so");
    }

    fn receive_batch(&mut self, mut batch: Batch<'_, Item, u64>, ctx: &mut Context<Self>) {
        self.begin();
        if self.blind {
            return;
        }
        let mut kept = Vec::new();
        let mut plan = self.plans.pop_front();
        for (taken, (Item(n, _token), reply)) in (1..).zip(batch.by_ref()) {
            self.note(n);
            match plan.take_if(|(after, _)| *after == taken).map(|(_, what)| what) {
                None => {}
                Some(What::Panic) => intended_panic(),
                Some(What::StopNow) => ctx.me().stop_now(),
                Some(What::Stop) => ctx.stop(),
                Some(What::Leave) => {
                    reply.send(n + 1000);
                    return;
                }
                Some(What::Block) => blocking(|| ()),
                Some(What::Do(act)) => act(ctx),
            }
            if self.at_the_end {
                kept.push((n, reply));
            } else {
                reply.send(n + 1000);
            }
        }
        assert!(batch.next().is_none(), "a batch that has ended goes on");
        kept.into_iter().for_each(|(n, reply)| reply.send(n + 1000));
    }
}

/// Each alone.
struct Single(u64);

impl Receive<Single> for Member {
    type Reply = u64;
    fn receive(&mut self, Single(n): Single, reply: Reply<u64>, _: &mut Context<Self>) {
        self.begin();
        self.note(n);
        reply.send(n + 1000);
    }
    fn receive_batch(&mut self, _: Batch<'_, Single, u64>, _: &mut Context<Self>) {
        panic!("they come alone");
    }
}

/// Of the same form as an item, and of another type.
struct Other(u64, Option<Token>);

impl Receive<Other> for Member {
    type Reply = u64;
    const BATCH: usize = LIMIT;
    fn receive(&mut self, Other(n, _token): Other, reply: Reply<u64>, _: &mut Context<Self>) {
        self.note(n);
        reply.send(n + 1000);
    }
    fn receive_batch(&mut self, batch: Batch<'_, Other, u64>, ctx: &mut Context<Self>) {
        self.begin();
        batch.for_each(|(other, reply)| self.receive(other, reply, ctx));
    }
}

/// A turn that goes on until the latch is open.
struct Pause(Latch, Latch);

impl Handler<Pause> for Member {
    type Reply = ();
    fn handle(&mut self, Pause(entered, until): Pause, _: &mut Context<Self>) {
        entered.open();
        blocking(|| until.wait()); // there may be but one worker
    }
}

struct Plan(usize, What);

impl Handler<Plan> for Member {
    type Reply = ();
    fn handle(&mut self, Plan(after, what): Plan, _: &mut Context<Self>) {
        self.plans.push_back((after, what));
    }
}

struct AtTheEnd;

impl Handler<AtTheEnd> for Member {
    type Reply = ();
    fn handle(&mut self, _: AtTheEnd, _: &mut Context<Self>) {
        self.at_the_end = true;
    }
}

/// The member's turn goes on until this is released.
fn pause(member: &ActorRef<Member>) -> Held {
    let (entered, until) = (Latch::new(), Latch::new());
    member.tell(Pause(entered.clone(), until.clone())).unwrap();
    entered.wait();
    Held::until(until)
}

fn calls_of(calls: &Calls) -> Vec<Vec<u64>> {
    calls.lock().unwrap().clone()
}

/// Spawns a member with these plans.
fn member(executor: &Executor, plans: impl IntoIterator<Item = (usize, What)>) -> (ActorRef<Member>, Calls) {
    let calls = Calls::default();
    let plans = plans.into_iter().collect();
    (executor.spawn(Member { plans, ..Member::new(&calls) }), calls)
}

fn dead(executor: &Executor) -> DeadLetters {
    executor.stats().dead_letters
}

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

/// Told, sent, asked, asked with a deadline, asked by an actor; for actors with times and without.
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
                let log = |me: &mut Puppet, answer: Result<u64, AskError>, _: &mut Context<Puppet>| {
                    me.log.push(answer.expect("it is answered"));
                };
                ctx.ask_then(&target, item(2), log).unwrap();
                ctx.ask_then_by(&target, far, item(3), log).unwrap();
            });
            let second = member.ask_by(far, item(4)).unwrap();
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

#[test]
fn its_own_again_may_be_in_a_batch_and_be_sent_in_one() {
    on_every_crew(|executor| {
        let first = What::Do(Box::new(|ctx| {
            ctx.me().tell(item(1)).unwrap();
            ctx.again(item(10)).unwrap();
            assert!(ctx.again(item(99)).unwrap_err().is_full(), "one at a time");
            ctx.me().tell(item(2)).unwrap();
        }));
        // Taken by a batch, it is over, and the next one may follow.
        let second = What::Do(Box::new(|ctx| ctx.again(item(11)).unwrap()));
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
                assert!(matches!(ended(&member), StopReason::Panicked(text) if text.to_string() == INTENDED));
                settle(executor);
                tokens.assert_each_dropped_once();
                let after = executor.stats();
                // What was taken was handled, the rest is dead.
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

#[test]
fn a_batch_that_is_dropped_unread_drops_its_first_message_only() {
    on_every_crew(|executor| {
        let (calls, tokens) = (Calls::default(), Tokens::new());
        let member = executor.spawn(Member { blind: true, ..Member::new(&calls) });
        let held = pause(&member);
        let asks: Vec<_> = (0..3).map(|n| member.ask(Item(n, Some(tokens.token()))).unwrap()).collect();
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

/// The rule for turns: what waits when one begins, and no more.
#[test]
fn a_batch_ends_with_what_waited_when_its_turn_began() {
    on_every_crew(|executor| {
        let tell = |n| What::Do(Box::new(move |ctx: &mut Context<Member>| ctx.me().tell(item(n)).unwrap()));
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
            let late = |n| member.ask_by(past, item(n)).unwrap();
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

#[test]
fn a_batch_keeps_its_places_until_it_returns() {
    on_every_crew(|executor| {
        let fill = What::Do(Box::new(|ctx| {
            ctx.me().tell(item(3)).unwrap();
            assert!(ctx.me().tell(item(9)).unwrap_err().is_full());
        }));
        let (calls, plans) = (Calls::default(), VecDeque::from([(3, fill)]));
        let member = executor.build(Member { plans, ..Member::new(&calls) }).capacity(4).spawn();
        let held = pause(&member); // which has one of the places
        (0..3).for_each(|n| member.tell(item(n)).unwrap());
        held.release();
        settle(executor);
        (4..9).for_each(|n| member.send(item(n)).unwrap());
        settle(executor);
        assert_eq!(calls_of(&calls)[..2], [vec![0, 1, 2], vec![3]]);
        assert_eq!(calls_of(&calls).concat(), (0..9).collect::<Vec<_>>());
    });
}

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
        // Seven have waited for the eighth.
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
        // It comes too late, and takes none of the time.
        let late = member.ask_by(Instant::now(), item(2)).unwrap();
        held.release();
        assert_eq!(answer(late), Err(AskError::Expired));
        settle(executor);
        let handling = member.timing().unwrap().handling;
        assert!(handling.count == 3 && handling.max >= long, "{handling:?}");
    });
}

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
        assert!(calls.iter().all(|call| call.len() == 1 || call.iter().all(|&n| n < 10)), "{calls:?}");
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

/// A pool with one replica, whose states share a log; the first has this plan.
fn pool_of_one(executor: &Executor, plan: (usize, What)) -> (Pool<Member>, Calls) {
    let (calls, plan) = (Calls::default(), Mutex::new(Some(plan)));
    let shared = Arc::clone(&calls);
    let make =
        move |_| Member { plans: plan.lock().unwrap().take().into_iter().collect(), ..Member::new(&shared) };
    (executor.pool(1, make).build().unwrap(), calls)
}

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

/// From many senders at once, with everything going on.
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
            let numbers: Vec<u64> = calls.concat().into_iter().filter(of_one).map(|n| n % 1000).collect();
            assert!(numbers.is_sorted(), "{numbers:?}");
            assert_eq!(numbers.len(), 306);
        }
    });
}

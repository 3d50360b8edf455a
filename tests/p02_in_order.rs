//! Tests P2, in order: an actor handles the messages of one sender in the order sent, and delivery
//! inside one executor is causal. Replies keep the order too. Only `stop_now` overtakes.

mod common;

use common::*;
use heist::*;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::task::{Context as Task, Poll, Waker};
use std::thread;

type Me<'a> = &'a mut Puppet;
type Ctx<'a> = &'a mut Context<Puppet>;

fn log(puppet: &ActorRef<Puppet>) -> Vec<u64> {
    answer(puppet.ask(Log).unwrap()).unwrap()
}

/// Checks that the numbers of each sender arrive in sequence.
#[derive(Default)]
struct Checker {
    next: Vec<u64>,
    handled: u64,
    wrong: u64,
}

impl Actor for Checker {}

struct Numbered {
    sender: usize,
    number: u64,
}

impl Handler<Numbered> for Checker {
    type Reply = ();
    fn handle(&mut self, Numbered { sender, number }: Numbered, _: &mut Context<Self>) {
        if self.next.len() <= sender {
            self.next.resize(sender + 1, 0);
        }
        self.wrong += u64::from(self.next[sender] != number);
        self.next[sender] = number + 1;
        self.handled += 1;
    }
}

struct Verdict;

impl Handler<Verdict> for Checker {
    type Reply = (u64, u64);
    fn handle(&mut self, _: Verdict, _: &mut Context<Self>) -> (u64, u64) {
        (self.handled, self.wrong)
    }
}

/// Each sender mixes all ways to send, and a bounded mailbox makes some of them wait.
#[test]
fn p02_each_senders_messages_come_in_the_order_sent() {
    const EACH: u64 = 3000;
    on_every_crew(|executor| {
        let checker = executor.build(Checker::default()).capacity(64).spawn();
        thread::scope(|scope| {
            for sender in 0..4 {
                let checker = &checker;
                scope.spawn(move || {
                    let dice = Dice::new(sender as u64);
                    let recipient = checker.recipient();
                    let mut number = 0;
                    while number < EACH {
                        let message = Numbered { sender, number };
                        number += match dice.below(6) {
                            0 => u64::from(checker.tell(message).is_ok()),
                            1 => u64::from(recipient.tell(message).is_ok()),
                            2 => u64::from(checker.ask(message).is_ok()),
                            3 => u64::from(checker.send(message).is_ok()),
                            4 => u64::from(
                                futures::executor::block_on(checker.send_async(message)).is_ok(),
                            ),
                            _ => {
                                let upto = (number + 10).min(EACH);
                                let batch =
                                    (number..upto).map(|number| Numbered { sender, number });
                                checker
                                    .tell_many(batch)
                                    .unwrap_or_else(|refused| refused.accepted())
                                    as u64
                            }
                        };
                    }
                });
            }
        });
        assert_eq!(checker.send(Numbered { sender: 9, number: 0 }).map_err(drop), Ok(()));
        settle(executor);
        assert_eq!(answer(checker.ask(Verdict).unwrap()), Ok((4 * EACH + 1, 0)));
    });
}

/// Actors as senders: each tells two checkers in turn, one step a message.
#[test]
fn p02_an_actors_messages_come_in_the_order_sent() {
    struct Sender {
        index: usize,
        to: [ActorRef<Checker>; 2],
    }
    impl Actor for Sender {}
    impl Handler<u64> for Sender {
        type Reply = ();
        fn handle(&mut self, number: u64, ctx: &mut Context<Self>) {
            for to in &self.to {
                to.tell(Numbered { sender: self.index, number }).unwrap();
            }
            if number < 499 {
                ctx.tell_self(number + 1).unwrap();
            }
        }
    }
    on_every_crew(|executor| {
        let checkers = [(); 2].map(|()| executor.build(Checker::default()).unbounded().spawn());
        let senders = (0..20).map(|index| executor.spawn(Sender { index, to: checkers.clone() }));
        for sender in senders.collect::<Vec<_>>() {
            sender.tell(0).unwrap();
        }
        settle(executor);
        for checker in &checkers {
            assert_eq!(answer(checker.ask(Verdict).unwrap()), Ok((10_000, 0)));
        }
    });
}

/// A tells C and then B, and B tells C. C must handle A's message first. The same holds with a
/// reply in the place of B.
#[test]
fn p02_the_triangle() {
    const ROUNDS: u64 = 2000;
    on_every_crew(|executor| {
        let spawn = || executor.build(Puppet::default()).unbounded().spawn();
        let (a, b, c) = (spawn(), spawn(), spawn());
        for round in 0..ROUNDS {
            let (b, c) = (b.clone(), c.clone());
            let from_a = move |_: Me<'_>, ctx: Ctx<'_>| {
                c.tell(Note(4 * round)).unwrap();
                let (to_c, reply_to_c) = (c.clone(), c.clone());
                // Through a message to B, and through B's reply.
                let on = Run(move |_: Me<'_>, _: Ctx<'_>| to_c.tell(Note(4 * round + 1)).unwrap());
                ctx.ask_then(&b, on, move |_, told, _| {
                    told.unwrap();
                    reply_to_c.tell(Note(4 * round + 2)).unwrap();
                })
                .unwrap();
                let to_c = c.clone();
                b.tell(Run(move |_: Me<'_>, _: Ctx<'_>| to_c.tell(Note(4 * round + 3)).unwrap()))
                    .unwrap();
            };
            a.tell(Run(from_a)).unwrap();
        }
        settle(executor);
        let seen = log(&c);
        assert_eq!(seen.len() as u64, 4 * ROUNDS);
        let mut place = vec![0; seen.len()];
        seen.iter().enumerate().for_each(|(at, &note)| place[note as usize] = at);
        for round in 0..ROUNDS as usize {
            let [first, by_message, by_reply, last] = [0, 1, 2, 3].map(|i| place[4 * round + i]);
            assert!(
                first < by_message && by_message < by_reply && by_message < last,
                "round {round}"
            );
            assert!(round == 0 || place[4 * round - 4] < first, "A's own order, round {round}");
        }
    });
}

/// The same triangle from outside. The send of one thread happens before the send of the other
/// through an atomic.
#[test]
fn p02_the_triangle_between_threads() {
    on_every_crew(|executor| {
        let c = executor.build(Puppet::default()).unbounded().spawn();
        let turn = AtomicU64::new(0);
        thread::scope(|scope| {
            for me in 0..2 {
                let (turn, c) = (&turn, &c);
                scope.spawn(move || {
                    for number in (0..1000).filter(|number| number % 2 == me) {
                        within(LONG, "the other thread's send", || turn.load(Acquire) == number);
                        c.tell(Note(number)).unwrap();
                        turn.store(number + 1, Release);
                    }
                });
            }
        });
        assert_eq!(log(&c), (0..1000).collect::<Vec<_>>());
    });
}

/// Answers arrive in the order in which they were given, among the messages sent before and after
/// them.
#[test]
fn p02_replies_keep_the_order() {
    on_every_crew(|executor| {
        let (asker, server) =
            (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
        let go = {
            let server = server.clone();
            move |_: Me<'_>, ctx: Ctx<'_>| {
                for i in 0..50 {
                    let to = ctx.me().clone();
                    let work = move |_: Me<'_>, _: Ctx<'_>| {
                        to.tell(Note(2 * i)).unwrap();
                        2 * i + 1
                    };
                    ctx.ask_then(&server, Run(work), |me, answer, _| me.log.push(answer.unwrap()))
                        .unwrap();
                }
            }
        };
        asker.tell(Run(go)).unwrap();
        settle(executor);
        assert_eq!(log(&asker), (0..100).collect::<Vec<_>>());
    });
}

/// A kept reply is ordered like any other message of the actor that gives it.
#[test]
fn p02_a_reply_and_what_follows_it() {
    struct Later(Option<Reply<u64>>);
    impl Actor for Later {}
    impl Receive<()> for Later {
        type Reply = u64;
        fn receive(&mut self, (): (), reply: Reply<u64>, _: &mut Context<Self>) {
            self.0 = Some(reply);
        }
    }
    impl Handler<ActorRef<Puppet>> for Later {
        type Reply = ();
        fn handle(&mut self, to: ActorRef<Puppet>, ctx: &mut Context<Self>) {
            to.tell(Note(1)).unwrap();
            self.0.take().unwrap().send(2);
            // The order holds through a third actor too.
            let third = ctx.spawn(Puppet::default());
            third.tell(Run(move |_: Me<'_>, _: Ctx<'_>| to.tell(Note(3)).unwrap())).unwrap();
        }
    }
    on_every_crew(|executor| {
        for _ in 0..100 {
            let (asker, later) = (executor.spawn(Puppet::default()), executor.spawn(Later(None)));
            let server = later.clone();
            let ask = move |_: Me<'_>, ctx: Ctx<'_>| {
                ctx.ask_then(&server, (), |me, answer, _| me.log.push(answer.unwrap())).unwrap();
            };
            answer(asker.ask(Run(ask)).unwrap()).unwrap();
            later.tell(asker.clone()).unwrap();
            settle(executor);
            assert_eq!(log(&asker), [1, 2, 3]);
        }
    });
}

/// Messages that are exempt from the capacity are not exempt from the order.
#[test]
fn p02_again_and_notices_go_to_the_back() {
    on_every_crew(|executor| {
        let me = executor.build(Puppet::default()).capacity(2).spawn();
        let other = executor.spawn(Puppet::default());
        let first = move |_: Me<'_>, ctx: Ctx<'_>| {
            ctx.me().tell(Note(2)).unwrap();
            assert_eq!(ctx.me().tell(Note(0)).unwrap_err().refusal(), Refusal::Full);
            ctx.tell_self(Note(3)).unwrap();
            // The other mailbox has room, so the notice comes at once, behind everything that
            // waits.
            ctx.when_room(&other, Note(4)).unwrap();
        };
        answer(me.ask(Run(first)).unwrap()).unwrap();
        settle(executor);
        assert_eq!(log(&me), [2, 3, 4]);
    });
}

/// The longest wait for room is served first. Senders and notices stand in one line, and no `tell`
/// slips in.
#[test]
fn p02_the_line_for_room_is_served_in_its_order() {
    on_every_crew(|executor| {
        let full = executor.build(Puppet::default()).capacity(2).spawn();
        let held = Held::hold(&full); // counts until its turn returns the place
        full.tell(Note(0)).unwrap();
        let mut line: Vec<_> = (1..=5).map(|n| full.send_async(Note(n))).collect();
        let mut cx = Task::from_waker(Waker::noop());
        for send in &mut line {
            assert!(matches!(Pin::new(send).poll(&mut cx), Poll::Pending), "there is no room");
            assert!(full.tell(Note(99)).unwrap_err().is_full(), "a tell barged in");
        }
        drop(held);
        for send in line {
            futures::executor::block_on(send).unwrap();
        }
        settle(executor);
        assert_eq!(log(&full), (0..=5).collect::<Vec<_>>());
    });
}

/// A notice at the head of the line waits for half the mailbox to be free. Until then it holds up
/// the senders behind it, even if there is room for them.
#[test]
fn p02_a_notice_keeps_its_place_in_line() {
    for policy in POLICIES {
        let executor = build(Executor::builder().workers(2).policy(policy));
        let full = executor.build(Puppet::default()).capacity(4).spawn();
        let owner = apart_from(&executor, &full);
        let held = Held::hold(&full);
        let (held_again, again_entered) = Held::queue(&full);
        full.tell_many([Note(0), Note(1)]).unwrap();
        let target = full.clone();
        let wait = move |_: Me<'_>, ctx: Ctx<'_>| ctx.when_room(&target, Note(7)).unwrap();
        answer(owner.ask(Run(wait)).unwrap()).unwrap();
        let mut behind = full.send_async(Note(2));
        let mut cx = Task::from_waker(Waker::noop());
        assert!(Pin::new(&mut behind).poll(&mut cx).is_pending());
        drop(held);
        again_entered.wait();
        // Three of four places are taken. There is room for one message, but the first in line
        // waits for two.
        assert_eq!(full.len(), 3);
        assert!(full.tell(Note(9)).unwrap_err().is_full(), "a tell barged in");
        assert!(Pin::new(&mut behind).poll(&mut cx).is_pending(), "a sender barged in");
        assert_eq!(log(&owner), [], "there is no half of the room yet");
        drop(held_again);
        futures::executor::block_on(behind).unwrap();
        settle(&executor);
        assert_eq!((log(&owner), log(&full)), (vec![7], vec![0, 1, 2]));
        shut_down(&executor);
    }
}

/// `stop` acts like one more message: earlier messages are handled, later ones are refused.
#[test]
fn p02_stop_keeps_the_order_and_stop_now_overtakes() {
    on_every_crew(|executor| {
        for kill in [false, true] {
            let tokens = Tokens::new();
            let puppet = executor.spawn(Puppet::default());
            let handled = Arc::new(AtomicU64::new(0));
            let held = Held::hold(&puppet);
            for _ in 0..10 {
                let (token, handled) = (tokens.token(), Arc::clone(&handled));
                let count = move |_: Me<'_>, _: Ctx<'_>| {
                    let _token = token;
                    handled.fetch_add(1, Relaxed);
                };
                puppet.tell(Run(count)).unwrap();
            }
            if kill {
                puppet.stop_now()
            } else {
                puppet.stop()
            };
            assert_eq!(puppet.tell(Note(1)).unwrap_err().refusal(), Refusal::Stopped);
            drop(held);
            assert_eq!(ended(&puppet), if kill { StopReason::Killed } else { StopReason::Stopped });
            assert_eq!(handled.load(Relaxed), if kill { 0 } else { 10 });
            tokens.assert_each_dropped_once();
        }
    });
}

//! Tests P3, handled once or accounted for: a refused message comes back inside the error. An
//! accepted one is handled exactly once, or becomes a dead letter with a reason.
//!
//! The tallies here are independent of the executor's counts, and each message has a number. A loss
//! and a duplicate therefore cannot cancel out.

mod common;

use common::*;
use heist::event::DeadLetterReason;
use heist::*;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::*};
use std::sync::{Arc, mpsc};
use std::task::{Context as Task, Waker};
use std::thread;
use std::time::Duration;

type Me<'a> = &'a mut Puppet;
type Ctx<'a> = &'a mut Context<Puppet>;
/// A message that came back, with the reason.
type Back = Result<(), (Note, Refusal)>;

fn back<T>(result: Result<T, SendError<Note>>) -> Back {
    result.map(drop).map_err(|error| {
        let refusal = error.refusal();
        assert_eq!(error.is_full(), refusal == Refusal::Full);
        (error.into_message(), refusal)
    })
}

type Way = (&'static str, fn(&ActorRef<Puppet>, Note) -> Back);

/// Every way to send without waiting.
const AT_ONCE: [Way; 5] = [
    ("tell", |to, note| back(to.tell(note))),
    ("recipient", |to, note| back(to.recipient().tell(note))),
    ("ask", |to, note| back(to.ask(note))),
    ("asker", |to, note| back(to.asker().ask(note))),
    ("tell_many", |to, note| {
        to.tell_many([note]).map(|accepted| assert_eq!(accepted, 1)).map_err(|refused| {
            assert_eq!(refused.accepted(), 0);
            let refusal = refused.refusal();
            let (message, rest) = refused.into_parts();
            assert_eq!(rest.count(), 0);
            (message, refusal)
        })
    }),
];

/// Every way to send that waits for room.
const WAITING: [Way; 3] = [
    ("send", |to, note| back(to.send(note))),
    ("send_timeout", |to, note| back(to.send_timeout(note, Duration::from_millis(1)))),
    ("send_async", |to, note| back(futures::executor::block_on(to.send_async(note)))),
];

#[track_caller]
fn refused(ways: &[Way], to: &ActorRef<Puppet>, why: Refusal) {
    for (n, (name, way)) in (0..).zip(ways) {
        assert_eq!(way(to, Note(n)), Err((Note(n), why)), "{name}");
    }
}

/// The ways to send to another actor that only a context offers.
#[track_caller]
fn refused_inside(ctx: Ctx<'_>, to: &ActorRef<Puppet>, why: Refusal) {
    let asked = ctx.ask_then(to, Note(8), |_, _, _| unreachable!("it was refused"));
    assert_eq!(back(asked), Err((Note(8), why)), "ask_then");
    refused(&AT_ONCE, to, why);
}

fn inside(executor: &Executor, f: impl FnOnce(Me<'_>, Ctx<'_>) + Send + 'static) {
    assert_eq!(answer(executor.spawn(Puppet::default()).ask(Run(f)).unwrap()), Ok(()));
}

#[test]
fn p03_a_stopped_actor_gives_everything_back() {
    on_every_crew(|executor| {
        let gone = executor.spawn(Puppet::default());
        gone.stop();
        refused(&AT_ONCE, &gone, Refusal::Stopped);
        ended(&gone);
        refused(&AT_ONCE, &gone, Refusal::Stopped);
        refused(&WAITING, &gone, Refusal::Stopped);
        let dead = gone.clone();
        inside(executor, move |_, ctx| {
            refused_inside(ctx, &dead, Refusal::Stopped);
            refused(&WAITING, &dead, Refusal::Stopped);
            // A stopping actor gets back even messages to itself.
            ctx.stop();
            assert_eq!(back(ctx.tell_self(Note(3))), Err((Note(3), Refusal::Stopped)));
            refused(&AT_ONCE, ctx.me(), Refusal::Stopped);
        });
        settle(executor);
    });
}

#[test]
fn p03_a_full_mailbox_gives_everything_back() {
    on_every_crew(|executor| {
        let full = executor.build(Puppet::default()).capacity(3).spawn();
        let (results, result) = mpsc::channel();
        let fill = move |_: Me<'_>, ctx: Ctx<'_>| {
            let me = ctx.me().clone();
            let many = me.tell_many((0..9).map(Note)).unwrap_err();
            assert_eq!((many.accepted(), many.refusal()), (2, Refusal::Full));
            let (message, rest) = many.into_parts();
            assert_eq!(
                (message, rest.map(|Note(n)| n).collect::<Vec<_>>()),
                (Note(2), (3..9).collect())
            );
            refused_inside(ctx, &me, Refusal::Full);
            assert_eq!(back(me.send(Note(5))), Err((Note(5), Refusal::WouldDeadlock)));
            ctx.tell_self(Note(2)).unwrap();
            assert_eq!(
                back(ctx.tell_self(Note(6))),
                Err((Note(6), Refusal::Full)),
                "one at a time"
            );
            // From outside, while this turn goes on.
            let outside = thread::spawn(move || {
                refused(&AT_ONCE, &me, Refusal::Full);
                let late = me.send_timeout(Note(4), Duration::from_millis(1));
                assert_eq!(back(late), Err((Note(4), Refusal::TimedOut)));
            });
            results.send(outside.join().is_ok()).unwrap();
        };
        full.tell(Run(fill)).unwrap();
        assert_eq!(result.recv_timeout(Duration::from_secs(LONG)), Ok(true));
        settle(executor);
        assert_eq!(answer(full.ask(Log).unwrap()).unwrap(), [0, 1, 2]);
    });
}

/// Waiting inside a turn would block the only worker, without a spare, so the message comes back.
/// With a spare the send waits.
#[test]
fn p03_send_inside_a_turn_waits_or_gives_the_message_back() {
    let executor = build(Executor::builder().workers(1).max_spares(0));
    let full = executor.build(Puppet::default()).capacity(1).spawn();
    let target = full.clone();
    inside(&executor, move |_, _| {
        target.tell(Note(0)).unwrap();
        assert_eq!(back(target.send(Note(1))), Err((Note(1), Refusal::NoSpare)));
    });
    shut_down(&executor);

    for (workers, spares) in [(1, 1), (2, 0), (8, 0), (8, 8)] {
        let executor = build(Executor::builder().workers(workers).max_spares(spares));
        let full = executor.build(Puppet::default()).capacity(1).spawn();
        let target = full.clone();
        inside(&executor, move |_, _| (0..100).for_each(|n| target.send(Note(n)).unwrap()));
        settle(&executor);
        assert_eq!(answer(full.ask(Log).unwrap()).unwrap(), (0..100).collect::<Vec<_>>());
        shut_down(&executor);
    }
}

/// `when_room` refuses only a second wait for the same target. A stopped target counts as one with
/// room.
#[test]
fn p03_a_notice_comes_or_is_a_dead_letter() {
    on_every_crew(|executor| {
        let gone = executor.spawn(Puppet::default());
        gone.stop();
        let (owner, closed) =
            (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
        let (target, dead) = (gone.clone(), gone);
        let wait = move |_: Me<'_>, ctx: Ctx<'_>| back(ctx.when_room(&target, Note(1)));
        assert_eq!(answer(owner.ask(Run(wait)).unwrap()), Ok(Ok(())));
        let late = move |_: Me<'_>, ctx: Ctx<'_>| {
            ctx.stop();
            back(ctx.when_room(&dead, Note(2)))
        };
        assert_eq!(answer(closed.ask(Run(late)).unwrap()), Ok(Ok(())));
        ended(&closed);
        settle(executor);
        assert_eq!(executor.stats().dead_letters.stopped, 1);
        assert_eq!(answer(owner.ask(Log).unwrap()).unwrap(), [1]);
    });
}

/// Senders that wait for room get their messages back when the actor stops.
#[test]
fn p03_waiting_senders_get_their_messages_back() {
    on_every_crew(|executor| {
        for kill in [false, true] {
            let full = executor.build(Puppet::default()).capacity(1).spawn();
            let held = Held::hold(&full);
            let mut line: Vec<_> = (10..13).map(|n| full.send_async(Note(n))).collect();
            let mut cx = Task::from_waker(Waker::noop());
            line.iter_mut().for_each(|send| assert!(Pin::new(send).poll(&mut cx).is_pending()));
            thread::scope(|scope| {
                let senders: Vec<_> = (0..3).map(|n| (n, full.clone())).collect();
                let waiting = senders.into_iter().map(|(n, full)| {
                    scope.spawn(move || match n {
                        0 => back(full.send(Note(n))),
                        1 => back(full.send_timeout(Note(n), Duration::from_secs(LONG))),
                        _ => back(futures::executor::block_on(full.send_async(Note(n)))),
                    })
                });
                let waiting: Vec<_> = waiting.collect();
                if kill {
                    full.stop_now()
                } else {
                    full.stop()
                };
                drop(held);
                for (n, sender) in (0..).zip(waiting) {
                    assert_eq!(sender.join().unwrap(), Err((Note(n), Refusal::Stopped)));
                }
            });
            for (n, send) in (10..).zip(line) {
                assert_eq!(
                    back(futures::executor::block_on(send)),
                    Err((Note(n), Refusal::Stopped))
                );
            }
            ended(&full);
        }
    });
}

#[test]
fn p03_a_shutdown_gives_everything_from_outside_back() {
    for policy in POLICIES {
        for workers in CREWS {
            let executor = Arc::new(build(Executor::builder().workers(workers).policy(policy)));
            let puppet = executor.spawn(Puppet::default());
            let (held, entered) = Held::queue(&puppet);
            entered.wait();
            // Sends of the crew itself are still accepted during the drain.
            let on = |me: Me<'_>, ctx: Ctx<'_>| {
                assert_eq!(back(ctx.me().tell(Note(1))), Ok(()));
                ctx.tell_self(Note(2)).unwrap();
                me.log.push(0);
            };
            puppet.tell(Run(on)).unwrap();
            let ending = {
                let executor = Arc::clone(&executor);
                thread::spawn(move || executor.shutdown(Duration::from_secs(LONG)).unwrap())
            };
            within(LONG, "the shutdown to begin", || puppet.tell(Note(9)).is_err());
            refused(&AT_ONCE, &puppet, Refusal::ShuttingDown);
            let refused_actor =
                executor.try_spawn(Puppet { log: vec![5], ..Puppet::default() }).unwrap_err();
            assert!(refused_actor.is_shutting_down());
            assert_eq!(refused_actor.into_actor().log, [5]);
            drop(held);
            let report = ending.join().unwrap();
            assert!(report.complete, "{report:?}");
            assert_eq!(report.dead_letters.total(), 0);
            refused(&AT_ONCE, &puppet, Refusal::ShuttingDown);
            refused(&WAITING, &puppet, Refusal::ShuttingDown);
            let stats = executor.stats();
            assert_eq!(stats.accepted, stats.handled);
        }
    }
}

/// A handler that still runs during `shutdown_now` is refused too.
#[test]
fn p03_shutdown_now_refuses_inside_too_and_counts_what_waited() {
    for workers in CREWS {
        let executor = crew(workers);
        let (puppet, other) =
            (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
        let (entered, go) = (Latch::new(), Latch::new());
        let (inside, until, target) = (entered.clone(), go.clone(), other.clone());
        let last = move |_: Me<'_>, ctx: Ctx<'_>| {
            inside.open();
            until.wait();
            refused_inside(ctx, &target, Refusal::ShuttingDown);
            let me = ctx.me().clone();
            refused_inside(ctx, &me, Refusal::ShuttingDown);
            assert_eq!(back(ctx.tell_self(Note(1))), Err((Note(1), Refusal::ShuttingDown)));
        };
        let last = puppet.ask(Run(last)).unwrap();
        entered.wait();
        let waited = puppet.ask(Note(1)).unwrap();
        thread::scope(|scope| {
            let ending = scope.spawn(|| executor.shutdown_now(Duration::from_secs(LONG)).unwrap());
            within(LONG, "everything to be closed", || !puppet.is_running() && !other.is_running());
            go.open();
            let report = ending.join().unwrap();
            assert_eq!(answer(last), Ok(()));
            assert_eq!(answer(waited), Err(AskError::Stopped));
            assert!(report.complete);
            assert_eq!(
                (report.handled, report.dead_letters.shutdown, report.dead_letters.total()),
                (1, 1, 1)
            );
        });
    }
}

/// Each reason is counted in the statistics and reported to the hook.
#[test]
fn p03_dead_letters_have_a_reason() {
    quiet_panics();
    for policy in POLICIES {
        for workers in CREWS {
            let events = EventLog::new();
            let hook = events.hook();
            let executor =
                build(Executor::builder().workers(workers).policy(policy).on_event(hook));
            let tokens = Tokens::new();
            let letters = |to: &ActorRef<Puppet>, count| {
                for _ in 0..count {
                    let token = tokens.token();
                    to.tell(Run(move |_: Me<'_>, _: Ctx<'_>| drop(token))).unwrap();
                }
            };
            let spawn = || executor.build(Puppet::default()).unbounded().spawn();
            let killed = spawn();
            let held = Held::hold(&killed);
            letters(&killed, 700); // more than one turn's worth
            killed.stop_now();
            drop(held);
            ended(&killed);

            let panicked = spawn();
            let held = Held::hold(&panicked);
            panicked.tell(Run(|_: Me<'_>, _: Ctx<'_>| intended_panic())).unwrap();
            letters(&panicked, 5);
            drop(held);
            ended(&panicked);

            // An answer that comes too late for its asker, and the executor's sudden end.
            let (asker, slow) = (spawn(), executor.spawn(Slow::default()));
            let ask = slow.clone();
            let then =
                |_: Me<'_>, _: Result<(), AskError>, _: Ctx<'_>| unreachable!("it was stopped");
            let ask = Run(move |_: Me<'_>, ctx: Ctx<'_>| ctx.ask_then(&ask, Keep, then).unwrap());
            answer(asker.ask(ask).unwrap()).unwrap();
            settle(&executor);
            asker.stop();
            ended(&asker);
            slow.tell(Release).unwrap();
            settle(&executor);

            let dead = executor.stats().dead_letters;
            assert_eq!((dead.killed, dead.panicked, dead.stopped, dead.shutdown), (700, 5, 1, 0));
            tokens.assert_each_dropped_once();
            let told = |wanted: DeadLetterReason| {
                let counts = events.all().into_iter().map(|event| match event {
                    Event::DeadLetters { reason, count, .. } if reason == wanted => count,
                    _ => 0,
                });
                counts.sum::<u64>()
            };
            assert_eq!(told(DeadLetterReason::Killed), 700);
            assert_eq!(told(DeadLetterReason::Panicked), 5);

            let last = spawn();
            let held = Held::hold(&last);
            letters(&last, 3);
            thread::scope(|scope| {
                let ending =
                    scope.spawn(|| executor.shutdown_now(Duration::from_secs(LONG)).unwrap());
                within(LONG, "the end to begin", || !last.is_running());
                drop(held);
                assert_eq!(ending.join().unwrap().dead_letters.shutdown, 3);
            });
            assert_eq!(told(DeadLetterReason::Shutdown), 3);
            let stats = executor.stats();
            assert_eq!(stats.accepted, stats.handled + stats.dead_letters.total());
            tokens.assert_each_dropped_once();
        }
    }
}

/// Keeps its replies until told to release them.
#[derive(Default)]
struct Slow(Vec<Reply<()>>);
impl Actor for Slow {}
struct Keep;
impl Receive<Keep> for Slow {
    type Reply = ();
    fn receive(&mut self, _: Keep, reply: Reply<()>, _: &mut Context<Self>) {
        self.0.push(reply);
    }
}
struct Release;
impl Handler<Release> for Slow {
    type Reply = ();
    fn handle(&mut self, _: Release, _: &mut Context<Self>) {
        self.0.drain(..).for_each(|reply| reply.send(()));
    }
}

/// The fate of each message of a mesh, by number.
#[derive(Default)]
struct Fates {
    handled: Vec<AtomicU8>,
    dropped: Vec<AtomicU8>,
}

struct Letter {
    number: usize,
    panic: bool,
    fates: Arc<Fates>,
}

impl Drop for Letter {
    fn drop(&mut self) {
        self.fates.dropped[self.number].fetch_add(1, Relaxed);
    }
}

#[derive(Default)]
struct Mesh;
impl Actor for Mesh {}
impl Handler<Letter> for Mesh {
    type Reply = usize;
    fn handle(&mut self, letter: Letter, _: &mut Context<Self>) -> usize {
        letter.fates.handled[letter.number].fetch_add(1, Relaxed);
        if letter.panic {
            intended_panic();
        }
        letter.number
    }
}

/// Full mailboxes, stops, kills and panics at random, from several threads: every message has
/// exactly one fate.
#[test]
fn p03_every_message_has_exactly_one_fate() {
    const EACH: usize = 4000;
    const THREADS: usize = 4;
    quiet_panics();
    on_every_crew(|executor| {
        let counts = || (0..EACH * THREADS).map(|_| AtomicU8::new(0)).collect();
        let fates = Arc::new(Fates { handled: counts(), dropped: counts() });
        let actors: Vec<_> = (0..64).map(|_| executor.build(Mesh).capacity(16).spawn()).collect();
        let (accepted, answered) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (fates, actors, accepted, answered) = (&fates, &actors, &accepted, &answered);
                scope.spawn(move || {
                    let dice = Dice::new(thread as u64);
                    let mut asks = Vec::new();
                    for number in thread * EACH..(thread + 1) * EACH {
                        let actor = &actors[dice.below(64) as usize];
                        let panic = dice.below(1000) == 0;
                        let letter = Letter { number, panic, fates: Arc::clone(fates) };
                        let result = match dice.below(1000) {
                            0 => {
                                actor.stop();
                                actor.tell(letter)
                            }
                            1 => {
                                actor.stop_now();
                                actor.send(letter)
                            }
                            2..300 => actor.ask(letter).map(|ask| asks.push((number, ask))),
                            300..310 => actor.send(letter),
                            _ => actor.tell(letter),
                        };
                        match result {
                            Ok(()) => drop(accepted.fetch_add(1, Relaxed)),
                            Err(error) => {
                                assert_eq!(
                                    error.into_message().number,
                                    number,
                                    "another message came back"
                                );
                                assert_eq!(
                                    fates.handled[number].load(Relaxed),
                                    0,
                                    "refused and handled"
                                );
                            }
                        }
                    }
                    for (number, ask) in asks {
                        match answer(ask) {
                            Ok(echo) => assert_eq!(echo, number, "the answer to another ask"),
                            Err(AskError::Stopped | AskError::Panicked(_)) => continue,
                            Err(other) => panic!("{other:?}"),
                        }
                        answered.fetch_add(1, Relaxed);
                    }
                });
            }
        });
        settle(executor);
        let twice = fates.handled.iter().filter(|count| count.load(Relaxed) > 1).count();
        assert_eq!(twice, 0, "handled twice");
        assert!(fates.dropped.iter().all(|count| count.load(Relaxed) == 1), "each dropped once");
        let handled = fates.handled.iter().filter(|count| count.load(Relaxed) == 1).count() as u64;
        let stats = executor.stats();
        assert_eq!((stats.accepted, stats.handled), (accepted.load(Relaxed), handled));
        assert_eq!(stats.dead_letters.total(), accepted.load(Relaxed) - handled);
        assert!(answered.load(Relaxed) <= handled && handled > 0 && stats.panicked > 0);
        let each: u64 = actors.iter().map(|actor| actor.stats().handled).sum();
        let by_worker: u64 = stats.workers.iter().map(|worker| worker.messages).sum();
        assert_eq!((each, by_worker), (handled, handled), "the three counts of what was handled");
    });
}

/// The message of a panicking handler counts as handled, and messages behind it as dead letters.
#[test]
fn p03_a_panicking_handlers_message_counts_as_handled() {
    quiet_panics();
    on_every_crew(|executor| {
        let puppet = executor.spawn(Puppet::default());
        let held = Held::hold(&puppet);
        puppet.tell_many([Note(1), Note(2)]).unwrap();
        puppet.tell(Run(|_: Me<'_>, _: Ctx<'_>| intended_panic())).unwrap();
        puppet.tell_many([Note(3), Note(4), Note(5)]).unwrap();
        drop(held);
        ended(&puppet);
        settle(executor);
        let stats = executor.stats();
        assert_eq!((stats.accepted, stats.handled, stats.panicked), (7, 4, 1));
        assert_eq!((stats.dead_letters.panicked, stats.dead_letters.total()), (3, 3));
        assert_eq!(puppet.stats().handled, 4);
    });
}

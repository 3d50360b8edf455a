//! Tests P7, nothing hangs: every ask ends, waiting for oneself is refused, and a blocked worker
//! never freezes the crew.

mod common;

use common::*;
use heist::{Actor, ActorRef, AskError, Context, Handler, Policy, Receive, Refusal, Reply};
use std::thread;
use std::time::Duration;

/// Treats its reply as the message says.
#[derive(Default)]
struct Replier(Vec<Reply<u64>>);

impl Actor for Replier {}

enum Do {
    Answer,
    Drop,
    Panic,
    /// Keeps the reply until the actor ends.
    Keep,
    /// Answers from a separate thread.
    Elsewhere,
}

impl Receive<Do> for Replier {
    type Reply = u64;
    fn receive(&mut self, what: Do, reply: Reply<u64>, _: &mut Context<Self>) {
        match what {
            Do::Answer => reply.send(42),
            Do::Drop => drop(reply),
            Do::Panic => intended_panic(),
            Do::Keep => self.0.push(reply),
            Do::Elsewhere => drop(thread::spawn(move || reply.send(43))),
        }
    }
}

#[test]
fn p07_every_way_an_ask_ends() {
    quiet_panics();
    on_every_crew(|executor| {
        let replier = || executor.spawn(Replier::default());
        let actor = replier();
        assert_eq!(answer(actor.ask(Do::Answer).unwrap()), Ok(42));
        assert_eq!(answer(actor.ask(Do::Elsewhere).unwrap()), Ok(43));
        assert_eq!(answer(actor.ask(Do::Drop).unwrap()), Err(AskError::NoReply));

        // After a timeout the answer can still be waited for.
        let mut kept = actor.ask(Do::Keep).unwrap();
        let error = kept.wait_timeout(Duration::from_millis(1)).unwrap_err();
        assert_eq!(error, AskError::TimedOut);
        actor.stop();
        assert_eq!(answer(kept), Err(AskError::Stopped), "the state dropped the reply");

        let failing = replier();
        let (kept, fatal) = (failing.ask(Do::Keep).unwrap(), failing.ask(Do::Panic).unwrap());
        assert_eq!(cause(fatal), INTENDED);
        assert_eq!(cause(kept), INTENDED);
        ended(&failing);
        assert_eq!(failing.ask(Do::Answer).unwrap_err().refusal(), Refusal::Stopped);

        // Messages behind the panic are answered with the reason why they are not handled.
        let doomed = executor.spawn(Puppet::default());
        let held = Held::hold(&doomed);
        let fatal = doomed
            .ask(Run(|_: &mut Puppet, _: &mut Context<Puppet>| -> () { intended_panic() }))
            .unwrap();
        let behind = doomed.ask(Note(1)).unwrap();
        held.release();
        assert_eq!(cause(fatal), INTENDED);
        assert_eq!(cause(behind), INTENDED);
        let killed = executor.spawn(Puppet::default());
        let held = Held::hold(&killed);
        let waiting = killed.ask(Note(1)).unwrap();
        killed.stop_now();
        held.release();
        assert_eq!(answer(waiting), Err(AskError::Stopped));
    });
}

#[test]
fn p07_asks_end_when_the_executor_does() {
    for workers in CREWS {
        let executor = crew(workers);
        let keeper = executor.spawn(Replier::default());
        let puppet = executor.spawn(Puppet::default());
        let kept = keeper.ask(Do::Keep).unwrap();
        settle(&executor);
        let held = Held::hold(&puppet);
        let waiting: Vec<_> = (0..10).map(|n| puppet.ask(Note(n)).unwrap()).collect();
        let ending = thread::spawn(move || {
            let report = executor.shutdown_now(Duration::from_secs(LONG)).unwrap();
            assert!(report.complete, "{report:?}");
        });
        within(LONG, "the actor is closed", || !puppet.is_running());
        held.release();
        ending.join().unwrap();
        assert_eq!(answer(kept), Err(AskError::Stopped));
        for ask in waiting {
            assert_eq!(answer(ask), Err(AskError::Stopped));
        }
    }
}

/// The result of a wait inside a handler: the error, and whether the answer may still come, or the
/// message came back with the error.
type Inside = (Option<AskError>, bool);

fn wait_inside(asker: &ActorRef<Puppet>, target: &ActorRef<Puppet>) -> Inside {
    let target = target.clone();
    let wait = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        let mut ask = target.ask(Note(1)).unwrap();
        (ask.wait().err(), !ask.is_ready())
    });
    answer(asker.ask(wait).unwrap()).unwrap()
}

#[test]
fn p07_asking_oneself_and_waiting_is_refused_and_the_ask_comes_back() {
    on_every_crew(|executor| {
        let puppet = executor.spawn(Puppet::default());
        let (error, pending) = wait_inside(&puppet, &puppet);
        assert!(pending && error.is_some_and(|error| error.cycle().is_some()));
        // An ask of oneself without a wait is allowed.
        let own = puppet.clone();
        let asked = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| own.ask(Note(7)).unwrap());
        let asked = answer(puppet.ask(asked).unwrap()).unwrap();
        assert_eq!(answer(asked), Ok(7));
    });
}

/// The answer needs a worker, and the only one would be blocked by the wait.
#[test]
fn p07_the_last_unblocked_worker_may_not_wait() {
    for policy in POLICIES {
        let executor = build(heist::Executor::builder().workers(1).policy(policy).max_spares(0));
        let (one, two) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
        assert_eq!(wait_inside(&one, &two), (Some(AskError::NoSpare), true));
        assert_eq!(executor.stats().spares.refused, 1);
        shut_down(&executor);
    }
    // With an unblocked sibling, the wait is allowed.
    let executor = build(heist::Executor::builder().workers(2).max_spares(0));
    let (one, two) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
    assert_eq!(wait_inside(&one, &two), (None, false));
    shut_down(&executor);
}

#[test]
fn p07_with_a_spare_even_the_last_unblocked_worker_may_wait() {
    on_every_crew(|executor| {
        let puppets: Vec<_> = (0..20).map(|_| executor.spawn(Puppet::default())).collect();
        for pair in puppets.windows(2) {
            assert_eq!(wait_inside(&pair[0], &pair[1]), (None, false));
        }
        // Each actor waits for the next, all at the same time.
        let mut innermost = puppets[0].ask(Note(7)).map(|mut ask| ask.wait().unwrap()).unwrap();
        for n in 1..puppets.len() {
            let chain: Vec<_> = puppets[..=n].to_vec();
            innermost += answer(ask_along(&chain)).unwrap();
        }
        assert_eq!(innermost, 7 + 19);
        assert_eq!(executor.stats().spares.refused, 0);
    });
}

/// Boxed, because a closure's type cannot contain itself.
type Along = Box<dyn FnOnce(&mut Puppet, &mut Context<Puppet>) -> u64 + Send>;

/// Makes the first actor wait for the second, the second for the third, and so on.
fn ask_along(chain: &[ActorRef<Puppet>]) -> heist::Ask<u64> {
    let (first, rest) = chain.split_first().unwrap();
    let rest = rest.to_vec();
    let along = move |_: &mut Puppet, _: &mut Context<Puppet>| {
        if rest.is_empty() { 1 } else { ask_along(&rest).wait().unwrap() }
    };
    let along: Along = Box::new(along);
    first.ask(Run(along)).unwrap()
}

/// Work that a waiting worker had queued runs on its siblings meanwhile.
#[test]
fn p07_what_is_queued_behind_a_waiting_handler_goes_on() {
    for (policy, spares) in [
        (Policy::Stealing, 0),
        (Policy::SharedQueue, 0),
        (Policy::Sharded, 1),
        (Policy::Stealing, 1),
    ] {
        let executor =
            build(heist::Executor::builder().workers(2).policy(policy).max_spares(spares));
        let chain: Vec<_> = (0..5).map(|_| executor.spawn(Puppet::default())).collect();
        let asker = executor.spawn(Puppet::default());
        let targets = chain.clone();
        let sum = asker.ask(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
            // All targets are runnable in this worker's LIFO slot and local queue.
            let asks: Vec<_> =
                (1..).zip(&targets).map(|(n, to)| to.ask(Note(n)).unwrap()).collect();
            asks.into_iter().map(|mut ask| ask.wait().unwrap()).sum::<u64>()
        }));
        assert_eq!(answer(sum.unwrap()), Ok(15));
        shut_down(&executor);
    }
}

/// Asks the next link of a ring and waits for the answer.
struct Link {
    next: Option<ActorRef<Link>>,
}

impl Actor for Link {}

struct SetNext(ActorRef<Link>);
struct Around;
struct Direct;

impl Handler<SetNext> for Link {
    type Reply = ();
    fn handle(&mut self, SetNext(next): SetNext, _: &mut Context<Self>) {
        self.next = Some(next);
    }
}

impl Handler<Around> for Link {
    type Reply = Result<u64, AskError>;
    fn handle(&mut self, _: Around, _: &mut Context<Self>) -> Result<u64, AskError> {
        let mut ask = self.next.as_ref().unwrap().ask(Direct).expect("there is room");
        ask.wait()
    }
}

impl Handler<Direct> for Link {
    type Reply = u64;
    fn handle(&mut self, _: Direct, _: &mut Context<Self>) -> u64 {
        1
    }
}

/// A ring in which each link waits for the next needs at least one refusal. Then every link gets a
/// result.
#[test]
fn p07_everybody_asks_everybody_in_a_ring_and_nobody_hangs() {
    on_every_crew(|executor| {
        for _ in 0..50 {
            let ring: Vec<_> =
                (0..executor.workers()).map(|_| executor.spawn(Link { next: None })).collect();
            for (i, link) in ring.iter().enumerate() {
                link.tell(SetNext(ring[(i + 1) % ring.len()].clone())).unwrap();
            }
            let asks: Vec<_> = ring.iter().map(|link| link.ask(Around).unwrap()).collect();
            for ask in asks {
                match answer(ask).unwrap() {
                    Ok(1) | Err(AskError::NoSpare | AskError::WouldDeadlock(_)) => {}
                    other => panic!("neither an answer nor a refusal: {other:?}"),
                }
            }
            ring.iter().for_each(ActorRef::stop);
        }
    });
}

#[test]
fn p07_sending_inside_a_handler_waits_or_hands_the_message_back() {
    for policy in POLICIES {
        for (workers, spares) in CREWS.into_iter().flat_map(|workers| [(workers, 0), (workers, 4)])
        {
            let executor = build(
                heist::Executor::builder().workers(workers).policy(policy).max_spares(spares),
            );
            let sender = executor.spawn(Puppet::default());
            // Under `Sharded`, picks a target on the same worker. Otherwise the target could have
            // room again too early.
            let worker = |actor: &ActorRef<Puppet>| inside(actor, |_, ctx| ctx.worker());
            let full =
                std::iter::repeat_with(|| executor.build(Puppet::default()).capacity(1).spawn())
                    .find(|full| policy != Policy::Sharded || worker(full) == worker(&sender))
                    .expect("some hash to the same");
            let refused = |target: &ActorRef<Puppet>| {
                let target = target.clone();
                let send = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                    while target.tell(Note(0)).is_ok() {}
                    target.send(Note(1)).map_err(|error| (error.refusal(), error.into_message()))
                });
                sender.ask(send).unwrap()
            };
            assert_eq!(answer(refused(&sender)).unwrap(), Err((Refusal::WouldDeadlock, Note(1))));
            let expected = if spares == 0 && (workers == 1 || policy == Policy::Sharded) {
                Err((Refusal::NoSpare, Note(1)))
            } else {
                Ok(())
            };
            settle(&executor);
            assert_eq!(answer(refused(&full)).unwrap(), expected);
            shut_down(&executor);
        }
    }
}

/// The timeout belongs to the waiting thread and must not depend on the asked actor.
#[test]
fn p07_a_timeout_holds_against_an_actor_that_does_not_come_to_it() {
    let executor = crew(2);
    let puppet = executor.build(Puppet::default()).capacity(2).spawn();
    let held = Held::hold(&puppet);
    let mut ask = puppet.ask(Note(1)).unwrap();
    let error = ask.wait_timeout(Duration::from_millis(5)).unwrap_err();
    assert_eq!(error, AskError::TimedOut);
    let send = puppet.send_timeout(Note(2), Duration::from_millis(5)).unwrap_err();
    assert_eq!(send.refusal(), Refusal::TimedOut);
    // The same on a worker.
    let (other, target) = (executor.spawn(Puppet::default()), puppet.clone());
    let late = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        target.send_timeout(Note(3), Duration::from_millis(5)).unwrap_err().refusal()
    });
    assert_eq!(answer(other.ask(late).unwrap()), Ok(Refusal::TimedOut));
    held.release();
    assert_eq!(answer(ask), Ok(1));
    shut_down(&executor);
}

#[test]
fn p07_shutdown_ends_although_an_actor_does_not() {
    for workers in CREWS {
        for now in [false, true] {
            let executor = crew(workers);
            let stuck = executor.spawn(Puppet::default());
            let others: Vec<_> = (0..10).map(|_| executor.spawn(Puppet::default())).collect();
            settle(&executor);
            let held = Held::hold(&stuck);
            let waiting = stuck.ask(Note(1)).unwrap();
            let deadline = Duration::from_millis(100);
            let report =
                if now { executor.shutdown_now(deadline) } else { executor.shutdown(deadline) };
            let report = report.unwrap();
            assert!(!report.complete);
            let named: Vec<_> = report.unfinished.iter().map(|unfinished| unfinished.id).collect();
            assert!(named.contains(&stuck.id()), "{report:?}");
            assert!(report.unfinished[0].type_name.ends_with("Puppet"), "{report:?}");
            assert_eq!(report.unfinished_count, named.len());
            if workers > 1 {
                others.iter().for_each(|other| _ = ended(other));
            }
            // The handler returns late. Then its asker is told, and the crew ends.
            held.release();
            assert_eq!(answer(waiting), Err(AskError::Stopped));
            ended(&stuck);
            within(LONG, "the crew ends", || {
                executor.shutdown(Duration::from_millis(100)).unwrap().complete
            });
        }
    }
}

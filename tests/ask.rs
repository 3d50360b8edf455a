//! Tests asks: every way to wait for an answer, answers without an asker, and replies that are
//! moved elsewhere.

mod common;

use common::*;
use heist::error::{Flat, FlatError};
use heist::{Actor, ActorRef, Ask, AskError, Context, Executor, Handler, Receive, Reply};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

/// Keeps questions and answers all of them on request, in order.
#[derive(Default)]
struct Desk(Vec<(u64, Reply<u64>)>);

impl Actor for Desk {}

struct Question(u64);

impl Receive<Question> for Desk {
    type Reply = u64;
    fn receive(&mut self, Question(n): Question, reply: Reply<u64>, _: &mut Context<Self>) {
        self.0.push((n, reply));
    }
}

/// Answers each question with ten times its number.
struct AnswerAll;

impl Handler<AnswerAll> for Desk {
    type Reply = ();
    fn handle(&mut self, _: AnswerAll, _: &mut Context<Self>) {
        self.0.drain(..).for_each(|(n, reply)| reply.send(10 * n));
    }
}

/// Asks for the number of kept replies that are still wanted.
struct CountWanted;

impl Handler<CountWanted> for Desk {
    type Reply = usize;
    fn handle(&mut self, _: CountWanted, _: &mut Context<Self>) -> usize {
        self.0.iter().filter(|(_, reply)| reply.is_wanted()).count()
    }
}

/// Hands over the oldest reply.
struct TakeReply;

impl Handler<TakeReply> for Desk {
    type Reply = Reply<u64>;
    fn handle(&mut self, _: TakeReply, _: &mut Context<Self>) -> Reply<u64> {
        self.0.remove(0).1
    }
}

fn wanted(desk: &ActorRef<Desk>) -> usize {
    answer(desk.ask(CountWanted).unwrap()).unwrap()
}

/// Answers from another thread, once the question has arrived.
fn answer_soon(executor: &Executor, desk: &ActorRef<Desk>) {
    let (handle, desk) = (executor.handle(), desk.clone());
    thread::spawn(move || {
        handle.wait_idle().unwrap();
        desk.tell(AnswerAll).unwrap();
    });
}

#[test]
fn an_answer_is_waited_for() {
    on_every_crew(|executor| {
        let desk = executor.spawn(Desk::default());
        let mut ask = desk.ask(Question(1)).unwrap();
        answer_soon(executor, &desk);
        assert_eq!(ask.wait().unwrap(), 10);

        let mut ask = desk.ask(Question(2)).unwrap();
        assert!(!ask.is_ready());
        answer_soon(executor, &desk);
        assert_eq!(ask.wait_timeout(Duration::from_secs(LONG)).unwrap(), 20);

        // The answer is ready already, so neither a zero timeout nor the calling thread matters.
        let mut ask = desk.ask(Question(3)).unwrap();
        answer(desk.ask(AnswerAll).unwrap()).unwrap();
        assert!(ask.is_ready());
        assert_eq!(ask.wait_timeout(Duration::ZERO).unwrap(), 30);
    });
}

#[test]
fn an_answer_is_awaited_without_a_runtime() {
    on_every_crew(|executor| {
        let desk = executor.spawn(Desk::default());
        let asks = [1, 2, 3].map(|n| desk.ask(Question(n)).unwrap());
        answer_soon(executor, &desk);
        let answers = futures::executor::block_on(async {
            let [one, two, three] = asks;
            (three.await, one.await, two.await)
        });
        assert_eq!(answers, (Ok(30), Ok(10), Ok(20)));
    });
}

#[test]
fn an_answer_is_awaited_under_tokio() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    on_every_crew(|executor| {
        let desk = executor.spawn(Desk::default());
        runtime.block_on(async {
            // In a task, moved between tasks, and polled by reference.
            let ask = desk.ask(Question(1)).unwrap();
            let moved = tokio::spawn(ask);
            let mut second = desk.ask(Question(2)).unwrap();
            tokio::select! {
                biased;
                early = &mut second => panic!("nobody has answered: {early:?}"),
                () = tokio::task::yield_now() => {}
            }
            let second = tokio::spawn(second);
            let third = desk.ask(Question(3)).unwrap();
            answer_soon(executor, &desk);
            assert_eq!(moved.await.unwrap(), Ok(10));
            assert_eq!(second.await.unwrap(), Ok(20));
            let limit = Duration::from_secs(LONG);
            assert_eq!(tokio::time::timeout(limit, third).await.unwrap(), Ok(30));

            // `select!` drops the losing future, and its reply is no longer wanted.
            let (one, two) = (desk.ask(Question(4)).unwrap(), desk.ask(Question(5)).unwrap());
            let reply = desk.ask(TakeReply).unwrap().await.unwrap();
            reply.send(44);
            tokio::select! {
                first = one => assert_eq!(first, Ok(44)),
                other = two => panic!("nobody has answered: {other:?}"),
            }
            assert_eq!(desk.ask(CountWanted).unwrap().await, Ok(0));
        });
    });
}

/// Counts its wakes.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// A waker from an earlier poll that was woken or kept would wake a task in vain or leak.
#[test]
fn the_last_waker_is_the_one_that_is_woken() {
    on_every_crew(|executor| {
        let desk = executor.spawn(Desk::default());
        let mut ask = desk.ask(Question(1)).unwrap();
        let bells: Vec<_> = (0..5).map(|_| Arc::new(Bell::default())).collect();
        let mut poll = |bell: &Arc<Bell>| {
            Pin::new(&mut ask).poll(&mut TaskContext::from_waker(&Waker::from(Arc::clone(bell))))
        };
        for bell in &bells {
            assert!(poll(bell).is_pending());
            assert!(poll(bell).is_pending());
        }
        desk.tell(AnswerAll).unwrap();
        settle(executor);
        let rung: Vec<_> = bells.iter().map(|bell| bell.0.load(Relaxed)).collect();
        assert_eq!(rung, [0, 0, 0, 0, 1]);
        assert_eq!(poll(&bells[0]), Poll::Ready(Ok(10)));
        assert!(bells.iter().all(|bell| Arc::strong_count(bell) == 1), "a waker is left behind");
    });
}

/// Polls by hand with a new waker each time, while the answer comes from another thread. A waker
/// that missed the answer would leave the loop waiting for ever.
#[test]
fn polls_with_changing_wakers_race_the_answer() {
    for workers in CREWS {
        let executor = crew(workers);
        let puppet = executor.spawn(Puppet::default());
        for n in 0..2_000 {
            let mut ask = puppet.ask(Note(n)).unwrap();
            let mut polls: Vec<Arc<Bell>> = Vec::new();
            let got = loop {
                let bell = Arc::new(Bell::default());
                let waker = Waker::from(Arc::clone(&bell));
                polls.push(bell);
                match Pin::new(&mut ask).poll(&mut TaskContext::from_waker(&waker)) {
                    Poll::Ready(answer) => break answer,
                    // Polls a few times more than needed, then only after a wake.
                    Poll::Pending if polls.len() < 4 => {}
                    Poll::Pending => within(LONG, "the last bell is rung", || {
                        polls.last().unwrap().0.load(Relaxed) > 0
                    }),
                }
            };
            assert_eq!(got, Ok(n));
        }
        shut_down(&executor);
    }
}

#[test]
#[should_panic = "polled after its answer was taken"]
fn a_second_poll_after_the_answer_panics() {
    let executor = crew(1);
    let mut ask = executor.spawn(Puppet::default()).ask(Note(1)).unwrap();
    assert_eq!(futures::executor::block_on(&mut ask), Ok(1));
    let _ = futures::executor::block_on(&mut ask);
}

/// An ask that gave up must never receive a later answer, and no later ask may receive the answer
/// to an earlier one.
#[test]
fn an_answer_that_nobody_wants_is_discarded_and_counted() {
    on_every_crew(|executor| {
        let desk = executor.spawn(Desk::default());
        let mut late = desk.ask(Question(1)).unwrap();
        let error = late.wait_timeout(Duration::from_millis(1)).unwrap_err();
        assert_eq!(error, AskError::TimedOut);
        assert_eq!(wanted(&desk), 1, "it can still be waited for");
        drop(late);
        drop(desk.ask(Question(2)).unwrap());
        let next = desk.ask(Question(3)).unwrap();
        assert_eq!(wanted(&desk), 1);
        desk.tell(AnswerAll).unwrap();
        assert_eq!(answer(next), Ok(30), "its own answer, not an earlier one's");
        settle(executor);
        assert_eq!(executor.stats().discarded_replies, 2);
        // Dropping an ask withdraws the interest in the answer, never the handling.
        assert_eq!(executor.stats().handled, executor.stats().accepted);
        // An answer that arrives before the ask is dropped is dropped with the ask.
        let token = Tokens::new();
        let tokens = token.clone();
        let puppet = executor.spawn(Puppet::default());
        let ask = puppet.ask(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| tokens.token()));
        settle(executor);
        drop(ask);
        assert_eq!(token.made(), 1);
        token.assert_each_dropped_once();
    });
}

#[test]
fn concurrent_asks_get_their_own_answers() {
    on_every_crew(|executor| {
        let puppets: Vec<_> = (0..4).map(|_| executor.spawn(Puppet::default())).collect();
        thread::scope(|scope| {
            for asker in 0..4 {
                let puppets = &puppets;
                scope.spawn(move || {
                    for round in 0..250 {
                        let number = |i: usize| asker * 1_000_000 + round * 1_000 + i as u64;
                        let asks: Vec<Ask<u64>> =
                            (0..8).map(|i| puppets[i % 4].ask(Note(number(i))).unwrap()).collect();
                        for (i, mut ask) in asks.into_iter().enumerate().rev() {
                            // Some asks give up at once. Their answers must reach no other ask.
                            if (i as u64 + round).is_multiple_of(3) {
                                drop(ask.wait_timeout(Duration::ZERO));
                            } else {
                                assert_eq!(answer(ask), Ok(number(i)));
                            }
                        }
                    }
                });
            }
        });
    });
}

#[test]
fn a_reply_goes_where_it_is_carried() {
    on_every_crew(|executor| {
        let desk = executor.spawn(Desk::default());
        // To a thread.
        let ask = desk.ask(Question(1)).unwrap();
        let reply = answer(desk.ask(TakeReply).unwrap()).unwrap();
        thread::spawn(move || reply.send(11));
        assert_eq!(answer(ask), Ok(11));
        // Into a message to another actor.
        let ask = desk.ask(Question(2)).unwrap();
        let reply = answer(desk.ask(TakeReply).unwrap()).unwrap();
        let puppet = executor.spawn(Puppet::default());
        puppet.tell(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| reply.send(22))).unwrap();
        assert_eq!(answer(ask), Ok(22));
        // Dropped: the asker is told at once, on any thread.
        let ask = desk.ask(Question(3)).unwrap();
        drop(answer(desk.ask(TakeReply).unwrap()));
        assert_eq!(answer(ask), Err(AskError::NoReply));
        // Beyond the end of its actor.
        let ask = desk.ask(Question(4)).unwrap();
        let reply = answer(desk.ask(TakeReply).unwrap()).unwrap();
        desk.stop();
        ended(&desk);
        assert!(reply.is_wanted());
        reply.send(44);
        assert_eq!(answer(ask), Ok(44));
    });
}

#[test]
fn a_told_message_wants_no_answer() {
    let executor = crew(1);
    let desk = executor.spawn(Desk::default());
    desk.tell(Question(1)).unwrap();
    let ask = desk.ask(Question(2)).unwrap();
    assert_eq!(wanted(&desk), 1);
    drop(ask);
    assert_eq!(wanted(&desk), 0);
}

#[test]
fn asks_without_waiting_come_back_to_the_actor() {
    struct AskDesk(ActorRef<Desk>, u64);
    impl Handler<AskDesk> for Puppet {
        type Reply = ();
        fn handle(&mut self, AskDesk(desk, n): AskDesk, ctx: &mut Context<Self>) {
            ctx.ask_then(&desk, Question(n), |me, result, _| me.log.push(result.unwrap_or(0)))
                .unwrap();
        }
    }
    on_every_crew(|executor| {
        let (desk, puppet) = (executor.spawn(Desk::default()), executor.spawn(Puppet::default()));
        for n in 1..4 {
            puppet.tell(AskDesk(desk.clone(), n)).unwrap();
        }
        puppet.tell(AskDesk(desk.clone(), 0)).unwrap();
        settle(executor);
        assert_eq!(wanted(&desk), 4);
        assert_eq!(answer(puppet.ask(Log).unwrap()).unwrap(), [0; 0]);
        desk.tell(AnswerAll).unwrap();
        settle(executor);
        assert_eq!(answer(puppet.ask(Log).unwrap()).unwrap(), [10, 20, 30, 0]);
        // The ask is refused. The message comes back, and the callback is not called.
        desk.stop();
        let refused = Run(move |_: &mut Puppet, ctx: &mut Context<Puppet>| {
            let then = |_: &mut Puppet, _, _: &mut Context<Puppet>| panic!("not called");
            ctx.ask_then(&desk, Question(7), then).unwrap_err().into_message().0
        });
        assert_eq!(answer(puppet.ask(refused).unwrap()), Ok(7));
    });
}

#[test]
fn two_layers_of_errors_become_one() {
    struct Divide(i32, i32);
    impl Handler<Divide> for Puppet {
        type Reply = Result<i32, String>;
        fn handle(&mut self, Divide(a, b): Divide, _: &mut Context<Self>) -> Result<i32, String> {
            a.checked_div(b).ok_or_else(|| "by zero".to_string())
        }
    }
    let executor = crew(1);
    let puppet = executor.spawn(Puppet::default());
    assert_eq!(puppet.ask(Divide(6, 3)).unwrap().wait().flat(), Ok(2));
    let error = puppet.ask(Divide(6, 0)).unwrap().wait().flat().unwrap_err();
    assert_eq!(error, FlatError::Handler("by zero".to_string()));
    assert_eq!(error.to_string(), "by zero");
    let held = Held::hold(&puppet);
    let ask = puppet.ask(Divide(6, 3)).unwrap();
    puppet.stop_now();
    held.release();
    assert_eq!(futures::executor::block_on(ask).flat(), Err(FlatError::Ask(AskError::Stopped)));
}

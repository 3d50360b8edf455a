//! Tests replies dropped by a panic: the asker gets the panic's text if the panic leaves the
//! handler, and soon gets `NoReply` if the handler catches the panic.

mod common;

use common::*;
use heist::{Actor, AskError, Context, Executor, Receive, Reply, StopReason};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(LONG);

/// Drops its reply in a panic, catches the panic, then runs a function.
struct Careful;
impl Actor for Careful {}

type Afterwards = Box<dyn FnOnce(&mut Context<Careful>) + Send>;
struct Catch(Afterwards);

impl Receive<Catch> for Careful {
    type Reply = u32;
    fn receive(&mut self, Catch(then): Catch, reply: Reply<u32>, ctx: &mut Context<Self>) {
        let caught = catch_unwind(AssertUnwindSafe(move || {
            let _reply = reply;
            intended_panic();
        }));
        assert!(caught.is_err());
        then(ctx);
    }
}

/// Panics with the reply in its hands.
struct Fall;

impl Receive<Fall> for Careful {
    type Reply = u32;
    fn receive(&mut self, _: Fall, reply: Reply<u32>, _: &mut Context<Self>) {
        let _reply = reply;
        intended_panic();
    }
}

struct Count;

impl Receive<Count> for Careful {
    type Reply = u32;
    fn receive(&mut self, _: Count, reply: Reply<u32>, _: &mut Context<Self>) {
        reply.send(7);
    }
}

/// The handler goes on without calling the crate, and a worker is free.
#[test]
fn a_caught_panic_answers_while_its_handler_goes_on() {
    quiet_panics();
    let executor = crew(2);
    let careful = executor.spawn(Careful);
    let until = Latch::new();
    let waits = until.clone();
    let ask = careful.ask(Catch(Box::new(move |_| waits.wait()))).unwrap();
    assert_eq!(answer(ask), Err(AskError::NoReply), "while the handler waits");
    assert!(!until.is_open());
    until.open();
    settle(&executor);
    assert_eq!(executor.stats().armed_timers, 0);
    shut_down(&executor);
}

/// The handler waits for its own asker on the only worker. The wait must answer the asker first.
#[test]
fn a_caught_panic_answers_before_its_handler_waits() {
    quiet_panics();
    for workers in CREWS {
        for way in 0..3 {
            let executor = crew(workers);
            let (careful, asker) = (executor.spawn(Careful), executor.spawn(Puppet::default()));
            let theirs = careful.clone();
            let heard = Latch::new();
            let (waits, opens, me) = (heard.clone(), heard.clone(), asker.clone());
            let asks = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                let then = move |_: &mut Context<Careful>| match way {
                    // Runs after the asker's turn, and so only if the asker has its result.
                    0 => assert_eq!(me.ask(Note(1)).unwrap().wait().unwrap(), 1),
                    1 => heist::blocking(|| waits.wait()),
                    _ => drop(me),
                };
                let mut ask = theirs.ask(Catch(Box::new(then))).unwrap();
                let answered = ask.wait();
                opens.open();
                answered
            });
            let ask = asker.ask(asks).unwrap();
            assert_eq!(
                answer(ask).unwrap(),
                Err(AskError::NoReply),
                "{workers} workers, way {way}"
            );
            heard.open();
            settle(&executor);
            shut_down(&executor);
        }
    }
}

/// In the usual case the panic leaves the handler, and the asker gets the text.
#[test]
fn a_panic_that_leaves_the_handler_tells_its_text() {
    quiet_panics();
    on_every_crew(|executor| {
        for _ in 0..20 {
            let careful = executor.spawn(Careful);
            // The other asks may come too late.
            let asks: Vec<_> = (0..3).map(|_| careful.ask(Fall)).collect();
            for ask in asks.into_iter().flatten() {
                assert_eq!(cause(ask), INTENDED);
            }
            assert!(matches!(ended(&careful), StopReason::Panicked(_)));
        }
        within(LONG, "no timer is left", || executor.stats().armed_timers == 0);
    });
}

/// Panics caught again and again, in messages of one turn, with answers in between.
#[test]
fn caught_panics_do_not_disturb_other_answers() {
    quiet_panics();
    for workers in CREWS {
        let executor = crew(workers);
        let careful = executor.spawn(Careful);
        let asks: Vec<_> = (0..200)
            .map(|_| (careful.ask(Catch(Box::new(|_| ()))).unwrap(), careful.ask(Count).unwrap()))
            .collect();
        for (caught, counted) in asks {
            assert_eq!(answer(caught), Err(AskError::NoReply));
            assert_eq!(answer(counted), Ok(7));
        }
        settle(&executor);
        shut_down(&executor);
    }
}

/// A scope is every call of user code: a hook that panics with a reply in its hands reports its
/// text.
#[test]
fn a_reply_that_a_hook_drops_learns_the_hooks_text() {
    quiet_panics();
    let stash: Arc<std::sync::Mutex<Option<Reply<u32>>>> = Arc::default();
    let (theirs, called) = (Arc::clone(&stash), Arc::new(AtomicU64::new(0)));
    let counts = Arc::clone(&called);
    let executor = build(Executor::builder().workers(1).on_event(move |_| {
        let reply = theirs.lock().unwrap().take();
        counts.fetch_add(1, Relaxed);
        if reply.is_some() {
            panic!("{INTENDED}, by the hook");
        }
    }));
    struct Stash(Arc<std::sync::Mutex<Option<Reply<u32>>>>);
    impl Actor for Stash {}
    impl Receive<Count> for Stash {
        type Reply = u32;
        fn receive(&mut self, _: Count, reply: Reply<u32>, _: &mut Context<Self>) {
            *self.0.lock().unwrap() = Some(reply);
        }
    }
    let keeper = executor.spawn(Stash(stash));
    let ask = keeper.ask(Count).unwrap();
    settle(&executor);
    let careful = executor.spawn(Careful);
    careful.tell(Fall).unwrap();
    assert_eq!(cause(ask), format!("{INTENDED}, by the hook"));
    assert!(called.load(Relaxed) > 0);
    assert!(careful.wait_stopped_timeout(DEADLINE).is_ok());
    shut_down(&executor);
}

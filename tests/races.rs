//! Tests two races that were lost once: giving up a wait for room while the actor ends, and a spawn
//! while the executor closes. Each runs often enough to reveal the old mistake.

mod common;

use common::{LONG, crew, within};
use heist::{Actor, Context, Handler, StopReason};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::task::{Context as TaskContext, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

struct Busy;
impl Actor for Busy {}

/// Keeps the actor in its turn until released.
struct Hold {
    entered: Arc<AtomicBool>,
    let_go: Arc<AtomicBool>,
}

impl Handler<Hold> for Busy {
    type Reply = ();
    fn handle(&mut self, Hold { entered, let_go }: Hold, _: &mut Context<Self>) {
        entered.store(true, Release);
        within(LONG, "to be let go", || let_go.load(Acquire));
    }
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, AcqRel);
    }
}

impl Handler<Counted> for Busy {
    type Reply = ();
    fn handle(&mut self, _: Counted, _: &mut Context<Self>) {}
}

/// The senders give up from the back of the line while the actor's end works through it from the
/// front, and the two meet in the middle. A message that both overlooked would never be dropped.
#[test]
fn p03_a_send_given_up_while_its_actor_ends_is_not_lost() {
    const SENDERS: usize = 2_000;
    let executor = crew(1);
    for _ in 0..20 {
        let (entered, let_go) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let busy = executor.build(Busy).capacity(1).spawn();
        busy.tell(Hold { entered: Arc::clone(&entered), let_go: Arc::clone(&let_go) }).unwrap();
        within(LONG, "the actor is in its turn", || entered.load(Acquire));
        let dropped = Arc::new(AtomicUsize::new(0));
        let mut line: Vec<_> =
            (0..SENDERS).map(|_| busy.send_async(Counted(Arc::clone(&dropped)))).collect();
        for sending in &mut line {
            let mut cx = TaskContext::from_waker(Waker::noop());
            assert!(
                matches!(Pin::new(sending).poll(&mut cx), Poll::Pending),
                "the mailbox is full"
            );
        }
        busy.stop_now();
        let_go.store(true, Release);
        let mut cx = TaskContext::from_waker(Waker::noop());
        let first = &mut line[0];
        let limit = Instant::now() + Duration::from_secs(LONG);
        // Without a pause, in which the end would reach the end of the line.
        while Pin::new(&mut *first).poll(&mut cx).is_pending() {
            assert!(Instant::now() < limit, "the end does not reach the line");
        }
        while let Some(sending) = line.pop() {
            drop(sending);
        }
        assert_eq!(busy.wait_stopped(), Ok(StopReason::Killed));
        assert_eq!(dropped.load(Acquire), SENDERS, "each message is dropped once");
    }
}

/// A reference from `try_spawn` belongs to a living actor, which ends with the executor at the
/// latest.
#[test]
fn p10_a_spawn_that_races_the_end_is_refused_or_ends() {
    const SPAWNERS: usize = 3;
    for _ in 0..30 {
        let executor = crew(2);
        let go = AtomicBool::new(false);
        let spawned: Vec<_> = thread::scope(|scope| {
            let spawners: Vec<_> = (0..SPAWNERS)
                .map(|_| {
                    let handle = executor.handle();
                    let go = &go;
                    scope.spawn(move || {
                        let mut spawned = Vec::new();
                        go.store(true, Release);
                        while let Ok(actor) = handle.try_spawn(Busy) {
                            spawned.push(actor);
                        }
                        spawned
                    })
                })
                .collect();
            within(LONG, "a spawner is at it", || go.load(Acquire));
            let report = executor.shutdown_now(Duration::from_secs(LONG)).unwrap();
            assert!(report.complete, "{report:?}");
            spawners.into_iter().flat_map(|spawner| spawner.join().unwrap()).collect()
        });
        for actor in spawned {
            let end = actor.wait_stopped_timeout(Duration::from_secs(LONG));
            assert_eq!(end, Ok(StopReason::Shutdown), "an actor was spawned and never ends");
        }
    }
}

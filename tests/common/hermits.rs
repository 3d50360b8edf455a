//! Provides an actor for tests of dedicated threads. `Hermit` owns state that is not `Send` and
//! records the threads of its code.

use super::*;
use heist::{Actor, ActorRef, Context, Executor, Handler, StopReason, Timer};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

pub(crate) const DEADLINE: Duration = Duration::from_secs(LONG);

/// An actor with a log that is not `Send`. Every hook, handler and drop records its thread.
pub(crate) struct Hermit {
    pub(crate) log: Rc<RefCell<Vec<u64>>>,
    pub(crate) seen: Arc<Mutex<Vec<ThreadId>>>,
    pub(crate) in_turn: Arc<InTurn>,
    pub(crate) timers: Vec<Timer>,
    _token: Token,
}

#[derive(Clone, Default)]
pub(crate) struct Traces {
    pub(crate) seen: Arc<Mutex<Vec<ThreadId>>>,
    pub(crate) in_turn: Arc<InTurn>,
    pub(crate) tokens: Tokens,
}

impl Traces {
    pub(crate) fn factory(&self) -> impl FnOnce() -> Hermit + Send + 'static {
        let traces = self.clone();
        move || {
            let hermit = Hermit {
                log: Rc::default(),
                seen: traces.seen,
                in_turn: traces.in_turn,
                timers: Vec::new(),
                _token: traces.tokens.token(),
            };
            hermit.note();
            hermit
        }
    }

    /// Checks an actor after its end: all code ran on one thread without overlap, and the state was
    /// dropped.
    #[track_caller]
    pub(crate) fn assert_all_on_one_thread(&self) {
        let seen = self.seen.lock().unwrap();
        assert!(seen.len() >= 2 && seen.iter().all(|&thread| thread == seen[0]), "{seen:?}");
        assert_ne!(seen[0], thread::current().id());
        assert_eq!(self.in_turn.overlaps(), 0);
        self.tokens.assert_each_dropped_once();
    }
}

impl Hermit {
    pub(crate) fn note(&self) {
        let _inside = self.in_turn.enter();
        self.seen.lock().unwrap().push(thread::current().id());
    }
}

impl Actor for Hermit {
    fn started(&mut self, _: &mut Context<Self>) {
        self.note();
    }
    fn stopped(&mut self, _: &StopReason) {
        self.note();
    }
}

impl Drop for Hermit {
    fn drop(&mut self) {
        self.note();
    }
}

impl Handler<Note> for Hermit {
    type Reply = u64;
    fn handle(&mut self, Note(n): Note, _: &mut Context<Self>) -> u64 {
        self.note();
        self.log.borrow_mut().push(n);
        n
    }
}

impl Handler<Log> for Hermit {
    type Reply = Vec<u64>;
    fn handle(&mut self, _: Log, _: &mut Context<Self>) -> Vec<u64> {
        self.log.borrow().clone()
    }
}

impl<F, R> Handler<Run<F>> for Hermit
where
    F: FnOnce(&mut Hermit, &mut Context<Hermit>) -> R + Send + 'static,
    R: Send + 'static,
{
    type Reply = R;
    fn handle(&mut self, Run(f): Run<F>, ctx: &mut Context<Self>) -> R {
        self.note();
        f(self, ctx)
    }
}

#[track_caller]
pub(crate) fn within_turn<R: Send + 'static>(
    hermit: &ActorRef<Hermit>,
    f: impl FnOnce(&mut Hermit, &mut Context<Hermit>) -> R + Send + 'static,
) -> R {
    answer(hermit.ask(Run(f)).unwrap()).unwrap()
}

/// Holds the hermit in a turn until the returned latch is opened. Returns once the turn has begun.
pub(crate) fn hold(hermit: &ActorRef<Hermit>) -> Latch {
    let (entered, until) = (Latch::new(), Latch::new());
    let (inside, release) = (entered.clone(), until.clone());
    let held = Run(move |_: &mut Hermit, _: &mut Context<Hermit>| {
        inside.open();
        release.wait();
    });
    hermit.tell(held).unwrap();
    entered.wait();
    until
}

#[track_caller]
pub(crate) fn threads_gone(executor: &Executor) {
    within(LONG, "the dedicated threads end", || executor.stats().dedicated_threads == 0);
}

/// Runs `test` under each policy with two workers, then checks that no dedicated thread is left.
pub(crate) fn under_every_policy(test: impl Fn(&Executor)) {
    for policy in POLICIES {
        let executor = build(Executor::builder().workers(2).policy(policy));
        test(&executor);
        shut_down(&executor);
        assert_eq!(executor.stats().dedicated_threads, 0);
    }
}

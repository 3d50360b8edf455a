//! Tests P10, clean: no drop recurses, however long the chain and whatever it runs through. The
//! stacks have 64 KiB.

mod common;

use common::chains::*;
use common::*;
use heist::{Actor, ActorRef, Ask, AskError, Context, Executor, Receive, Reply, Timer};
use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::task::{Context as TaskContext, Wake, Waker};
use std::time::Duration;

const CHAIN: usize = if cfg!(heist_chaos) { 5_000 } else { 100_000 }; // more than a stack has room for
/// The length of other chains: far more than such a stack has room for.
const LINKS: usize = 10_000;

fn small_crew(workers: usize) -> Executor {
    build(Executor::builder().workers(workers).stack_size(SMALL_STACK))
}

/// Waits by `ask_then` for the next stage, with the previous stage's reply in the callback.
struct Stage {
    next: Option<ActorRef<Stage>>,
    kept: Option<Reply<u32>>,
}

impl Actor for Stage {}

struct Work;

impl Receive<Work> for Stage {
    type Reply = u32;
    fn receive(&mut self, _: Work, reply: Reply<u32>, ctx: &mut Context<Self>) {
        let Some(next) = self.next.clone() else {
            self.kept = Some(reply);
            return;
        };
        let then = move |_: &mut Stage, answer: Result<u32, AskError>, _: &mut Context<Stage>| {
            if let Ok(n) = answer {
                reply.send(n + 1);
            }
        };
        ctx.ask_then(&next, Work, then).unwrap();
    }
}

/// Makes a chain of waiting stages. Returns the ask at the end of the chain.
fn stages(executor: &Executor) -> (Ask<u32>, ActorRef<Stage>) {
    let first = executor.spawn(Stage { next: None, kept: None });
    let mut last = first.clone();
    for _ in 1..CHAIN {
        last = executor.spawn(Stage { next: Some(last), kept: None });
    }
    let ask = last.ask(Work).unwrap();
    settle(executor);
    (ask, first)
}

/// The end of each actor answers the next callback, which must not run inside the previous drop.
#[test]
fn p10_a_chain_of_callbacks_ends_with_its_executor() {
    for workers in [1, 2] {
        let executor = small_crew(workers);
        let (ask, first) = stages(&executor);
        drop(first);
        assert!(executor.shutdown_now(Duration::from_secs(LONG)).unwrap().complete);
        assert_eq!(answer(ask), Err(AskError::Stopped));
        let stats = executor.stats();
        assert_eq!(stats.accepted, stats.handled + stats.dead_letters.total());
    }
}

#[test]
fn p10_a_chain_of_callbacks_ends_with_its_last_actor() {
    let executor = small_crew(2);
    let (ask, first) = stages(&executor);
    // Dropping this reply gives each callback in turn an error, and the callback drops the next
    // reply.
    first.stop_now();
    assert!(answer(ask).is_err());
    shut_down(&executor);
}

/// Keeps every value that it is told.
#[derive(Default)]
struct Keeper(Vec<Thing>);

impl Actor for Keeper {}

type Thing = Box<dyn Any + Send>;

struct Keep(Thing);

impl Receive<Keep> for Keeper {
    type Reply = Thing;
    fn receive(&mut self, Keep(thing): Keep, reply: Reply<Thing>, _: &mut Context<Self>) {
        self.0.push(thing);
        self.0.push(Box::new(reply));
    }
}

/// Answered by the receiver of the channel.
struct Lend(mpsc::Sender<Reply<Thing>>);

impl Receive<Lend> for Keeper {
    type Reply = Thing;
    fn receive(&mut self, Lend(replies): Lend, reply: Reply<Thing>, _: &mut Context<Self>) {
        let _ = replies.send(reply);
    }
}

/// Asks in answers in asks: each answer is ready but not taken, and holds the next ask.
fn asks_inside_answers(executor: &Executor, counted: &Arc<AtomicUsize>) -> Thing {
    let keeper = executor.build(Keeper::default()).unbounded().spawn();
    let (sender, replies) = mpsc::channel();
    let mut inner: Thing = Box::new(());
    for _ in 0..LINKS {
        let ask = keeper.ask(Lend(sender.clone())).unwrap();
        let reply = replies.recv_timeout(Duration::from_secs(LONG)).unwrap();
        reply.send(Box::new((inner, Counted(Arc::clone(counted)))));
        inner = Box::new(ask);
    }
    inner
}

/// Answers without an asker: the drop of each gives the next reply its answer.
struct Passed {
    reply: Option<Reply<Thing>>,
    answer: Option<Thing>,
    _counted: Counted,
}

impl Drop for Passed {
    fn drop(&mut self) {
        if let (Some(reply), Some(answer)) = (self.reply.take(), self.answer.take()) {
            reply.send(answer);
        }
    }
}

fn replies_given_while_others_are_dropped(
    executor: &Executor,
    counted: &Arc<AtomicUsize>,
) -> Thing {
    let keeper = executor.build(Keeper::default()).unbounded().spawn();
    let (sender, replies) = mpsc::channel();
    let mut inner: Thing = Box::new(());
    for _ in 0..LINKS {
        drop(keeper.ask(Lend(sender.clone())).unwrap());
        let reply = replies.recv_timeout(Duration::from_secs(LONG)).unwrap();
        let counted = Counted(Arc::clone(counted));
        inner = Box::new(Passed { reply: Some(reply), answer: Some(inner), _counted: counted });
    }
    inner
}

/// Unsent messages, each of which holds the next one.
fn sendings_inside_messages(executor: &Executor, counted: &Arc<AtomicUsize>) -> Thing {
    let full = executor.build(Keeper::default()).capacity(1).spawn();
    let mut inner: Thing = Box::new(());
    for _ in 0..LINKS {
        let keep = Keep(Box::new((inner, Counted(Arc::clone(counted)))));
        let sending = full.send_async(keep);
        inner = Box::new(sending);
    }
    inner
}

/// Timer messages, each of which holds the next timer.
fn timers_inside_messages(executor: &Executor, counted: &Arc<AtomicUsize>) -> Thing {
    let keeper = executor.spawn(Keeper::default());
    let mut inner: Thing = Box::new(keeper.clone());
    for _ in 0..LINKS {
        let keep = Keep(Box::new((inner, Counted(Arc::clone(counted)))));
        let timer: Timer = keeper.tell_after(Duration::from_secs(3600), keep).unwrap();
        inner = Box::new(timer);
    }
    inner
}

type Make = fn(&Executor, &Arc<AtomicUsize>) -> Thing;

const CASCADES: [Make; 4] = [
    asks_inside_answers,
    replies_given_while_others_are_dropped,
    sendings_inside_messages,
    timers_inside_messages,
];

/// A recursive drop would overflow the stack after a few hundred links.
#[test]
fn p10_chains_are_dropped_by_a_thread_with_a_small_stack() {
    for make in CASCADES {
        let (executor, counted) = (crew(1), Arc::default());
        let chain = make(&executor, &counted);
        let here = Arc::clone(&counted);
        on_a_small_stack(move || {
            drop(chain);
            assert_eq!(here.load(Relaxed), LINKS, "all is dropped when the drop returns");
        });
        shut_down(&executor);
    }
}

/// A chain may be dropped by a turn, with an actor's state, or as an unhandled message.
#[test]
fn p10_chains_are_dropped_by_a_handler_a_state_and_a_mailbox() {
    for make in CASCADES {
        for place in 0..3 {
            let (executor, others, counted) = (small_crew(1), crew(1), Arc::default());
            let chain = make(&others, &counted);
            let keeper = executor.spawn(Keeper::default());
            match place {
                0 => {
                    let puppet = executor.spawn(Puppet::default());
                    inside(&puppet, move |_, _| drop(chain));
                }
                1 => {
                    keeper.tell(Keep(chain)).unwrap();
                    settle(&executor);
                    keeper.stop();
                    ended(&keeper);
                }
                _ => {
                    let puppet = executor.spawn(Puppet::default());
                    let held = Held::hold(&puppet);
                    keeper.tell(Keep(chain)).unwrap();
                    keeper.stop_now();
                    held.release();
                    ended(&keeper);
                }
            }
            assert_eq!(counted.load(Relaxed), LINKS);
            shut_down(&others);
            shut_down(&executor);
        }
    }
}

/// No worker is left, so the dropping thread itself must unroll the chain.
#[test]
fn p10_chains_are_dropped_after_the_executors_end() {
    for make in CASCADES {
        let (executor, counted) = (small_crew(2), Arc::default());
        let chain = make(&executor, &counted);
        let here = Arc::clone(&counted);
        on_a_small_stack(move || {
            drop(executor);
            drop(chain);
            assert_eq!(here.load(Relaxed), LINKS);
        });
    }
}

/// Dropped after the thread's other thread-locals.
struct AtTheEnd(std::cell::RefCell<Option<Thing>>);

thread_local!(static LATE: AtTheEnd = const { AtTheEnd(std::cell::RefCell::new(None)) });

#[test]
fn p10_chains_are_dropped_in_a_thread_locals_destructor() {
    for make in CASCADES {
        let (executor, counted) = (crew(1), Arc::default());
        let chain = make(&executor, &counted);
        on_a_small_stack(move || LATE.with(|late| *late.0.borrow_mut() = Some(chain)));
        within(LONG, "all is dropped", || counted.load(Relaxed) == LINKS);
        shut_down(&executor);
    }
}

/// Each sender in line holds the next one inside its message.
#[test]
fn p10_a_chain_of_room_tickets_is_dropped_on_a_small_stack() {
    let executor = small_crew(1);
    let full = executor.build(Keeper::default()).capacity(1).spawn();
    let puppet = executor.spawn(Puppet::default());
    let held = Held::hold(&puppet); // occupies the only worker
    full.tell(Keep(Box::new(()))).unwrap();
    let counted: Arc<AtomicUsize> = Arc::default();
    let mut cx = TaskContext::from_waker(Waker::noop());
    let mut inner: Thing = Box::new(());
    for _ in 0..LINKS {
        let mut sending = full.send_async(Keep(Box::new((inner, Counted(Arc::clone(&counted))))));
        assert!(Pin::new(&mut sending).poll(&mut cx).is_pending());
        inner = Box::new(sending);
    }
    let here = Arc::clone(&counted);
    on_a_small_stack(move || {
        drop(inner);
        assert_eq!(here.load(Relaxed), LINKS);
    });
    held.release();
    shut_down(&executor);
}

/// A task that only its waker references, and that holds the value it waits for.
#[allow(dead_code)] // dropped without being read
struct Task(std::sync::Mutex<Thing>, Counted);

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

/// Polls a future with a waker that holds `inner`. Returns the future, for the next task to hold.
fn waits<F: Future + Unpin + Send + 'static>(
    mut future: F,
    inner: Thing,
    counted: &Arc<AtomicUsize>,
) -> Thing {
    let task = Arc::new(Task(std::sync::Mutex::new(inner), Counted(Arc::clone(counted))));
    let waker = Waker::from(task);
    assert!(Pin::new(&mut future).poll(&mut TaskContext::from_waker(&waker)).is_pending());
    Box::new(future)
}

/// A dropped waker may drop a task, and the task's own wait drops the next waker.
#[test]
fn p10_chains_of_tasks_that_wait_are_dropped_on_a_small_stack() {
    for what in 0..4 {
        let executor = small_crew(1);
        let actor = executor.build(Keeper::default()).unbounded().spawn();
        let puppet = executor.spawn(Puppet::default());
        let held = Held::hold(&puppet); // keeps the crew from answering and from becoming idle
        let full = executor.build(Keeper::default()).capacity(1).spawn();
        full.tell(Keep(Box::new(()))).unwrap();
        let counted: Arc<AtomicUsize> = Arc::default();
        let mut inner: Thing = Box::new(());
        for _ in 0..LINKS {
            inner = match what {
                0 => waits(actor.wait_stopped_async(), inner, &counted),
                1 => waits(executor.wait_idle_async(), inner, &counted),
                2 => waits(actor.ask(Keep(Box::new(()))).unwrap(), inner, &counted),
                _ => waits(full.send_async(Keep(Box::new(()))), inner, &counted),
            };
        }
        let here = Arc::clone(&counted);
        on_a_small_stack(move || {
            drop(inner);
            assert_eq!(here.load(Relaxed), LINKS);
        });
        held.release();
        shut_down(&executor);
    }
}

/// A wake may drop the task that it wakes, and with the task the reply that wakes the next one.
#[test]
fn p10_a_chain_of_tasks_that_are_woken_is_dropped_on_a_small_stack() {
    let executor = small_crew(1);
    let keeper = executor.build(Keeper::default()).unbounded().spawn();
    let (sender, replies) = mpsc::channel();
    let counted: Arc<AtomicUsize> = Arc::default();
    let mut inner: Thing = Box::new(());
    let mut asks = Vec::new();
    for _ in 0..LINKS {
        let ask = keeper.ask(Lend(sender.clone())).unwrap();
        asks.push(waits(ask, inner, &counted));
        inner = Box::new(replies.recv_timeout(Duration::from_secs(LONG)).unwrap());
    }
    on_a_small_stack(move || drop(inner));
    assert_eq!(counted.load(Relaxed), LINKS);
    drop(asks);
    shut_down(&executor);
}

/// A destructor that drops the next link, and the first of which then waits.
struct Waiting {
    next: Option<Thing>,
    wait: Option<Ask<Thing>>,
    said: mpsc::Sender<Result<(), AskError>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.next.take());
        if let Some(mut wait) = self.wait.take() {
            let _ = self.said.send(wait.wait().map(drop));
        }
    }
}

/// The last link holds the reply that the first link waits for. Its drop is put off, since the
/// chain is long, and comes before the wait.
#[test]
fn p07_a_wait_in_a_destructor_comes_after_the_drops_that_were_put_off() {
    let executor = crew(2);
    let keeper = executor.build(Keeper::default()).unbounded().spawn();
    let (sender, replies) = mpsc::channel();
    let (said, heard) = mpsc::channel();
    let borrow = || {
        let ask = keeper.ask(Lend(sender.clone())).unwrap();
        (ask, replies.recv_timeout(Duration::from_secs(LONG)).unwrap())
    };
    let (awaited, reply) = borrow();
    let mut awaited = Some(awaited);
    let mut inner: Thing = Box::new(reply);
    for link in (0..64).rev() {
        let wait = if link == 0 { awaited.take() } else { None };
        let waiting = Waiting { next: Some(inner), wait, said: said.clone() };
        let (ask, reply) = borrow();
        reply.send(Box::new(waiting));
        inner = Box::new(ask);
    }
    let dropping = std::thread::spawn(move || drop(inner));
    assert_eq!(heard.recv_timeout(Duration::from_secs(LONG)), Ok(Err(AskError::NoReply)));
    dropping.join().unwrap();
    shut_down(&executor);
}

/// A task that answers the next one as soon as it is woken.
struct PassesOn(std::sync::Mutex<Option<Reply<Thing>>>, Arc<AtomicUsize>);

impl Wake for PassesOn {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Relaxed);
        if let Some(reply) = self.0.lock().unwrap().take() {
            reply.send(Box::new(()));
        }
    }
}

#[test]
fn p10_a_chain_of_wakers_that_answer_inline_does_not_recurse() {
    let executor = small_crew(1);
    let keeper = executor.build(Keeper::default()).unbounded().spawn();
    let (sender, replies) = mpsc::channel();
    let woken: Arc<AtomicUsize> = Arc::default();
    let mut before = None;
    let mut asks = Vec::new();
    for _ in 0..LINKS {
        let mut ask = keeper.ask(Lend(sender.clone())).unwrap();
        let task = PassesOn(std::sync::Mutex::new(before.take()), Arc::clone(&woken));
        let waker = Waker::from(Arc::new(task));
        assert!(Pin::new(&mut ask).poll(&mut TaskContext::from_waker(&waker)).is_pending());
        asks.push(ask);
        before = Some(replies.recv_timeout(Duration::from_secs(LONG)).unwrap());
    }
    on_a_small_stack(move || before.unwrap().send(Box::new(())));
    assert_eq!(woken.load(Relaxed), LINKS);
    drop(asks);
    shut_down(&executor);
}

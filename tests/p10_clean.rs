//! Tests P10, clean: every actor, message and reply is dropped exactly once, no thread is left, no
//! user code runs under a lock, and dropping never recurses.

mod common;

use common::*;
use heist::{
    Actor, ActorRef, Ask, Context, Executor, Handle, Handler, Receive, Reply, StopReason, WeakRef,
};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Wake, Waker};
use std::thread;
use std::time::Duration;

/// Holds a token, kept replies and perhaps a latch.
struct Holder {
    _state: Token,
    parked: Vec<Reply<Token>>,
    latch: Option<Latch>,
}

impl Actor for Holder {}

struct Take(#[allow(dead_code)] Token);

impl Handler<Take> for Holder {
    type Reply = ();
    fn handle(&mut self, _: Take, _: &mut Context<Self>) {}
}

struct Swap(Token);

impl Handler<Swap> for Holder {
    type Reply = Token;
    fn handle(&mut self, Swap(token): Swap, _: &mut Context<Self>) -> Token {
        token
    }
}

struct Park(#[allow(dead_code)] Token);

impl Receive<Park> for Holder {
    type Reply = Token;
    fn receive(&mut self, _: Park, reply: Reply<Token>, _: &mut Context<Self>) {
        self.parked.push(reply);
    }
}

/// Blocks the turn, so that everything behind it waits.
struct Hold(Latch);

impl Handler<Hold> for Holder {
    type Reply = ();
    fn handle(&mut self, Hold(entered): Hold, _: &mut Context<Self>) {
        entered.open();
        self.latch.take().unwrap().wait();
    }
}

struct Fail(#[allow(dead_code)] Token);

impl Handler<Fail> for Holder {
    type Reply = Token;
    fn handle(&mut self, Fail(_token): Fail, _: &mut Context<Self>) -> Token {
        intended_panic()
    }
}

/// How an actor with a full mailbox comes to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Stop,
    StopNow,
    Unreferenced,
    Panic,
    Shutdown,
    ShutdownNow,
    Drop,
}

const ENDS: [End; 7] = [
    End::Stop,
    End::StopNow,
    End::Unreferenced,
    End::Panic,
    End::Shutdown,
    End::ShutdownNow,
    End::Drop,
];

/// Makes an actor in the middle of a turn, with kept replies, told and asked messages, and senders
/// that wait for room, all with tokens. Then ends the actor.
fn crowd(executor: &Executor, tokens: &Tokens, end: End) {
    let latch = Latch::new();
    let holder = Holder { _state: tokens.token(), parked: Vec::new(), latch: Some(latch.clone()) };
    let actor = executor.build(holder).capacity(10).spawn();
    let entered = Latch::new();
    let parked: Vec<_> = (0..3).map(|_| actor.ask(Park(tokens.token())).unwrap()).collect();
    actor.tell(Hold(entered.clone())).unwrap();
    entered.wait();
    if end == End::Panic {
        // The first message behind the blocked turn.
        actor.tell(Fail(tokens.token())).unwrap();
    }
    let asks: Vec<_> = (0..2).map(|_| actor.ask(Swap(tokens.token())).unwrap()).collect();
    drop(actor.ask(Swap(tokens.token())).unwrap());
    while actor.tell(Take(tokens.token())).is_ok() {}
    let mut cx = TaskContext::from_waker(Waker::noop());
    let mut sends: Vec<_> =
        (0..3).map(|_| Box::pin(actor.send_async(Take(tokens.token())))).collect();
    for send in &mut sends {
        assert!(send.as_mut().poll(&mut cx).is_pending());
    }
    sends.pop(); // one sender leaves while it waits
    let (clone, waiter) = (actor.clone(), tokens.token());
    let waiter =
        (end != End::Unreferenced).then(|| thread::spawn(move || drop(clone.send(Take(waiter)))));
    match end {
        End::Stop => actor.stop(),
        End::StopNow => actor.stop_now(),
        End::Unreferenced => sends.clear(),
        End::Panic => {}
        End::Shutdown | End::ShutdownNow | End::Drop => {
            let latch = latch.clone();
            // The latch opens only once the end is under way.
            let actor = actor.clone();
            thread::spawn(move || {
                if end != End::Shutdown {
                    within(LONG, "the actor is closed", || !actor.is_running());
                }
                latch.open();
            });
        }
    }
    match end {
        End::Shutdown => assert!(executor.shutdown(Duration::from_secs(LONG)).unwrap().complete),
        End::ShutdownNow | End::Drop => {
            assert!(executor.shutdown_now(Duration::from_secs(LONG)).unwrap().complete);
        }
        _ => latch.open(),
    }
    // Answers are held while the actor ends, or dropped without being read.
    let answers: Vec<_> = asks.into_iter().map(answer).collect();
    sends.into_iter().for_each(|send| drop(futures::executor::block_on(send)));
    if end == End::Unreferenced {
        drop(actor);
    } else {
        waiter.unwrap().join().unwrap();
        actor.stop();
        ended(&actor);
    }
    parked.into_iter().for_each(|ask| drop(answer(ask)));
    drop(answers);
}

#[test]
fn p10_everything_is_dropped_exactly_once_whatever_the_end() {
    quiet_panics();
    for workers in CREWS {
        for end in ENDS {
            let tokens = Tokens::new();
            let executor = crew(workers);
            crowd(&executor, &tokens, end);
            if end == End::Drop {
                drop(executor);
            } else {
                shut_down(&executor);
            }
            assert!(tokens.made() > 10);
            tokens.assert_each_dropped_once();
        }
    }
}

/// Counts the threads of this process with the given name prefix. The kernel lists a thread for a
/// moment after it was joined.
#[cfg(target_os = "linux")]
fn threads_named(prefix: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    // A thread may end between the two steps.
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with(prefix)).count()
}

#[cfg(target_os = "linux")]
#[test]
fn p10_no_thread_is_left() {
    const NAME: &str = "p10-left";
    for workers in CREWS {
        let build = || build(Executor::builder().workers(workers).thread_name(NAME));
        let executor = build();
        settle(&executor);
        within(LONG, "the threads have their names", || threads_named(NAME) == workers);
        shut_down(&executor);
        within(LONG, "after shutdown", || threads_named(NAME) == 0);

        let executor = build();
        assert!(executor.shutdown_now(Duration::from_secs(LONG)).unwrap().complete);
        within(LONG, "after shutdown_now", || threads_named(NAME) == 0);

        drop(build());
        within(LONG, "after the drop", || threads_named(NAME) == 0);

        let shutdown = build().shutdown_async(Duration::from_secs(LONG));
        assert!(futures::executor::block_on(shutdown).unwrap().complete);
        within(LONG, "after an awaited shutdown", || threads_named(NAME) == 0);

        // The crew drops its own executor, and no thread waits for the end.
        let executor = build();
        let puppet = executor.spawn(Puppet::default());
        puppet.tell(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| drop(executor))).unwrap();
        ended(&puppet);
        within(LONG, "the crew ends by itself", || threads_named(NAME) == 0);
    }
}

const CHAIN: usize = 1_000_000;
const SMALL_STACK: usize = 64 * 1024;

fn small_crew(workers: usize) -> Executor {
    build(Executor::builder().workers(workers).stack_size(SMALL_STACK))
}

/// No spare is left, whether idle, starting, in a turn, or reserved.
#[cfg(target_os = "linux")]
#[test]
fn p10_no_spare_is_left() {
    const NAME: &str = "p10-spared";
    for workers in CREWS {
        // An hour: no watchdog waits for a spare that ends by itself.
        for (ending, stay) in [(0, 3_600_000), (1, 3_600_000), (2, 3_600_000), (0, 0), (1, 1)] {
            let builder = Executor::builder().workers(workers).thread_name(NAME);
            let executor =
                build(builder.max_spares(4).spare_keep_alive(Duration::from_millis(stay)));
            let puppets: Vec<_> =
                (0..workers + 6).map(|_| executor.spawn(Puppet::default())).collect();
            let latch = Latch::new();
            for puppet in &puppets {
                let until = latch.clone();
                let wait =
                    move |_: &mut Puppet, _: &mut Context<Puppet>| heist::blocking(|| until.wait());
                puppet.tell(Run(wait)).unwrap();
            }
            within(LONG, "some block", || executor.stats().spares.blocked >= 4);
            latch.open();
            match ending {
                0 => shut_down(&executor),
                1 => assert!(executor.shutdown_now(Duration::from_secs(LONG)).unwrap().complete),
                _ => {}
            }
            drop(executor);
            within(LONG, "all threads end", || threads_named(NAME) == 0);
        }
    }
}

/// Runs `f` on a thread with a small stack.
fn on_a_small_stack(f: impl FnOnce() + Send + 'static) {
    thread::Builder::new().stack_size(SMALL_STACK).spawn(f).unwrap().join().unwrap();
}

/// Holds the only reference to the next actor of the chain.
struct Chained {
    _next: Option<ActorRef<Chained>>,
    ends: Arc<AtomicUsize>,
}

impl Actor for Chained {
    fn stopped(&mut self, reason: &StopReason) {
        assert_eq!(*reason, StopReason::Unreferenced);
        self.ends.fetch_add(1, Relaxed);
    }
}

fn chain(handle: &Handle, ends: &Arc<AtomicUsize>) -> ActorRef<Chained> {
    let link = |next| Some(handle.spawn(Chained { _next: next, ends: Arc::clone(ends) }));
    (0..CHAIN).fold(None, |next, _| link(next)).unwrap()
}

/// A recursive drop of the references would overflow the small stack.
#[test]
fn p10_a_long_chain_of_actors_is_dropped_on_a_small_stack() {
    for workers in [1, 2] {
        let executor = small_crew(workers);
        let ends = Arc::default();
        let head = chain(&executor, &ends);
        settle(&executor);
        on_a_small_stack(move || drop(head));
        within(LONG, "the chain's end", || ends.load(Relaxed) == CHAIN);
        settle(&executor);
        assert_eq!(executor.stats().live_actors, 0);
        shut_down(&executor);
    }
}

/// The executor's end drops the states, and each state drops the next reference.
#[test]
fn p10_a_long_chain_ends_with_its_executor_on_small_stacks() {
    struct Ring(#[allow(dead_code)] Option<ActorRef<Ring>>);
    impl Actor for Ring {}
    let executor = small_crew(2);
    let head = (0..CHAIN).fold(None, |next, _| Some(executor.spawn(Ring(next))));
    on_a_small_stack(move || {
        drop(executor);
        drop(head); // outlives the executor
    });
}

/// Each message holds the only reference to an actor, and the actor's mailbox holds the next such
/// message.
struct Carry {
    _payload: Option<ActorRef<Carrier>>,
}

struct Carrier;

impl Actor for Carrier {}

impl Handler<Carry> for Carrier {
    type Reply = ();
    fn handle(&mut self, _: Carry, _: &mut Context<Self>) {}
}

#[test]
fn p10_many_messages_with_references_are_dropped_on_a_small_stack() {
    let executor = small_crew(1);
    let puppet = executor.spawn(Puppet::default());
    // Nothing starts while the only worker is held. Everything is dropped unhandled, a message
    // inside an actor inside a message.
    let held = Held::hold(&puppet);
    let mut inner: Option<ActorRef<Carrier>> = None;
    for _ in 0..CHAIN {
        let carrier = executor.spawn(Carrier);
        carrier.tell(Carry { _payload: inner.take() }).unwrap();
        carrier.stop_now();
        inner = Some(carrier);
    }
    on_a_small_stack(move || drop(inner));
    held.release();
    settle(&executor);
    assert_eq!(executor.stats().dead_letters.killed, CHAIN as u64);
    assert_eq!(executor.stats().live_actors, 1);
    shut_down(&executor);

    // Side by side in one mailbox.
    let executor = small_crew(2);
    let sink = executor.build(Carrier).unbounded().spawn();
    let held = Held::hold(&executor.spawn(Puppet::default()));
    for _ in 0..CHAIN {
        sink.tell(Carry { _payload: Some(executor.spawn(Carrier)) }).unwrap();
    }
    sink.stop_now();
    drop(sink);
    held.release();
    on_a_small_stack(move || drop(executor));
}

/// Does everything that user code may do, in its drop.
struct Meddler {
    handle: Handle,
    friend: ActorRef<Puppet>,
    drops: Arc<AtomicUsize>,
}

impl Drop for Meddler {
    fn drop(&mut self) {
        let _ = self.friend.tell(Note(1));
        let _ = self.friend.ask(Note(2));
        let child = self.handle.spawn(Puppet::default());
        let _ = child.tell(Note(3));
        child.downgrade().upgrade().unwrap_or(child).stop();
        let _ = (self.friend.len(), self.friend.stats(), self.handle.stats());
        assert!(self.handle.last_report().is_none());
        self.friend.stop();
        self.drops.fetch_add(1, Relaxed);
    }
}

impl Actor for Meddler {}

impl Handler<Meddler> for Meddler {
    type Reply = Meddler;
    fn handle(&mut self, message: Meddler, _: &mut Context<Self>) -> Meddler {
        message
    }
}

/// A waker that meddles when dropped too. Its wake joins every line again that the waker may have
/// been in.
struct MeddlingWaker {
    meddler: Mutex<Option<Meddler>>,
    actor: WeakRef<Puppet>,
}

fn meddling_waker(meddler: Meddler, actor: &ActorRef<Puppet>) -> Waker {
    Waker::from(Arc::new(MeddlingWaker {
        meddler: Mutex::new(Some(meddler)),
        actor: actor.downgrade(),
    }))
}

impl Wake for MeddlingWaker {
    fn wake(self: Arc<Self>) {
        let mut cx = TaskContext::from_waker(Waker::noop());
        let meddler = self.meddler.lock().unwrap().take();
        if let Some(meddler) = &meddler {
            let _ = pin!(meddler.handle.wait_idle_async()).poll(&mut cx);
        }
        if let Some(actor) = self.actor.upgrade() {
            let _ = pin!(actor.send_async(Note(1))).poll(&mut cx);
            let _ = pin!(actor.wait_stopped_async()).poll(&mut cx);
        }
    }
}

/// Wakers are user code. Each of these joins its line again while it is being served.
#[test]
fn p10_no_waker_runs_under_a_lock() {
    for workers in CREWS {
        let executor = crew(workers);
        let drops = Arc::new(AtomicUsize::new(0));
        let puppet = executor.build(Puppet::default()).capacity(2).spawn();
        let waker = || {
            let friend = executor.spawn(Puppet::default());
            let meddler = Meddler { handle: executor.handle(), friend, drops: Arc::clone(&drops) };
            meddling_waker(meddler, &puppet)
        };
        let held = Held::hold(&puppet);
        while puppet.tell(Note(0)).is_ok() {}
        let wakers = [waker(), waker(), waker(), waker(), waker()];
        let [one, two, gives_up, idle, end] = &wakers;
        let mut sends =
            [puppet.send_async(Note(1)), puppet.send_async(Note(2)), puppet.send_async(Note(3))];
        for (send, waker) in sends.iter_mut().zip([one, two, gives_up]) {
            assert!(Pin::new(send).poll(&mut TaskContext::from_waker(waker)).is_pending());
        }
        let (mut quiet, mut stopped) = (executor.wait_idle_async(), puppet.wait_stopped_async());
        assert!(Pin::new(&mut quiet).poll(&mut TaskContext::from_waker(idle)).is_pending());
        assert!(Pin::new(&mut stopped).poll(&mut TaskContext::from_waker(end)).is_pending());
        drop(wakers);
        let [one, two, gives_up] = sends;
        drop(gives_up);
        held.release();
        // Wakers run after the quiet moment that they report.
        within(LONG, "all but the last waker have run", || drops.load(Relaxed) == 4);
        settle(&executor);
        puppet.stop();
        ended(&puppet);
        drop((one, two, quiet, stopped));
        within(LONG, "every waker is dropped", || drops.load(Relaxed) == 5);
        shut_down(&executor);
    }
}

/// A drop that ran under a lock of the executor would wait for itself for ever.
#[test]
fn p10_no_user_code_runs_under_a_lock() {
    for workers in CREWS {
        for kill in [false, true] {
            let executor = crew(workers);
            let drops = Arc::new(AtomicUsize::new(0));
            let mut made = 0;
            let mut meddler = || {
                made += 1;
                let friend = executor.spawn(Puppet::default());
                Meddler { handle: executor.handle(), friend, drops: Arc::clone(&drops) }
            };
            let actor = executor.build(meddler()).capacity(4).spawn();
            // Handled, discarded, unwanted and refused messages.
            drop(answer(actor.ask(meddler()).unwrap()).unwrap());
            settle(&executor);
            let puppet = executor.build(Puppet::default()).capacity(2).spawn();
            let held = Held::hold(&puppet);
            let kept = meddler();
            puppet
                .tell(Run(move |puppet: &mut Puppet, _: &mut Context<_>| {
                    puppet.kept.push(Box::new(kept))
                }))
                .unwrap();
            let unsent = meddler();
            let waits = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| drop(unsent));
            let mut waiting = Box::pin(puppet.send_async(waits));
            let waker = meddling_waker(meddler(), &puppet);
            assert!(waiting.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
            let mut end = Box::pin(puppet.wait_stopped_async());
            let other = meddling_waker(meddler(), &puppet);
            assert!(end.as_mut().poll(&mut TaskContext::from_waker(&other)).is_pending());
            let mut asks: Vec<Ask<Meddler>> = Vec::new();
            for _ in 0..6 {
                match actor.ask(meddler()) {
                    Ok(ask) => asks.push(ask),
                    Err(error) => drop(error.into_message()),
                }
            }
            asks.truncate(2);
            drop((waker, other));
            if kill {
                puppet.stop_now()
            } else {
                puppet.stop()
            }
            held.release();
            drop(asks);
            actor.stop_now();
            ended(&actor);
            ended(&puppet);
            drop((waiting, end));
            settle(&executor);
            within(LONG, "every one of them is dropped", || drops.load(Relaxed) == made);
            shut_down(&executor);
        }
    }
}

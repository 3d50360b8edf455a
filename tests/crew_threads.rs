//! Tests the threads of a crew that a program starts itself: handlers that fail or panic, workers
//! that are given up, and workers that run inside user code.

mod common;

use common::*;
use heist::thread::WorkerThread;
use heist::{Actor, ActorRef, Ask, Context, Event, Executor, Handler, Receive, Reply};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Panics when dropped, except while a panic unwinds.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("a drop that panics");
        }
    }
}

/// Threads that a spawn handler started before it panicked have no executor to end them.
#[test]
fn p10_a_panic_of_the_spawn_handler_ends_the_threads_started_before() {
    quiet_panics();
    // The last time only the drop of the handler panics.
    for failing in 0..=3 {
        let ended = Arc::new(AtomicUsize::new(0));
        let bomb = (failing == 3).then(|| Bomb);
        let theirs = Arc::clone(&ended);
        let builder = Executor::builder().workers(3).spawn_handler(move |worker| {
            let _owned = &bomb;
            assert!(worker.index() != failing, "a handler that panics");
            let ended = Arc::clone(&theirs);
            thread::spawn(move || {
                worker.run().expect("a new thread works for nobody yet");
                ended.fetch_add(1, Relaxed);
            });
            Ok(())
        });
        assert!(catch_unwind(AssertUnwindSafe(|| builder.build())).is_err());
        within(LONG, "the started threads end", || ended.load(Relaxed) == failing);
    }
}

/// The last thread of a crew drops what the spare handler owns. A panic there ends nothing else.
#[test]
fn p06_a_panic_in_the_drop_of_the_spare_handler_is_contained() {
    quiet_panics();
    let bomb = Bomb;
    let (sender, ended) = mpsc::channel();
    let executor = Executor::builder()
        .workers(1)
        .spawn_handler(move |worker| {
            let sender = sender.clone();
            thread::spawn(move || {
                let ran = catch_unwind(AssertUnwindSafe(|| worker.run()));
                sender.send(ran.is_ok()).unwrap();
            });
            Ok(())
        })
        .spare_handler(move |spare| {
            let _owned = &bomb;
            thread::spawn(|| spare.run());
            Ok(())
        })
        .build()
        .unwrap();
    shut_down(&executor);
    assert!(ended.recv_timeout(Duration::from_secs(LONG)).unwrap(), "`run` returns");
}

/// A spare that is dropped after its handler has returned: a slot is left to it, or it is free.
#[test]
fn p07_a_spare_that_is_dropped_late_is_replaced() {
    let (events, late) = (EventLog::new(), Latch::new());
    let until = late.clone();
    let executor =
        build(Executor::builder().workers(1).on_event(events.hook()).spare_handler(move |spare| {
            let until = until.clone();
            thread::spawn(move || {
                until.wait();
                drop(spare);
            });
            Ok(())
        }));
    let (asked, asks) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
    let answered = inside(&asks, move |_, _| {
        let mut ask = asked.ask(Note(3)).unwrap();
        late.open();
        ask.wait_timeout(Duration::from_secs(LONG))
    });
    assert!(matches!(answered, Ok(3)), "a thread came for the slot");
    within(LONG, "the loss is told", || {
        events.all().iter().any(|event| matches!(event, Event::SpareFailed { .. }))
    });
    shut_down(&executor);
}

/// A handler that fails after it has passed the thread on: no slot is left to the thread, which
/// ends when it comes.
#[test]
fn a_spare_that_comes_after_its_handler_failed_ends() {
    let (sender, spares) = mpsc::channel();
    let executor = build(Executor::builder().workers(2).spare_handler(move |spare| {
        sender.send(spare).unwrap();
        Err(std::io::Error::other("fails all the same"))
    }));
    let puppet = executor.spawn(Puppet::default());
    inside(&puppet, |_, _| heist::blocking(|| ()));
    let spare = spares.recv_timeout(Duration::from_secs(LONG)).unwrap();
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(spare.run().is_ok()));
    assert!(ended.recv_timeout(Duration::from_secs(LONG)).unwrap());
    shut_down(&executor);
}

/// A worker that is dropped once `build` has returned.
#[test]
fn p07_a_worker_that_is_dropped_late_is_replaced() {
    let (sender, workers) = mpsc::channel();
    let executor = build(Executor::builder().workers(2).spawn_handler(move |worker| {
        if worker.index() == 0 {
            thread::spawn(|| worker.run());
        } else {
            sender.send(worker).unwrap();
        }
        Ok(())
    }));
    let pinned = executor.build(Puppet::default()).on_worker(1).spawn();
    let mut ask = pinned.ask(Note(4)).unwrap();
    drop(workers.recv().unwrap());
    assert!(matches!(ask.wait_timeout(Duration::from_secs(LONG)), Ok(4)));
    executor.wait_idle_timeout(Duration::from_secs(LONG)).unwrap();
    shut_down(&executor);
}

/// An answer that runs a function when it is dropped, or owns the next answer of a chain.
struct Answer(
    Option<Box<dyn FnOnce() + Send>>,
    #[expect(dead_code, reason = "dropped with it")] Option<Chain>,
);

type Chain = Box<Ask<Answer>>;

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

struct Giver;

impl Actor for Giver {}

impl Handler<Answer> for Giver {
    type Reply = Answer;
    fn handle(&mut self, answer: Answer, _: &mut Context<Self>) -> Answer {
        answer
    }
}

/// Returns the outermost ask of a chain of answered asks. The innermost answer's drop runs `f`.
fn chain_of_answers(
    giver: &ActorRef<Giver>,
    length: usize,
    f: impl FnOnce() + Send + 'static,
) -> Ask<Answer> {
    let ready = |answer| {
        let ask = giver.ask(answer).unwrap();
        within(LONG, "the answer is there", || ask.is_ready());
        ask
    };
    let innermost = ready(Answer(Some(Box::new(f)), None));
    (1..length).fold(innermost, |inner, _| ready(Answer(None, Some(Box::new(inner)))))
}

/// Drops an ask inside a turn.
struct Drops;

impl Actor for Drops {}

impl Handler<Ask<Answer>> for Drops {
    type Reply = ();
    fn handle(&mut self, ask: Ask<Answer>, _: &mut Context<Self>) {
        drop(ask);
    }
}

/// Builds an executor with one worker, which is returned to be run later.
fn executor_without_thread(builder: heist::ExecutorBuilder<'_>) -> (Executor, WorkerThread) {
    let (sender, workers) = mpsc::channel();
    let executor = build(builder.workers(1).spawn_handler(move |worker| {
        sender.send(worker).unwrap();
        Ok(())
    }));
    (executor, workers.recv().unwrap())
}

/// The drops of the crew are not put off until the destructor around its worker has returned.
#[test]
fn p10_a_worker_that_runs_in_a_destructor_drops_its_own_chains() {
    let around = crew(1);
    let (executor, worker) = executor_without_thread(Executor::builder());
    let run = chain_of_answers(&around.spawn(Giver), 3, || {
        worker.run().expect("the thread has no other work")
    });
    let thread = thread::spawn(move || drop(run));
    for length in 1..8 {
        let (sender, dropped) = mpsc::channel();
        let chain =
            chain_of_answers(&executor.spawn(Giver), length, move || sender.send(()).unwrap());
        executor.spawn(Drops).tell(chain).unwrap();
        dropped.recv_timeout(Duration::from_secs(LONG)).expect("the chain is dropped in its turn");
    }
    shut_down(&executor);
    thread.join().unwrap();
    shut_down(&around);
}

/// Gives a reply away, for another thread to answer it.
struct Keeps(mpsc::Sender<Reply<()>>);

impl Actor for Keeps {}

impl Receive<Note> for Keeps {
    type Reply = ();
    fn receive(&mut self, _: Note, reply: Reply<()>, _: &mut Context<Self>) {
        self.0.send(reply).unwrap();
    }
}

/// The events of the crew do not wait until the hook around its worker has returned.
#[test]
fn p06_a_worker_that_runs_in_a_hook_tells_its_own_events() {
    quiet_panics();
    let events = EventLog::new();
    let (executor, worker) = executor_without_thread(Executor::builder().on_event(events.hook()));
    let worker = std::sync::Mutex::new(Some(worker));
    let around = build(Executor::builder().workers(1).on_event(move |_| {
        let worker = worker.lock().unwrap().take();
        if let Some(worker) = worker {
            worker.run().expect("the thread has no other work");
        }
    }));
    // A late answer for an actor that has ended is a dead letter, told by the thread that answers.
    let (sender, replies) = mpsc::channel();
    let (keeps, asks) = (around.spawn(Keeps(sender)), around.spawn(Puppet::default()));
    inside(&asks, move |_, ctx| {
        ctx.ask_then(&keeps, Note(1), |_, _, _| ()).unwrap();
        ctx.stop();
    });
    asks.wait_stopped().unwrap();
    let reply = replies.recv().unwrap();
    let thread = thread::spawn(move || reply.send(()));
    let failing = executor.spawn(Puppet::default());
    let panics = Run(|_: &mut Puppet, _: &mut Context<Puppet>| -> () { panic!("told") });
    failing.tell(panics).unwrap();
    within(LONG, "the panic is told", || !events.all().is_empty());
    shut_down(&executor);
    thread.join().unwrap();
    shut_down(&around);
}

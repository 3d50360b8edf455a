//! Tests thread roles: guards set a thread's role in a crew and restore the previous role. The
//! tests nest workers in workers and executors in handlers, wait in destructors of thread-locals,
//! and run wakers after an actor's end.

mod common;

use common::*;
use heist::thread::{RunError, WorkerThread};
use heist::{ActorRef, Context, Executor, WaitError};
use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Wake, Waker};
use std::thread;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(LONG);

/// Runs a function on the first wake.
struct OnWake(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Wake for OnWake {
    fn wake(self: Arc<Self>) {
        if let Some(f) = self.0.lock().unwrap().take() {
            f();
        }
    }
}

fn on_wake(f: impl FnOnce() + Send + 'static) -> Waker {
    Waker::from(Arc::new(OnWake(Mutex::new(Some(Box::new(f))))))
}

/// Makes an executor with one worker that has no thread yet.
fn without_a_thread() -> (Executor, WorkerThread) {
    let mut stored = None;
    let handler = |worker| {
        stored = Some(worker);
        Ok(())
    };
    let executor = build(Executor::builder().workers(1).spawn_handler(handler));
    (executor, stored.unwrap())
}

/// Checks that a refused worker still runs on another thread.
fn works_elsewhere(inner: &Executor, refused: RunError) {
    assert!(refused.to_string().contains("works for an executor already"), "{refused}");
    let worker = refused.into_worker();
    let runs = thread::spawn(move || worker.run().expect("a thread of its own"));
    let puppet = inner.spawn(Puppet::default());
    assert_eq!(answer(puppet.ask(Note(1)).unwrap()), Ok(1));
    shut_down(inner);
    runs.join().unwrap();
}

#[test]
fn a_worker_inside_a_handler_is_refused_and_comes_back() {
    on_every_crew(|outer| {
        let (inner, worker) = without_a_thread();
        let host = outer.spawn(Puppet::default());
        let refused = inside(&host, |_, _| worker.run()).expect_err("the thread works already");
        works_elsewhere(&inner, refused);
        assert_eq!(
            answer(host.ask(Note(2)).unwrap()),
            Ok(2),
            "the outer crew has its worker still"
        );
    });
}

#[test]
fn a_worker_inside_a_dedicated_actor_is_refused() {
    let outer = crew(1);
    let (inner, worker) = without_a_thread();
    let host = outer.spawn_dedicated(Puppet::default).unwrap();
    let refused = inside(&host, |_, _| worker.run()).expect_err("the thread works already");
    works_elsewhere(&inner, refused);
    shut_down(&outer);
}

/// The waker runs outside any turn, but on a thread that still works for the outer executor.
#[test]
fn a_worker_inside_a_waker_of_the_last_parker_is_refused() {
    for workers in CREWS {
        let outer = crew(workers);
        let (inner, worker) = without_a_thread();
        let host = outer.spawn(Puppet::default());
        let held = Held::hold(&host);
        let (tell, told) = mpsc::channel();
        let waker = on_wake(move || {
            tell.send(worker.run().expect_err("the thread works already")).unwrap()
        });
        let mut idle = pin!(outer.wait_idle_async());
        assert!(idle.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
        held.release();
        works_elsewhere(&inner, told.recv_timeout(DEADLINE).expect("the waker comes through"));
        shut_down(&outer);
    }
}

/// More than 256 bytes with the cell's header, so that the memory comes from the global allocator.
struct Big([u8; 400]);
impl heist::Actor for Big {}
struct Hold(Latch, Latch);
impl heist::Handler<Hold> for Big {
    type Reply = ();
    fn handle(&mut self, Hold(inside, until): Hold, _: &mut Context<Self>) {
        self.0[0] = 1;
        inside.open();
        until.wait();
    }
}

/// The waker runs on a worker after its last turn has freed the cell. A wait in the waker must
/// belong to no actor's turn.
#[test]
fn a_waker_after_the_last_actors_end_may_wait() {
    let other = crew(1);
    let friend = other.spawn(Puppet::default());
    let executor = crew(1);
    // Cells without references. Dead cells are freed 32 at a time.
    for _ in 0..31 {
        executor.spawn(Big([0; 400])).detach();
    }
    let holder = executor.spawn(Big([0; 400]));
    settle(&executor);
    let (inside, until) = (Latch::new(), Latch::new());
    holder.tell(Hold(inside.clone(), until.clone())).unwrap();
    let ended = holder.downgrade();
    holder.detach();
    inside.wait();
    let (tell, told) = mpsc::channel();
    let waker = on_wake(move || {
        // An allocation of the cell's size gets the cell's memory.
        let others: Vec<Vec<u8>> = (0..64).map(|_| vec![0x41; 480]).collect();
        tell.send(friend.ask(Note(7)).unwrap().wait()).unwrap();
        drop(others);
    });
    let mut idle = pin!(executor.wait_idle_async());
    assert!(idle.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
    let ends = thread::spawn(move || (executor.shutdown_now(DEADLINE).unwrap(), executor));
    within(LONG, "all are closed", || ended.upgrade().is_none_or(|holder| !holder.is_running()));
    until.open();
    assert_eq!(told.recv_timeout(DEADLINE), Ok(Ok(7)));
    assert!(ends.join().unwrap().0.complete);
    shut_down(&other);
}

/// The same for a waker that waits for the actor's end, while the executor goes on.
#[test]
fn a_waker_of_an_end_may_wait_and_take_the_worker_away() {
    for workers in CREWS {
        let executor = crew(workers);
        let (holder, friend) =
            (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
        let (tell, told) = mpsc::channel();
        let waker = on_wake(move || {
            let asked = friend.ask(Note(7)).unwrap().wait_timeout(DEADLINE);
            tell.send(asked).unwrap();
        });
        let mut stopped = pin!(holder.wait_stopped_async());
        assert!(stopped.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
        holder.stop();
        assert_eq!(told.recv_timeout(DEADLINE), Ok(Ok(7)), "{workers} workers");
        shut_down(&executor);
    }
}

/// What is over needs no spare: a waker waits for an actor that has ended.
#[test]
fn a_waker_finds_an_ended_actor_without_a_spare() {
    let executor = build(Executor::builder().workers(1).max_spares(0));
    let (over, holder) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
    over.stop();
    ended(&over);
    let (tell, told) = mpsc::channel();
    let waker = on_wake(move || tell.send(over.wait_stopped()).unwrap());
    let mut stopped = pin!(holder.wait_stopped_async());
    assert!(stopped.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
    holder.stop();
    assert_eq!(told.recv_timeout(DEADLINE), Ok(Ok(heist::StopReason::Stopped)));
    shut_down(&executor);
}

thread_local!(static LATE: RefCell<Option<Late>> = const { RefCell::new(None) });

/// Runs a function when its thread ends.
struct Late(Option<Box<dyn FnOnce() + Send>>);

impl Drop for Late {
    fn drop(&mut self) {
        self.0.take().unwrap()();
    }
}

fn when_the_thread_ends(f: impl FnOnce() + Send + 'static) {
    LATE.set(Some(Late(Some(Box::new(f)))));
}

/// Makes all calls of the crate in a thread-local's destructor, after the destructors of the
/// crate's own thread-locals.
fn everything(puppet: &ActorRef<Puppet>) {
    assert_eq!(answer(puppet.ask(Note(7)).unwrap()), Ok(7));
    puppet.send(Note(8)).unwrap();
    assert_eq!(heist::blocking(|| 9), 9);
    let executor = crew(1);
    let inner = executor.spawn(Puppet::default());
    assert_eq!(answer(inner.ask(Note(1)).unwrap()), Ok(1));
    let timer = inner.tell_after(Duration::from_secs(3600), Note(2)).unwrap();
    assert!(timer.cancel());
    settle(&executor);
    let pool = executor.pool(2, |_| Puppet::default()).build().unwrap();
    assert_eq!(answer(pool.ask(heist::strategy::ByKey("key"), Note(3)).unwrap()), Ok(3));
    let directory = heist::Directory::new(&executor, |_: &u64| Puppet::default());
    assert_eq!(answer(directory.ask(&1, Note(4)).unwrap()), Ok(4));
    let _ = (executor.stats(), executor.top(3));
    drop((pool, directory, inner));
    shut_down(&executor);
}

#[test]
fn a_destructor_of_a_thread_local_may_do_everything() {
    let executor = crew(2);
    let puppet = executor.spawn(Puppet::default());
    let theirs = puppet.clone();
    let done = Latch::new();
    let inside = done.clone();
    thread::spawn(move || {
        let late = theirs.clone();
        when_the_thread_ends(move || {
            everything(&late);
            inside.open();
        });
        // The thread's first wait comes after its thread-local was made, so that the crate's
        // thread-locals are destroyed first.
        assert_eq!(answer(theirs.ask(Note(1)).unwrap()), Ok(1));
    })
    .join()
    .unwrap();
    assert!(done.is_open());
    shut_down(&executor);
}

/// A worker's own thread-local is destroyed at the end of the crew, when the thread works for no
/// executor any more.
#[test]
fn a_destructor_on_a_worker_may_use_another_executor() {
    let other = crew(1);
    let puppet = other.spawn(Puppet::default());
    let executor = crew(1);
    let host = executor.spawn(Puppet::default());
    let done = Latch::new();
    let opens = done.clone();
    inside(&host, move |_, _| {
        when_the_thread_ends(move || {
            everything(&puppet);
            opens.open();
        });
    });
    drop(host);
    shut_down(&executor);
    assert!(done.is_open(), "the thread was joined");
    shut_down(&other);
}

/// A worker may even run in such a destructor, because the thread works for no executor.
#[test]
fn a_worker_runs_in_a_destructor() {
    quiet_panics();
    let (inner, worker) = without_a_thread();
    let runs = thread::spawn(move || {
        when_the_thread_ends(move || worker.run().expect("the thread works for nobody"));
    });
    let puppet = inner.spawn(Puppet::default());
    assert_eq!(answer(puppet.ask(Note(1)).unwrap()), Ok(1));
    assert_eq!(
        cause(puppet.ask(Run(|_: &mut Puppet, _: &mut Context<Puppet>| intended_panic())).unwrap()),
        INTENDED
    );
    shut_down(&inner);
    runs.join().unwrap();
}

#[test]
fn an_executor_lives_and_ends_inside_anothers_handler() {
    on_every_crew(|outer| {
        let host = outer.spawn(Puppet::default());
        let friend = outer.spawn(Puppet::default());
        let seen = inside(&host, move |_, ctx| {
            let inner = crew(1);
            let puppet = inner.spawn(Puppet::default());
            assert_eq!(answer(puppet.ask(Note(1)).unwrap()), Ok(1));
            // The outer actor gets this message of the inner crew from outside.
            let theirs = friend.clone();
            inside(&puppet, move |_, _| theirs.tell(Note(5)).unwrap());
            drop(inner);
            // The thread has its role in the outer crew again.
            let refused = ctx.handle().wait_idle();
            (puppet.tell(Note(2)).is_err(), refused, log_of(&friend, 1))
        });
        assert_eq!(seen, (true, Err(WaitError::OnCrew), vec![5]));
    });
}

/// Sends when dropped.
struct Goodbye(Sender<()>);
impl Drop for Goodbye {
    fn drop(&mut self) {
        self.0.send(()).unwrap();
    }
}

#[test]
fn the_last_owner_of_an_executor_is_its_own_worker() {
    for workers in CREWS {
        let executor = crew(workers);
        let puppet = executor.spawn(Puppet::default());
        let (tell, told) = mpsc::channel();
        inside(&puppet, move |puppet, _| {
            puppet.kept.push(Box::new(Goodbye(tell)));
            puppet.kept.push(Box::new(executor));
        });
        puppet.stop();
        told.recv_timeout(DEADLINE).expect("the state is dropped, and the executor with it");
        ended(&puppet);
    }
}

/// An executor's thread cannot wait for its own exit, which comes after the destructors of its
/// thread-locals.
#[test]
fn a_destructor_on_an_own_thread_ends_its_executor_without_waiting() {
    for shut in [false, true] {
        let executor = crew(1);
        let hermit = executor.spawn_dedicated(Puppet::default).unwrap();
        let other = executor.spawn(Puppet::default());
        let (tell, told) = mpsc::channel();
        inside(&hermit, move |_, _| {
            when_the_thread_ends(move || {
                let refused = shut.then(|| executor.shutdown_now(DEADLINE));
                drop(executor);
                tell.send(refused).unwrap();
            });
        });
        hermit.stop();
        let refused = told.recv_timeout(DEADLINE).expect("the destructor comes through");
        assert_eq!(refused, shut.then_some(Err(WaitError::OnCrew)));
        assert_eq!(ended(&hermit), heist::StopReason::Stopped);
        assert_eq!(ended(&other), heist::StopReason::Shutdown, "the crew was told");
    }
}

//! Tests that an executor's end leaves nothing: the core is freed, whatever of heist the user's
//! code holds.

use crate::actor::context::Context;
use crate::actor::handle::Handle;
use crate::actor::refs::ActorRef;
use crate::actor::wait::blocking;
use crate::actor::{Actor, Handler};
use crate::cell::core::Core;
use crate::directory::Directory;
use crate::executor::Executor;
use crate::pool::strategy::{Replicas, Route, Strategy};
use crate::sync::Mutex;
use crate::time::{self, Duration};
use crossbeam_channel::bounded;
use std::any::Any;
use std::sync::{Arc, Weak};
use std::thread;

struct IdleActor(#[allow(dead_code)] Thing);

impl Actor for IdleActor {}

type Thing = Option<Box<dyn Any + Send>>;

struct Hello(#[allow(dead_code)] Thing);

impl Handler<Hello> for IdleActor {
    type Reply = ();
    fn handle(&mut self, _: Hello, _: &mut Context<Self>) {}
}

/// Calls the function.
struct Call(Box<dyn FnOnce() + Send>);

impl Handler<Call> for IdleActor {
    type Reply = ();
    fn handle(&mut self, Call(call): Call, _: &mut Context<Self>) {
        call();
    }
}

/// References to an executor held by its own hook, factory or strategy. Filled in once the executor
/// exists.
type HeldReference = Arc<Mutex<Option<(Handle, ActorRef<IdleActor>)>>>;

fn fill(held: &HeldReference, executor: &Executor) {
    *held.lock() = Some((executor.handle(), executor.spawn(IdleActor(None))));
}

fn core(executor: &Executor) -> Weak<Core> {
    Arc::downgrade(&executor.core().share())
}

#[track_caller]
fn goes(core: &Weak<Core>) {
    // The last references go with the threads, which may end after the executor's drop has
    // returned.
    let limit = time::now() + Duration::from_secs(20);
    while core.strong_count() > 0 {
        assert!(time::now() < limit, "{} references to the core are left", core.strong_count());
        thread::yield_now();
    }
}

fn hooked(held: &HeldReference) -> Executor {
    let held = Arc::clone(held);
    let hook = move |_: &_| drop(held.lock().clone());
    Executor::builder().workers(2).on_event(hook).build().unwrap()
}

#[test]
fn a_hook_may_hold_its_own_executor() {
    let held = HeldReference::default();
    let executor = hooked(&held);
    fill(&held, &executor);
    let (core, hook) = (core(&executor), Arc::downgrade(&held));
    drop(held);
    drop(executor);
    assert_eq!(hook.strong_count(), 0, "let go of when the drop returns");
    goes(&core);
}

#[test]
fn a_hook_goes_also_where_the_executor_ends_on_its_own_worker() {
    let held = HeldReference::default();
    let executor = hooked(&held);
    fill(&held, &executor);
    let core = core(&executor);
    let actor = executor.spawn(IdleActor(None));
    actor.tell(Call(Box::new(|| drop(executor)))).unwrap();
    drop((actor, held));
    goes(&core);
}

#[test]
fn a_hook_goes_also_with_threads_that_nobody_joins() {
    let held = HeldReference::default();
    let hook = Arc::clone(&held);
    let (started, threads) = bounded(2);
    let executor = Executor::builder()
        .workers(2)
        .on_event(move |_| drop(hook.lock().clone()))
        .spawn_handler(|worker| {
            started.send(thread::spawn(|| worker.run())).map_err(std::io::Error::other)
        })
        .build()
        .unwrap();
    drop(threads);
    fill(&held, &executor);
    let core = core(&executor);
    drop((held, executor));
    goes(&core);
}

#[test]
fn a_hook_goes_also_if_the_executor_is_never_built() {
    let held = HeldReference::default();
    let hook = Arc::clone(&held);
    let built = Executor::builder()
        .workers(2)
        .on_event(move |_| drop(hook.lock().clone()))
        .spawn_handler(|_| Err(std::io::Error::other("none")))
        .build();
    assert!(built.is_err());
    let hook = Arc::downgrade(&held);
    drop(held);
    assert_eq!(hook.strong_count(), 0);
}

#[test]
fn a_hook_that_holds_the_executor_itself_ends_without_waiting() {
    let held: Arc<Mutex<Option<Executor>>> = Arc::default();
    let hook = Arc::clone(&held);
    let executor = Executor::builder()
        .workers(1)
        .on_event(move |_| drop(hook.lock()))
        .drop_deadline(Duration::from_secs(3600))
        .build()
        .unwrap();
    let (core, actor) = (core(&executor), executor.spawn(IdleActor(None)));
    let handle = executor.handle();
    *held.lock() = Some(executor);
    // The executor is ended by its own worker, so the hook's reference is the last one when the
    // crew is gone.
    let inside = Arc::clone(&held);
    drop(held);
    actor
        .tell(Call(Box::new(move || {
            handle.core().start_draining();
            let _ = handle.core().close_all(true, None);
            drop(inside);
        })))
        .unwrap();
    drop(actor);
    goes(&core);
}

/// Another thread takes the hook's lock again and again, so many of the children find it locked.
#[cfg(target_os = "linux")]
#[test]
fn a_forked_child_tells_the_hook_nothing() {
    use crate::cell::event::Event;
    use crate::sync::{AtomicBool, Ordering::Relaxed};

    let called = Arc::new(AtomicBool::new(false));
    let hook = Arc::clone(&called);
    let executor = Executor::builder()
        .workers(1)
        .on_event(move |_| hook.store(true, Relaxed))
        .build()
        .unwrap();
    let (core, over) = (executor.core().share(), Arc::new(AtomicBool::new(false)));
    let (looked_at, until) = (Arc::clone(&core), Arc::clone(&over));
    let looks = thread::spawn(move || {
        while !until.load(Relaxed) {
            assert!(looked_at.has_hook());
        }
    });
    for _ in 0..100 {
        let mut status = 0;
        // SAFETY: the child calls only the tested functions and functions that are safe after a
        // fork. The alarm ends a child that hangs.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::alarm(20);
                core.emit_event(|| Event::SpareEnded { spares: 0 });
                libc::_exit(i32::from(called.load(Relaxed)));
            }
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        }
        assert!(libc::WIFEXITED(status), "a forked child hangs");
        assert_eq!(libc::WEXITSTATUS(status), 0, "the hook was called");
    }
    over.store(true, Relaxed);
    looks.join().unwrap();
    core.emit_event(|| Event::SpareEnded { spares: 0 });
    assert!(called.load(Relaxed), "the parent's hook is called");
}

struct Own(#[allow(dead_code)] HeldReference);

impl Strategy for Own {
    fn route(&self, _: &Replicas<'_>) -> Route {
        Route::TwoChoices
    }
}

#[test]
fn factories_strategies_directories_handlers_states_messages_and_timers_may_hold_their_executor() {
    let held = HeldReference::default();
    let handler = Arc::clone(&held);
    let executor = Executor::builder()
        .workers(2)
        .spare_handler(move |spare| {
            drop(handler.lock().clone());
            thread::spawn(|| spare.run());
            Ok(())
        })
        .build()
        .unwrap();
    fill(&held, &executor);
    let thing = || -> Thing { Some(Box::new(Arc::clone(&held))) };
    let in_factory = Arc::clone(&held);
    let factory = move |_| IdleActor(Some(Box::new(Arc::clone(&in_factory))));
    let pool = executor.pool(3, factory).strategy(Own(Arc::clone(&held))).build().unwrap();
    pool.tell(Own(Arc::clone(&held)), Hello(thing())).unwrap();
    let in_directory = Arc::clone(&held);
    let directory = Directory::new(&executor, move |_: &u32| {
        IdleActor(Some(Box::new(Arc::clone(&in_directory))))
    });
    directory.tell(&1, Hello(thing())).unwrap();
    let actor = executor.spawn(IdleActor(thing()));
    let blocks = Call(Box::new(|| blocking(thread::yield_now)));
    actor.tell(blocks).unwrap();
    let timer = actor.tell_after(Duration::from_secs(3600), Hello(thing())).unwrap();
    timer.detach();
    let core = core(&executor);
    executor.wait_idle().unwrap();
    let rest = Arc::downgrade(&held);
    drop((held, actor, pool, directory));
    drop(executor);
    goes(&core);
    assert_eq!(rest.strong_count(), 0);
}

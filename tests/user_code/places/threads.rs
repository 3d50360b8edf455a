//! Defines places in threads: thread-local destructors on heist's threads, and handlers that start
//! threads.

use crate::Place;
use crate::acts::{Act, Token};
use crate::rig::{Latch, Outcome, Ping, Puppet, Rig, Run, Trap, crew};
use heist::{Context, Executor};
use std::cell::RefCell;
use std::time::Duration;

pub const PLACES: &[Place] = &[
    ("thread-local/worker", of_worker),
    ("thread-local/dedicated", of_dedicated),
    ("thread-local/spare", of_spare),
    ("thread-local/outside", of_outside),
    ("handler/spawn", spawn_handler),
    ("handler/spare", spare_handler),
];

struct OnExit {
    trap: Trap,
    _token: Token,
}

impl Drop for OnExit {
    fn drop(&mut self) {
        self.trap.spring();
    }
}

thread_local!(static EXIT: RefCell<Option<OnExit>> = const { RefCell::new(None) });

fn leave(rig: &Rig) -> impl FnOnce() + Send + use<> {
    let exit = OnExit { trap: rig.trap(), _token: Token::new(&rig.world.balance) };
    move || EXIT.with(|slot| drop(slot.borrow_mut().replace(exit)))
}

const ABORTS: Outcome =
    Outcome::Skip("a panic in a thread-local's destructor ends the process, by Rust's rule");

/// A worker's thread ends with its executor. The executor is a separate one, and the rig's crew
/// must not notice.
fn of_worker(rig: &Rig) -> Outcome {
    if rig.act().panics() {
        return ABORTS;
    }
    let executor = crew(1);
    let (actor, leave) = (executor.spawn(Puppet::default()), leave(rig));
    actor
        .ask(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| leave()))
        .expect("room")
        .wait()
        .expect("done");
    rig.arm();
    let report = executor.shutdown(Duration::from_secs(15)).expect("from outside");
    rig.sprung();
    assert!(report.complete, "{report:?}");
    assert!(actor.tell(Ping).is_err());
    Outcome::Done
}

fn of_dedicated(rig: &Rig) -> Outcome {
    if rig.act().panics() {
        return ABORTS;
    }
    let actor = rig.handle().spawn_dedicated(Puppet::default).expect("a thread");
    let leave = leave(rig);
    actor
        .ask(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| leave()))
        .expect("room")
        .wait()
        .expect("done");
    rig.arm();
    actor.stop();
    rig.sprung();
    actor.wait_stopped().expect("from outside");
    Outcome::Done
}

/// A thread that gave up its worker's slot ends after an idle period.
fn of_spare(rig: &Rig) -> Outcome {
    if rig.act().panics() {
        return ABORTS;
    }
    let builder =
        Executor::builder().workers(1).thread_name("mx").spare_keep_alive(Duration::from_millis(1));
    let executor = builder.build().expect("an executor");
    let (blocked, other) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
    let (inside, until) = (Latch::default(), Latch::default());
    let (entered, release, leave) = (inside.clone(), until.clone(), leave(rig));
    let run = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        leave();
        heist::blocking(|| {
            entered.open();
            release.wait();
        });
    });
    blocked.tell(run).expect("room");
    inside.wait();
    other.ask(Ping).expect("room").wait().expect("by the spare");
    let handle = executor.handle();
    *rig.world.also.lock() = Some(Box::new(move || {
        let actor = handle.spawn(Puppet::default());
        let _ = actor.ask(Ping).map(|mut ask| ask.wait());
    }));
    rig.arm();
    until.open();
    // Either the blocked thread or the spare ends now. A thread that the spare left ends with the
    // executor.
    if rig.act() == Act::Block || rig.act() == Act::Blocking {
        *rig.world.also.lock() = None;
    }
    drop(executor);
    rig.sprung();
    Outcome::Done
}

/// The thread belongs to the user and has used the executor.
fn of_outside(rig: &Rig) -> Outcome {
    if rig.act().panics() {
        return ABORTS;
    }
    let (leave, friend) = (leave(rig), rig.world.friend.clone());
    rig.arm();
    let thread = std::thread::spawn(move || {
        leave();
        friend.ask(Ping).expect("room").wait().expect("an answer");
    });
    rig.sprung();
    thread.join().expect("no panic");
    Outcome::Done
}

fn spawn_handler(rig: &Rig) -> Outcome {
    let trap = rig.trap();
    rig.arm();
    let build = || {
        let builder =
            Executor::builder().workers(2).thread_name("mx").spawn_handler(move |worker| {
                trap.spring();
                let named = std::thread::Builder::new().name(worker.name().to_string());
                named.spawn(move || worker.run()).map(drop)
            });
        builder.build().map(drop).map_err(drop)
    };
    let built = rig.caught(build);
    rig.sprung();
    assert_ne!(built, Some(Err(())));
    Outcome::Done
}

fn spare_handler(rig: &Rig) -> Outcome {
    let trap = rig.trap();
    let builder = Executor::builder().workers(1).thread_name("mx").spare_handler(move |spare| {
        trap.spring();
        let named = std::thread::Builder::new().name(spare.name().to_string());
        named.spawn(move || spare.run()).map(drop)
    });
    let executor = builder.build().expect("an executor");
    let actor = executor.spawn(Puppet::default());
    let until = Latch::default();
    let release = until.clone();
    rig.arm();
    let run =
        Run(move |_: &mut Puppet, _: &mut Context<Puppet>| heist::blocking(|| release.wait()));
    actor.tell(run).expect("room");
    rig.sprung();
    until.open();
    let answer = actor.ask(Ping).expect("room").wait();
    assert!(answer.is_ok(), "{answer:?}");
    Outcome::Done
}

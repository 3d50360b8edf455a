//! Defines places in keys, factories and strategies of directories and pools.

use crate::Place;
use crate::acts::Token;
use crate::rig::{Outcome, Ping, Puppet, Rig, Run, Trap, within};
use heist::strategy::{Replicas, RoundRobin, Route, Strategy};
use heist::{Context, Directory, Handler, Pool};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

pub const PLACES: &[Place] = &[
    ("directory/key-hash", |rig| key(rig, At::Hash)),
    ("directory/key-eq", |rig| key(rig, At::Eq)),
    ("directory/key-clone", |rig| key(rig, At::Clone)),
    ("directory/key-eq-at-the-end", |rig| key_at_the_end(rig, At::Eq)),
    ("directory/key-drop-at-the-end", |rig| key_at_the_end(rig, At::Drop)),
    ("directory/key-drop-with-it", key_drop_with_it),
    ("directory/key-eq-in-passivate", |rig| passivated(rig, At::Eq)),
    ("directory/make", make),
    ("directory/make-given", make_given),
    ("directory/make-dropped", make_dropped),
    ("directory/make-drop", make_drop),
    ("pool/factory-first", factory_first),
    ("pool/factory-successor", factory_successor),
    ("pool/factory-grow", factory_grow),
    ("pool/factory-drop", factory_drop),
    ("pool/strategy", strategy),
    ("pool/strategy-drop", strategy_drop),
    ("pool/broadcast-message", broadcast_message),
    ("pool/broadcast-clone", broadcast_clone),
    ("pool/queue-message-drop", queue_message_drop),
    ("pool/shrunk-message-drop", shrunk_message_drop),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Hash,
    Eq,
    Clone,
    Drop,
}

struct Key {
    number: u32,
    at: At,
    trap: Trap,
    _token: Token,
}

impl Key {
    fn new(rig: &Rig, at: At) -> Self {
        Key { number: 7, at, trap: rig.trap(), _token: Token::new(&rig.world.balance) }
    }
    fn spring(&self, at: At) {
        if self.at == at {
            self.trap.spring();
        }
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        self.spring(At::Clone);
        Key { trap: self.trap.clone(), _token: Token::new(&self.trap.0.balance), ..*self }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spring(At::Hash);
        self.number.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.spring(At::Eq);
        self.number == other.number
    }
}

impl Eq for Key {}

impl Drop for Key {
    fn drop(&mut self) {
        self.spring(At::Drop);
    }
}

/// Makes a directory that the prober uses at the same time, with keys of the same hash too.
fn directory(rig: &Rig, at: At) -> Arc<Directory<Key, Puppet>> {
    let directory = Arc::new(Directory::new(rig.handle(), |_: &Key| Puppet::default()));
    let (theirs, other) = (Arc::downgrade(&directory), rig.trap());
    *rig.world.also.lock() = Some(Box::new(move || {
        let Some(directory) = theirs.upgrade() else { return };
        for number in 0..64 {
            let key = Key { number, at, trap: other.clone(), _token: Token::new(&other.0.balance) };
            let _ = directory.find(&key);
            if number != 7 {
                let _ = directory.tell(&key, Ping);
            }
        }
        let _ = directory.stats();
    }));
    directory
}

fn key(rig: &Rig, at: At) -> Outcome {
    let directory = directory(rig, at);
    let key = Key::new(rig, at);
    if at != At::Clone {
        directory.tell(&key, Ping).expect("room");
        rig.handle().wait_idle().expect("from outside");
    }
    rig.arm();
    let actor = rig.caught(|| directory.get(&key));
    rig.sprung();
    if rig.alive() {
        let actor = actor.unwrap_or_else(|| directory.get(&key));
        actor.ask(Ping).expect("a living actor").wait().expect("an answer");
        assert!(directory.find(&key).is_some());
    }
    drop(key);
    drop(directory);
    Outcome::Done
}

fn key_at_the_end(rig: &Rig, at: At) -> Outcome {
    let directory = directory(rig, at);
    let key = std::mem::ManuallyDrop::new(Key::new(rig, at));
    let actor = directory.get(&key);
    actor.ask(Ping).expect("room").wait().expect("an answer");
    rig.handle().wait_idle().expect("from outside");
    rig.arm();
    actor.stop();
    actor.wait_stopped().expect("from outside");
    if at == At::Eq {
        // `Eq` need not be called here, so the trap is sprung by hand.
        let _ = rig.caught(|| rig.trap().spring());
    }
    rig.sprung();
    if rig.alive() {
        within("the next actor of the key answers", || {
            directory.ask(&key, Ping).is_ok_and(|mut ask| ask.wait().is_ok())
        });
    }
    drop(std::mem::ManuallyDrop::into_inner(key));
    Outcome::Done
}

fn key_drop_with_it(rig: &Rig) -> Outcome {
    let directory = directory(rig, At::Drop);
    let key = std::mem::ManuallyDrop::new(Key::new(rig, At::Drop));
    directory.tell(&key, Ping).expect("room");
    rig.handle().wait_idle().expect("from outside");
    rig.arm();
    let _ = rig.caught(|| drop(directory));
    rig.sprung();
    drop(std::mem::ManuallyDrop::into_inner(key));
    Outcome::Done
}

fn passivated(rig: &Rig, at: At) -> Outcome {
    let directory = directory(rig, at);
    let key = Key::new(rig, at);
    directory.tell(&key, Ping).expect("room");
    rig.handle().wait_idle().expect("from outside");
    rig.arm();
    let _ = rig.caught(|| directory.passivate(&key));
    rig.sprung();
    Outcome::Done
}

fn make(rig: &Rig) -> Outcome {
    let trap = rig.trap();
    let directory = Directory::new(rig.handle(), move |_: &u32| {
        trap.spring();
        Puppet::default()
    });
    rig.arm();
    let mut ask = directory.ask(&1, Ping).expect("room");
    rig.sprung();
    let answered = ask.wait().is_ok();
    assert!(answered != rig.act().panics() || !rig.alive());
    if rig.alive() {
        within("the next one is made", || {
            directory.ask(&1, Ping).is_ok_and(|mut ask| ask.wait().is_ok())
        });
    }
    Outcome::Done
}

fn make_given(rig: &Rig) -> Outcome {
    let (trap, directory) = (rig.trap(), Directory::new(rig.handle(), |_: &u32| Puppet::default()));
    rig.arm();
    let actor = directory.get_or_spawn(&1, move || {
        trap.spring();
        Puppet::default()
    });
    rig.sprung();
    let _ = actor.ask(Ping).map(|mut ask| ask.wait());
    if rig.alive() {
        within("the next one is made", || {
            directory.ask(&1, Ping).is_ok_and(|mut ask| ask.wait().is_ok())
        });
    }
    Outcome::Done
}

struct OnDrop(Trap);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.spring();
    }
}

/// The key has an actor already, so the directory drops the function without calling it.
fn make_dropped(rig: &Rig) -> Outcome {
    let (dropped, directory) =
        (OnDrop(rig.trap()), Directory::new(rig.handle(), |_: &u32| Puppet::default()));
    directory.tell(&1, Ping).expect("room");
    rig.arm();
    let _ = rig.caught(|| {
        directory.get_or_spawn(&1, move || {
            drop(dropped);
            Puppet::default()
        })
    });
    rig.sprung();
    Outcome::Done
}

/// The directory's own function is dropped with the directory's last reference.
fn make_drop(rig: &Rig) -> Outcome {
    let dropped = OnDrop(rig.trap());
    let directory = Directory::new(rig.handle(), move |_: &u32| {
        let _kept = &dropped;
        Puppet::default()
    });
    directory.tell(&1, Ping).expect("room");
    rig.arm();
    let _ = rig.caught(|| drop(directory));
    rig.sprung();
    Outcome::Done
}

/// Makes a pool that springs the trap in the factory call with the given number.
fn pool_of(rig: &Rig, call: u32) -> Result<Pool<Puppet>, heist::pool::PoolError> {
    let (trap, calls) = (rig.trap(), AtomicU32::new(0));
    let factory = move |_| {
        if calls.fetch_add(1, Relaxed) == call {
            trap.spring();
        }
        Puppet::default()
    };
    rig.handle().pool(2, factory).backoff(Duration::ZERO, Duration::from_millis(1)).build()
}

fn factory_first(rig: &Rig) -> Outcome {
    rig.arm();
    let pool = rig.caught(|| pool_of(rig, 1));
    rig.sprung();
    drop(pool);
    Outcome::Done
}

fn answers(rig: &Rig, pool: &Pool<Puppet>) {
    if rig.alive() {
        within("each replica answers", || {
            (0..pool.len()).all(|index| {
                let replica = pool.replica(index).expect("one");
                replica.ask(Ping).is_ok_and(|mut ask| ask.wait().is_ok())
            })
        });
    }
}

fn factory_successor(rig: &Rig) -> Outcome {
    let pool = pool_of(rig, 2).expect("a pool");
    rig.arm();
    pool.tell(RoundRobin, Run(|_: &mut Puppet, ctx: &mut Context<Puppet>| ctx.stop()))
        .expect("room");
    rig.sprung();
    answers(rig, &pool);
    Outcome::Done
}

fn factory_grow(rig: &Rig) -> Outcome {
    let pool = pool_of(rig, 2).expect("a pool");
    let others = pool.clone();
    *rig.world.also.lock() = Some(Box::new(move || {
        let _ = others.tell(RoundRobin, Ping);
        let _ = others.stats();
    }));
    rig.arm();
    let grown = rig.caught(|| pool.grow(2));
    rig.sprung();
    drop(grown);
    answers(rig, &pool);
    *rig.world.also.lock() = None;
    Outcome::Done
}

fn factory_drop(rig: &Rig) -> Outcome {
    let dropped = OnDrop(rig.trap());
    let factory = move |_| {
        let _kept = &dropped;
        Puppet::default()
    };
    let pool = rig.handle().pool(2, factory).build().expect("a pool");
    rig.handle().wait_idle().expect("from outside");
    rig.arm();
    let _ = rig.caught(|| drop(pool));
    rig.sprung();
    Outcome::Done
}

struct Springing(Trap);

impl Strategy for Springing {
    fn route(&self, _: &Replicas<'_>) -> Route {
        self.0.spring();
        Route::RoundRobin
    }
}

fn strategy(rig: &Rig) -> Outcome {
    let pool = rig.handle().pool(2, |_| Puppet::default()).build().expect("a pool");
    let others = pool.clone();
    *rig.world.also.lock() = Some(Box::new(move || {
        let _ = others.tell(RoundRobin, Ping);
        let _ = others.grow(1);
    }));
    let message = crate::rig::Springs::<8>::new(&rig.trap());
    rig.arm();
    let _ = rig.caught(|| pool.tell(Springing(rig.trap()), message).map_err(drop));
    rig.sprung();
    *rig.world.also.lock() = None;
    Outcome::Done
}

struct Dropping(#[allow(dead_code, reason = "for its drop")] OnDrop);

impl Strategy for Dropping {
    fn route(&self, _: &Replicas<'_>) -> Route {
        Route::RoundRobin
    }
}

/// The pool's default strategy is dropped with the pool.
fn strategy_drop(rig: &Rig) -> Outcome {
    let usual = Dropping(OnDrop(rig.trap()));
    let pool = rig.handle().pool(2, |_| Puppet::default()).strategy(usual).build().expect("a pool");
    rig.handle().wait_idle().expect("from outside");
    rig.arm();
    let _ = rig.caught(|| drop(pool));
    rig.sprung();
    Outcome::Done
}

fn broadcast_message(rig: &Rig) -> Outcome {
    let pool = rig.handle().pool(3, |_| Puppet::default()).build().expect("a pool");
    let trap = rig.trap();
    rig.arm();
    let answers = rig.caught(|| {
        pool.broadcast_with(|index| {
            if index == 1 {
                trap.spring();
            }
            Ping
        })
    });
    rig.sprung();
    if let Some(answers) = answers {
        assert_eq!(answers.wait().len(), 3);
    }
    Outcome::Done
}

struct Copied(Trap);

impl Clone for Copied {
    fn clone(&self) -> Self {
        self.0.spring();
        Copied(self.0.clone())
    }
}

impl Handler<Copied> for Puppet {
    type Reply = ();
    fn handle(&mut self, _: Copied, _: &mut Context<Self>) {}
}

fn broadcast_clone(rig: &Rig) -> Outcome {
    let pool = rig.handle().pool(3, |_| Puppet::default()).build().expect("a pool");
    rig.arm();
    let answers = rig.caught(|| pool.broadcast(Copied(rig.trap())));
    rig.sprung();
    drop(answers);
    Outcome::Done
}

/// The pool is stopped at once and drops a message that waits in its queue.
fn queue_message_drop(rig: &Rig) -> Outcome {
    let pool = rig.handle().pool(1, |_| Puppet::default()).build().expect("a pool");
    let held = rig.hold(&pool.replica(0).expect("one"));
    let message = crate::rig::Springs::<8>::new(&rig.trap());
    pool.tell(heist::strategy::SharedQueue, message).expect("room");
    rig.arm();
    pool.stop_now();
    held.open();
    rig.sprung();
    pool.wait_stopped().expect("from outside");
    Outcome::Done
}

/// The pool is stopped at once and drops a message that waits for a replica being removed.
fn shrunk_message_drop(rig: &Rig) -> Outcome {
    let pool = rig.handle().pool(2, |_| Puppet::default()).build().expect("a pool");
    let last = pool.replica(1).expect("two");
    let held = rig.hold(&last);
    last.tell(crate::rig::Springs::<8>::new(&rig.trap())).expect("room");
    drop(last);
    rig.arm();
    pool.shrink(1).expect("two");
    pool.stop_now();
    held.open();
    rig.sprung();
    pool.wait_stopped().expect("from outside");
    Outcome::Done
}

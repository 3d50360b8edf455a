//! Tests keys of a directory, which are user code: `Hash`, `Eq`, `Clone` and the drop of a key may
//! block, panic, and use the directory. No such code runs under a lock, and nothing is lost.

mod common;

use common::*;
use heist::{
    Actor, ActorRef, AskError, Context, Directory, Executor, Handler, Refusal, StopReason,
};
use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The steps of a key that run user code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Hash,
    Eq,
    Clone,
    Drop,
}

const OPS: [Op; 4] = [Op::Hash, Op::Eq, Op::Clone, Op::Drop];

type Act = Box<dyn FnOnce() + Send>;

/// Performs an action once, at the next step of the given kind of any key.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<Option<(Op, Act)>>>);

impl Script {
    fn at(&self, op: Op, act: impl FnOnce() + Send + 'static) {
        *self.0.lock().unwrap() = Some((op, Box::new(act)));
    }
    fn step(&self, op: Op) {
        let due = self.0.lock().unwrap().take_if(|(at, _)| *at == op);
        if let Some((_, act)) = due {
            act();
        }
    }
    fn is_done(&self) -> bool {
        self.0.lock().unwrap().is_none()
    }
}

/// A key with a constant hash, so that all keys lie in one shard of the table.
struct Key {
    id: u64,
    script: Script,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.script.step(Op::Hash);
        0u64.hash(state);
    }
}
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.script.step(Op::Eq);
        self.id == other.id
    }
}
impl Eq for Key {}
impl Clone for Key {
    fn clone(&self) -> Self {
        self.script.step(Op::Clone);
        Key { id: self.id, script: self.script.clone() }
    }
}
impl Drop for Key {
    fn drop(&mut self) {
        self.script.step(Op::Drop);
    }
}

struct Entry(u64);
impl Actor for Entry {}
struct Which;
impl Handler<Which> for Entry {
    type Reply = u64;
    fn handle(&mut self, _: Which, _: &mut Context<Self>) -> u64 {
        self.0
    }
}

type Keys = Directory<Key, Entry>;

fn directory(executor: &Executor) -> (Keys, impl Fn(u64) -> Key + Clone + Send + 'static, Script) {
    let script = Script::default();
    let theirs = script.clone();
    let key = move |id| Key { id, script: theirs.clone() };
    (Directory::new(executor, |key: &Key| Entry(key.id)), key, script)
}

/// Checks that each given key has its actor and that the table holds no others.
#[track_caller]
fn check(directory: &Keys, key: impl Fn(u64) -> Key, live: &[u64]) {
    within(LONG, "what ended has left the table", || directory.len() <= live.len());
    for &id in live {
        assert!(directory.find(&key(id)).is_some(), "{id}");
        assert_eq!(answer(directory.ask(&key(id), Which).unwrap()), Ok(id));
    }
    assert_eq!(directory.len(), live.len());
}

#[test]
fn keys_of_one_hash_are_told_apart() {
    let executor = crew(2);
    let (directory, key, _) = directory(&executor);
    let all: Vec<u64> = (0..100).collect();
    let held: Vec<ActorRef<Entry>> = all.iter().map(|&id| directory.get(&key(id))).collect();
    check(&directory, &key, &all);
    assert!(directory.find(&key(100)).is_none());
    for (id, actor) in held.iter().enumerate().filter(|(id, _)| id % 2 == 0) {
        assert!(directory.passivate(&key(id as u64)));
        assert!(!directory.passivate(&key(id as u64)));
        actor.stop();
        assert_eq!(ended(actor), StopReason::Stopped);
    }
    drop(held);
    check(&directory, &key, &all.into_iter().filter(|id| id % 2 == 1).collect::<Vec<_>>());
    shut_down(&executor);
}

/// A step of one key takes long. Other keys of the same shard are looked up meanwhile.
/// A look-up walks the keys of its hash once. A walk for each key, with a comparison of addresses
/// for each key that is known, would take minutes.
#[test]
fn many_keys_of_one_hash_cost_one_walk_each() {
    const KEYS: u64 = 800;
    let executor = crew(1);
    let (directory, key, _) = directory(&executor);
    let directory = Arc::new(directory);
    let here = Arc::clone(&directory);
    let thread = thread::spawn(move || {
        (0..KEYS).for_each(|id| drop(here.get(&key(id))));
        (0..KEYS).all(|id| here.find(&key(id)).is_some()) && here.find(&key(KEYS)).is_none()
    });
    within(LONG, "all keys are found", || thread.is_finished());
    assert!(thread.join().unwrap());
    assert_eq!(directory.len(), KEYS as usize);
    shut_down(&executor);
}

#[test]
fn a_key_that_blocks_keeps_nobody_waiting() {
    for op in OPS {
        let executor = crew(2);
        let (directory, key, script) = directory(&executor);
        check(&directory, &key, &[]);
        let other = key(2);
        assert_eq!(answer(directory.ask(&other, Which).unwrap()), Ok(2));
        let (inside, until) = (Latch::new(), Latch::new());
        let (opens, waits) = (inside.clone(), until.clone());
        let (theirs, slow) = (directory.clone(), key(1));
        script.at(op, move || {
            opens.open();
            waits.wait();
        });
        let caller = thread::spawn(move || {
            let got = answer(theirs.ask(&slow, Which).unwrap());
            drop(slow);
            got
        });
        inside.wait();
        assert_eq!(answer(directory.ask(&other, Which).unwrap()), Ok(2), "{op:?}");
        assert!(!caller.is_finished());
        until.open();
        assert_eq!(caller.join().unwrap(), Ok(1));
        drop(other);
        check(&directory, &key, &[1, 2]);
        shut_down(&executor);
    }
}

/// A half-made entry would block its key for ever.
#[test]
fn a_key_that_panics_leaves_the_table_as_it_was() {
    quiet_panics();
    for op in [Op::Hash, Op::Eq, Op::Clone] {
        let executor = crew(1);
        let (directory, key, script) = directory(&executor);
        assert_eq!(answer(directory.ask(&key(2), Which).unwrap()), Ok(2));
        for used in [1, 2] {
            if op == Op::Clone && used == 2 {
                continue; // the key of an existing actor is not cloned
            }
            let ways: [&dyn Fn(&Key); 5] = [
                &|key| drop(directory.get(key)),
                &|key| drop(directory.get_or_spawn(key, || Entry(9))),
                &|key| drop(directory.find(key)),
                &|key| drop(directory.tell(key, Which)),
                &|key| {
                    directory.passivate(key);
                },
            ];
            for (way, call) in ways.into_iter().enumerate() {
                if op == Op::Clone && (way == 2 || way == 4) {
                    continue; // nothing is spawned
                }
                let key = key(used);
                script.at(op, || intended_panic());
                assert!(
                    catch_unwind(AssertUnwindSafe(|| call(&key))).is_err(),
                    "{op:?}, way {way}"
                );
                assert!(script.is_done());
            }
        }
        check(&directory, &key, &[2]);
        assert_eq!(answer(directory.ask(&key(1), Which).unwrap()), Ok(1));
        shut_down(&executor);
    }
}

/// The directory's own copy of a key is dropped with its actor's end. Even if this drop panics, the
/// next actor begins.
#[test]
fn a_key_whose_drop_panics_holds_up_nobody() {
    quiet_panics();
    for workers in CREWS {
        let executor = crew(workers);
        let (directory, key, script) = directory(&executor);
        for round in 0..20 {
            let mine = key(1);
            let actor = directory.get(&mine);
            script.at(Op::Drop, || intended_panic());
            actor.stop();
            if round % 2 == 0 {
                ended(&actor);
                assert!(script.is_done(), "with the actor's last turn its key is gone");
            } // otherwise the next actor may take over the entry together with the key
            drop(actor);
            assert_eq!(answer(directory.ask(&mine, Which).unwrap()), Ok(1), "round {round}");
            drop(script.0.lock().unwrap().take());
            check(&directory, &key, &[1]);
        }
        shut_down(&executor);
    }
}

/// A step of a key that ran under a lock of the table would wait for itself here.
#[test]
fn a_key_may_use_its_directory() {
    for op in OPS {
        for workers in CREWS {
            let executor = crew(workers);
            let (directory, key, script) = directory(&executor);
            assert_eq!(answer(directory.ask(&key(2), Which).unwrap()), Ok(2));
            let (theirs, make, done) = (directory.clone(), key.clone(), Latch::new());
            let opens = done.clone();
            script.at(op, move || {
                // The step looks up its own key too, and the outer call then finds the actor of the
                // inner one.
                for id in [1, 2, 3] {
                    drop(theirs.get(&make(id)));
                }
                assert!(theirs.passivate(&make(3)));
                opens.open();
            });
            let mine = key(1);
            assert_eq!(answer(directory.ask(&mine, Which).unwrap()), Ok(1), "{op:?}");
            drop(mine);
            done.wait();
            check(&directory, &key, &[1, 2]);
            assert!(directory.stats().spawned <= 4, "{:?}", directory.stats());
            shut_down(&executor);
        }
    }
}

/// Several threads send, spawn, stop and wait at each step of the keys, and count questions and
/// answers.
#[test]
fn keys_that_collide_race() {
    let executor = crew(2);
    let (directory, key, _) = directory(&executor);
    thread::scope(|scope| {
        for seed in 0..4 {
            let (directory, key) = (directory.clone(), key.clone());
            scope.spawn(move || {
                let dice = Dice::new(seed);
                for _ in 0..300 {
                    let id = dice.below(5);
                    let mine = key(id);
                    match dice.below(4) {
                        0 => {
                            directory.passivate(&mine);
                        }
                        1 => directory.get(&mine).stop(),
                        // A stopped actor handles the messages that it has accepted.
                        _ => assert_eq!(answer(directory.ask(&mine, Which).unwrap()), Ok(id)),
                    }
                }
            });
        }
    });
    settle(&executor);
    assert!(directory.len() <= 5);
    shut_down(&executor);
}

/// The borrowed form of a key, with the same hash.
#[derive(PartialEq, Eq)]
struct Id(u64);

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        0u64.hash(state);
    }
}

/// Performs an action once, at the next borrow.
#[derive(Clone, Default)]
struct Borrowing(Arc<Mutex<Option<Act>>>);

impl Borrowing {
    fn next(&self, act: impl FnOnce() + Send + 'static) {
        *self.0.lock().unwrap() = Some(Box::new(act));
    }
}

/// A key that can be looked up by its id.
#[derive(Clone)]
struct Named {
    id: Arc<Id>,
    script: Borrowing,
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}
impl Eq for Named {}

impl Hash for Named {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl Borrow<Id> for Named {
    fn borrow(&self) -> &Id {
        let act = self.script.0.lock().unwrap().take();
        act.into_iter().for_each(|act| act());
        &self.id
    }
}

/// A key's `Borrow` may use the directory and panic, as its `Eq` may.
#[test]
fn a_borrowed_key_is_user_code_under_no_lock() {
    quiet_panics();
    let executor = crew(2);
    let keys = Directory::new(&executor, |key: &Named| Entry(key.id.0));
    let script = Borrowing::default();
    let key = |id| Named { id: Arc::new(Id(id)), script: script.clone() };
    let held: Vec<_> = (1..4).map(|id| keys.get(&key(id))).collect();
    assert_eq!(keys.find(&Id(2)).as_ref(), Some(&held[1]));
    assert!(keys.find(&Id(7)).is_none());
    let (theirs, other) = (keys.clone(), key(3));
    script.next(move || assert!(theirs.find(&other).is_some()));
    assert_eq!(keys.find(&Id(1)).as_ref(), Some(&held[0]));
    for _ in 0..2 {
        script.next(|| intended_panic());
        assert!(catch_unwind(AssertUnwindSafe(|| keys.find(&Id(3)))).is_err());
        script.next(|| intended_panic());
        assert!(catch_unwind(AssertUnwindSafe(|| keys.passivate(&Id(3)))).is_err());
    }
    assert!(keys.passivate(&Id(3)) && !keys.passivate(&Id(3)));
    assert_eq!(keys.len(), 3);
    for (actor, id) in held.iter().zip(1..) {
        assert_eq!(answer(actor.ask(Which).unwrap()), Ok(id));
    }
    shut_down(&executor);
}

/// Each way to send finds the key's actor by a borrowed key, and makes it if there is none.
#[test]
fn each_way_to_send_takes_a_borrowed_key() {
    let executor = crew(2);
    let directory = Directory::new(&executor, |_: &String| Puppet::default());
    directory.tell("tell", Note(1)).unwrap();
    assert_eq!(answer(directory.ask("ask", Note(2)).unwrap()), Ok(2));
    let soon = Instant::now() + Duration::from_secs(LONG);
    assert_eq!(answer(directory.ask_deadline("deadline", Note(3), soon).unwrap()), Ok(3));
    let late = directory.ask_deadline("deadline", Note(3), Instant::now()).unwrap();
    assert_eq!(answer(late), Err(AskError::Expired));
    for (limit, expected) in [(Duration::MAX, Ok(3)), (Duration::ZERO, Err(AskError::Expired))] {
        let asked = directory.ask_timeout("limit", Note(3), limit).unwrap();
        assert_eq!(answer(asked), expected);
    }
    directory.send("send", Note(4)).unwrap();
    directory.send_timeout("timeout", Note(5), Duration::MAX).unwrap();
    futures::executor::block_on(directory.send_async("async", Note(6))).unwrap();
    settle(&executor);
    let mut all = directory.actors();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["ask", "async", "deadline", "limit", "send", "tell", "timeout"]);
    assert!(all.iter().all(|(name, actor)| directory.find(name.as_str()).as_ref() == Some(actor)));
    shut_down(&executor);
    assert_eq!(directory.send("send", Note(4)).unwrap_err().refusal(), Refusal::ShuttingDown);
    let sent = futures::executor::block_on(directory.send_async("new", Note(6)));
    assert_eq!(sent.unwrap_err().into_message(), Note(6));
    for limit in [Duration::MAX, Duration::ZERO] {
        let refused = directory.ask_timeout("limit", Note(7), limit).unwrap_err();
        assert_eq!((refused.refusal(), refused.into_message()), (Refusal::ShuttingDown, Note(7)));
    }
}

/// A sender that waits for room in the mailbox of an actor that stops goes on to the next actor.
#[test]
fn a_waiting_send_goes_to_the_next_actor_of_the_key() {
    let executor = crew(2);
    let directory =
        Directory::builder(&executor).capacity(1).build(|_: &String| Puppet::default()).unwrap();
    for awaited in [false, true] {
        let first = directory.get("key");
        let held = Held::hold(&first);
        directory.tell("key", Note(0)).unwrap_or_else(|error| assert!(error.is_full()));
        let theirs = directory.clone();
        let sender = thread::spawn(move || {
            if awaited {
                futures::executor::block_on(theirs.send_async("key", Note(7)))
            } else {
                theirs.send("key", Note(7))
            }
        });
        first.stop();
        within(LONG, "the message is with the next actor", || {
            directory.find("key").is_some_and(|next| next != first && next.len() == 1)
        });
        sender.join().unwrap().unwrap();
        held.release();
        settle(&executor);
        let next = directory.get("key");
        assert_eq!(log_of(&next, 1).last(), Some(&7));
        next.stop();
        ended(&next);
    }
    let full = directory.get("full");
    let held = Held::hold(&full);
    let _ = full.tell(Note(1));
    let late = directory.send_timeout("full", Note(2), Duration::from_millis(1)).unwrap_err();
    assert_eq!((late.refusal(), late.into_message()), (Refusal::TimedOut, Note(2)));
    held.release();
    shut_down(&executor);
}

/// Settings of a directory's actors, seen from inside their turns.
#[test]
fn a_directorys_actors_have_its_budget_and_its_timing() {
    let executor = crew(1);
    let directory = Directory::<u64, Puppet>::builder(&executor).budget_messages(1);
    #[cfg(feature = "timing")]
    let directory = directory.timing(true);
    let directory = directory.build(|_| Puppet::default()).unwrap();
    let actor = directory.get(&1);
    settle(&executor);
    let held = Held::hold(&actor);
    let turns = executor.stats().workers[0].turns;
    (0..10).for_each(|n| directory.tell(&1, Note(n)).unwrap());
    drop(held);
    settle(&executor);
    let turns = executor.stats().workers[0].turns - turns;
    assert!(turns >= 10, "{turns} turns for 10 messages");
    #[cfg(feature = "timing")]
    {
        assert_eq!(actor.timing().unwrap().handling.count, 11);
        futures::executor::block_on(directory.send_async(&1, Note(10))).unwrap();
        settle(&executor);
        assert_eq!(actor.timing().unwrap().wait.count, 12);
        let untimed = Directory::new(&executor, |_: &u64| Puppet::default());
        assert!(untimed.get(&1).timing().is_none());
    }
}

//! Tests actors by key: one actor for each key, spawned on demand, ended when idle, and kept by
//! references, timers and callbacks. `directory_races.rs` tests the races.

mod common;

use common::diary::*;
use common::*;
use heist::directory::DirectoryError;
use heist::{
    Actor, AskError, Context, Directory, Executor, Handler, Receive, Refusal, Reply, StopReason,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3600);

fn puppets(executor: &Executor) -> Directory<u64, Puppet> {
    Directory::new(executor, |&key| Puppet { log: vec![key], kept: Vec::new() })
}

/// Waits until every released actor without work has ended. Returns the number of entries left.
#[track_caller]
fn live(executor: &Executor, directory: &Directory<u64, Puppet>) -> usize {
    settle(executor);
    directory.len()
}

#[test]
fn a_key_has_one_actor_until_that_ends() {
    on_every_crew(|executor| {
        let directory = puppets(executor);
        assert!(directory.is_empty() && directory.find(&1).is_none());
        let one = directory.get(&1);
        assert_eq!(directory.get(&1), one);
        assert_eq!(directory.get_or_spawn(&1, || unreachable!("there is one")), one);
        assert_eq!(directory.find(&1), Some(one.clone()));
        let two = directory.get_or_spawn(&2, || Puppet { log: vec![20], kept: Vec::new() });
        assert_ne!(one, two);
        assert_eq!(log_of(&one, 1), [1]);
        assert_eq!(log_of(&two, 1), [20]);
        directory.tell(&2, Note(21)).unwrap();
        assert_eq!(answer(directory.ask(&2, Log).unwrap()), Ok(vec![20, 21]));
        assert_eq!(live(executor, &directory), 2);
        one.stop();
        ended(&one);
        assert_eq!(live(executor, &directory), 1, "the entry of what has ended is gone");
        assert!(directory.find(&1).is_none());
        assert_ne!(directory.get(&1), one);
    });
}

/// The first actor cannot finish `stopped` until the test allows it. All messages for the key are
/// accepted meanwhile.
#[test]
fn the_next_begins_when_the_last_has_ended() {
    struct Slow(Diary, Latch);
    impl Actor for Slow {
        fn started(&mut self, _: &mut Context<Self>) {
            self.0.write("started");
        }
        fn stopped(&mut self, _: &StopReason) {
            self.0.write("stops");
            self.1.wait();
            self.0.write("stopped");
        }
    }
    impl Handler<Work> for Slow {
        type Reply = ();
        fn handle(&mut self, Work(name): Work, _: &mut Context<Self>) {
            self.0.write(name);
        }
    }
    on_every_crew(|executor| {
        let entries = Entries::default();
        let (theirs, until) = (entries.clone(), Latch::new());
        let opened = until.clone();
        let directory = Directory::new(executor, move |_: &&str| {
            theirs.write("made");
            Slow(Diary::new(&theirs), opened.clone())
        });
        directory.tell(&"key", Work("one")).unwrap();
        let first = directory.get(&"key");
        first.stop();
        within(LONG, "it is ending", || entries.all().last().is_some_and(|entry| entry == "stops"));
        let two = directory.ask(&"key", Work("two")).unwrap();
        let second = directory.get(&"key");
        assert_ne!(first, second);
        // The second actor is stopped while it waits, and a third waits behind it.
        second.stop();
        directory.tell(&"key", Work("three")).unwrap();
        let third = directory.get(&"key");
        assert!(third != second && third != first);
        assert!(!two.is_ready());
        assert_eq!(entries.all(), ["made", "started", "one", "stops"]);
        until.open();
        assert_eq!(answer(two), Ok(()));
        third.stop();
        ended(&third);
        let first = ["made", "started", "one", "stops", "stopped", "dropped"];
        let second = ["made", "started", "two", "stops", "stopped", "dropped"];
        let third = ["made", "started", "three", "stops", "stopped", "dropped"];
        assert_eq!(entries.all(), [first, second, third].concat());
        assert_eq!((directory.len(), directory.stats().spawned), (0, 3));
    });
}

/// The second actor waits for the first one's end, and its factory must not run after the kill.
#[test]
fn what_is_killed_before_it_could_begin_is_never_made() {
    on_every_crew(|executor| {
        let until = Latch::new();
        let makes = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&makes);
        let directory = Directory::new(executor, move |_: &u64| {
            counted.fetch_add(1, Relaxed);
            Puppet::default()
        });
        let first = directory.get(&1);
        let held = until.clone();
        first.tell(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| held.wait())).unwrap();
        first.stop();
        let second = directory.get(&1);
        let asked = directory.ask(&1, Log).unwrap();
        second.stop_now();
        until.open();
        assert_eq!(answer(asked), Err(AskError::Stopped));
        ended(&second);
        assert_eq!(live(executor, &directory), 0);
        assert_eq!(makes.load(Relaxed), 1);
        assert_eq!(executor.stats().dead_letters.killed, 1);
    });
}

#[test]
fn what_is_let_go_of_ends_when_nothing_waits_and_nothing_reaches_it() {
    on_every_crew(|executor| {
        let directory = puppets(executor);
        let first = directory.get(&1);
        let held = Held::hold(&first);
        let asks: Vec<_> = (0..100).map(|n| directory.ask(&1, Note(n)).unwrap()).collect();
        drop(first);
        assert!(directory.passivate(&1));
        assert!(!directory.passivate(&1), "it is let go of already");
        assert_eq!(directory.stats().kept, 0);
        held.release();
        for (n, ask) in asks.into_iter().enumerate() {
            assert_eq!(answer(ask), Ok(n as u64), "what had been accepted is handled");
        }
        assert_eq!(live(executor, &directory), 0);
        assert!(!directory.passivate(&1), "there is none");
        assert_eq!(executor.stats().dead_letters.total(), 0);
        assert_eq!(directory.stats().passivated, 1);
    });
}

type Debts = Arc<Mutex<Vec<Reply<u64>>>>;

/// Hands every reply to the test.
#[derive(Default)]
struct Debtor(Debts);

impl Actor for Debtor {}

struct Show(Debts);

impl Handler<Show> for Debtor {
    type Reply = ();
    fn handle(&mut self, Show(debts): Show, _: &mut Context<Self>) {
        self.0 = debts;
    }
}

struct Please;

impl Receive<Please> for Debtor {
    type Reply = u64;
    fn receive(&mut self, _: Please, reply: Reply<u64>, _: &mut Context<Self>) {
        self.0.lock().unwrap().push(reply);
    }
}

#[test]
fn a_reference_a_timer_and_an_unanswered_callback_keep_an_actor() {
    on_every_crew(|executor| {
        let directory = puppets(executor);
        let (debts, owed) = (Debts::default(), executor.spawn(Debtor::default()));
        owed.tell(Show(debts.clone())).unwrap();
        let kept = directory.get(&1);
        inside(&directory.get(&2), |_, ctx| ctx.tell_after(HOUR, Note(1)).unwrap().detach());
        let asked = owed.clone();
        inside(&directory.get(&3), move |_, ctx| {
            let then = |me: &mut Puppet, answer: Result<u64, AskError>, _: &mut Context<Puppet>| {
                me.log.push(answer.unwrap());
            };
            ctx.ask_then(&asked, Please, then).unwrap();
        });
        for key in 1..=3 {
            assert!(directory.passivate(&key));
        }
        assert_eq!((directory.len(), directory.stats().kept), (3, 0));
        assert_eq!(directory.find(&1), Some(kept.clone()), "looked up again it is the same");
        assert_eq!(directory.stats().kept, 1, "and kept again");
        settle(executor);
        debts.lock().unwrap().pop().expect("it has asked").send(33);
        within(LONG, "the one that was owed an answer goes", || directory.len() == 2);
        assert!(directory.passivate(&1));
        drop(kept);
        assert_eq!(directory.find(&2).map(|actor| log_of(&actor, 1)), Some(vec![2]));
        settle(executor);
        assert_eq!(directory.len(), 1);
    });
}

#[test]
fn what_is_idle_ends_and_so_does_what_looks_for_it() {
    on_every_crew(|executor| {
        let build = Directory::builder(executor).idle_timeout(Duration::from_millis(2));
        let directory = build.build(|_: &u64| Puppet::default()).unwrap();
        for round in 0..2 {
            for key in 0..1000 {
                directory.tell(&key, Note(key)).unwrap();
            }
            let held = directory.get(&0);
            within(LONG, "all but what is held goes", || directory.len() == 1);
            within(LONG, "that is not kept either", || directory.stats().kept == 0);
            within(LONG, "nothing looks for more", || executor.stats().live_actors == 1);
            assert_eq!(executor.stats().armed_timers, 0);
            assert_eq!(directory.find(&0), Some(held.clone()));
            drop(held);
            within(LONG, "it goes too", || directory.is_empty());
            within(LONG, "nothing is left", || executor.stats().live_actors == 0);
            assert!(directory.stats().passivated >= (round + 1) * 1001);
        }
        settle(executor);
    });
}

/// One actor is looked up all the time, and another only receives messages. Others come and go
/// beside them.
#[test]
fn what_is_used_stays() {
    let idle = Duration::from_millis(50);
    let executor = crew(2);
    // Tries again if this thread itself was held up for so long that the actors were idle.
    for _ in 0..100 {
        let build = Directory::builder(&executor).idle_timeout(idle);
        let directory = build.build(|_: &u64| Puppet::default()).unwrap();
        let (first, second) = (directory.get(&0).downgrade(), directory.get(&1).downgrade());
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        let mut others = 2;
        within(LONG, "others come and go", || {
            let _full_at_times = directory.tell(&0, Note(0));
            let _full_at_times = second.upgrade().map(|second| second.tell(Note(1)));
            let _full_never = directory.tell(&others, Note(0));
            others += 1;
            longest = longest.max(last.elapsed());
            last = Instant::now();
            directory.stats().passivated > 100
        });
        if longest < idle {
            assert_eq!(directory.get(&0).id(), first.id());
            assert_eq!(directory.get(&1).id(), second.id());
            return;
        }
    }
    panic!("this thread never ran for long enough");
}

#[test]
fn no_more_than_the_limit_are_kept_and_the_least_used_go_first() {
    on_every_crew(|executor| {
        for limit in [1, 2, 63, 64, 1000] {
            let build = Directory::builder(executor).max_actors(limit);
            let directory = build.build(|_: &u64| Puppet::default()).unwrap();
            let favourite = directory.get(&u64::MAX).downgrade();
            for key in 0..2000 {
                directory.tell(&key, Note(key)).unwrap();
                if limit > 1 {
                    assert_eq!(
                        directory.get(&u64::MAX).id(),
                        favourite.id(),
                        "used again and again it stays"
                    );
                }
                assert!(directory.stats().kept <= limit);
            }
            settle(executor);
            let stats = directory.stats();
            assert_eq!(stats.live, stats.kept);
            assert!(
                limit < 64 && stats.live == limit || stats.live >= limit / 2,
                "{limit}: {stats:?}"
            );
            assert!(stats.passivated >= 2000 - limit as u64);
        }
    });
}

#[test]
fn an_actor_that_cannot_be_made_leaves_nothing_and_the_next_may_be() {
    quiet_panics();
    on_every_crew(|executor| {
        let tries = AtomicU64::new(0);
        let directory = Directory::new(executor, move |&key: &u64| {
            if tries.fetch_add(1, Relaxed) == 0 {
                intended_panic();
            }
            Puppet { log: vec![key], kept: Vec::new() }
        });
        assert_eq!(cause(directory.ask(&1, Log).unwrap()), INTENDED);
        settle(executor);
        assert!(directory.is_empty());
        assert_eq!(answer(directory.ask(&1, Log).unwrap()), Ok(vec![1]));
        let never = directory.get_or_spawn(&2, || intended_panic());
        assert!(matches!(ended(&never), StopReason::Panicked(text) if text.as_str() == INTENDED));
        within(LONG, "its entry goes", || directory.len() == 1);
        assert_eq!(answer(directory.ask(&2, Log).unwrap()), Ok(vec![2]));
        // A panic in a handler ends this actor like any other, and the key gets a new one.
        let doomed = directory.get(&2);
        doomed.tell(Run(|_: &mut Puppet, _: &mut Context<Puppet>| intended_panic())).unwrap();
        ended(&doomed);
        assert_eq!(answer(directory.ask(&2, Log).unwrap()), Ok(vec![2]));
        assert_eq!(executor.stats().panicked, 3);
    });
}

/// The directory learns of the end even if the drop of the state panics.
#[test]
fn a_panicking_drop_does_not_hold_up_the_next() {
    quiet_panics();
    struct Doomed;
    impl Drop for Doomed {
        fn drop(&mut self) {
            intended_panic();
        }
    }
    on_every_crew(|executor| {
        let directory = puppets(executor);
        inside(&directory.get(&1), |me, _| me.kept.push(Box::new(Doomed)));
        directory.get(&1).stop();
        assert_eq!(answer(directory.ask(&1, Log).unwrap()), Ok(vec![1]));
    });
}

/// The factory may use other actors and may even look up its own key.
#[test]
fn an_actor_is_made_on_the_crew_and_may_use_the_directory() {
    on_every_crew(|executor| {
        let itself: Arc<OnceLock<Directory<u64, Puppet>>> = Arc::default();
        let theirs = Arc::clone(&itself);
        let here = thread::current().id();
        let directory = Directory::new(executor, move |&key: &u64| {
            assert_ne!(thread::current().id(), here);
            let directory = theirs.get().expect("set below");
            directory.tell(&key, Note(100 + key)).unwrap();
            if key > 0 {
                directory.tell(&(key - 1), Note(200 + key)).unwrap();
            }
            Puppet { log: vec![key], kept: Vec::new() }
        });
        assert!(itself.set(directory.clone()).is_ok());
        drop(directory.get(&50));
        settle(executor);
        assert_eq!(directory.len(), 51);
        assert_eq!(log_of(&directory.get(&50), 2), [50, 150]);
        assert_eq!(log_of(&directory.get(&0), 3), [0, 201, 100]);
    });
}

#[test]
fn after_the_end_a_directory_refuses_with_the_message_inside() {
    for workers in CREWS {
        let executor = crew(workers);
        let tokens = Tokens::new();
        let directory = puppets(&executor);
        for key in 0..100 {
            let token = tokens.token();
            inside(&directory.get(&key), move |me, _| me.kept.push(Box::new(token)));
        }
        let there = directory.get(&7);
        shut_down(&executor);
        tokens.assert_each_dropped_once();
        assert!(directory.is_empty(), "all have ended: {directory:?}");
        for key in [7, 1000] {
            let refused = directory.tell(&key, Note(key)).unwrap_err();
            assert_eq!(refused.refusal(), Refusal::ShuttingDown);
            assert_eq!(refused.into_message(), Note(key));
            assert_eq!(
                directory.ask(&key, Log).map(drop).unwrap_err().refusal(),
                Refusal::ShuttingDown
            );
            assert!(!directory.get(&key).is_running());
            assert!(!directory.get_or_spawn(&key, || unreachable!("nothing is made")).is_running());
            assert!(directory.find(&key).is_none());
        }
        drop(executor);
        assert!(directory.tell(&7, Note(7)).is_err() && there.tell(Note(7)).is_err());
    }
}

/// Idle actors are kept by the directory only, and end with its last handle.
#[test]
fn with_the_last_directory_its_actors_go() {
    on_every_crew(|executor| {
        let tokens = Tokens::new();
        let build = Directory::builder(executor).idle_timeout(HOUR).capacity(2);
        let directory = build.build(|_: &u64| Puppet::default()).unwrap();
        assert_eq!(directory.get(&0).capacity(), Some(2));
        for key in 0..100 {
            let token = tokens.token();
            inside(&directory.get(&key), move |me, _| me.kept.push(Box::new(token)));
        }
        let (other, held) = (directory.clone(), directory.get(&5));
        drop(directory);
        settle(executor);
        assert_eq!(tokens.alive(), 100);
        drop(other);
        settle(executor);
        assert_eq!(tokens.alive(), 1, "what is held elsewhere lives");
        assert_eq!(executor.stats().armed_timers, 0);
        drop(held);
        settle(executor);
        assert_eq!(executor.stats().live_actors, 0);
        tokens.assert_each_dropped_once();
    });
}

#[test]
fn every_bad_setting_has_its_error() {
    let executor = crew(1);
    let build = || Directory::<u64, Puppet>::builder(&executor);
    let error = |builder: heist::directory::DirectoryBuilder<u64, Puppet>| {
        builder.build(|_| Puppet::default()).map(drop).expect_err("a bad setting")
    };
    assert_eq!(error(build().idle_timeout(Duration::ZERO)), DirectoryError::IdleTimeout);
    assert_eq!(error(build().max_actors(0)), DirectoryError::MaxActors);
    assert_eq!(error(build().capacity(0)), DirectoryError::Capacity(0));
    assert_eq!(error(build().capacity(usize::MAX)), DirectoryError::Capacity(usize::MAX));
    assert_eq!(error(build().capacity(1).unbounded()), DirectoryError::BoundedAndUnbounded);
    assert_eq!(error(build().budget_messages(0)), DirectoryError::Budget);
    assert_eq!(error(build().budget_time(Duration::ZERO)), DirectoryError::Budget);
    let corrected = build().capacity(0).capacity(3).budget_messages(0).budget_messages(1);
    let corrected = corrected.build(|_| Puppet::default()).unwrap();
    assert_eq!(corrected.get(&1).capacity(), Some(3));
    let unbounded = build().unbounded().build(|_| Puppet::default()).unwrap();
    assert_eq!(unbounded.get(&1).capacity(), None);
}

/// A panic in a key's comparison reaches the caller, and the directory stays consistent.
#[test]
fn a_panicking_comparison_is_the_callers() {
    quiet_panics();
    #[derive(Clone)]
    struct Key(&'static str);
    impl std::hash::Hash for Key {
        fn hash<H: std::hash::Hasher>(&self, _: &mut H) {} // one hash for all keys, so that they are compared
    }
    impl PartialEq for Key {
        fn eq(&self, other: &Self) -> bool {
            if other.0 == "bad" && self.0 == "bad" {
                intended_panic();
            }
            self.0 == other.0
        }
    }
    impl Eq for Key {}
    let executor = crew(2);
    let directory = Directory::new(&executor, |_: &Key| Puppet::default());
    directory.tell(&Key("bad"), Note(1)).unwrap(); // the table has no key to compare with yet
    let again = catch_unwind(AssertUnwindSafe(|| directory.tell(&Key("bad"), Note(2)).is_ok()));
    assert!(again.is_err());
    assert!(!thread::panicking());
    for n in 0..100 {
        directory.tell(&Key("good"), Note(n)).unwrap();
        directory.passivate(&Key("good"));
    }
    settle(&executor);
    assert_eq!((directory.len(), executor.stats().handled), (1, 101));
    shut_down(&executor);
}

//! Tests the life of an actor: its start, its ways to end, and their order (rules 4 and 5 of
//! `docs/rules.md`). `reach.rs` tests what keeps an actor alive.

mod common;

use common::diary::*;
use common::*;
use heist::{Actor, AskError, Context, Refusal, StopReason, WaitError};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{self, Wake, Waker};
use std::thread;
use std::time::Duration;

#[test]
fn stop_handles_what_was_accepted_and_refuses_the_rest() {
    on_every_crew(|executor| {
        let entries = Entries::default();
        let (diary, until) = paused(executor, &entries);
        let one = diary.ask(Work("one")).unwrap();
        diary.tell(Work("two")).unwrap();
        assert!(diary.is_running());
        diary.stop();
        assert!(!diary.is_running());
        let refused = diary.tell(Work("three")).unwrap_err();
        assert_eq!((refused.refusal(), refused.into_message().0), (Refusal::Stopped, "three"));
        diary.stop();
        until.open();
        assert_eq!(answer(one), Ok(()));
        assert_eq!(ended(&diary), StopReason::Stopped);
        assert_eq!(entries.all(), ["started", "one", "two", "stopped: stopped", "dropped"]);
        assert_eq!(executor.stats().dead_letters.total(), 0);
    });
}

#[test]
fn stop_now_overtakes_what_waits_and_its_askers_are_told() {
    on_every_crew(|executor| {
        let entries = Entries::default();
        let (diary, until) = paused(executor, &entries);
        let one = diary.ask(Work("one")).unwrap();
        diary.tell(Work("two")).unwrap();
        diary.stop(); // the stronger call comes second and takes effect
        diary.stop_now();
        until.open();
        assert_eq!(answer(one), Err(AskError::Stopped));
        assert_eq!(ended(&diary), StopReason::Killed);
        assert_eq!(entries.all(), ["started", "stopped: stopped at once", "dropped"]);
        assert_eq!(
            (executor.stats().dead_letters.killed, executor.stats().dead_letters.total()),
            (2, 2)
        );
    });
}

/// A `stop_now` to a flooded mailbox is neither refused nor late, and ends messages that waited
/// when the turn began.
#[test]
fn stop_now_ends_the_turn_after_the_message_in_hand() {
    on_every_crew(|executor| {
        let puppet = executor.spawn(Puppet::default());
        let held = Held::hold(&puppet);
        let last = puppet
            .ask(Run(|_: &mut Puppet, ctx: &mut Context<Puppet>| ctx.me().stop_now()))
            .unwrap();
        let rest: Vec<_> = (0..10).map(|n| puppet.ask(Note(n)).unwrap()).collect();
        held.release();
        assert_eq!(answer(last), Ok(()));
        for ask in rest {
            assert_eq!(answer(ask), Err(AskError::Stopped));
        }
        assert_eq!(ended(&puppet), StopReason::Killed);
    });
}

/// `stop` needs no place in the mailbox, or a flood would keep the actor running for ever.
#[test]
fn stop_works_on_a_mailbox_that_is_full_all_the_time() {
    for workers in CREWS {
        for kill in [false, true] {
            let executor = crew(workers);
            let puppet = executor.build(Puppet::default()).capacity(4).spawn();
            let accepted = AtomicU64::new(0);
            thread::scope(|scope| {
                for sender in 0..3 {
                    let (puppet, accepted) = (&puppet, &accepted);
                    scope.spawn(move || {
                        loop {
                            let sent = if sender == 0 {
                                puppet.send(Note(1))
                            } else {
                                puppet.tell(Note(1))
                            };
                            match sent {
                                Ok(()) => _ = accepted.fetch_add(1, Relaxed),
                                Err(error) if error.is_full() => {}
                                Err(error) => break assert_eq!(error.refusal(), Refusal::Stopped),
                            }
                        }
                    });
                }
                within(LONG, "the flood", || accepted.load(Relaxed) > 1000);
                if kill {
                    puppet.stop_now()
                } else {
                    puppet.stop()
                }
                let expected = if kill { StopReason::Killed } else { StopReason::Stopped };
                assert_eq!(ended(&puppet), expected);
            });
            settle(&executor);
            let (stats, accepted) = (executor.stats(), accepted.load(Relaxed));
            assert_eq!(stats.accepted, accepted);
            assert!(kill || stats.handled == accepted, "stop loses nothing: {stats:?}");
            shut_down(&executor);
        }
    }
}

#[test]
fn an_actor_stops_itself_and_finishes_its_turn() {
    on_every_crew(|executor| {
        let entries = Entries::default();
        let diary = executor.spawn(Diary::new(&entries));
        assert_eq!(answer(diary.ask(End).unwrap()), Ok(Refusal::Stopped));
        assert_eq!(ended(&diary), StopReason::Stopped);
        assert_eq!(entries.all(), ["started", "stopping", "stopped: stopped", "dropped"]);
    });
}

/// Leftovers are answered, then `stopped` runs, then the state is dropped, then `wait_stopped`
/// returns. Each step is over before the next.
#[test]
fn an_end_has_its_order() {
    struct Witness(Entries, &'static str);
    impl Wake for Witness {
        fn wake(self: Arc<Self>) {
            self.0.write(self.1);
        }
    }
    on_every_crew(|executor| {
        let entries = Entries::default();
        let (diary, until) = paused(executor, &entries);
        let mut asked = diary.ask(Work("never")).unwrap();
        let asker = Arc::new(Witness(entries.clone(), "asker told")).into();
        assert!(
            Future::poll(Pin::new(&mut asked), &mut task::Context::from_waker(&asker)).is_pending()
        );
        let mut end = Box::pin(diary.wait_stopped_async());
        let waiter = Arc::new(Witness(entries.clone(), "waiter told")).into();
        assert!(end.as_mut().poll(&mut task::Context::from_waker(&waiter)).is_pending());
        diary.stop_now();
        until.open();
        settle(executor);
        let order = ["started", "asker told", "stopped: stopped at once", "dropped", "waiter told"];
        assert_eq!(entries.all(), order);
        assert_eq!(futures::executor::block_on(end), StopReason::Killed);
        assert_eq!(futures::executor::block_on(asked), Err(AskError::Stopped));
    });
}

#[test]
fn stopped_runs_if_and_only_if_started_returned() {
    quiet_panics();
    on_every_crew(|executor| {
        for (panics_in, expected) in [
            ("started", vec!["started", "dropped"]),
            ("work", vec!["started", "work", "stopped: panicked: intended", "dropped"]),
            ("stopped: stopped", vec!["started", "work", "stopped: stopped", "dropped"]),
        ] {
            let entries = Entries::default();
            let mut diary = Diary::new(&entries);
            diary.panics_in = panics_in;
            let diary = executor.spawn(diary);
            let _refused_after_a_panic = diary.tell(Work("work"));
            diary.stop();
            ended(&diary);
            assert_eq!(entries.all(), expected);
        }
        // Stopped before the first turn: both hooks run, or neither does.
        let held = Held::hold(&executor.spawn(Puppet::default()));
        let early = [false, true].map(|kill| {
            let entries = Entries::default();
            let diary = executor.spawn(Diary::new(&entries));
            if kill {
                diary.stop_now()
            } else {
                diary.stop()
            }
            entries
        });
        held.release();
        settle(executor);
        for entries in early.map(|entries| entries.all()) {
            let count = |hook| entries.iter().filter(|entry| entry.starts_with(hook)).count();
            assert_eq!(count("started"), count("stopped"), "{entries:?}");
            assert_eq!(count("dropped"), 1, "{entries:?}");
        }
    });
}

#[test]
fn the_last_reference_ends_the_actor_on_the_crew() {
    struct Where(Arc<Mutex<Option<String>>>);
    impl Actor for Where {}
    impl Drop for Where {
        fn drop(&mut self) {
            *self.0.lock().unwrap() = thread::current().name().map(String::from);
        }
    }
    on_every_crew(|executor| {
        let place = Arc::default();
        let actor = executor.spawn(Where(Arc::clone(&place)));
        settle(executor);
        drop(actor);
        settle(executor);
        let dropped_on = place.lock().unwrap().clone().expect("it was dropped");
        assert!(dropped_on.starts_with("heist-"), "dropped on {dropped_on}");
        assert_eq!(executor.stats().live_actors, 0);
    });
}

/// The last reference is dropped inside another actor's turn, and the end is not nested in that
/// turn.
#[test]
fn an_end_is_never_nested_in_another_turn() {
    let executor = crew(1);
    let entries = Entries::default();
    let diary = executor.spawn(Diary::new(&entries));
    settle(&executor);
    let puppet = executor.spawn(Puppet::default());
    let theirs = entries.clone();
    let turn = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        drop(diary);
        theirs.all()
    });
    assert_eq!(answer(puppet.ask(turn).unwrap()).unwrap(), ["started"]);
    settle(&executor);
    assert_eq!(entries.all(), ["started", "stopped: no longer referenced", "dropped"]);
}

#[test]
fn wait_stopped_waits_times_out_and_is_awaited() {
    on_every_crew(|executor| {
        let puppet = executor.spawn(Puppet::default());
        let timeout = puppet.wait_stopped_timeout(Duration::from_millis(1));
        assert_eq!(timeout, Err(WaitError::TimedOut));
        let own = puppet.clone();
        let inside = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| own.wait_stopped());
        assert_eq!(answer(puppet.ask(inside).unwrap()).unwrap(), Err(WaitError::OnCrew));
        let waiting: Vec<_> = (0..3).map(|_| puppet.clone()).collect();
        let waiting: Vec<_> =
            waiting.into_iter().map(|puppet| thread::spawn(move || ended(&puppet))).collect();
        let awaited = puppet.wait_stopped_async();
        puppet.stop();
        assert_eq!(futures::executor::block_on(awaited), StopReason::Stopped);
        for waiter in waiting {
            assert_eq!(waiter.join().unwrap(), StopReason::Stopped);
        }
        assert_eq!(puppet.wait_stopped(), Ok(StopReason::Stopped), "and again, later");
    });
}

#[test]
fn a_shutdown_is_a_reason_of_its_own() {
    for workers in CREWS {
        for now in [false, true] {
            let executor = crew(workers);
            let entries = Entries::default();
            let diary = executor.spawn(Diary::new(&entries));
            settle(&executor);
            let deadline = Duration::from_secs(LONG);
            let report =
                if now { executor.shutdown_now(deadline) } else { executor.shutdown(deadline) };
            assert!(report.unwrap().complete);
            assert_eq!(diary.wait_stopped(), Ok(StopReason::Shutdown));
            assert_eq!(entries.all(), ["started", "stopped: its executor shut down", "dropped"]);
        }
    }
}

/// A waker of an actor's end finds the actor counted as ended.
#[test]
fn an_end_is_counted_before_waiters_are_told() {
    struct Counts(heist::Handle, AtomicU64);
    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.1.store(1 + self.0.stats().live_actors, Relaxed);
        }
    }
    on_every_crew(|executor| {
        for dedicated in [false, true] {
            let actor = match dedicated {
                true => executor.spawn_dedicated(Puppet::default).unwrap(),
                false => executor.spawn(Puppet::default()),
            };
            let counts = Arc::new(Counts(executor.handle(), AtomicU64::new(0)));
            let (waker, mut wait) = (Waker::from(Arc::clone(&counts)), actor.wait_stopped_async());
            assert!(Pin::new(&mut wait).poll(&mut task::Context::from_waker(&waker)).is_pending());
            actor.stop();
            ended(&actor);
            assert_eq!(executor.stats().live_actors, 0);
            within(LONG, "the waker runs", || counts.1.load(Relaxed) > 0);
            assert_eq!(counts.1.load(Relaxed), 1);
        }
    });
}

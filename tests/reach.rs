//! Tests what keeps an actor alive and what does not (rule 6 of `docs/rules.md`), clause by clause.

mod common;

use common::diary::*;
use common::*;
use heist::{
    Actor, ActorRef, AskError, Context, Executor, Handler, Receive, Reply, StopReason, WaitError,
    WeakRef,
};
use std::thread;
use std::time::Duration;

/// Waits until the executor is idle. Returns `true` if the actor has ended.
fn is_gone(executor: &Executor, entries: &Entries) -> bool {
    settle(executor);
    entries.all().last().is_some_and(|entry| entry == "dropped")
}

#[test]
fn references_recipients_and_askers_keep_an_actor() {
    on_every_crew(|executor| {
        let entries = Entries::default();
        let diary = executor.spawn(Diary::new(&entries));
        let recipient = diary.recipient::<Work>();
        let asker = recipient.clone();
        let last = diary.asker::<End>();
        drop(diary);
        drop(recipient);
        assert!(!is_gone(executor, &entries));
        asker.tell(Work("reached")).unwrap();
        drop(asker);
        assert!(!is_gone(executor, &entries) && last.is_running());
        drop(last.clone());
        assert!(!is_gone(executor, &entries));
        drop(last);
        assert!(is_gone(executor, &entries));
        assert_eq!(
            entries.all(),
            ["started", "reached", "stopped: no longer referenced", "dropped"]
        );
    });
}

#[test]
fn a_queued_message_and_a_running_turn_keep_an_actor() {
    on_every_crew(|executor| {
        let entries = Entries::default();
        let (diary, until) = paused(executor, &entries);
        for name in ["one", "two"] {
            diary.tell(Work(name)).unwrap();
        }
        let three = diary.ask(Work("three")).unwrap();
        drop(diary);
        until.open();
        assert_eq!(answer(three), Ok(()));
        assert!(is_gone(executor, &entries));
        assert_eq!(
            entries.all(),
            ["started", "one", "two", "three", "stopped: no longer referenced", "dropped"]
        );
    });
}

/// In its last turn, an actor may make a reference to itself, and then lives on.
#[test]
fn a_reference_made_inside_the_turn_keeps_an_actor() {
    on_every_crew(|executor| {
        let puppet = executor.spawn(Puppet::default());
        let (give, given) = crossbeam_channel::bounded(1);
        let reborn = Run(move |_: &mut Puppet, ctx: &mut Context<Puppet>| {
            give.send(ctx.me().clone()).unwrap()
        });
        puppet.tell(reborn).unwrap();
        drop(puppet);
        let puppet = given.recv_timeout(Duration::from_secs(LONG)).unwrap();
        settle(executor);
        assert_eq!(answer(puppet.ask(Note(5)).unwrap()), Ok(5));
    });
}

struct AskAndGo(ActorRef<Diary>, Entries);

impl Handler<AskAndGo> for Puppet {
    type Reply = ();
    fn handle(&mut self, AskAndGo(diary, entries): AskAndGo, ctx: &mut Context<Self>) {
        let answered =
            move |_: &mut Puppet, result: Result<(), AskError>, _: &mut Context<Puppet>| {
                entries.write(format!("callback: {result:?}"));
            };
        ctx.ask_then(&diary, Keep, answered).unwrap();
    }
}

#[test]
fn a_callback_that_is_owed_keeps_an_actor() {
    on_every_crew(|executor| {
        let entries = Entries::default();
        let keeper = executor.spawn(Diary::new(&entries));
        let puppet = executor.spawn(Puppet::default());
        puppet.tell(AskAndGo(keeper.clone(), entries.clone())).unwrap();
        drop(puppet);
        settle(executor);
        assert_eq!(executor.stats().live_actors, 2, "the answer is still owed");
        keeper.stop();
        ended(&keeper);
        settle(executor);
        assert_eq!(entries.all().last().unwrap(), "callback: Err(Stopped)");
        assert_eq!(executor.stats().live_actors, 0);
    });
}

#[test]
fn weak_references_and_replies_do_not_keep_an_actor() {
    on_every_crew(|executor| {
        let entries = Entries::default();
        let diary = executor.spawn(Diary::new(&entries));
        let weak = diary.downgrade();
        let kept = diary.ask(Keep).unwrap();
        settle(executor);
        assert_eq!(weak.upgrade().as_ref(), Some(&diary));
        assert_eq!(weak.id(), diary.id());
        drop(diary);
        assert!(is_gone(executor, &entries));
        assert_eq!(answer(kept), Err(AskError::Stopped));
        assert!(weak.upgrade().is_none());
        assert!(weak.clone().upgrade().is_none());

        // A reply held elsewhere does not keep the actor either.
        let (give, given) = crossbeam_channel::bounded(1);
        struct Passer(crossbeam_channel::Sender<Reply<u64>>);
        impl Actor for Passer {}
        impl Receive<Keep> for Passer {
            type Reply = u64;
            fn receive(&mut self, _: Keep, reply: Reply<u64>, _: &mut Context<Self>) {
                self.0.send(reply).unwrap();
            }
        }
        let passer = executor.spawn(Passer(give));
        let (weak, ask) = (passer.downgrade(), passer.ask(Keep).unwrap());
        drop(passer);
        settle(executor);
        assert!(weak.upgrade().is_none());
        given.recv().unwrap().send(6);
        assert_eq!(answer(ask), Ok(6));
    });
}

#[test]
fn a_detached_actor_stays_until_it_is_stopped() {
    on_every_crew(|executor| {
        let entries = Entries::default();
        let diary = executor.spawn(Diary::new(&entries));
        let weak = diary.downgrade();
        diary.detach();
        assert!(!is_gone(executor, &entries));
        let diary = weak.upgrade().expect("it lives without references");
        diary.tell(Work("reached")).unwrap();
        drop(diary);
        assert!(!is_gone(executor, &entries));
        weak.upgrade().unwrap().stop();
        assert!(is_gone(executor, &entries));
        assert_eq!(entries.all(), ["started", "reached", "stopped: stopped", "dropped"]);
    });
}

/// By a thread, by a task, and by a recipient.
#[test]
fn a_wait_by_a_weak_reference_does_not_keep_an_actor() {
    on_every_crew(|executor| {
        let entries = Entries::default();
        let diary = executor.spawn(Diary::new(&entries));
        let (weak, recipient) = (diary.downgrade(), diary.recipient::<Work>().downgrade());
        let short = Duration::from_millis(1);
        assert_eq!(weak.wait_stopped_timeout(short), Err(WaitError::TimedOut));
        assert_eq!(recipient.wait_stopped_timeout(short), Err(WaitError::TimedOut));
        let (task, other_task) = (weak.wait_stopped_async(), recipient.wait_stopped_async());
        let threads = [
            thread::spawn(move || weak.wait_stopped()),
            thread::spawn(move || recipient.wait_stopped()),
        ];
        assert!(!is_gone(executor, &entries));
        drop(diary);
        for thread in threads {
            assert_eq!(thread.join().unwrap(), Ok(StopReason::Unreferenced));
        }
        for task in [task, other_task] {
            assert_eq!(futures::executor::block_on(task), StopReason::Unreferenced);
        }
        assert_eq!(
            entries.all(),
            ["started", "stopped: no longer referenced", "dropped"],
            "the end was complete before the waits"
        );
    });
}

/// On the crew, on a worker of another crew, while the executor drains, and after its end.
#[test]
fn a_wait_by_a_weak_reference_knows_where_it_stands() {
    let (executor, other) = (crew(2), crew(1));
    let (puppet, elsewhere) = (executor.spawn(Puppet::default()), other.spawn(Puppet::default()));
    let weak = puppet.downgrade();
    let on_crew = weak.clone();
    let waited = inside(&puppet, move |_, _| on_crew.wait_stopped());
    assert_eq!(waited, Err(WaitError::OnCrew));
    let last = executor.spawn(Puppet::default());
    let waited = inside(&elsewhere, move |_, _| {
        let weak = last.downgrade();
        drop(last);
        weak.wait_stopped()
    });
    assert_eq!(waited, Ok(StopReason::Unreferenced));

    let held = Held::hold(&puppet);
    let handle = executor.handle();
    let shutdown = executor.shutdown_async(Duration::from_secs(LONG));
    let mut recipient = puppet.recipient::<Note>().downgrade();
    let short = Duration::from_millis(1);
    assert_eq!(recipient.wait_stopped_timeout(short), Err(WaitError::TimedOut));
    let draining = weak.clone();
    let waiter = thread::spawn(move || draining.wait_stopped());
    drop(held);
    assert_eq!(waiter.join().unwrap(), Ok(StopReason::Shutdown));
    drop((puppet, futures::executor::block_on(shutdown).unwrap()));
    assert_eq!(handle.stats().live_actors, 0);
    for _ in 0..2 {
        assert_eq!(weak.wait_stopped(), Ok(StopReason::Shutdown), "after the end, and again");
        assert_eq!(recipient.wait_stopped(), Ok(StopReason::Shutdown));
        recipient = recipient.clone();
    }
    let waited = inside(&elsewhere, move |_, _| weak.wait_stopped());
    assert_eq!(waited, Ok(StopReason::Shutdown));
}

/// An upgrade in time returns an actor that lives, and an upgrade that is too late returns `None`.
/// There is nothing in between.
#[test]
fn an_upgrade_races_the_last_reference() {
    for workers in CREWS {
        let executor = crew(workers);
        let mut late = 0;
        for round in 0..2_000 {
            let puppet = executor.spawn(Puppet::default());
            let weak: WeakRef<Puppet> = puppet.downgrade();
            let other = thread::scope(|scope| {
                let upgrade = scope.spawn(|| weak.upgrade());
                drop(puppet);
                upgrade.join().unwrap()
            });
            match other {
                Some(puppet) => assert_eq!(answer(puppet.ask(Note(round)).unwrap()), Ok(round)),
                None => late += 1,
            }
        }
        assert!(late < 2_000, "not one upgrade was in time");
        settle(&executor);
        assert_eq!(executor.stats().live_actors, 0);
    }
}

/// References of all kinds are equal and hash alike if they name the same actor.
#[test]
fn references_of_one_kind_to_one_actor_are_equal() {
    use heist::{Asker, Recipient, WeakRef};
    use std::collections::HashSet;

    let executor = crew(1);
    let (one, two) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
    let both = [&one, &two, &one];
    assert_eq!(both.map(WeakRef::from).into_iter().collect::<HashSet<_>>().len(), 2);
    let recipients: [Recipient<Note>; 3] = both.map(Recipient::from);
    assert_eq!(recipients.iter().cloned().collect::<HashSet<_>>().len(), 2);
    assert_eq!(recipients.iter().map(Recipient::downgrade).collect::<HashSet<_>>().len(), 2);
    let askers: [Asker<Note, u64>; 3] = both.map(Asker::from);
    assert_eq!(askers.iter().cloned().collect::<HashSet<_>>().len(), 2);
    assert_ne!(recipients[0], recipients[1]);
    assert_eq!(WeakRef::from(one.clone()), one.downgrade());

    // A weak recipient keeps nothing, and still names the actor after the end.
    let weak = recipients[0].downgrade();
    assert_eq!(weak.upgrade().as_ref(), Some(&recipients[0]));
    drop((recipients, askers));
    let gone = one.downgrade();
    drop(one);
    within(LONG, "the actor is collected", || weak.upgrade().is_none());
    assert_eq!((weak.clone(), gone.clone()), (weak, gone));
    shut_down(&executor);
}

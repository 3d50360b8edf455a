//! Tests errors as a caller meets them: with `?`, for any message type.

mod common;

use common::*;
use heist::error::{Flat, FlatError};
use heist::future::{Sending, Stopped, WaitIdle, WeakStopped};
use heist::pool::{PoolBuilder, PoolStopped};
use heist::strategy::{Replicas, Route, Strategy, ToIndex};
use heist::{
    Actor, ActorRef, Ask, AskError, Asker, Context, Directory, Executor, Handle, Handler, Pool,
    Recipient, Refusal, Reply, Timer, WaitError, WeakRef,
};
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;
use std::time::Duration;

/// Errors work with `?` for any message. This message is neither `Debug` nor `Sync` nor `Clone`.
#[test]
fn errors_work_with_the_question_mark() {
    struct Odd(#[allow(dead_code)] Cell<u8>);
    impl Handler<Odd> for Puppet {
        type Reply = Result<(), io::Error>;
        fn handle(&mut self, _: Odd, _: &mut Context<Self>) -> io::Result<()> {
            Ok(())
        }
    }
    type Boxed = Box<dyn Error + Send + Sync>;
    let executor = crew(1);
    let puppet = executor.spawn(Puppet::default());
    let odd = || Odd(Cell::new(1));
    let all = || -> Result<(), Boxed> {
        puppet.tell(odd())?;
        puppet.send(odd())?;
        puppet.ask(odd())?.wait()??;
        futures::executor::block_on(puppet.send_async(odd()))?;
        Ok(())
    };
    all().unwrap();
    puppet.stop();
    ended(&puppet);
    assert_eq!(all().unwrap_err().to_string(), "message not sent: the actor has stopped");
    let told: Result<(), Boxed> = puppet.tell_many([Note(1)]).map(drop).map_err(Boxed::from);
    assert!(told.unwrap_err().to_string().starts_with("stopped sending after 0 messages"));
    let built: Result<Executor, Boxed> =
        Executor::builder().workers(0).build().map_err(Boxed::from);
    assert!(built.is_err());
    shut_down(&executor);
    let spawned: Result<_, Boxed> = executor.try_spawn(Puppet::default()).map_err(Boxed::from);
    assert!(spawned.unwrap_err().to_string().contains("shutting down"));
    let asked: Boxed = AskError::NoReply.into();
    assert_eq!(asked.to_string(), "the handler gave no reply");
}

/// The text of an error names the remedy, where one exists.
#[test]
fn each_error_names_its_remedy() {
    let texts = [
        (Refusal::Full.to_string(), "when_room"),
        (Refusal::WouldDeadlock.to_string(), "when_room"),
        (Refusal::NoSpare.to_string(), "Builder::max_spares"),
        (Refusal::Forked.to_string(), "in the child"),
        (AskError::NoSpare.to_string(), "Builder::max_spares"),
        (AskError::Forked.to_string(), "in the child"),
        (WaitError::OnCrew.to_string(), "another thread"),
        (WaitError::NoSpare.to_string(), "Builder::max_spares"),
        (WaitError::Forked.to_string(), "in the child"),
    ];
    for (text, remedy) in texts {
        assert!(text.contains(remedy), "{text}");
    }
}

/// A program that prints an error and its sources prints each text once.
#[test]
fn an_error_does_not_print_its_source_as_well() {
    let failing = |_| Err(io::Error::other("no more connections"));
    let executor = crew(1);
    let error = executor.try_pool::<Puppet, _>(1, failing).build().unwrap_err();
    assert_eq!(chain(&error), "replica 0 could not be made: no more connections");
    let error = Executor::builder()
        .workers(1)
        .spawn_handler(|_| Err(io::Error::other("no more threads")))
        .build()
        .unwrap_err();
    assert_eq!(chain(&error), "executor not built: a thread could not be started: no more threads");
}

/// A closure for `catch_unwind` may use handles as they are, since a panic leaves nothing half done
/// behind them.
#[test]
fn handles_may_cross_a_caught_panic() {
    /// An actor with interior mutability.
    struct Odd(#[allow(dead_code)] Cell<u8>);
    impl Actor for Odd {}
    fn crosses<T: UnwindSafe + RefUnwindSafe>() {}
    crosses::<Executor>();
    crosses::<Handle>();
    crosses::<ActorRef<Odd>>();
    crosses::<WeakRef<Odd>>();
    crosses::<Recipient<Cell<u8>>>();
    crosses::<Asker<Cell<u8>, Cell<u8>>>();
    crosses::<Ask<Cell<u8>>>();
    crosses::<Reply<Cell<u8>>>();
    crosses::<Timer>();
    crosses::<Pool<Odd>>();
    crosses::<Directory<u32, Odd>>();
    crosses::<Stopped<Odd>>();
    crosses::<WeakStopped>();
    crosses::<PoolStopped<Odd>>();
    crosses::<WaitIdle>();

    let executor = crew(1);
    let puppet = executor.spawn(Puppet::default());
    let caught = catch_unwind(|| {
        puppet.tell(Note(1)).unwrap();
        intended_panic();
    });
    assert!(caught.is_err());
    assert_eq!(answer(puppet.ask(Note(2)).unwrap()), Ok(2));
}

/// A type that mentions a context or a future need not repeat the bounds of their methods.
#[test]
fn bounds_are_where_they_are_needed() {
    #[allow(dead_code)]
    struct Holds<'a, A, M>(&'a mut Context<A>, Sending<A, M>, PoolBuilder<A>);
    fn is_debug<T: std::fmt::Debug>() {}
    // The actor itself is not `Debug`.
    is_debug::<Context<Puppet>>();
}

thread_local! {
    /// Where this thread panicked last.
    static PANICKED_AT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Returns the file in which the panic of `f` is said to be.
fn panics_in(f: impl FnOnce()) -> String {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            let file = info.location().map_or("", |location| location.file());
            PANICKED_AT.with_borrow_mut(|at| *at = file.to_string());
            before(info);
        }));
    });
    assert!(catch_unwind(AssertUnwindSafe(f)).is_err());
    PANICKED_AT.take()
}

/// A panic for a mistake of the caller's names the caller's line.
#[test]
fn a_panic_names_the_line_of_the_mistake() {
    struct Beyond;
    impl Strategy for Beyond {
        fn route(&self, replicas: &Replicas<'_>) -> Route {
            let _ = catch_unwind(AssertUnwindSafe(|| replicas.id(replicas.len())));
            Route::Index(replicas.load(replicas.len()))
        }
    }
    let executor = crew(1);
    let spawned = panics_in(|| drop(executor.build(Puppet::default()).capacity(0).spawn()));
    assert!(spawned.ends_with("tests/errors.rs"), "{spawned}");
    let pool = executor.pool(2, |_| Puppet::default()).build().unwrap();
    let routed = panics_in(|| drop(pool.tell(Beyond, Note(1))));
    assert!(routed.ends_with("tests/errors.rs"), "{routed}");
    assert_eq!(answer(pool.ask(ToIndex(1), Note(2)).unwrap()), Ok(2));
}

/// One function sends, waits and awaits, and has one error.
#[test]
fn one_error_serves_every_step_of_an_ask() {
    fn waits(puppet: &ActorRef<Puppet>) -> Result<u64, AskError> {
        let twice = puppet.ask(Note(1))?.wait()?
            + puppet.ask_timeout(Note(2), Duration::MAX)?.wait_timeout(Duration::MAX)?;
        Ok(twice)
    }
    async fn awaits(puppet: &ActorRef<Puppet>) -> Result<u64, AskError> {
        puppet.ask(Note(3))?.await
    }
    let executor = crew(1);
    let puppet = executor.spawn(Puppet::default());
    assert_eq!(waits(&puppet), Ok(3));
    assert_eq!(futures::executor::block_on(awaits(&puppet)), Ok(3));
    let small = executor.build(Puppet::default()).capacity(1).spawn();
    let held = Held::hold(&small);
    let full = AskError::Refused(Refusal::Full);
    assert_eq!(waits(&small), Err(full.clone()));
    assert!(full.to_string().starts_with("message not sent: the mailbox is full"), "{full}");
    held.release();
    puppet.stop();
    assert_eq!(waits(&puppet), Err(AskError::Refused(Refusal::Stopped)));
    assert_eq!(
        futures::executor::block_on(awaits(&puppet)),
        Err(AskError::Refused(Refusal::Stopped))
    );
}

/// The layers of a handler that may fail join in one error too.
#[test]
fn the_flat_error_takes_each_step_of_an_ask() {
    struct Fails;
    impl Handler<Fails> for Puppet {
        type Reply = Result<(), u8>;
        fn handle(&mut self, _: Fails, _: &mut Context<Self>) -> Result<(), u8> {
            Err(7)
        }
    }
    let ask = |puppet: &ActorRef<Puppet>| -> Result<(), FlatError<u8>> {
        puppet.ask(Fails)?.wait().flat()
    };
    let executor = crew(1);
    let puppet = executor.spawn(Puppet::default());
    assert_eq!(ask(&puppet), Err(FlatError::Handler(7)));
    puppet.stop();
    assert_eq!(ask(&puppet), Err(FlatError::Ask(AskError::Refused(Refusal::Stopped))));
}

/// A setting that is corrected is as good as one that was right at once.
#[test]
fn a_wrong_setting_may_be_corrected() {
    let executor = crew(1);
    let build = || executor.build(Puppet::default());
    let wrong = build().capacity(0).on_worker(7).budget_messages(0).budget_time(Duration::ZERO);
    let right =
        wrong.capacity(3).on_worker(0).budget_messages(1).budget_time(Duration::from_millis(1));
    assert_eq!(right.try_spawn().unwrap().capacity(), Some(3));
    assert!(build().capacity(3).capacity(0).try_spawn().is_err(), "the last one counts");
}

/// All builders refuse the same contradiction with the same words.
#[test]
fn a_contradiction_names_both_settings_and_the_remedy() {
    let executor = crew(1);
    let texts = [
        Executor::builder().capacity(1).unbounded().build().unwrap_err().to_string(),
        executor
            .build(Puppet::default())
            .unbounded()
            .capacity(1)
            .try_spawn()
            .unwrap_err()
            .to_string(),
        executor
            .build_dedicated(Puppet::default)
            .unbounded()
            .capacity(1)
            .try_spawn()
            .unwrap_err()
            .to_string(),
        Directory::builder(&executor)
            .capacity(1)
            .unbounded()
            .build(|_: &u8| Puppet::default())
            .unwrap_err()
            .to_string(),
        executor
            .pool(1, |_| Puppet::default())
            .capacity(1)
            .unbounded()
            .build()
            .unwrap_err()
            .to_string(),
    ];
    for text in texts {
        assert!(
            text.ends_with(": `capacity` contradicts `unbounded` (leave one of them out)"),
            "{text}"
        );
    }
    let spares = Executor::builder().max_spares(1).spawn_handler(|_| Ok(())).build().unwrap_err();
    for name in ["`max_spares`", "`spawn_handler`", "`spare_handler`"] {
        assert!(spares.to_string().contains(name), "{spares}");
    }
}

/// A timeout is a deadline that counts from the call.
#[test]
fn an_ask_with_a_timeout_expires() {
    let executor = crew(1);
    let puppet = executor.spawn(Puppet::default());
    assert_eq!(
        answer(puppet.ask_timeout(Note(1), Duration::ZERO).unwrap()),
        Err(AskError::Expired)
    );
    let asker: Asker<Note, u64> = puppet.asker();
    assert_eq!(answer(asker.ask_timeout(Note(1), Duration::ZERO).unwrap()), Err(AskError::Expired));
    assert_eq!(answer(asker.ask_timeout(Note(2), Duration::MAX).unwrap()), Ok(2));
    shut_down(&executor);
}

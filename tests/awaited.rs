//! Tests that every blocking call can be awaited: on a single thread that must not be blocked, on
//! several threads, and without a runtime.
//!
//! Each scenario releases its own waits in the same task, so that a wait that blocked the thread
//! would hang.

mod common;

use common::*;
use heist::strategy::RoundRobin;
use heist::{Context, Directory, Executor, Refusal, StopReason};
use std::fs;
use std::future::Future;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(LONG);

/// Runs the scenario's future on each kind of futures executor. A hang is a failure.
fn on_every_runtime<F: Future<Output = ()> + 'static>(
    scenario: impl Fn(Executor) -> F + Copy + Send + 'static,
) {
    type Drive<F> = fn(F);
    let runtimes: [(&str, Drive<F>); 3] = [
        ("no runtime", |future| futures::executor::block_on(future)),
        ("tokio on one thread", |future| {
            let builder = &mut tokio::runtime::Builder::new_current_thread();
            builder.enable_time().build().unwrap().block_on(future);
        }),
        ("tokio on two", |future| {
            let builder = &mut tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(2).enable_time().build().unwrap().block_on(future);
        }),
    ];
    for (name, drive) in runtimes {
        for workers in CREWS {
            let (done, over) = mpsc::channel();
            let thread = thread::spawn(move || {
                drive(scenario(crew(workers)));
                done.send(()).unwrap();
            });
            if over.recv_timeout(DEADLINE).is_err() && !thread.is_finished() {
                panic!("a hang: {name}, {workers} workers");
            }
            thread.join().unwrap();
        }
    }
}

#[test]
fn every_wait_can_be_awaited() {
    on_every_runtime(|executor| async move {
        let puppet = executor.build(Puppet::default()).capacity(2).spawn();
        let held = Held::hold(&puppet);
        let ask = puppet.ask(Note(1)).unwrap();
        let sending = puppet.send_async(Note(2));
        let stopped = puppet.wait_stopped_async();
        let idle = executor.wait_idle_async();
        let release = async {
            assert_eq!(puppet.tell(Note(9)).unwrap_err().refusal(), Refusal::Full);
            held.release();
        };
        let sent_and_stopped = async {
            sending.await.unwrap();
            puppet.stop();
            stopped.await
        };
        // The last future releases the others.
        let (answer, reason, (), ()) = futures::join!(ask, sent_and_stopped, idle, release);
        assert_eq!((answer, reason), (Ok(1), StopReason::Stopped));
        assert_eq!(executor.stats().handled, 3);
        assert!(executor.shutdown_async(DEADLINE).await.unwrap().complete);
    });
}

/// The task itself lets the actor continue. Dropping the executor here would block the task and
/// give up on the actor.
#[test]
fn an_executor_is_ended_in_a_task_without_blocking_it() {
    on_every_runtime(|executor| async move {
        let puppet = executor.spawn(Puppet::default());
        let held = Held::hold(&puppet);
        let waiting = puppet.ask(Note(1)).unwrap();
        let ending = executor.shutdown_async(DEADLINE);
        let release = async { held.release() };
        let (report, answer, ()) = futures::join!(ending, waiting, release);
        assert_eq!(answer, Ok(1), "it was handled before the end");
        let report = report.unwrap();
        assert!(report.complete && report.dead_letters.total() == 0, "{report:?}");
    });
    on_every_runtime(|executor| async move {
        let puppet = executor.spawn(Puppet::default());
        let held = Held::hold(&puppet);
        let waiting = puppet.ask(Note(1)).unwrap();
        let ending = executor.shutdown_now_async(DEADLINE);
        let release = async {
            within(LONG, "its thread closes the actor", || !puppet.is_running());
            held.release();
        };
        let (report, answer, ()) = futures::join!(ending, waiting, release);
        assert_eq!(answer, Err(heist::AskError::Stopped));
        let report = report.unwrap();
        assert!(report.complete && report.dead_letters.shutdown == 1, "{report:?}");
    });
}

/// Shows what the documentation warns of.
#[test]
fn dropping_an_executor_in_a_task_blocks_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let executor =
            build(Executor::builder().workers(1).drop_deadline(Duration::from_millis(20)));
        let (handle, puppet) = (executor.handle(), executor.spawn(Puppet::default()));
        let held = Held::hold(&puppet);
        let release = tokio::spawn(async move { held.release() });
        drop(executor);
        assert!(!handle.last_report().unwrap().complete, "nobody could release it meanwhile");
        release.await.unwrap();
        assert_eq!(puppet.wait_stopped_async().await, StopReason::Shutdown);
    });
}

#[test]
fn what_timed_out_can_be_awaited_again_or_taken_back() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let short = Duration::from_millis(1);
    for workers in CREWS {
        let executor = crew(workers);
        runtime.block_on(async {
            let puppet = executor.build(Puppet::default()).capacity(2).spawn();
            let held = Held::hold(&puppet);
            let mut ask = puppet.ask(Note(1)).unwrap();
            let (mut first, mut second) = (puppet.send_async(Note(2)), puppet.send_async(Note(3)));
            assert!(tokio::time::timeout(short, &mut ask).await.is_err());
            assert!(tokio::time::timeout(short, &mut first).await.is_err());
            assert!(tokio::time::timeout(short, &mut second).await.is_err());
            assert!(tokio::time::timeout(short, executor.wait_idle_async()).await.is_err());
            assert!(tokio::time::timeout(short, puppet.wait_stopped_async()).await.is_err());
            assert_eq!(first.cancel(), Some(Note(2)));
            assert_eq!(puppet.send_async(Note(4)).cancel(), Some(Note(4)), "never polled");
            held.release();
            assert_eq!(ask.await, Ok(1));
            within(LONG, "it is accepted without being polled", || puppet.stats().handled == 3);
            assert_eq!(second.cancel(), None);
            assert_eq!(log_of(&puppet, 2), [1, 3]);
        });
        shut_down(&executor);
    }
}

#[test]
fn a_message_to_a_pool_or_a_directory_is_taken_back() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let short = Duration::from_millis(1);
    let executor = crew(2);
    let pool = executor.pool(1, |_| Puppet::default()).capacity(2).build().unwrap();
    let directory = Directory::builder(&executor).capacity(2);
    let directory = directory.build(|_: &u32| Puppet::default()).unwrap();
    runtime.block_on(async {
        let replica = pool.choose(RoundRobin).unwrap();
        let reached = directory.get(&7);
        let held = [Held::hold(&replica), Held::hold(&reached)];
        pool.tell(RoundRobin, Note(1)).unwrap();
        directory.tell(&7, Note(1)).unwrap();
        let mut sends =
            [pool.send_async(RoundRobin, Note(2)), pool.send_async(RoundRobin, Note(3))];
        let mut others = [directory.send_async(&7, Note(2)), directory.send_async(&7, Note(3))];
        for send in &mut sends {
            assert!(tokio::time::timeout(short, send).await.is_err());
        }
        for send in &mut others {
            assert!(tokio::time::timeout(short, send).await.is_err());
        }
        let ([first, second], [third, fourth]) = (sends, others);
        assert_eq!((first.cancel(), third.cancel()), (Some(Note(2)), Some(Note(2))));
        assert_eq!(pool.send_async(RoundRobin, Note(4)).cancel(), Some(Note(4)), "never polled");
        assert_eq!(directory.send_async(&7, Note(4)).cancel(), Some(Note(4)), "never polled");
        held.into_iter().for_each(Held::release);
        within(LONG, "they are accepted without being polled", || {
            replica.stats().handled == 3 && reached.stats().handled == 3
        });
        assert_eq!((second.cancel(), fourth.cancel()), (None, None));
        assert_eq!((log_of(&replica, 2), log_of(&reached, 2)), (vec![1, 3], vec![1, 3]));
    });
    shut_down(&executor);
}

/// Hooks and handlers may create a future and hand it to a runtime, as tasks do.
#[test]
fn an_answer_asked_for_in_a_handler_is_awaited_elsewhere() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    on_every_crew(|executor| {
        let (puppet, other) =
            (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
        let (tokio, told) = (runtime.handle().clone(), mpsc::channel());
        inside(&puppet, move |_, _: &mut Context<Puppet>| {
            let ask = other.ask(Note(7)).unwrap();
            tokio.spawn(async move { told.0.send(ask.await).unwrap() });
        });
        assert_eq!(told.1.recv_timeout(DEADLINE).unwrap(), Ok(7));
    });
}

/// The guide's table names every public call that is documented as blocking.
#[test]
fn the_guide_names_whatever_blocks() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let guide = fs::read_to_string(src.join("lib.rs")).unwrap();
    let rows: Vec<&str> = guide.lines().filter(|line| line.starts_with("//! | [`")).collect();
    let mut blocking = Vec::new();
    let mut directories = vec![src];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let mut blocks = false;
            for line in text.lines().map(str::trim_start) {
                if let Some(doc) = line.strip_prefix("///") {
                    blocks |=
                        [". Blocks ", ", and blocks "].iter().any(|words| doc.contains(words));
                    blocks |= doc.starts_with(" Blocks ");
                } else if !line.starts_with("#[") {
                    if let Some(name) = line.strip_prefix("pub fn ").filter(|_| blocks) {
                        blocking.push(name.split(['(', '<']).next().unwrap().to_string());
                    }
                    blocks = false;
                }
            }
        }
    }
    for known in
        ["wait", "wait_timeout", "send", "send_timeout", "wait_stopped", "wait_idle", "shutdown"]
    {
        assert!(
            blocking.iter().any(|name| name == known),
            "{known} does not say that it blocks: {blocking:?}"
        );
    }
    for name in blocking {
        // A row says of both forms that they exist.
        let (base, timed) =
            name.strip_suffix("_timeout").map_or((&*name, false), |base| (base, true));
        let named = format!("::{base}`]");
        let names =
            |row: &&str| row.contains(&named) && (!timed || row.contains("without timeout"));
        assert!(rows.iter().any(names), "{name} is not in the guide's table");
    }
}

/// Covers the non-blocking calls of the same table: both kinds of reference, and actors by key.
#[test]
fn telling_and_asking_never_wait() {
    let executor = crew(1);
    let puppet = executor.build(Puppet::default()).capacity(1).spawn();
    let directory =
        Directory::builder(&executor).capacity(1).build(|_: &u64| Puppet::default()).unwrap();
    let keyed = directory.get(&1);
    let held = Held::hold(&puppet);
    let (_held_too, _) = Held::queue(&keyed);
    assert!(puppet.tell(Note(1)).unwrap_err().is_full());
    assert!(puppet.ask(Note(1)).map(drop).unwrap_err().is_full());
    assert!(puppet.recipient::<Note>().tell(Note(1)).unwrap_err().is_full());
    assert!(puppet.asker::<Note>().ask(Note(1)).map(drop).unwrap_err().is_full());
    assert!(directory.tell(&1, Note(1)).unwrap_err().is_full());
    assert!(directory.ask(&1, Note(1)).map(drop).unwrap_err().is_full());
    held.release();
}

/// Checked by compilation.
#[test]
fn whatever_is_awaited_may_move_between_threads() {
    fn movable<F: Future + Send + 'static>(future: F) -> impl Future {
        future
    }
    let executor = crew(1);
    let puppet = executor.spawn(Puppet::default());
    drop(movable(puppet.send_async(Note(1))));
    drop(movable(puppet.ask(Note(1)).unwrap()));
    drop(movable(puppet.wait_stopped_async()));
    drop(movable(executor.wait_idle_async()));
    drop(movable(executor.shutdown_async(DEADLINE)));
    ended(&puppet);
}

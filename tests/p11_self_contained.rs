//! Tests P11, self-contained: executors do not know of each other, nothing is read from the
//! environment or kept in globals, no thread is hidden, and a reference that outlives its executor
//! is safe. `p11_fork.rs` tests the forked child.

mod common;

use common::*;
use heist::{ActorRef, Context, Refusal, StopReason};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(LONG);

#[test]
fn p11_executors_do_not_know_of_each_other() {
    on_every_crew(|executor| {
        let other = crew(executor.workers());
        let (one, two) = (executor.spawn(Puppet::default()), other.spawn(Puppet::default()));
        // Each executor has its own ids. Equality is by actor.
        assert_ne!(one, two);
        one.tell(Note(1)).unwrap();
        settle(executor);
        assert_eq!((executor.stats().accepted, other.stats().accepted), (1, 0));

        // A worker of one executor is an outside thread to the other, and may wait for it or even
        // end it.
        let theirs = two.clone();
        let visit = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
            theirs.tell(Note(2)).unwrap();
            other.wait_idle().unwrap();
            let report = other.shutdown(DEADLINE).unwrap();
            assert!(report.complete && report.handled == 1, "{report:?}");
            theirs.wait_stopped()
        });
        assert_eq!(answer(one.ask(visit).unwrap()).unwrap(), Ok(StopReason::Shutdown));
        assert_eq!(answer(one.ask(Note(3)).unwrap()), Ok(3));
        assert_eq!(one.tell(Note(4)).map_err(|error| error.refusal()), Ok(()));
    });
}

/// Ends the executor in the given way. All references stay behind.
fn left_behind(workers: usize, how: usize) -> (ActorRef<Puppet>, heist::Handle) {
    let executor = crew(workers);
    let (puppet, handle) = (executor.spawn(Puppet::default()), executor.handle());
    puppet.tell(Note(1)).unwrap();
    match how {
        0 => drop(executor),
        1 => assert!(executor.shutdown(DEADLINE).unwrap().complete),
        _ => assert!(executor.shutdown_now(DEADLINE).unwrap().complete),
    }
    (puppet, handle)
}

#[test]
fn p11_references_outlive_the_executor() {
    for workers in CREWS {
        for how in 0..3 {
            let (puppet, handle) = left_behind(workers, how);
            let refused = |error: heist::SendError<Note>| (error.refusal(), error.into_message());
            let expected = || (Refusal::ShuttingDown, Note(2));
            assert_eq!(refused(puppet.tell(Note(2)).unwrap_err()), expected());
            assert_eq!(refused(puppet.ask(Note(2)).unwrap_err()), expected());
            assert_eq!(refused(puppet.send(Note(2)).unwrap_err()), expected());
            assert_eq!(refused(puppet.send_timeout(Note(2), DEADLINE).unwrap_err()), expected());
            let sending = puppet.send_async(Note(2));
            assert_eq!(refused(futures::executor::block_on(sending).unwrap_err()), expected());
            assert_eq!(refused(puppet.recipient().tell(Note(2)).unwrap_err()), expected());
            assert_eq!(refused(puppet.asker().ask(Note(2)).unwrap_err()), expected());
            assert_eq!(puppet.tell_many([Note(2)]).unwrap_err().refusal(), Refusal::ShuttingDown);

            assert!(!puppet.is_running());
            puppet.stop();
            puppet.stop_now();
            puppet.clone().detach();
            assert_eq!(puppet.wait_stopped(), Ok(StopReason::Shutdown));
            assert_eq!(
                futures::executor::block_on(puppet.wait_stopped_async()),
                StopReason::Shutdown
            );
            let weak = puppet.downgrade();
            assert!(weak.upgrade().is_none());
            assert_eq!((weak.id(), puppet.len(), puppet.name()), (puppet.id(), 0, None));
            assert_eq!(format!("{puppet:?}"), format!("{:?}", puppet.clone()));

            assert!(handle.try_spawn(Puppet::default()).unwrap_err().is_shutting_down());
            let never = handle.spawn(Puppet::default());
            assert_eq!(never.wait_stopped(), Ok(StopReason::Shutdown));
            assert_eq!(handle.wait_idle(), Ok(()));
            assert_eq!(handle.stats().live_actors, 0);
            assert!(handle.last_report().unwrap().complete);
            // Any thread may drop the last reference.
            drop(handle);
            thread::spawn(move || drop((puppet, weak, never))).join().unwrap();
        }
    }
}

/// Checks the crate's text: no environment variables, and no statics except thread-locals.
#[test]
fn p11_no_environment_and_no_globals() {
    fn check(directory: &Path) -> usize {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        entries
            .map(|path| {
                if path.is_dir() {
                    return check(&path);
                }
                let text = fs::read_to_string(&path).unwrap();
                let mut of_a_thread = false;
                for line in text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
                    let here = || format!("{}: {line}", path.display());
                    for forbidden in ["env::", "env!(", "OnceLock", "LazyLock", "lazy_static"] {
                        assert!(!line.contains(forbidden), "{}", here());
                    }
                    if line.starts_with("thread_local!") {
                        of_a_thread = line.ends_with('{');
                        continue;
                    }
                    let is_static = line.trim_start_matches("pub(crate) ").starts_with("static ");
                    assert!(of_a_thread || !is_static, "{}", here());
                    of_a_thread &= line != "}";
                }
                1
            })
            .sum()
    }
    assert!(check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) > 20);
}

/// An executor has its workers' threads and no others.
#[cfg(target_os = "linux")]
#[test]
fn p11_no_hidden_threads() {
    // Runs in a separate process, in which nothing else starts threads.
    const CHILD: &str = "HEIST_THREADS_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "p11_no_hidden_threads", "--test-threads=1"]).env(CHILD, "1");
        let output = child.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let threads = || fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    for workers in CREWS {
        let executor = crew(workers);
        let puppets: Vec<_> = (0..100).map(|_| executor.spawn(Puppet::default())).collect();
        for puppet in &puppets {
            assert_eq!(answer(puppet.ask(Note(1)).unwrap()), Ok(1));
        }
        assert_eq!(threads(), before + workers);
        shut_down(&executor);
        within(LONG, "the threads are gone", || threads() == before);
    }
}

//! P11, self-contained: a forked child gets errors instead of hanging. In a process of its own, since whatever lock another
//! test held at the fork would stay locked in the child.
#![cfg(unix)]

mod common;

use common::*;
use heist::{ActorRef, AskError, Executor, Refusal, WaitError};
use std::sync::Arc;
use std::time::Duration;

/// What a forked child finds, as bits; all of them set is what is expected.
fn in_the_child(executor: &Executor, puppet: &ActorRef<Puppet>) -> i32 {
    // With timeouts, so that a wait that does not see the fork is a failure and not a hang.
    let limit = Duration::from_secs(1);
    let asked = puppet.ask(Note(1)).unwrap().wait_timeout(limit).unwrap_err();
    while puppet.tell(Note(2)).is_ok() {}
    let sent = puppet.send_timeout(Note(3), limit).unwrap_err();
    let found = [
        asked.error() == &AskError::Forked && asked.into_ask().is_some(),
        sent.refusal() == Refusal::Forked && sent.into_message() == Note(3),
        executor.wait_idle_timeout(limit) == Err(WaitError::Forked),
        puppet.wait_stopped_timeout(limit) == Err(WaitError::Forked),
        executor.shutdown(limit) == Err(WaitError::Forked),
    ];
    found.iter().enumerate().map(|(bit, &found)| i32::from(found) << bit).sum()
}

/// Do all of the crew's threads sleep in the kernel? Then none of them holds a lock, of the executor's or of the locks' own.
#[cfg(target_os = "linux")]
fn asleep(workers: usize) -> bool {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let states = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap());
    states.filter(|stat| stat.contains("(heist-") && stat.contains(") S ")).count() == workers
}

#[cfg(not(target_os = "linux"))]
fn asleep(_: usize) -> bool {
    true
}

/// `fork` copies one thread only, so nobody would ever answer in the child: each wait says so at once.
#[test]
fn p11_a_forked_child_gets_errors() {
    use std::os::unix::process::CommandExt;
    for workers in CREWS {
        let executor = crew(workers);
        let puppet = executor.build(Puppet::default()).capacity(4).spawn();
        settle(&executor);
        within(LONG, "the crew sleeps", || asleep(workers));
        let executor = Arc::new(executor);
        let (theirs, child_puppet) = (Arc::clone(&executor), puppet.clone());
        let mut command = std::process::Command::new("true");
        let look = move || {
            // The error's number is all that comes back to the parent.
            Err(std::io::Error::from_raw_os_error(in_the_child(&theirs, &child_puppet)))
        };
        // SAFETY: the closure runs between fork and exec, where only what is safe after a fork may be called. That is
        // what is tested: the crew sleeps, so the locks are free, and the C library keeps its allocator usable.
        let error = unsafe { command.pre_exec(look) }.spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(0b11111), "a wait in the child did not say that it was forked");
        // The parent did not notice.
        drop(command);
        assert_eq!(answer(puppet.ask(Note(5)).unwrap()), Ok(5));
        shut_down(&executor);
    }
}

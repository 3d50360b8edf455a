//! Tests that a panic by the caller's fault names the caller's line, and not a line of heist.

mod common;

use common::{LONG, Note, Puppet, answer, crew, shut_down};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Where panics happened: file and text.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

/// Records each panic of this process instead of printing it.
fn record() -> Seen {
    let seen = Seen::default();
    let theirs = Arc::clone(&seen);
    std::panic::set_hook(Box::new(move |info| {
        let file = info.location().expect("it has a place").file().to_string();
        let text = info.payload_as_str().unwrap_or_default().to_string();
        theirs.lock().unwrap().push((file, text));
    }));
    seen
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Checks that `fault` panics.
#[track_caller]
fn panics<R>(fault: impl FnOnce() -> R) {
    assert!(catch_unwind(AssertUnwindSafe(fault)).is_err(), "no panic");
}

/// Polls a future until it is ready, and then once more.
#[track_caller]
fn poll_once_too_often<F: Future + Unpin>(future: &mut F) {
    while poll(future).is_pending() {
        std::thread::yield_now();
    }
    panics(|| poll(future));
}

/// In one test, since the panic hook is the process's.
#[test]
fn a_panic_by_the_callers_fault_names_the_callers_line() {
    let executor = crew(1);
    let actor = executor.spawn(Puppet::default());
    let seen = record();
    let (of_pools, of_directories) = (cfg!(feature = "pool"), cfg!(feature = "directory"));
    let expected = 5 + 4 * usize::from(of_pools) + usize::from(of_directories);

    panics(|| executor.build(Puppet::default()).capacity(0).spawn());
    let mut ask = actor.ask(Note(1)).unwrap();
    poll_once_too_often(&mut ask);
    panics(|| ask.wait());
    panics(|| ask.wait_timeout(Duration::from_secs(LONG)));
    poll_once_too_often(&mut actor.send_async(Note(2)));

    #[cfg(feature = "pool")]
    {
        use heist::strategy::{Replicas, RoundRobin, Route, Strategy};
        struct Wrong(fn(&Replicas<'_>));
        impl Strategy for Wrong {
            fn route(&self, replicas: &Replicas<'_>) -> Route {
                self.0(replicas);
                Route::Default
            }
        }
        let pool = executor.pool(1, |_| Puppet::default()).build().unwrap();
        panics(|| pool.tell(Wrong(|replicas| _ = replicas.load(7)), Note(1)));
        panics(|| pool.tell(Wrong(|replicas| _ = replicas.id(7)), Note(1)));
        poll_once_too_often(&mut pool.send_async(RoundRobin, Note(1)));
        poll_once_too_often(&mut pool.broadcast_with(|_| Note(1)));
    }
    #[cfg(feature = "directory")]
    {
        let directory = heist::Directory::new(&executor, |_: &u32| Puppet::default());
        poll_once_too_often(&mut directory.send_async(&1, Note(1)));
    }

    let _the_test_harness_prints_again = std::panic::take_hook();
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.len(), expected, "{seen:?}");
    for (file, text) in &seen {
        assert!(file.ends_with("caller_faults.rs"), "{text}: {file}");
    }
    assert!(answer(actor.ask(Note(4)).unwrap()).is_ok());
    shut_down(&executor);
}

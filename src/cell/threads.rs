//! The threads that an executor has started, from their start to the end of their last destructor.
//!
//! A thread has ended, for those who wait for the crew, when the destructors of its thread-locals have run too. They are
//! user code and may take any time, so nothing here waits for them without a limit:
//!
//! | step of a thread that heist starts | what others see |
//! |---|---|
//! | it makes [`ALIVE`], its first thread-local, with a copy of the crew's sender | |
//! | it runs turns, until it has nothing more to do in the crew | |
//! | it is marked, and lets go of the executor | it is listed as [left](Threads::left) |
//! | destructors of thread-locals run, the first one made last: so `ALIVE` goes after the user's | |
//! | the sender goes | the channel is disconnected after the last thread |
//! | the system's thread exits | it can be joined |
//!
//! Threads that a handler of the user's starts are not listed: each holds a sender until its `run` returns, since it may do
//! something else afterwards.

use crate::sync::Mutex;
use crate::time::{self, Duration, Instant};
use crossbeam_channel::Sender;
use std::cell::OnceCell;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread::{self, ThreadId};

/// How long a thread that waits for others to exit sleeps between two looks. They are past their last destructor, so
/// hardly any look but the first ones is ever needed.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// Looks without a sleep.
const QUICK_LOOKS: u32 = 50;

thread_local! {
    /// Dropped last of all thread-locals, since it is the first one.
    static ALIVE: OnceCell<Alive> = const { OnceCell::new() };
}

/// What a thread has of its crew to its last moment.
struct Alive {
    crew: Arc<()>,
    _sender: Sender<Infallible>,
}

/// The threads that have not been joined.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    list: Mutex<Vec<Started>>,
    /// Tells one executor's threads from another's.
    crew: Arc<()>,
}

#[derive(Debug)]
struct Started {
    id: ThreadId,
    name: String,
    /// It runs no actors any more.
    over: bool,
    thread: system::Joinable,
}

impl Threads {
    /// Starts a thread, which holds `alive` until its thread-locals are gone. `run` lets go of all that it has of the
    /// executor before it returns.
    pub(crate) fn start(
        &self,
        name: String,
        stack_size: usize,
        alive: Sender<Infallible>,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let thread = thread::Builder::new().name(name.clone()).stack_size(stack_size);
        // Locked throughout: the thread finds itself on the list, however soon it ends.
        let mut list = self.list.lock();
        let alive = Alive { crew: Arc::clone(&self.crew), _sender: alive };
        let thread = thread.spawn(move || {
            ALIVE.with(|place| _ = place.set(alive));
            run();
        })?;
        let id = thread.thread().id();
        list.push(Started { id, name, over: false, thread: system::Joinable::new(thread) });
        Ok(())
    }

    /// Returns `true` if the calling thread was started here. Still so in the destructors of its thread-locals, when it is of
    /// no crew any more: it cannot wait for its own exit.
    pub(crate) fn is_here(&self) -> bool {
        let here = |alive: &Alive| Arc::ptr_eq(&alive.crew, &self.crew);
        ALIVE.try_with(|place| place.get().is_some_and(here)).unwrap_or(false)
    }

    /// Marks the calling thread, which runs no actors any more, and joins those before it that have exited: so no more
    /// than a few are left that keep their stacks. Waits for none of them.
    pub(crate) fn leave(&self) {
        let me = thread::current().id();
        let mut list = self.list.lock();
        join_exited(&mut list);
        if let Some(started) = list.iter_mut().find(|started| started.id == me) {
            started.over = true;
        }
    }

    /// Joins all threads, which are about to exit. Returns `false` if one has not exited when the time is over.
    #[must_use]
    pub(crate) fn join(&self, until: Option<Instant>) -> bool {
        let mut looks = 0;
        loop {
            {
                // Two shutdowns at the same time share the list, and each waits by its own deadline.
                let mut list = self.list.lock();
                list.iter_mut().for_each(|started| started.over = true);
                join_exited(&mut list);
                if list.is_empty() {
                    return true;
                }
            }
            if until.is_some_and(|until| time::now() >= until) {
                return false;
            }
            looks += 1;
            if looks < QUICK_LOOKS {
                thread::yield_now();
            } else {
                thread::sleep(LOOK_EVERY);
            }
        }
    }

    /// Names the threads that run no actors any more and have not exited: they are in a destructor of a thread-local.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut list = self.list.lock();
        join_exited(&mut list);
        list.iter().filter(|started| started.over).map(|started| started.name.clone()).collect()
    }
}

/// Takes those off the list that are over and have exited.
fn join_exited(list: &mut Vec<Started>) {
    list.retain_mut(|started| !(started.over && started.thread.try_join()));
}

#[cfg(target_os = "linux")]
mod system {
    use std::os::unix::thread::JoinHandleExt;
    use std::ptr;
    use std::thread::JoinHandle;

    /// A thread that is joined, or let go when this is dropped.
    #[derive(Debug)]
    pub(super) struct Joinable {
        /// None once it was joined.
        thread: Option<libc::pthread_t>,
        pid: u32,
    }

    impl Joinable {
        pub(super) fn new(handle: JoinHandle<()>) -> Self {
            Joinable { thread: Some(handle.into_pthread_t()), pid: std::process::id() }
        }

        /// Returns `true` if the thread has exited, and is joined. Never waits.
        pub(super) fn try_join(&mut self) -> bool {
            let Some(thread) = self.thread else { return true };
            // SAFETY: `handle` gave the thread up to us, and it was neither joined nor detached: then `thread` is None.
            let joined = unsafe { libc::pthread_tryjoin_np(thread, ptr::null_mut()) } == 0;
            if joined {
                self.thread = None;
            }
            joined
        }
    }

    impl Drop for Joinable {
        fn drop(&mut self) {
            // In a forked child the thread does not exist, and its memory may be another one's.
            if let Some(thread) = self.thread.take()
                && std::process::id() == self.pid
            {
                // SAFETY: as in `try_join`.
                unsafe { libc::pthread_detach(thread) };
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::thread::JoinHandle;

    /// A thread that is let go when it has exited: there is no way to join one with a limit of time. Whoever waits for
    /// the crew has waited for its thread-locals by then.
    #[derive(Debug)]
    pub(super) struct Joinable(JoinHandle<()>);

    impl Joinable {
        pub(super) fn new(handle: JoinHandle<()>) -> Self {
            Joinable(handle)
        }

        pub(super) fn try_join(&mut self) -> bool {
            self.0.is_finished()
        }
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;
    use crossbeam_channel::{RecvTimeoutError, bounded};

    /// Waits in its destructor until the channel is disconnected.
    struct Waits(crossbeam_channel::Receiver<Infallible>);

    impl Drop for Waits {
        fn drop(&mut self) {
            let _disconnected = self.0.recv();
        }
    }

    thread_local!(static USERS: OnceCell<Waits> = const { OnceCell::new() });

    #[test]
    fn a_thread_is_alive_until_its_thread_locals_are_gone() {
        let threads = Threads::default();
        let ((alive, gone), (hold, held)) = (bounded(0), bounded(0));
        let (left, has_left) = bounded::<()>(1);
        let run = move || {
            USERS.with(|place| assert!(place.set(Waits(held)).is_ok()));
            left.send(()).unwrap();
        };
        threads.start("test".to_string(), 1 << 20, alive, run).unwrap();
        has_left.recv().unwrap();
        assert!(!threads.join(time::after(Duration::from_millis(5))), "it is in its destructor");
        assert_eq!(threads.left(), ["test"]);
        let still = gone.recv_timeout(Duration::from_millis(1));
        assert_eq!(still, Err(RecvTimeoutError::Timeout), "the sender goes last");
        drop(hold);
        assert!(gone.recv().is_err());
        assert!(threads.join(None));
        assert!(threads.left().is_empty());
    }
}

//! The threads started by an executor, from the start to the end of the last destructor.
//!
//! For waiters, a thread of the crew has ended when the destructors of its thread-locals have run
//! too. Destructors are user code and may take any time, so every wait here has a limit:
//!
//! | step of a thread that heist starts | what others see |
//! |---|---|
//! | makes [`ALIVE`], its first thread-local, with a copy of the crew's sender | |
//! | runs turns, until it has nothing more to do in the crew | |
//! | is marked, and lets go of the executor | it is listed as [left](Threads::exiting_names) |
//! | runs destructors of thread-locals, in reverse order, so `ALIVE` goes last | |
//! | drops the sender | after the last thread the channel is disconnected |
//! | exits | it can be joined |
//!
//! Threads that a user's spawn handler starts are not listed. Each of them holds a sender until its
//! `run` returns, since the thread may do something else afterwards.

use crate::cores::Cores;
use crate::sync::{AtomicUsize, Mutex, Ordering::*};
use crate::time::{self, Duration, Instant};
use crossbeam_channel::Sender;
use std::cell::OnceCell;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread::{self, ThreadId};

/// Pause between two looks of a thread that waits for others to exit. All destructors of such a
/// thread have run, so the first looks nearly always suffice.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// Number of looks without a pause.
const QUICK_LOOKS: u32 = 50;

thread_local! {
    /// Dropped last of all thread-locals, since it is made first.
    static ALIVE: OnceCell<Alive> = const { OnceCell::new() };
}

/// The part of the crew that a thread keeps until the last moment.
struct Alive {
    crew: Arc<()>,
    _sender: Sender<Infallible>,
}

/// The threads that have not been joined yet.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    list: Mutex<Vec<Started>>,
    /// Distinguishes the threads of different executors.
    crew: Arc<()>,
}

#[derive(Debug)]
struct Started {
    id: ThreadId,
    name: String,
    /// Whether the thread runs no actors any more.
    over: bool,
    thread: system::Joinable,
}

impl Threads {
    /// Starts a thread, which holds `alive` until the thread-locals are gone. `run` must let go of
    /// the executor before it returns.
    pub(crate) fn start_thread(
        &self,
        name: String,
        stack_size: usize,
        alive: Sender<Infallible>,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let thread = thread::Builder::new().name(name.clone()).stack_size(stack_size);
        // Locked throughout, so the thread is on the list however soon it ends.
        let mut list = self.list.lock();
        // Made before the thread, so the channel is never disconnected while the thread starts.
        let alive = Alive { crew: Arc::clone(&self.crew), _sender: alive };
        let thread = thread.spawn(move || {
            ALIVE.with(|place| _ = place.set(alive));
            run();
        })?;
        let id = thread.thread().id();
        list.push(Started { id, name, over: false, thread: system::Joinable::new(thread) });
        Ok(())
    }

    /// Returns `true` if the calling thread was started here. The answer stays `true` in the
    /// destructors of thread-locals, after the thread has left the crew: no thread can wait for its
    /// own exit.
    pub(crate) fn is_here(&self) -> bool {
        let here = |alive: &Alive| Arc::ptr_eq(&alive.crew, &self.crew);
        ALIVE.try_with(|place| place.get().is_some_and(here)).unwrap_or(false)
    }

    /// Marks the calling thread: no more actors run there. Joins earlier threads that have exited,
    /// so only a few keep their stacks. Never waits for a thread.
    pub(crate) fn mark_exiting(&self) {
        let me = thread::current().id();
        let mut list = self.list.lock();
        join_exited(&mut list);
        if let Some(started) = list.iter_mut().find(|started| started.id == me) {
            started.over = true;
        }
    }

    /// Joins all threads, which are about to exit. Returns `false` if one has not exited by
    /// `until`.
    #[must_use]
    pub(crate) fn join_all(&self, until: Option<Instant>) -> bool {
        let mut looks = 0;
        loop {
            {
                // Two shutdowns at the same time share the list, and each waits by its own
                // deadline.
                let mut list = self.list.lock();
                list.iter_mut().for_each(|started| started.over = true);
                join_exited(&mut list);
                if list.is_empty() {
                    return true;
                }
            }
            // Asked after a look, so a wait without time left still joins exited threads.
            if until.is_some_and(|until| time::now() >= until) {
                return false;
            }
            looks += 1;
            if looks < QUICK_LOOKS {
                // The threads are about to exit, so the first looks only give way.
                thread::yield_now();
            } else {
                thread::sleep(LOOK_EVERY);
            }
        }
    }

    /// Returns the names of the threads that run no actors any more and have not exited. Each of
    /// them is in a destructor of a thread-local.
    pub(crate) fn exiting_names(&self) -> Vec<String> {
        let mut list = self.list.lock();
        join_exited(&mut list);
        list.iter().filter(|started| started.over).map(|started| started.name.clone()).collect()
    }
}

/// Joins threads that run no actors any more and have exited, and takes them off the list.
fn join_exited(list: &mut Vec<Started>) {
    list.retain_mut(|started| !(started.over && started.thread.try_join()));
}

#[cfg(target_os = "linux")]
mod system {
    use std::os::unix::thread::JoinHandleExt;
    use std::ptr;
    use std::thread::JoinHandle;

    /// A thread that can be joined without a wait. Dropping this value detaches the thread.
    #[derive(Debug)]
    pub(super) struct Joinable {
        /// `None` after the thread was joined.
        thread: Option<libc::pthread_t>,
        pid: u32,
    }

    impl Joinable {
        pub(super) fn new(handle: JoinHandle<()>) -> Self {
            Joinable { thread: Some(handle.into_pthread_t()), pid: std::process::id() }
        }

        /// Joins the thread if it has exited. Returns `true` if it is joined. Never waits.
        pub(super) fn try_join(&mut self) -> bool {
            let Some(thread) = self.thread else { return true };
            // SAFETY: `into_pthread_t` gave the thread to this value. The thread was neither joined
            // nor detached, since `thread` would be `None` then.
            let joined = unsafe { libc::pthread_tryjoin_np(thread, ptr::null_mut()) } == 0;
            if joined {
                self.thread = None;
            }
            joined
        }
    }

    impl Drop for Joinable {
        fn drop(&mut self) {
            // In a forked child the thread does not exist, and its number may belong to another
            // thread.
            if let Some(thread) = self.thread.take()
                && std::process::id() == self.pid
            {
                // SAFETY: the thread belongs to this value and was not joined, and the current
                // process started it.
                unsafe { libc::pthread_detach(thread) };
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::thread::JoinHandle;

    /// A thread that is detached after it has exited, since a join with a limit of time does not
    /// exist here. By then waiters for the crew have waited for all thread-locals.
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

/// The dedicated threads of one executor.
#[derive(Debug, Default)]
pub(crate) struct DedicatedThreads {
    /// `None` before the crew has begun, and after `refuse_threads`.
    pub(super) settings: Mutex<Option<DedicatedSettings>>,
    pub(super) started: AtomicUsize,
    pub(super) ended: AtomicUsize,
}

/// How dedicated threads are started.
#[derive(Clone, Debug)]
pub(crate) struct DedicatedSettings {
    /// Prefix of the threads' names.
    pub(crate) name: String,
    pub(crate) stack_size: usize,
    /// Cores for the threads, if the crew is pinned. A pinned thread would otherwise pass its core
    /// on to each thread that it starts.
    pub(crate) cores: Option<Cores>,
    /// Copied for each thread, which holds the copy until its thread-locals are gone.
    pub(crate) alive: Sender<Infallible>,
}

impl DedicatedThreads {
    pub(crate) fn accept_threads(&self, settings: DedicatedSettings) {
        *self.settings.lock() = Some(settings);
    }

    /// Refuses to start dedicated threads from now on.
    pub(crate) fn refuse_threads(&self) {
        let settings = self.settings.lock().take();
        drop(settings);
    }

    /// Returns the number of dedicated threads.
    pub(crate) fn running_threads(&self) -> usize {
        // The ended threads are counted first: each of them was counted as started before.
        let ended = self.ended.load(Acquire);
        self.started.load(Relaxed) - ended
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;
    use crossbeam_channel::{RecvTimeoutError, bounded};

    /// A value with a destructor that waits until the channel is disconnected.
    struct WaitsForSender(crossbeam_channel::Receiver<Infallible>);

    impl Drop for WaitsForSender {
        fn drop(&mut self) {
            let _disconnected = self.0.recv();
        }
    }

    thread_local!(static USERS: OnceCell<WaitsForSender> = const { OnceCell::new() });

    #[test]
    fn a_thread_is_alive_until_its_thread_locals_are_gone() {
        let threads = Threads::default();
        let ((alive, gone), (hold, held)) = (bounded(0), bounded(0));
        let (left, has_left) = bounded::<()>(1);
        let run = move || {
            USERS.with(|place| assert!(place.set(WaitsForSender(held)).is_ok()));
            left.send(()).unwrap();
        };
        threads.start_thread("test".to_string(), 1 << 20, alive, run).unwrap();
        has_left.recv().unwrap();
        assert!(
            !threads.join_all(time::instant_after(Duration::from_millis(5))),
            "it is in its destructor"
        );
        assert_eq!(threads.exiting_names(), ["test"]);
        let still = gone.recv_timeout(Duration::from_millis(1));
        assert_eq!(still, Err(RecvTimeoutError::Timeout), "the sender goes last");
        drop(hold);
        assert!(gone.recv().is_err());
        assert!(threads.join_all(None));
        assert!(threads.exiting_names().is_empty());
    }
}

//! The threads that an executor has started, to be joined.

use crate::sync::Mutex;
use std::io;
use std::mem;
use std::thread::{self, JoinHandle};

/// The list. Those that end before the crew does leave it: each is joined by the next one that does so, the last one by the
/// executor's end, so that no more than one is left that has ended and keeps its stack.
#[derive(Debug, Default)]
pub(crate) struct Threads(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    running: Vec<JoinHandle<()>>,
    ended: Option<JoinHandle<()>>,
}

impl Threads {
    /// Starts one. It finds itself on the list, however soon it ends.
    pub(crate) fn start(
        &self,
        thread: thread::Builder,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let mut list = self.0.lock();
        list.running.push(thread.spawn(run)?);
        Ok(())
    }

    /// The calling thread ends, before the crew does: whoever ends next joins it.
    pub(crate) fn leave(&self) {
        let me = thread::current().id();
        let mut list = self.0.lock();
        let Some(place) = list.running.iter().position(|thread| thread.thread().id() == me) else { return };
        let own = list.running.swap_remove(place);
        let before = list.ended.replace(own);
        drop(list);
        before.map(JoinHandle::join);
    }

    /// Waits for all, which are about to end.
    pub(crate) fn join(&self) {
        let List { running, ended } = mem::take(&mut *self.0.lock());
        for thread in running.into_iter().chain(ended) {
            let _its_panic_was_printed = thread.join();
        }
    }
}

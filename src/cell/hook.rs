//! The event hook: the user's code that is told what happens. It may hold a handle or a reference of its own executor, a cycle that
//! keeps the core for ever. So the hook is let go of when the crew has ended, by its last thread or by whoever made threads that never ran.
//!
//! A hook may cause events itself, and some are seen at once on its own thread. Such an event waits until the hook has
//! returned: so calls are never nested, and events come in the order in which they were seen.

use super::event::Event;
use crate::drops;
use crate::sync::Mutex;
use crate::user::{self, Site};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ptr;
use std::sync::Arc;

/// Told of what happens; called on whichever thread saw it.
pub(crate) type Hook = Box<dyn Fn(&Event) + Send + Sync>;

/// An executor's hook, as long as it is wanted.
pub(super) struct Hooked {
    /// Never changes, so that an executor without a hook takes no lock.
    any: bool,
    hook: Mutex<Option<Arc<Hook>>>,
}

impl Hooked {
    pub(super) fn new(hook: Option<Hook>) -> Self {
        Hooked { any: hook.is_some(), hook: Mutex::new(hook.map(Arc::new)) }
    }

    fn get(&self) -> Option<Arc<Hook>> {
        if self.any { self.hook.lock().clone() } else { None }
    }

    pub(super) fn is_there(&self) -> bool {
        self.get().is_some()
    }

    /// Calls the hook, outside the lock; inside another hook's call on this thread, after that. If it is let go of meanwhile, the
    /// last of those calls drops it.
    pub(super) fn call(&self, event: impl FnOnce() -> Event) {
        if let Some(hook) = self.get() {
            told(hook, event());
        }
    }

    /// Calls it no more, and drops it.
    pub(super) fn let_go(&self) {
        if self.any {
            let hook = self.hook.lock().take();
            drops::run(move || user::contain(Site::Drop, || drop(hook)));
        }
    }
}

/// Events that wait for the hook's call on this thread to return, each with whom it is for.
type Waiting = RefCell<VecDeque<(Arc<Hook>, Event)>>;

thread_local! {
    /// The outermost call's list, on its stack; null: there is no call. (It owns nothing, so it works in any destructor.)
    static WAITING: Cell<*const Waiting> = const { Cell::new(ptr::null()) };
}

fn told(hook: Arc<Hook>, event: Event) {
    /// The outermost call.
    struct Outermost;
    impl Drop for Outermost {
        fn drop(&mut self) {
            WAITING.set(ptr::null());
        }
    }
    // SAFETY: set below only as long as the list is there, on this thread's stack.
    if let Some(waiting) = unsafe { WAITING.get().as_ref() } {
        waiting.borrow_mut().push_back((hook, event));
        return;
    }
    let waiting = Waiting::default();
    waiting.borrow_mut().push_back((hook, event));
    WAITING.set(&raw const waiting);
    let _until_here = Outermost;
    loop {
        let next = waiting.borrow_mut().pop_front(); // not borrowed during the call
        let Some((hook, event)) = next else { break };
        user::contain(Site::Hook, move || {
            hook(&event);
            drop(hook);
        });
    }
}

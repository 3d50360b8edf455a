//! The event hook: user code that is told of events.
//!
//! The hook may hold a handle or a reference of the same executor, a cycle that would keep the core
//! for ever. So the hook is dropped when the crew has ended, by the last thread of the crew, or by
//! the builder of a crew that never ran.
//!
//! A hook may cause events itself, some of them on the hook's own thread. Such an event waits until
//! the hook has returned. So calls are never nested, and events come in order.

use super::event::Event;
use crate::drops;
use crate::sync::Mutex;
use crate::user::{self, Site};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ptr;
use std::sync::Arc;

/// A user's function, called on the thread that saw the event.
pub(crate) type Hook = Box<dyn Fn(&Event) + Send + Sync>;

/// The hook of an executor, until the crew has ended.
pub(super) struct Hooked {
    /// Never changes, so an executor without a hook takes no lock.
    any: bool,
    hook: Mutex<Option<Arc<Hook>>>,
}

impl Hooked {
    pub(super) fn new(hook: Option<Hook>) -> Self {
        Hooked { any: hook.is_some(), hook: Mutex::new(hook.map(Arc::new)) }
    }

    fn current_hook(&self) -> Option<Arc<Hook>> {
        if self.any { self.hook.lock().clone() } else { None }
    }

    pub(super) fn is_there(&self) -> bool {
        // Looked at under the lock: a clone could become the last reference, and its drop is user
        // code.
        self.any && self.hook.lock().is_some()
    }

    /// Calls the hook, outside the lock. Inside a hook's call on this thread, the event waits until
    /// that call has returned. If the hook is let go of meanwhile, the last of those calls drops
    /// it.
    pub(super) fn call_hook(&self, event: impl FnOnce() -> Event) {
        if let Some(hook) = self.current_hook() {
            call_in_order(hook, event());
        }
    }

    /// Drops the hook, so it is called no more.
    pub(super) fn let_go(&self) {
        if self.any {
            // Dropped after the lock, and with a bound on the nesting: the hook may own an
            // executor.
            let hook = self.hook.lock().take();
            drops::run_or_put_off(move || user::run_contained(Site::Drop, || drop(hook)));
        }
    }
}

/// Events that wait for the hook's call on this thread to return, each with its hook.
type WaitingEvents = RefCell<VecDeque<(Arc<Hook>, Event)>>;

thread_local! {
    /// The list of the outermost call, on the call's stack, or null without a call. The pointer
    /// owns nothing, and so works in any destructor.
    static WAITING: Cell<*const WaitingEvents> = const { Cell::new(ptr::null()) };
}

/// While this lives the thread is in no hook: for a thread that joins a crew, perhaps inside a hook
/// of another crew. The crew's events would otherwise wait until that hook has returned. Dropping
/// it restores what was before.
#[derive(Debug)]
pub(crate) struct HooksAside(*const WaitingEvents);

impl HooksAside {
    /// Leaves the hook's call on this thread aside.
    pub(crate) fn set_aside() -> Self {
        HooksAside(WAITING.replace(ptr::null()))
    }
}

impl Drop for HooksAside {
    fn drop(&mut self) {
        WAITING.set(self.0);
    }
}

fn call_in_order(hook: Arc<Hook>, event: Event) {
    /// Marks the end of the outermost call.
    struct Outermost;
    impl Drop for Outermost {
        fn drop(&mut self) {
            WAITING.set(ptr::null());
        }
    }
    // SAFETY: the pointer is set below only as long as the list exists, on this thread's stack.
    if let Some(waiting) = unsafe { WAITING.get().as_ref() } {
        waiting.borrow_mut().push_back((hook, event));
        return;
    }
    let waiting = WaitingEvents::default();
    waiting.borrow_mut().push_back((hook, event));
    WAITING.set(&raw const waiting);
    let _until_here = Outermost;
    loop {
        let next = waiting.borrow_mut().pop_front(); // not borrowed during the call
        let Some((hook, event)) = next else { break };
        // The drop is contained too, since this may be the last reference to the hook.
        user::run_contained(Site::Hook, move || {
            hook(&event);
            drop(hook);
        });
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering::*};
    use std::thread::{self, ThreadId};

    /// Records that it is dropped on another thread than this one.
    struct Owned(ThreadId, Arc<AtomicBool>);
    impl Drop for Owned {
        fn drop(&mut self) {
            if thread::current().id() != self.0 {
                self.1.store(true, Relaxed);
            }
        }
    }

    #[test]
    fn a_look_at_the_hook_never_drops_it() {
        let elsewhere = Arc::new(AtomicBool::new(false));
        for _ in 0..100 {
            let owned = Owned(thread::current().id(), Arc::clone(&elsewhere));
            let hooked = Hooked::new(Some(Box::new(move |_| _ = &owned)));
            let begun = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    while hooked.is_there() {
                        begun.store(true, Relaxed);
                    }
                });
                while !begun.load(Relaxed) {
                    thread::yield_now();
                }
                hooked.let_go();
            });
        }
        assert!(!elsewhere.load(Relaxed), "dropped by a thread that only looks, uncontained");
    }
}

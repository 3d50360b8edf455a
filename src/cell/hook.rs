//! The event hook: the user's code that is told what happens. It may hold a handle or a reference of its own executor, a cycle that
//! keeps the core for ever. So the hook is let go of when the crew has ended, by its last thread or by whoever made threads that never ran.

use super::event::Event;
use crate::drops;
use crate::sync::Mutex;
use crate::user::{self, Site};
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

    /// Calls the hook, outside the lock. If it is let go of meanwhile, the last of those calls drops it.
    pub(super) fn call(&self, event: impl FnOnce() -> Event) {
        if let Some(hook) = self.get() {
            user::contain(Site::Hook, move || {
                hook(&event());
                drop(hook);
            });
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

//! Floor 0: calls of user code. Every hook, waker, key, callback, factory, strategy, destructor and
//! handler of a user is called through this room.
//!
//! User code may do anything: panic, block, call back into the executor, drop the last reference to
//! whatever it holds. The caller must therefore hold nothing that such code could need. Debug
//! builds assert here that the calling thread holds no lock of this crate.
//!
//! | function | a panic |
//! |---|---|
//! | [`run_guarded`] | comes back as its text |
//! | [`run_turn_guarded`] | comes back as its text; for the outermost scope of a thread |
//! | [`run_guarded_for`] | comes back as its text; dropped replies are told a cause known before |
//! | [`run_contained`], [`wake_waker`], [`drop_waker`] | is swallowed, since no caller has to do with it |
//! | [`run_passing`] | propagates to the user's own code, which called this crate |
//!
//! # Replies that are dropped unanswered
//!
//! Each guarded call is a *scope*, and a dropped reply is told what its innermost scope knows. A
//! reply dropped by a panic should be told the panic's text. The text is not known before the
//! unwinding has reached the scope, so the scope keeps such a reply until then, as an *orphan*. But
//! the user's code may catch the panic before, and then the scope may not end for a long time.
//! Orphans that may be of this kind are therefore answered without a text by the first of these
//! events:
//!
//! | event | when |
//! |---|---|
//! | the scope's end | at once, if the panic was not caught |
//! | a wait, `blocking` or look at the clock shows that the panic was caught | [`answer_caught`] |
//! | a timer of the executor | after some time, if any worker can fire it: the [`OrphanWatch`] |
//!
//! The scopes of one thread are a list through its stack. No thread-local here has a destructor, so
//! all of this works while a thread ends.

use crate::error::AskError;
use crate::panics::PanicText;
use crate::sync::{self, Mutex};
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::Arc;
use std::task::Waker;

/// The kind of user code that is called, for the assertion's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    /// The messages of one turn, with `started` before the first of them.
    Turn,
    /// `Actor::stopped`.
    Stopped,
    /// The drop of an actor's state, of a message, or of any other value that a user has given
    /// away.
    Drop,
    /// A waker: its wake, clone or drop.
    Waker,
    /// The event hook.
    Hook,
    /// A function that makes an actor: a pool's or a directory's function, the factory of a
    /// dedicated actor.
    Factory,
    /// A function that starts a thread.
    Handler,
    /// A key's `Hash`, `Eq`, `Clone` or drop.
    Key,
    /// A strategy.
    Strategy,
    /// Code that waits for a pool's end.
    Supervisor,
}

thread_local! {
    /// The innermost scope on this thread.
    static TOP: Cell<*const Scope<'static>> = const { Cell::new(ptr::null()) };
}

/// A dropped reply that waits for the reason of its drop.
pub(crate) type Orphan = Box<dyn FnOnce(AskError) + Send>;

/// The orphans of one scope, shared with the watch over them.
#[derive(Default)]
pub(crate) struct Orphans(Mutex<Vec<Orphan>>);

impl Orphans {
    /// Answers all orphans.
    pub(crate) fn answer_all(&self, error: &AskError) {
        // Taken out first: the answers run user code, and no lock may be held.
        let all = std::mem::take(&mut *self.0.lock());
        for orphan in all {
            run_contained(Site::Drop, || orphan(error.clone()));
        }
    }
}

/// Begins a watch over the orphans of a scope. The result is dropped when the scope ends.
pub(crate) type OrphanWatch = fn(&Arc<Orphans>) -> Option<Box<dyn Any>>;

/// One guarded call of user code, on its caller's stack.
struct Scope<'a> {
    /// The error for dropped replies, where it is known before.
    cause: Option<&'a AskError>,
    /// One word, since each turn makes a scope and checks this field afterwards.
    orphans: Cell<Option<Box<HeldOrphans>>>,
}

impl Scope<'_> {
    /// Returns `true` if a dropped reply waits here for a reason.
    #[inline]
    fn has_orphans(&self) -> bool {
        // SAFETY: only the calling thread uses the cell, and no reference into it outlives this
        // look.
        unsafe { (*self.orphans.as_ptr()).is_some() }
    }

    /// Answers the orphans, if no panic is unwinding.
    #[cold]
    fn answer_orphans(&self) {
        if !std::thread::panicking()
            && let Some(kept) = self.orphans.take()
        {
            answer_held(*kept, None);
        }
    }
}

/// A scope's orphans, and the watch over them.
#[derive(Default)]
struct HeldOrphans {
    orphans: Arc<Orphans>,
    watch: Option<Box<dyn Any>>,
}

impl HeldOrphans {
    fn add_orphan(&mut self, orphan: Orphan, watch: Option<OrphanWatch>) {
        let mut list = self.orphans.0.lock();
        let first = list.is_empty();
        list.push(orphan);
        // Released first: beginning a watch takes the lock of the timers.
        drop(list);
        if let Some(watch) = watch
            && (first || self.watch.is_none())
        {
            // A watch that has fired has left the list empty, so the first orphan after it needs
            // another.
            self.watch = watch(&self.orphans);
        }
    }
}

/// Asserts that the calling thread may run user code.
#[inline]
pub(crate) fn assert_free(site: Site) {
    // While a panic unwinds, guards are released in an order that the panic chose, and a second
    // panic would end the process.
    debug_assert!(
        sync::held_locks() == 0 || std::thread::panicking(),
        "user code ({site:?}) is called under {} locks",
        sync::held_locks()
    );
}

/// Runs user code in a scope. Returns a panic as its text.
#[inline]
fn run_in_scope<R>(
    site: Site,
    cause: Option<&AskError>,
    f: impl FnOnce() -> R,
) -> Result<R, PanicText> {
    run_in_scope_below(TOP.get(), site, cause, f)
}

/// Runs user code in a scope inside the scope `outer`, which is this thread's innermost.
#[inline]
fn run_in_scope_below<R>(
    outer: *const Scope<'static>,
    site: Site,
    cause: Option<&AskError>,
    f: impl FnOnce() -> R,
) -> Result<R, PanicText> {
    assert_free(site);
    debug_assert!(TOP.get() == outer, "{site:?} in another scope");
    let scope = Scope { cause, orphans: Cell::new(None) };
    TOP.set(ptr::from_ref(&scope).cast());
    // Unwind safety is asserted: the caller discards everything that `f` may have left half done
    // (the actor fails).
    let result = catch_unwind(AssertUnwindSafe(f)).map_err(|payload| digest_panic(&scope, payload));
    // Before orphans are answered, which runs user code in scopes of its own.
    TOP.set(outer);
    // After a panic these are replies that its payload's drop has dropped: `digest_panic` has
    // answered all others.
    if let Some(kept) = scope.orphans.into_inner() {
        answer_held(*kept, result.as_ref().err());
    }
    result
}

/// Runs user code. Replies dropped by its panic are told the panic's text.
#[inline]
pub(crate) fn run_guarded<R>(site: Site, f: impl FnOnce() -> R) -> Result<R, PanicText> {
    run_in_scope(site, None, f)
}

/// Runs the messages of a turn, like [`run_guarded`]. A turn lies in no other scope of its thread
/// ([`ScopesAside`] sees to it), so no scope has to be kept and restored.
#[inline]
pub(crate) fn run_turn_guarded<R>(f: impl FnOnce() -> R) -> Result<R, PanicText> {
    run_in_scope_below(ptr::null(), Site::Turn, None, f)
}

/// While this lives the thread is in no scope: for a thread that joins a crew, perhaps inside user
/// code of another crew. Dropping it restores the scope that the thread was in.
#[derive(Debug)]
pub(crate) struct ScopesAside(*const Scope<'static>);

impl ScopesAside {
    /// Leaves the scopes of this thread aside.
    pub(crate) fn set_aside() -> Self {
        ScopesAside(TOP.replace(ptr::null()))
    }
}

impl Drop for ScopesAside {
    fn drop(&mut self) {
        TOP.set(self.0);
    }
}

/// Runs user code. Replies that it drops unanswered are told `cause`.
pub(crate) fn run_guarded_for(
    site: Site,
    cause: &AskError,
    f: impl FnOnce(),
) -> Result<(), PanicText> {
    run_in_scope(site, Some(cause), f)
}

/// Runs user code, and swallows its panic.
pub(crate) fn run_contained(site: Site, f: impl FnOnce()) {
    let _ = run_guarded(site, f);
}

/// Wakes through a waker.
#[inline]
pub(crate) fn wake_waker(waker: Waker) {
    run_contained(Site::Waker, || waker.wake());
}

/// Wakes the task that is being polled. The waker belongs to the poller, so a panic goes to the
/// poller.
pub(crate) fn wake_by_ref(waker: &Waker) {
    run_passing(Site::Waker, || waker.wake_by_ref());
}

/// Drops a waker. Its vtable is user code.
pub(crate) fn drop_waker(waker: Option<Waker>) {
    if let Some(waker) = waker {
        run_contained(Site::Waker, || drop(waker));
    }
}

/// Clones a waker. A panic propagates to the caller's own code.
#[inline]
pub(crate) fn clone_waker(waker: &Waker) -> Waker {
    run_passing(Site::Waker, || waker.clone())
}

/// Runs user code. A panic propagates to the caller.
#[inline]
pub(crate) fn run_passing<R>(site: Site, f: impl FnOnce() -> R) -> R {
    assert_free(site);
    f()
}

/// Runs a part of a guarded call. Returns a panic, to be [resumed](resume_panic).
pub(crate) fn catch_panic<R>(f: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
    // No assertion of free locks: the guarded call around has made it.
    catch_unwind(AssertUnwindSafe(f))
}

/// Continues a caught panic.
pub(crate) fn resume_panic(payload: Box<dyn Any + Send>) -> ! {
    resume_unwind(payload)
}

/// Calls `f` with the innermost scope of this thread.
#[inline]
fn with_top<R>(f: impl FnOnce(Option<&Scope<'_>>) -> R) -> R {
    // SAFETY: `run_in_scope` keeps a scope on this thread's stack while `TOP` points to it, and `f`
    // does not outlive the call.
    f(unsafe { TOP.get().as_ref() })
}

/// Returns the error for a reply dropped here and now, or `None` if a scope keeps the reply, to be
/// answered later. `watch` is given for replies held by user code, which may catch the panic that
/// drops them.
pub(crate) fn cause_of_drop(
    later: impl FnOnce() -> Orphan,
    watch: Option<OrphanWatch>,
) -> Option<AskError> {
    with_top(|scope| {
        let Some(scope) = scope else { return Some(AskError::NoReply) };
        if let Some(cause) = scope.cause {
            return Some(cause.clone());
        }
        // Dropped without a panic: the handler simply gave no answer.
        if !std::thread::panicking() {
            return Some(AskError::NoReply);
        }
        let mut kept = scope.orphans.take().unwrap_or_default();
        kept.add_orphan(later(), watch);
        scope.orphans.set(Some(kept));
        None
    })
}

/// Answers the orphans of this thread's innermost scope, if no panic is unwinding: then the user's
/// code has caught it.
#[inline]
pub(crate) fn answer_caught() {
    with_top(|scope| {
        if let Some(scope) = scope
            && scope.has_orphans()
        {
            scope.answer_orphans();
        }
    });
}

/// Answers the orphans of a scope that has ended. Without a `text` the code caught its panic
/// itself.
#[cold]
fn answer_held(kept: HeldOrphans, text: Option<&PanicText>) {
    kept.orphans.answer_all(&text.cloned().map_or(AskError::NoReply, AskError::Panicked));
    drop(kept.watch);
}

/// Turns the payload of a scope's panic into its text, tells the text to the scope's orphans, and
/// drops the payload.
#[cold]
fn digest_panic(scope: &Scope<'_>, payload: Box<dyn Any + Send>) -> PanicText {
    let text = PanicText::new(
        match (payload.downcast_ref::<&'static str>(), payload.downcast_ref::<String>()) {
            (Some(text), _) => Arc::from(*text),
            (_, Some(text)) => Arc::from(text.as_str()),
            _ => Arc::from("a panic whose payload is not a string"),
        },
    );
    // Before the payload's drop, which is user code: while it waits, the orphans would be told "no
    // reply".
    if let Some(kept) = scope.orphans.take() {
        answer_held(*kept, Some(&text));
    }
    // A payload may panic when dropped, and so may the new payload. Two are caught; a third is
    // leaked rather than followed for ever.
    if let Err(second) = catch_panic(move || drop(payload))
        && let Err(third) = catch_panic(move || drop(second))
    {
        std::mem::forget(third);
    }
    text
}

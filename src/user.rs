//! Floor 0: where user code is called. Every hook, waker, key, callback, factory, strategy, destructor and handler of the
//! user's goes through this room.
//!
//! User code may do anything: panic, block, call back into the executor, drop the last reference to whatever it holds. So
//! the caller must hold nothing that such code could need. Debug builds assert here that the calling thread holds no lock
//! of this crate.
//!
//! | function | a panic |
//! |---|---|
//! | [`guard`] | comes back as its text |
//! | [`guard_for`] | likewise; replies that are dropped unanswered are told a cause that is known before |
//! | [`contain`], [`wake`], [`drop_waker`] | concerns nobody and is swallowed |
//! | [`pass`] | goes its way to the user's own code, which called this crate |
//!
//! # Replies that are dropped unanswered
//!
//! Each guarded call is a *scope*, and a dropped reply is told what its innermost scope knows. A reply that is dropped by a
//! panic should be told the panic's text, which is not known before the unwinding has reached the scope. So the scope keeps
//! such a reply until then, as an *orphan*. But the panic may be caught before, by the user's code, and then nobody comes to
//! the scope for a long time. So orphans that may be of that kind are answered without a text by whatever comes first:
//!
//! | what comes | when |
//! |---|---|
//! | the scope's end | at once, if the panic was not caught |
//! | a step of this crate's on the thread that proves it: a wait, `blocking`, the turn's look at the clock | [`answer_caught`] |
//! | a timer of the executor | after some time, if any worker can fire it: the [`Watch`] |
//!
//! The scopes of one thread are a list through its stack. No thread-local here has a destructor, so all of this works
//! while a thread ends.

use crate::error::AskError;
use crate::panics::PanicText;
use crate::sync::{self, Mutex};
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::Arc;
use std::task::Waker;

/// Which user code is called: for the message of the assertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    /// The messages of one turn, with `started` before the first of them.
    Turn,
    /// `Actor::stopped`.
    Stopped,
    /// The drop of an actor's state, of a message, or of anything else that a user has given away.
    Drop,
    /// A waker: its wake, clone or drop.
    Waker,
    /// The event hook.
    Hook,
    /// What makes an actor: a pool's or a directory's function, the factory of a dedicated actor.
    Factory,
    /// What starts a thread.
    Handler,
    /// A key's `Hash`, `Eq`, `Clone` or drop.
    Key,
    /// A strategy.
    Strategy,
    /// What waits for a pool's end.
    Keeper,
}

thread_local! {
    /// The innermost scope on this thread.
    static TOP: Cell<*const Scope<'static>> = const { Cell::new(ptr::null()) };
}

/// A reply that waits for the reason of its being dropped.
pub(crate) type Orphan = Box<dyn FnOnce(AskError) + Send>;

/// The orphans of one scope, shared with what watches over them.
#[derive(Default)]
pub(crate) struct Orphans(Mutex<Vec<Orphan>>);

impl Orphans {
    /// Answers all that are here.
    pub(crate) fn answer(&self, error: &AskError) {
        let all = std::mem::take(&mut *self.0.lock());
        for orphan in all {
            contain(Site::Drop, || orphan(error.clone()));
        }
    }
}

/// Begins to watch over the orphans of a scope. What it returns is dropped when the scope is over.
pub(crate) type Watch = fn(&Arc<Orphans>) -> Option<Box<dyn Any>>;

/// One guarded call of user code, on its caller's stack.
struct Scope<'a> {
    /// What dropped replies are told, where that is known before.
    cause: Option<&'a AskError>,
    /// One word, since each turn makes a scope and looks at this afterwards.
    orphans: Cell<Option<Box<Kept>>>,
}

/// A scope's orphans, and what watches over them.
#[derive(Default)]
struct Kept {
    orphans: Arc<Orphans>,
    watch: Option<Box<dyn Any>>,
}

impl Kept {
    fn add(&mut self, orphan: Orphan, watch: Option<Watch>) {
        let mut list = self.orphans.0.lock();
        let first = list.is_empty();
        list.push(orphan);
        drop(list);
        if let Some(watch) = watch
            && (first || self.watch.is_none())
        {
            self.watch = watch(&self.orphans);
        }
    }
}

/// Asserts that the calling thread may run user code.
#[inline]
pub(crate) fn assert_free(site: Site) {
    // While a panic unwinds guards go in an order that the panic chose, and a second panic would end the process.
    debug_assert!(
        sync::held() == 0 || std::thread::panicking(),
        "user code ({site:?}) is called under {} locks",
        sync::held()
    );
}

/// Runs user code in a scope. A panic comes back as its text.
#[inline]
fn enter<R>(site: Site, cause: Option<&AskError>, f: impl FnOnce() -> R) -> Result<R, PanicText> {
    assert_free(site);
    let outer = TOP.get();
    let scope = Scope { cause, orphans: Cell::new(None) };
    TOP.set(ptr::from_ref(&scope).cast());
    // Unwind safety is asserted: what `f` may have left half done is thrown away by the caller (the actor fails).
    let result = catch_unwind(AssertUnwindSafe(f)).map_err(|payload| digest(&scope, payload));
    TOP.set(outer);
    if let Some(kept) = scope.orphans.into_inner() {
        leave(*kept, result.as_ref().err());
    }
    result
}

/// Runs user code. Replies that its panic drops learn the panic's text.
#[inline]
pub(crate) fn guard<R>(site: Site, f: impl FnOnce() -> R) -> Result<R, PanicText> {
    enter(site, None, f)
}

/// Runs user code. Replies that it drops unanswered are told `cause`.
pub(crate) fn guard_for(site: Site, cause: &AskError, f: impl FnOnce()) -> Result<(), PanicText> {
    enter(site, Some(cause), f)
}

/// Runs user code whose panic concerns nobody.
pub(crate) fn contain(site: Site, f: impl FnOnce()) {
    let _ = guard(site, f);
}

/// Wakes whatever waits.
pub(crate) fn wake(waker: Waker) {
    contain(Site::Waker, || waker.wake());
}

/// Wakes the task that is being polled, which is its poller's code.
pub(crate) fn wake_by_ref(waker: &Waker) {
    pass(Site::Waker, || waker.wake_by_ref());
}

/// Drops a waker. Its vtable is the user's.
pub(crate) fn drop_waker(waker: Option<Waker>) {
    if let Some(waker) = waker {
        contain(Site::Waker, || drop(waker));
    }
}

/// Clones a waker for a caller whose own code this panic belongs to.
#[inline]
pub(crate) fn clone_waker(waker: &Waker) -> Waker {
    pass(Site::Waker, || waker.clone())
}

/// Runs user code whose panic is its caller's.
#[inline]
pub(crate) fn pass<R>(site: Site, f: impl FnOnce() -> R) -> R {
    assert_free(site);
    f()
}

/// Runs a part of a guarded call. A panic comes back, to be [resumed](resume).
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(f))
}

/// Lets a panic that was caught go its way.
pub(crate) fn resume(payload: Box<dyn Any + Send>) -> ! {
    resume_unwind(payload)
}

/// The innermost scope of this thread.
fn with_top<R>(f: impl FnOnce(Option<&Scope<'_>>) -> R) -> R {
    // SAFETY: `enter` keeps a scope on this thread's stack while `TOP` points to it.
    f(unsafe { TOP.get().as_ref() })
}

/// Returns the error that a reply dropped here and now means; `None` if a scope has taken it, to be answered later. `watch` is
/// for a reply that the user's code has, which may catch the panic that drops it.
pub(crate) fn cause_of_drop(later: impl FnOnce() -> Orphan, watch: Option<Watch>) -> Option<AskError> {
    with_top(|scope| {
        let Some(scope) = scope else { return Some(AskError::NoReply) };
        if let Some(cause) = scope.cause {
            return Some(cause.clone());
        }
        if !std::thread::panicking() {
            return Some(AskError::NoReply);
        }
        let mut kept = scope.orphans.take().unwrap_or_default();
        kept.add(later(), watch);
        scope.orphans.set(Some(kept));
        None
    })
}

/// Answers the orphans of this thread's innermost scope, if no panic is unwinding: the user's code has caught it.
#[inline]
pub(crate) fn answer_caught() {
    with_top(|scope| {
        if let Some(scope) = scope
            && let Some(kept) = scope.orphans.take()
        {
            if std::thread::panicking() {
                scope.orphans.set(Some(kept));
            } else {
                leave(*kept, None);
            }
        }
    });
}

/// Answers the orphans of a scope that is over. `None`: the code caught its panic itself.
#[cold]
fn leave(kept: Kept, text: Option<&PanicText>) {
    kept.orphans.answer(&text.cloned().map_or(AskError::NoReply, AskError::Panicked));
    drop(kept.watch);
}

/// Turns the payload of a scope's panic into its text, tells that to the scope's orphans, and drops the payload.
#[cold]
fn digest(scope: &Scope<'_>, payload: Box<dyn Any + Send>) -> PanicText {
    let text =
        PanicText::new(match (payload.downcast_ref::<&'static str>(), payload.downcast_ref::<String>()) {
            (Some(text), _) => Arc::from(*text),
            (_, Some(text)) => Arc::from(text.as_str()),
            _ => Arc::from("a panic whose payload is not a string"),
        });
    // Before the payload's drop, which is the user's: where that waits, the orphans would be told that nobody answered.
    if let Some(kept) = scope.orphans.take() {
        leave(*kept, Some(&text));
    }
    // A payload may panic when dropped, and what that throws may do so again. Two are caught; a third is leaked
    // rather than followed for ever.
    if let Err(second) = catch(move || drop(payload))
        && let Err(third) = catch(move || drop(second))
    {
        std::mem::forget(third);
    }
    text
}

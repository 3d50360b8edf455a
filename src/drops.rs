//! Floor 0: drops of users' values, with bounded nesting (P10: dropping never recurses).
//!
//! A value that heist drops may hold a reply, an ask or a timer. Its drop makes heist drop another
//! value, and so on: a hundred thousand actors may wait for each other in a row. Each link of such
//! a chain passes through [`run_or_put_off`]. Up to [`DEEPEST`] calls are nested. Deeper calls are
//! put on a list of the thread, and the outermost call runs them before it returns. A wait of the
//! thread runs them earlier, since user code inside a drop may wait for their effects.
//! The wake of an asker is such a call too: it may drop the asker's task, with another reply.
//!
//! | a panic in | goes |
//! |---|---|
//! | a call that ran at once | to its caller, as if `run_or_put_off` were not there |
//! | a call that was put off | nowhere, since the outermost caller has nothing to do with it |
//!
//! The list needs no destructor, since the outermost call leaves it empty. So `run_or_put_off`
//! works in the destructors of thread-locals too.

use crate::user::{self, Site};
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr;
use std::task::Waker;

/// Maximal number of nested calls. A link of a chain takes 1 to 3 KiB of stack in debug builds, and
/// more if the user's values are large.
const DEEPEST: u32 = 4;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// List of calls that were put off: the oldest and the newest, or null.
    static OLDEST: Cell<*mut Later> = const { Cell::new(ptr::null_mut()) };
    static NEWEST: Cell<*mut Later> = const { Cell::new(ptr::null_mut()) };
}

/// A call that was put off.
struct Later {
    call: Box<dyn FnOnce()>,
    next: *mut Later,
}

/// Runs `f`, which drops a user's value or may lead to such a drop. Runs it now, or, inside too
/// many other such calls, before the outermost of them returns.
#[inline]
pub(crate) fn run_or_put_off(f: impl FnOnce() + 'static) {
    user::assert_free(Site::Drop);
    if DEPTH.get() >= DEEPEST {
        // Allocates, but only chains longer than `DEEPEST` come here.
        return put_off(Box::new(f));
    }
    let _level = Level::go_deeper();
    f();
}

/// Drops a value like [`run_or_put_off`] does.
///
/// # Safety
/// Everything that the value borrows outlives the outermost call on this thread. In practice values
/// borrow nothing.
pub(crate) unsafe fn drop_value<T>(value: T) {
    user::assert_free(Site::Drop);
    if DEPTH.get() >= DEEPEST {
        let call: Box<dyn FnOnce() + '_> = Box::new(move || drop(value));
        // SAFETY: only the lifetime changes. By the contract above, borrows outlive the outermost
        // call, which runs everything on the list.
        return put_off(unsafe {
            std::mem::transmute::<Box<dyn FnOnce() + '_>, Box<dyn FnOnce()>>(call)
        });
    }
    let _level = Level::go_deeper();
    drop(value);
}

/// A user's value in a field of a structure of this crate: a function, a strategy. Its drop goes
/// through [`run_or_put_off`], so that a chain of such structures, each in the value of the one
/// before, does not recurse. A panic of the drop ends there.
pub(crate) struct OwnedField<T: 'static>(ManuallyDrop<T>);

impl<T> OwnedField<T> {
    pub(crate) fn new(value: T) -> Self {
        OwnedField(ManuallyDrop::new(value))
    }
}

impl<T> Deref for OwnedField<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Drop for OwnedField<T> {
    fn drop(&mut self) {
        // SAFETY: this is the field's drop, after which nothing looks at it again.
        let value = unsafe { ManuallyDrop::take(&mut self.0) };
        run_or_put_off(move || user::run_contained(Site::Drop, || drop(value)));
    }
}

/// Runs the calls that this thread has put off. Called before the thread waits: user code inside a
/// drop may wait for what one of these calls brings about.
#[inline]
pub(crate) fn run_before_wait() {
    if !OLDEST.get().is_null() {
        do_all();
    }
}

/// Wakes through a waker, which may own a task with a reply, whose drop wakes the next one.
///
/// Does what [`run_or_put_off`] does, in half the instructions: no panic comes out of the
/// wake, so no guard is needed.
#[inline]
pub(crate) fn wake_waker(waker: Waker) {
    let depth = DEPTH.get();
    if depth >= DEEPEST {
        return put_off_wake(waker);
    }
    DEPTH.set(depth + 1);
    user::wake_waker(waker);
    if depth == 0 && !OLDEST.get().is_null() {
        do_all();
    }
    DEPTH.set(depth);
}

#[cold]
#[inline(never)]
fn put_off_wake(waker: Waker) {
    put_off(Box::new(move || user::wake_waker(waker)));
}

/// Drops a waker, which may own a task that waits for the next one.
#[inline]
pub(crate) fn drop_waker(waker: Option<Waker>) {
    // Most often there is none, which is seen without a call.
    if let Some(waker) = waker {
        run_waker(waker);
    }
}

#[inline(never)]
fn run_waker(waker: Waker) {
    run_or_put_off(move || user::drop_waker(Some(waker)));
}

#[cold]
fn put_off(call: Box<dyn FnOnce()>) {
    let later = Box::into_raw(Box::new(Later { call, next: ptr::null_mut() }));
    match NEWEST.replace(later) {
        newest if newest.is_null() => OLDEST.set(later),
        // SAFETY: the node is on this thread's list, so no other thread has it, and nodes on the
        // list are alive.
        newest => unsafe { (*newest).next = later },
    }
}

fn take_oldest() -> Option<Box<dyn FnOnce()>> {
    let oldest = OLDEST.get();
    if oldest.is_null() {
        return None;
    }
    // SAFETY: `put_off` made the node from a box, and this takes it off the list.
    let Later { call, next } = *unsafe { Box::from_raw(oldest) };
    // Off the list before the call runs: the call may put off more, or panic.
    OLDEST.set(next);
    if next.is_null() {
        NEWEST.set(ptr::null_mut());
    }
    Some(call)
}

/// While this lives the thread is in no drop of this room: for a thread that joins a crew, perhaps
/// inside a destructor that this room runs. The crew's drops would otherwise be put off until the
/// thread has left the crew. Dropping it restores what was before.
#[derive(Debug)]
pub(crate) struct DropsAside {
    depth: u32,
    oldest: *mut Later,
    newest: *mut Later,
}

impl DropsAside {
    /// Leaves the drops of this thread aside.
    pub(crate) fn set_aside() -> Self {
        let none = ptr::null_mut();
        DropsAside {
            depth: DEPTH.replace(0),
            oldest: OLDEST.replace(none),
            newest: NEWEST.replace(none),
        }
    }
}

impl Drop for DropsAside {
    fn drop(&mut self) {
        debug_assert!(
            DEPTH.get() == 0 && OLDEST.get().is_null(),
            "an outermost call leaves nothing"
        );
        DEPTH.set(self.depth);
        OLDEST.set(self.oldest);
        NEWEST.set(self.newest);
    }
}

/// One level of nesting, until the value is dropped. The outermost level runs the calls that were
/// put off.
struct Level;

impl Level {
    #[inline]
    fn go_deeper() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Level
    }
}

impl Drop for Level {
    #[inline]
    fn drop(&mut self) {
        // Still counted as one level: what these calls put off goes onto the list being emptied.
        // Also while a panic unwinds, since `do_all` lets no second one out.
        if DEPTH.get() == 1 && !OLDEST.get().is_null() {
            do_all();
        }
        DEPTH.set(DEPTH.get() - 1);
    }
}

#[cold]
fn do_all() {
    while let Some(call) = take_oldest() {
        user::run_contained(Site::Drop, call);
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::rc::Rc;

    /// A list with a drop that recurses through [`run_or_put_off`].
    struct Link(Option<Box<Link>>, Rc<RefCell<Vec<u32>>>, u32);

    impl Drop for Link {
        fn drop(&mut self) {
            self.1.borrow_mut().push(self.2);
            if let Some(next) = self.0.take() {
                run_or_put_off(move || drop(next));
            }
        }
    }

    #[test]
    fn a_chain_is_dropped_on_a_small_stack_before_the_outermost_call_returns() {
        std::thread::Builder::new()
            .stack_size(64 << 10)
            .spawn(|| {
                let dropped = Rc::default();
                let chain = (0..100_000).fold(None, |next, number| {
                    Some(Box::new(Link(next, Rc::clone(&dropped), number)))
                });
                drop(chain);
                assert!(dropped.borrow().iter().copied().eq((0..100_000).rev()));
                assert_eq!(
                    (DEPTH.get(), OLDEST.get(), NEWEST.get()),
                    (0, ptr::null_mut(), ptr::null_mut())
                );
            })
            .unwrap()
            .join()
            .unwrap();
    }

    fn nested(levels: u32, innermost: impl FnOnce() + 'static) {
        let nest: Box<dyn FnOnce()> = Box::new(innermost);
        (0..levels).fold(nest, |inner, _| Box::new(|| run_or_put_off(inner)))();
    }

    #[test]
    fn a_panic_of_what_was_put_off_ends_there() {
        let done = Rc::new(Cell::new(0));
        let (one, two) = (Rc::clone(&done), Rc::clone(&done));
        run_or_put_off(move || {
            nested(20, move || {
                one.set(one.get() + 1);
                resume_unwind(Box::new("first"));
            });
            nested(20, move || {
                two.set(two.get() + 1);
                resume_unwind(Box::new("second"));
            });
        });
        assert_eq!((done.get(), DEPTH.get()), (2, 0));
    }

    #[test]
    fn what_was_put_off_is_done_while_the_outermost_call_unwinds() {
        let done = Rc::new(Cell::new(false));
        let here = Rc::clone(&done);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            run_or_put_off(move || {
                nested(20, move || {
                    here.set(true);
                    resume_unwind(Box::new("put off"));
                });
                resume_unwind(Box::new("outermost"));
            });
        }));
        assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&"outermost"));
        assert!(done.get());
        assert_eq!(DEPTH.get(), 0);
    }
}

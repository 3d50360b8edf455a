//! Floor 0: runs user code so that a panic stays inside, whatever its payload does when it is dropped.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What a panic said: its text where the payload was a string, a stand-in otherwise.
#[derive(Clone, PartialEq, Eq)]
pub struct PanicText(Arc<str>);

impl PanicText {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PanicText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for PanicText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Runs `f`; a panic comes back as its text, and its payload is gone by then.
///
/// Unwind safety is asserted: whoever calls this throws away what `f` may have left half done (the actor fails).
pub(crate) fn guard<R>(f: impl FnOnce() -> R) -> Result<R, PanicText> {
    catch_unwind(AssertUnwindSafe(f)).map_err(digest)
}

/// Runs user code whose panic concerns nobody: a waker, a destructor, an event hook.
pub(crate) fn contain(f: impl FnOnce()) {
    let _ = guard(f);
}

#[cold]
fn digest(payload: Box<dyn Any + Send>) -> PanicText {
    let text = match (payload.downcast_ref::<&'static str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => Arc::from(*text),
        (_, Some(text)) => Arc::from(text.as_str()),
        _ => Arc::from("a panic whose payload is not a string"),
    };
    // A payload may panic when dropped, and what that throws may do so again. Two are caught; a third is leaked
    // rather than followed for ever.
    if let Err(second) = catch_unwind(AssertUnwindSafe(move || drop(payload)))
        && let Err(third) = catch_unwind(AssertUnwindSafe(move || drop(second)))
    {
        std::mem::forget(third);
    }
    PanicText(text)
}

//! Floor 0: what a panic said.

use std::fmt;
use std::sync::Arc;

/// What a panic said: its text where the payload was a string, a stand-in otherwise.
#[derive(Clone, PartialEq, Eq)]
pub struct PanicText(Arc<str>);

impl PanicText {
    pub(crate) fn new(text: Arc<str>) -> Self {
        PanicText(text)
    }

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

//! Floor 0: texts of panics.

use std::fmt;
use std::sync::Arc;

/// The text of a panic if its payload was a string, or else a fixed text that says so.
#[derive(Clone, PartialEq, Eq)]
pub struct PanicText(Arc<str>);

impl PanicText {
    pub(crate) fn new(text: Arc<str>) -> Self {
        PanicText(text)
    }

    /// Returns the text.
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

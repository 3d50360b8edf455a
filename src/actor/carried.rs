//! How a message travels: unchanged, or in a box if the message is large.
//!
//! A message moves through some ten functions on its way into an envelope, and through some more on
//! its way out. The compiler makes a copy on the stack for each in a debug build, and for some in a
//! release build. So the first function of all puts a large message into a box, and the last one
//! before the handler takes it out.

use crate::error::SendError;

/// Size in bytes from which messages are boxed. Up to here a copy costs less than another
/// allocation.
const LARGE: usize = 4096;

pub(crate) const fn is_large<M>() -> bool {
    size_of::<M>() > LARGE
}

/// A message of type `M`, or a box with one.
pub(crate) trait Carried<M>: Send + 'static {
    fn arrive(self) -> M;
}

impl<M: Send + 'static> Carried<M> for M {
    #[inline(always)]
    fn arrive(self) -> M {
        self
    }
}

impl<M: Send + 'static> Carried<M> for Box<M> {
    #[inline]
    fn arrive(self) -> M {
        *self
    }
}

impl<M> SendError<Box<M>> {
    /// Returns the error with the message as its sender knows it.
    #[cold]
    pub(crate) fn unboxed(self) -> SendError<M> {
        let refusal = self.refusal();
        SendError::new(*self.into_message(), refusal)
    }
}

/// Sends a message of the type parameter `M` by an expression that takes any [`Carried`] form of
/// the message.
macro_rules! carried {
    ($message:ident => $send:expr) => {
        // Decided at compile time, so the code of a message type has one of the two ways only.
        if const { $crate::actor::carried::is_large::<M>() } {
            let $message = Box::new($message);
            $send.map_err($crate::error::SendError::unboxed)
        } else {
            $send
        }
    };
}
pub(crate) use carried;

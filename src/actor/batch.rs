//! Batches: what a handler of several messages at once is given. How they are taken: [`crate::cell::batch`].

use super::Receive;
use super::context::{AnyEnvelope, Context};
use super::reply::Reply;
use crate::cell::batch::Take;
use crate::cell::header::Header;
use crate::cell::turn::Run;
use std::any::TypeId;
use std::fmt;
use std::iter::FusedIterator;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// Messages of one type that waited one behind the other, each with its [`Reply`]: an iterator, oldest first. See
/// [`Receive::receive_batch`].
///
/// There is always at least one. The others are taken from the mailbox when [`next`](Iterator::next) comes to them, so what is
/// not asked for stays there, and is no part of this batch. Once it has given `None` it gives nothing more.
///
/// A batch that is dropped before anything was taken drops its first message; whoever asked gets
/// [`AskError::NoReply`](crate::AskError::NoReply).
#[must_use = "dropping a batch drops its first message"]
pub struct Batch<'a, M, R: 'static> {
    first: Option<(M, Reply<R>)>,
    /// Where the others come from; `None`: there are no others, or no more of them.
    run: Option<&'a Run<'a>>,
    /// How many others there may be.
    left: usize,
}

impl<'a, M: Send + 'static, R: Send + 'static> Batch<'a, M, R> {
    /// # Safety
    /// Inside the run's turn, in the handler of such a message of an actor that is a `Receive<M, Reply = R>`.
    #[inline]
    unsafe fn new(first: (M, Reply<R>), run: &'a Run<'a>, limit: usize) -> Self {
        Batch { first: Some(first), run: Some(run), left: limit - 1 }
    }

    /// A batch of one message: for an actor that has one and the same way for one and for many, and for tests of it.
    ///
    /// ```
    /// # use heist::{Actor, Batch, Context, Executor, Receive, Reply};
    /// # struct Store { commits: u64 }
    /// # impl Actor for Store {}
    /// # struct Put;
    /// impl Receive<Put> for Store {
    ///     type Reply = u64;
    ///     const BATCH: usize = 100;
    ///     fn receive(&mut self, put: Put, reply: Reply<u64>, ctx: &mut Context<Self>) {
    ///         self.receive_batch(Batch::of_one(put, reply), ctx);
    ///     }
    ///     fn receive_batch(&mut self, batch: Batch<'_, Put, u64>, _: &mut Context<Self>) {
    ///         let replies: Vec<Reply<u64>> = batch.map(|(_put, reply)| reply).collect();
    ///         self.commits += 1;
    ///         replies.into_iter().for_each(|reply| reply.send(self.commits));
    ///     }
    /// }
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let executor = Executor::new();
    /// # assert_eq!(executor.spawn(Store { commits: 0 }).ask(Put)?.wait()?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn of_one(message: M, reply: Reply<R>) -> Self {
        Batch { first: Some((message, reply)), run: None, left: 0 }
    }
}

impl<M: Send + 'static, R: Send + 'static> Iterator for Batch<'_, M, R> {
    type Item = (M, Reply<R>);

    fn next(&mut self) -> Option<(M, Reply<R>)> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let run = self.run.take()?;
        self.left = self.left.checked_sub(1)?;
        let mut next = MaybeUninit::<(M, Reply<R>)>::uninit();
        // SAFETY: inside the handler, as `new` was told; there is room for what `put` writes, which is initialized if this is
        // true.
        unsafe {
            if !run.take(TypeId::of::<M>(), NonNull::from(&mut next).cast()) {
                return None;
            }
            self.run = Some(run);
            Some(next.assume_init())
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let first = usize::from(self.first.is_some());
        let others = self.run.map_or(0, |run| self.left.min(run.left() as usize));
        (first, Some(first + others))
    }
}

impl<M: Send + 'static, R: Send + 'static> FusedIterator for Batch<'_, M, R> {}

impl<M, R> fmt::Debug for Batch<'_, M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("begun", &self.first.is_none()).finish_non_exhaustive()
    }
}

/// For a table: how a batch takes such an envelope. `None`: messages of this type come one by one.
pub(super) const fn take<A: Receive<M>, M: Send + 'static>(
    open: unsafe fn(AnyEnvelope, &Header, NonNull<()>) -> bool,
) -> Option<Take> {
    const { assert!(A::BATCH > 0, "a batch holds at least one message") };
    if A::BATCH > 1 { Some(Take { message: TypeId::of::<M>(), open }) } else { None }
}

/// What a [`Take::open`] ends with.
///
/// # Safety
/// `into` has room for this, and nothing is in there.
pub(super) unsafe fn put<M, R>(into: NonNull<()>, message: M, reply: Reply<R>) -> bool {
    // SAFETY: the caller's.
    unsafe { into.cast().write((message, reply)) };
    true
}

/// Hands a message to its actor, whose turn this is: alone, or as the first of a batch.
///
/// # Safety
/// In the handler of an envelope, of such a message and for this actor, that the run has popped.
#[inline]
pub(super) unsafe fn receive<A: Receive<M>, M: Send + 'static>(
    actor: &mut A,
    message: M,
    reply: Reply<A::Reply>,
    ctx: &mut Context<A>,
    run: &Run<'_>,
) {
    if A::BATCH > 1 {
        // SAFETY: the caller's.
        actor.receive_batch(unsafe { Batch::new((message, reply), run, A::BATCH) }, ctx);
    } else {
        actor.receive(message, reply, ctx);
    }
}

/// Hands over a message that comes alone.
#[inline]
pub(super) fn receive_alone<A: Receive<M>, M: Send + 'static>(
    actor: &mut A,
    message: M,
    ctx: &mut Context<A>,
) {
    if A::BATCH > 1 {
        actor.receive_batch(Batch::of_one(message, Reply::nobody()), ctx);
    } else {
        actor.receive(message, Reply::nobody(), ctx);
    }
}

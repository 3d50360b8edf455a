//! Batches: what a handler of several messages at once is given. How they are taken: [`crate::cell::batch`].

use super::Receive;
use super::context::{AnyEnvelope, Context, enter};
use super::reply::Reply;
use crate::cell::batch::{Batched, Taken, Taking};
use crate::cell::event::DeadLetterReason;
use crate::cell::header::Header;
use crate::cell::ticks;
use crate::error::AskError;
use crate::variance::Invariant;
use std::any::TypeId;
use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
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
    /// Where the others come from; `None`: there are no others, or no more of them. Only in the handler that `Taking` is for.
    from: Option<&'a Taking<'a>>,
    /// How many others there may be.
    left: usize,
    /// The others are found by `M`'s `TypeId`, and opened as `M` and `R`.
    types: Invariant<(M, R)>,
}

impl<M: Send + 'static, R: Send + 'static> Batch<'_, M, R> {
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
        Batch { first: Some((message, reply)), from: None, left: 0, types: PhantomData }
    }
}

impl<M: Send + 'static, R: Send + 'static> Iterator for Batch<'_, M, R> {
    type Item = (M, Reply<R>);

    fn next(&mut self) -> Option<(M, Reply<R>)> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let from = self.from.take()?; // and back, if there may be more
        self.left = self.left.checked_sub(1)?;
        loop {
            // SAFETY: in the handler; what is popped is of this type, and given up.
            let ((message, reply), in_time, sent) = unsafe {
                let Taken { envelope, batched, sent } = from.pop(TypeId::of::<M>())?;
                let (pair, in_time) = open(envelope, batched, from.header());
                (pair, in_time, sent)
            };
            if in_time {
                from.in_hand(sent);
                self.from = Some(from);
                return Some((message, reply));
            }
            from.passed_over();
            expire(message, reply);
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let first = usize::from(self.first.is_some());
        let others = self.from.map_or(0, |from| self.left.min(from.left() as usize));
        (first, Some(first + others))
    }
}

impl<M: Send + 'static, R: Send + 'static> FusedIterator for Batch<'_, M, R> {}

impl<M, R> fmt::Debug for Batch<'_, M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("begun", &self.first.is_none()).finish_non_exhaustive()
    }
}

/// Of an envelope's opening: see [`Batched::open`].
pub(super) type Open = unsafe fn(AnyEnvelope, &Header, NonNull<()>) -> bool;

/// For a table. `None`: messages of this type come one by one.
pub(super) const fn batched<A: Receive<M>, M: Send + 'static>(open: Open) -> Option<Batched> {
    const { assert!(A::BATCH > 0, "a batch holds at least one message") };
    if A::BATCH > 1 {
        Some(Batched { message: TypeId::of::<M>(), open, handle: handle::<A, M> })
    } else {
        None
    }
}

/// What an [`Open`] ends with.
///
/// # Safety
/// `into` is what the opening was told.
pub(super) unsafe fn put<M, R>(into: NonNull<()>, message: M, reply: Reply<R>) {
    // SAFETY: the caller's; there is room for this, and nothing is in there.
    unsafe { into.cast().write((message, reply)) };
}

/// Message and reply, and whether they come in time.
///
/// # Safety
/// With the only pointer to an envelope of such a message, for an actor that answers it by an `R`; in its turn.
unsafe fn open<M, R>(this: AnyEnvelope, batched: &Batched, header: &Header) -> ((M, Reply<R>), bool) {
    let mut pair = MaybeUninit::<(M, Reply<R>)>::uninit();
    // SAFETY: the caller's: the table's function is for these types, and writes the pair.
    unsafe {
        let in_time = (batched.open)(this, header, NonNull::from(&mut pair).cast());
        (pair.assume_init(), in_time)
    }
}

fn expire<M, R>(message: M, reply: Reply<R>) {
    reply.fail(AskError::Expired); // told even if the message's drop panics
    drop(message);
}

unsafe fn handle<A: Receive<M>, M: Send + 'static>(
    first: AnyEnvelope,
    batched: &'static Batched,
    from: &Taking<'_>,
) {
    // SAFETY: the caller's: such an envelope, in the turn of its actor.
    let ((message, reply), in_time) = unsafe { open::<M, A::Reply>(first, batched, from.header()) };
    if !in_time {
        ticks::not_handled(from.header(), DeadLetterReason::Expired);
        return expire(message, reply);
    }
    let first = Some((message, reply));
    let batch = Batch { first, from: Some(from), left: A::BATCH - 1, types: PhantomData };
    // SAFETY: as above.
    let (actor, mut ctx) = unsafe { enter::<A>(from.this()) };
    actor.receive_batch(batch, &mut ctx);
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

//! Batches as handlers see them: an iterator over several messages. [`crate::cell::batch`] takes
//! the messages.

use super::reply::Reply;
use crate::cell::batch::{Taken, Taking};
use crate::cell::envelope::AnyEnvelope;
use crate::cell::envelope::Batched;
use crate::error::AskError;
use crate::variance::Invariant;
use std::any::{TypeId, type_name};
use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// Messages of one type from the head of a mailbox, each with a [`Reply`]: an iterator, oldest
/// first. See [`Receive::receive_batch`](crate::Receive::receive_batch).
///
/// A batch has at least one message. The others are taken from the mailbox when
/// [`next`](Iterator::next) comes to them. A message that is never taken stays in the mailbox and
/// is no part of the batch. After `None` the iterator gives nothing more.
///
/// A batch dropped before any message was taken drops the first message. Its asker gets
/// [`AskError::NoReply`](crate::AskError::NoReply). [`std::mem::forget`] of such a batch leaves
/// that asker without an answer.
#[must_use = "dropping a batch drops its first message"]
pub struct Batch<'a, M, R: 'static> {
    /// The first message. Opened only when it is asked for, so a batch is small however large its
    /// messages are.
    first: Option<NextMessage<'a, M, R>>,
    /// The source of the other messages, or `None` if no more can come. Used only in the handler
    /// that `Taking` is for.
    from: Option<&'a Taking<'a>>,
    /// Upper limit of the number of other messages.
    left: usize,
    /// The other messages are found by `M`'s `TypeId`, and opened as `M` and `R`.
    types: Invariant<(M, R)>,
}

/// The next message of a batch.
enum NextMessage<'a, M, R: 'static> {
    /// In a popped envelope, not expired at the look at it.
    PoppedEnvelope(PoppedEnvelope, &'a Taking<'a>),
    /// Not from a mailbox: see [`Batch::of_one`].
    Alone(Box<(M, Reply<R>)>),
}

/// A popped envelope of a batch, with the batch's table for it.
pub(super) struct PoppedEnvelope {
    pub(super) envelope: AnyEnvelope,
    pub(super) batched: &'static Batched,
}

impl PoppedEnvelope {
    pub(super) fn has_expired(&self) -> bool {
        // SAFETY: the batch owns the envelope, and the function comes from the envelope's table.
        unsafe { (self.batched.expired)(self.envelope) }
    }

    /// Takes message and reply out of the envelope.
    ///
    /// # Safety
    /// The message was popped as an `M`, for an actor with answers of type `R`. Called in that
    /// actor's turn.
    unsafe fn open_envelope<M, R: 'static>(self, from: &Taking<'_>) -> (M, Reply<R>) {
        // The table's function knows the types, but its pointer cannot name them.
        let mut pair = MaybeUninit::<(M, Reply<R>)>::uninit();
        // SAFETY: the function comes from the envelope's table, is made for `M` and `R`, and writes
        // the pair.
        unsafe {
            (self.batched.open)(self.envelope, from.header(), NonNull::from(&mut pair).cast());
            pair.assume_init()
        }
    }

    /// Tells the asker, and drops the message.
    ///
    /// # Safety
    /// The message was popped as an `M`, for an actor with answers of type `R`. Called in that
    /// actor's turn.
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn expire_message<M, R: 'static>(self, from: &Taking<'_>) {
        // SAFETY: the message was popped as an `M`, in the turn of an actor with answers of type
        // `R`.
        let (message, reply) = unsafe { self.open_envelope::<M, R>(from) };
        reply.fail_with(AskError::Expired); // told even if the message's drop panics
        drop(message);
    }
}

impl<M: Send + 'static, R: Send + 'static> Batch<'_, M, R> {
    /// Makes a batch of one message: for an actor that handles one message and many in the same
    /// way, and for tests.
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
        Batch {
            // Boxed, so that a batch from a mailbox has no room for a message in it.
            first: Some(NextMessage::Alone(Box::new((message, reply)))),
            from: None,
            left: 0,
            types: PhantomData,
        }
    }
}

impl<'a, M: Send + 'static, R: Send + 'static> Batch<'a, M, R> {
    /// Makes a batch of at most `most` messages. `first` was popped as an `M`, for an actor with
    /// answers of type `R`, and has not expired.
    #[inline]
    pub(super) fn from_first(first: PoppedEnvelope, from: &'a Taking<'a>, most: usize) -> Self {
        let first = Some(NextMessage::PoppedEnvelope(first, from));
        Batch { first, from: Some(from), left: most - 1, types: PhantomData }
    }

    fn next_in_time(&mut self) -> Option<NextMessage<'a, M, R>> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        // The source stays taken out on each way that returns `None`, so the iterator is fused.
        let from = self.from.take()?; // put back below if there may be more
        self.left = self.left.checked_sub(1)?;
        loop {
            // SAFETY: the batch cannot leave the handler. The popped envelope has a message of type
            // `M` and belongs to the batch.
            let Taken { envelope, batched, sent } =
                unsafe { from.pop_same_type(TypeId::of::<M>())? };
            let popped = PoppedEnvelope { envelope, batched };
            // An expired message counts in the turn but takes no place in the batch.
            if !popped.has_expired() {
                from.begin_message(sent);
                self.from = Some(from);
                return Some(NextMessage::PoppedEnvelope(popped, from));
            }
            // The turn counts the message as not handled, and the batch goes on.
            from.count_expired(type_name::<M>());
            // SAFETY: popped as an `M` just now, in the actor's turn.
            unsafe { popped.expire_message::<M, R>(from) };
        }
    }
}

impl<M: Send + 'static, R: Send + 'static> Iterator for Batch<'_, M, R> {
    type Item = (M, Reply<R>);

    fn next(&mut self) -> Option<(M, Reply<R>)> {
        Some(match self.next_in_time()? {
            NextMessage::Alone(pair) => *pair,
            // SAFETY: popped as an `M` for this batch, in the handler that the batch is for.
            NextMessage::PoppedEnvelope(popped, from) => unsafe { popped.open_envelope(from) },
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let first = usize::from(self.first.is_some());
        let others = self.from.map_or(0, |from| self.left.min(from.messages_left() as usize));
        (first, Some(first + others))
    }
}

impl<M: Send + 'static, R: Send + 'static> FusedIterator for Batch<'_, M, R> {}

impl<M, R: 'static> Drop for Batch<'_, M, R> {
    // A message that was popped must go somewhere: only the first one can be popped and not taken.
    fn drop(&mut self) {
        if let Some(NextMessage::PoppedEnvelope(popped, from)) = self.first.take() {
            // SAFETY: popped as an `M` for this batch, and the batch cannot leave the handler.
            drop(unsafe { popped.open_envelope::<M, R>(from) });
        }
    }
}

impl<M, R> fmt::Debug for Batch<'_, M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("begun", &self.first.is_none()).finish_non_exhaustive()
    }
}

//! Asks with an answer that comes back as a message. One allocation is first the reply's target and
//! then the envelope.

use crate::actor::carried::carried;
use crate::actor::cell_of::enter;
use crate::actor::context::Context;
use crate::actor::refs::ActorRef;
use crate::actor::reply::{Reply, ReplyVtable};
use crate::actor::{Actor, Receive};
use crate::cell::envelope::{
    AnyEnvelope, Envelope, EnvelopeVtable, SentAt, Storage, Timestamp, timestamp_offset,
};
use crate::cell::exempt::deliver_answer;
use crate::cell::fail::InHand;
use crate::cell::header::Header;
use crate::drops;
use crate::error::{AskError, Refusal, SendError};
use crate::memory::{self, Heap, Held, Kind};
use crate::sched::worker::Worker;
use std::any::type_name;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ptr::NonNull;

impl<A: Actor> Context<A> {
    /// Asks another actor without waiting. `then` runs in a later turn of this actor, with the
    /// answer or the reason why no answer came. The answer is exempt from this actor's capacity,
    /// and the ask keeps this actor alive until the answer comes.
    ///
    /// If this actor stops first, `then` never runs, and the answer becomes a dead letter.
    ///
    /// # Errors
    /// As [`ActorRef::ask`]; `then` is dropped.
    #[doc(alias("pipe_to", "pipeToSelf", "into_actor", "call"))]
    pub fn ask_then<B, M, F>(
        &mut self,
        target: &ActorRef<B>,
        message: M,
        then: F,
    ) -> Result<(), SendError<M>>
    where
        B: Receive<M>,
        M: Send + 'static,
        F: FnOnce(&mut A, Result<B::Reply, AskError>, &mut Context<A>) + Send + 'static,
    {
        // The callback is both the message's reply and, later, the envelope of the answer. The
        // callback keeps this actor alive until then.
        let Some(reply) = reply_by_callback(ActorRef::clone(self.me()), then) else {
            return Err(SendError::new(message, Refusal::Forked));
        };
        carried!(message => target.send_with_reply::<M, _>(message, reply))
    }
}

#[repr(C)]
struct Callback<A: Actor, R, F, S> {
    envelope: Envelope,
    /// When the answer was given.
    sent: S,
    /// Keeps the asking actor until the answer is in its mailbox.
    owner: Option<ActorRef<A>>,
    answer: Option<Result<R, AskError>>,
    then: F,
}

struct CallbackVtables<A, R, F, S>(PhantomData<(A, R, F, S)>);

impl<A, R, F, S> CallbackVtables<A, R, F, S>
where
    A: Actor,
    R: Send + 'static,
    F: FnOnce(&mut A, Result<R, AskError>, &mut Context<A>) + Send + 'static,
    S: Timestamp,
{
    const ENVELOPE: EnvelopeVtable = EnvelopeVtable::of_single(
        handle::<A, R, F, S>,
        discard_callback::<A, R, F, S>,
        timestamp_offset::<S>(offset_of!(Callback<A, R, F, S>, sent)),
        type_name::<R>,
    );
    const REPLY: ReplyVtable<R> = ReplyVtable {
        answer: send_callback::<A, R, F, S>,
        wanted: is_callback_wanted::<A, R, F, S>,
        cancel: cancel_callback::<A, R, F, S>,
        // No thread blocks for this answer, so a forward need not be known to the table of waits.
        forward: |_, _| Ok(None),
        restore: |_, _| (),
    };
}

/// Makes a reply that calls `then` in a turn of `owner`. Returns `None` in a forked child.
pub(crate) fn reply_by_callback<A, R, F>(owner: ActorRef<A>, then: F) -> Option<Reply<R>>
where
    A: Actor,
    R: Send + 'static,
    F: FnOnce(&mut A, Result<R, AskError>, &mut Context<A>) + Send + 'static,
{
    // Two types, so the callback of an actor that is not timed has no room for an instant.
    if owner.header().stopwatch().is_some() {
        reply_as::<A, R, F, SentAt>(owner, then)
    } else {
        reply_as::<A, R, F, ()>(owner, then)
    }
}

fn reply_as<A, R, F, S>(owner: ActorRef<A>, then: F) -> Option<Reply<R>>
where
    A: Actor,
    R: Send + 'static,
    F: FnOnce(&mut A, Result<R, AskError>, &mut Context<A>) + Send + 'static,
    S: Timestamp,
{
    let envelope = Envelope::new(&CallbackVtables::<A, R, F, S>::ENVELOPE);
    let pack = |heap: &Heap| memory::alloc_uninit::<Callback<A, R, F, S>>(heap, Kind::Message);
    let callback = owner.header().core().with_heap_unless_forked(pack)?;
    // SAFETY: the memory was just allocated for this type, and no other thread knows it.
    unsafe {
        callback.write(Callback {
            envelope,
            sent: S::BLANK,
            owner: Some(owner),
            answer: None,
            then,
        })
    };
    // SAFETY: the callback is given up to the reply, and the table is made for its type.
    Some(unsafe { Reply::new(callback.cast(), &CallbackVtables::<A, R, F, S>::REPLY) })
}

unsafe fn send_callback<A: Actor, R, F, S: Timestamp>(
    to: NonNull<()>,
    answer: Result<R, AskError>,
) {
    // SAFETY: the reply calls this once and gives the callback up. The envelope is made for an
    // actor of the owner's type.
    unsafe {
        let callback = to.cast::<Callback<A, R, F, S>>().as_mut();
        // From the delivery on the message keeps the actor, so the owner's reference goes with the
        // call.
        callback.answer = Some(answer);
        let owner = callback.owner.take().expect("taken only once");
        deliver_answer(owner.into_strong(), to.cast());
    }
}

unsafe fn is_callback_wanted<A: Actor, R, F, S: Timestamp>(to: NonNull<()>) -> bool {
    // SAFETY: the reply has not been used yet, so the callback is there.
    let callback = unsafe { to.cast::<Callback<A, R, F, S>>().as_ref() };
    // Closed and not dead: an actor that is about to end handles no answer that comes later.
    callback.owner.as_ref().is_some_and(|owner| !owner.header().state.load_snapshot().is_closed())
}

/// Drops the callback unanswered, by `drops::run_or_put_off`: the callback may own another reply,
/// and so on.
unsafe fn cancel_callback<A: Actor, R: 'static, F: 'static, S: Timestamp>(to: NonNull<()>) {
    // SAFETY: the reply calls this once and gives the callback up. The owner keeps its pool.
    let cancel = move || unsafe {
        // Taken out first: the owner keeps the pool while the callback is freed.
        let owner =
            to.cast::<Callback<A, R, F, S>>().as_mut().owner.take().expect("taken only once");
        drop(take_callback::<A, R, F, S>(to.cast(), owner.header().pool_held()));
    };
    drops::run_or_put_off(cancel);
}

/// # Safety
/// `this` is the only pointer to a callback made by `reply_by_callback`, and `held` is of the
/// callback's pool.
unsafe fn take_callback<A: Actor, R, F, S: Timestamp>(
    this: AnyEnvelope,
    held: Held<'_>,
) -> Callback<A, R, F, S> {
    // SAFETY: `reply_by_callback` allocated the callback as this type, no other pointer to it
    // exists, and `held` is of the right pool.
    Worker::with_heap(|here| unsafe {
        memory::take_and_free(here, Kind::Message, this.cast(), held)
    })
}

unsafe fn handle<A, R, F, S>(this: AnyEnvelope, header: NonNull<Header>, _: Storage)
where
    A: Actor,
    F: FnOnce(&mut A, Result<R, AskError>, &mut Context<A>),
    S: Timestamp,
{
    // SAFETY: called through the callback's table with the only pointer to the callback, in a turn
    // of its owner.
    unsafe {
        // Freed before the callback runs, which may ask again and use the block.
        let callback = take_callback::<A, R, F, S>(this, header.as_ref().pool_held());
        let in_hand = InHand::<R>::begin();
        let (actor, mut ctx) = enter::<A>(header);
        (callback.then)(actor, callback.answer.expect("set before it was sent"), &mut ctx);
        in_hand.end();
    }
}

unsafe fn discard_callback<A: Actor, R, F, S: Timestamp>(
    this: AnyEnvelope,
    _: AskError,
    held: Held<'_>,
) {
    // SAFETY: called through the callback's table with the only pointer to the callback, and `held`
    // is of its pool.
    drop(unsafe { take_callback::<A, R, F, S>(this, held) });
}

//! Envelopes with a way back, usually with message and reply slot in a single allocation.

use crate::actor::reply::{Forwarded, Reply, ReplyVtable};
use crate::cell::counted::Weak;
use crate::cell::envelope::{AnyEnvelope, Envelope, EnvelopeVtable, Timestamp, timestamp_offset};
use crate::cell::header::Header;
use crate::cell::waits::ActorKey as Answerer;
use crate::drops;
use crate::error::AskError;
use crate::id::WaitCycle;
use crate::mailbox::reply_slot::{Answered, Records, ReplySlot};
use crate::memory::{self, Heap, Held, Kind};
use crate::sched::worker::Worker;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::{MaybeUninit, offset_of};
use std::ptr::NonNull;

type AnswerSlot<R> = ReplySlot<Result<R, AskError>>;

/// The front of an asked message, which asker and replier know whatever the message's type is.
#[repr(C)]
pub(crate) struct AskEnvelopeHead<R> {
    envelope: Envelope,
    /// The asked actor. The count keeps the envelope's memory.
    target: Weak,
    slot: AnswerSlot<R>,
}

impl<R> AskEnvelopeHead<R> {
    pub(crate) fn target(&self) -> &Header {
        self.target.header()
    }

    /// Returns the slot, with the allocation's provenance, so that the slot can free all of it.
    pub(crate) fn slot_ptr(this: NonNull<Self>) -> NonNull<AnswerSlot<R>> {
        // SAFETY: `this` points to the block, so the address of a field is not null.
        unsafe { NonNull::new_unchecked(&raw mut (*this.as_ptr()).slot) }
    }

    fn of_slot(slot: NonNull<AnswerSlot<R>>) -> NonNull<Self> {
        // SAFETY: all slots of this type lie inside this struct.
        unsafe { slot.byte_sub(offset_of!(Self, slot)).cast() }
    }
}

/// A message with an asker.
#[repr(C)]
pub(crate) struct AskEnvelope<M, R, S> {
    head: AskEnvelopeHead<R>,
    /// Taken when the message is handled or discarded, through a shared pointer: the asker's side
    /// may read the slot meanwhile. The other fields stay until both sides have released the slot.
    message: UnsafeCell<MaybeUninit<M>>,
    /// The last field, so no other offset depends on the type `S`. Read by the function that frees
    /// the envelope and by way of the table.
    sent: S,
}

struct ReplySlotVtable<R>(PhantomData<R>);

impl<R: Send + 'static> ReplySlotVtable<R> {
    const REPLY: ReplyVtable<R> = ReplyVtable {
        answer: answer_slot::<R>,
        wanted: is_answer_wanted::<R>,
        cancel: cancel_ask::<R>,
        forward: record_forward::<R>,
        restore: restore_forward::<R>,
    };
}

unsafe fn answer_slot<R: 'static>(to: NonNull<()>, value: Result<R, AskError>) {
    let head: NonNull<AskEnvelopeHead<R>> = to.cast();
    let slot = AskEnvelopeHead::slot_ptr(head);
    // SAFETY: the replier's side has not released the slot and answers once.
    match unsafe { ReplySlot::store_answer(slot, value) } {
        // The asker is not waiting, and finds the answer by itself.
        Answered::Delivered => {}
        Answered::Wake(waker) => drops::wake_waker(waker),
        Answered::Discarded(value) => {
            // SAFETY: the asker has released the slot, so the replier alone has it. Its weak count
            // keeps the header until the slot is released.
            unsafe {
                head.as_ref()
                    .target
                    .header()
                    .core()
                    .count_here(|tally| &tally.discarded_replies, 1);
                // After the count, which needs the header that the slot's block keeps.
                ReplySlot::free_by_replier(slot);
            }
            // The value is the user's, and may own another reply, and so on.
            drops::run_or_put_off(move || drop(value));
        }
    }
}

/// Records a forward in the table of the asked actor's executor, until the slot is freed. Returns
/// the forward before.
unsafe fn record_forward<R>(to: NonNull<()>, answers: Answerer) -> Result<Forwarded, WaitCycle> {
    // SAFETY: the replier's side has not released the slot, so the block still exists.
    let head = unsafe { to.cast::<AskEnvelopeHead<R>>().as_ref() };
    let asked = head.target.header().core();
    // In a forked child a thread that is not here may hold the table's lock.
    if asked.is_forked() {
        return Ok(None);
    }
    let (waits, address) = (&asked.waits, to.addr().get());
    // Marked before the record exists, so whichever side frees the slot removes the record.
    head.slot.add_record(Records::FORWARDED);
    let before = waits.forwarded_to(address);
    waits.register_forward(address, answers)?;
    Ok(before)
}

/// Takes a forward back, after the forwarded message was refused.
unsafe fn restore_forward<R>(to: NonNull<()>, before: Forwarded) {
    // SAFETY: the replier's side has not released the slot, so the block still exists.
    // A panic of the asker's waker stays in there, and does not reach the replier.
    let head = unsafe { to.cast::<AskEnvelopeHead<R>>().as_ref() };
    let asked = head.target.header().core();
    if !asked.is_forked() {
        asked.waits.restore_forward(to.addr().get(), before);
    }
}

/// Removes the records of an ask before another one may get its memory.
#[cold]
fn remove_records(records: Records, asked: &Header, address: usize) {
    // In a forked child a thread of the parent may hold the locks for ever.
    if asked.core().is_forked() {
        return;
    }
    if records.forwarded() {
        asked.core().waits.restore_forward(address, None);
    }
    if records.taken()
        && let Some(supervised) = asked.supervised()
    {
        supervised.sharing.forget_taken(address);
    }
}

unsafe fn is_answer_wanted<R>(to: NonNull<()>) -> bool {
    // SAFETY: the replier's side has not released the slot, so the block still exists.
    unsafe { to.cast::<AskEnvelopeHead<R>>().as_ref() }.slot.is_wanted()
}

unsafe fn cancel_ask<R: 'static>(to: NonNull<()>) {
    // SAFETY: the replier's side releases the slot with this answer.
    unsafe { answer_slot::<R>(to, Err(AskError::NoReply)) };
}
// After an error the mark has no record, which costs the side that frees the slot one look.

impl<M: Send + 'static, R: Send + 'static, S: Timestamp> AskEnvelope<M, R, S> {
    pub(super) const SENT: usize = timestamp_offset::<S>(offset_of!(Self, sent));

    #[inline]
    pub(super) fn new_boxed(
        heap: &Heap,
        vtable: &'static EnvelopeVtable,
        target: NonNull<Header>,
        message: M,
    ) -> AnyEnvelope {
        // SAFETY: by the contract of `AskParcel::new` the sender holds the actor until the message
        // was sent.
        let target = unsafe { Weak::add_to(target) };
        let make = || {
            let head = AskEnvelopeHead {
                envelope: Envelope::new(vtable),
                target,
                slot: ReplySlot::new(Self::free_block),
            };
            AskEnvelope {
                head,
                message: UnsafeCell::new(MaybeUninit::new(message)),
                sent: S::BLANK,
            }
        };
        memory::alloc_with(heap, Kind::Message, make).cast()
    }

    /// Frees the block, when the slot's last side releases it. Message and answer are gone.
    unsafe fn free_block(slot: NonNull<AnswerSlot<R>>) {
        let asked = AskEnvelopeHead::of_slot(slot).cast::<Self>();
        // SAFETY: the slot lies in a block that `AskParcel` packed, and both sides have released
        // the slot. The count is moved out, and keeps the pool until the block is freed.
        unsafe {
            let target = (&raw const (*asked.as_ptr()).head.target).read();
            // Other asks have no record, and take no lock here.
            let records = slot.as_ref().records();
            if !records.is_empty() {
                remove_records(records, target.header(), asked.addr().get());
            }
            Worker::with_heap(|here| {
                memory::free_without_drop(here, Kind::Message, asked, target.header().pool_held())
            });
        }
    }
}

/// Methods for dated envelopes too: the message lies at the same place in both. So a handler is
/// compiled into one place only.
impl<M: Send + 'static, R: Send + 'static> AskEnvelope<M, R, ()> {
    /// Returns the message and the replier's side of the slot.
    ///
    /// # Safety
    /// `this` is the only pointer to an envelope of this type, and the message is still there.
    pub(super) unsafe fn take_parts(this: AnyEnvelope) -> (M, Reply<R>) {
        // SAFETY: the message is there and is taken once. The envelope is given up to the reply,
        // and the reply's table is of the same type.
        unsafe {
            let message = (*this.cast::<Self>().as_ref().message.get()).assume_init_read();
            (message, Reply::new(this.cast(), &ReplySlotVtable::<R>::REPLY))
        }
    }

    /// Returns a pointer to the message, valid as long as the message was not taken.
    ///
    /// # Safety
    /// `this` is the only pointer to an envelope of this type, and the message is still there.
    pub(super) unsafe fn message_ptr(this: AnyEnvelope) -> NonNull<M> {
        // SAFETY: `this` points to the block, so the address of a field is not null.
        unsafe { NonNull::new_unchecked(this.cast::<Self>().as_ref().message.get().cast()) }
    }

    /// Marks the ask as taken from a shared queue.
    ///
    /// # Safety
    /// As for [`take_parts`](Self::take_parts).
    pub(super) unsafe fn mark_taken(this: AnyEnvelope) {
        // SAFETY: the replier's side of the slot goes with the envelope, so it is not released.
        unsafe { this.cast::<AskEnvelopeHead<R>>().as_ref() }.slot.add_record(Records::TAKEN);
    }

    pub(super) unsafe fn discard_ask(this: AnyEnvelope, why: AskError, _: Held<'_>) {
        // SAFETY: called through the envelope's table with the only pointer to the envelope. The
        // asker is told first, and so is told even if the drop of the message panics.
        unsafe {
            let (message, reply) = Self::take_parts(this);
            reply.fail_with(why);
            drop(message);
        }
    }
}

/// A message with any kind of reply.
#[repr(C)]
pub(crate) struct AskWithReplyEnvelope<M, R: 'static, S> {
    envelope: Envelope,
    sent: S,
    reply: Reply<R>,
    message: M,
}

impl<M: Send + 'static, R: Send + 'static, S: Timestamp> AskWithReplyEnvelope<M, R, S> {
    pub(super) const SENT: usize = timestamp_offset::<S>(offset_of!(Self, sent));

    pub(super) fn new_boxed(
        heap: &Heap,
        vtable: &'static EnvelopeVtable,
        reply: Reply<R>,
        message: M,
    ) -> AnyEnvelope {
        let make = || AskWithReplyEnvelope {
            envelope: Envelope::new(vtable),
            sent: S::BLANK,
            reply,
            message,
        };
        memory::alloc_with(heap, Kind::Message, make).cast()
    }

    /// Returns a pointer to the message.
    ///
    /// # Safety
    /// `this` is the only pointer to an envelope of this type.
    pub(super) unsafe fn message_ptr(this: AnyEnvelope) -> NonNull<M> {
        // SAFETY: the address of a field of the block that `AskWithReplyParcel` packed, which is
        // never null.
        unsafe { NonNull::new_unchecked(&raw mut (*this.cast::<Self>().as_ptr()).message) }
    }

    /// Takes message and reply out, and frees the envelope.
    ///
    /// # Safety
    /// `this` is the only pointer to an envelope of this type, and `held` is of its pool.
    pub(super) unsafe fn take_and_free(this: AnyEnvelope, held: Held<'_>) -> (M, Reply<R>) {
        // SAFETY: `AskWithReplyParcel` packed the envelope as this type, no other pointer to it
        // exists, and `held` is of the right pool.
        let asked = Worker::with_heap(|here| unsafe {
            memory::take_and_free(here, Kind::Message, this.cast::<Self>(), held)
        });
        (asked.message, asked.reply)
    }

    pub(super) unsafe fn discard_ask(this: AnyEnvelope, why: AskError, held: Held<'_>) {
        // SAFETY: called through the envelope's table with the only pointer to the envelope, and
        // `held` is of its pool.
        let (message, reply) = unsafe { Self::take_and_free(this, held) };
        // Told first, so that the asker is told even if the drop of the message panics.
        reply.fail_with(why);
        drop(message);
    }
}

//! Told messages: an envelope with a message and no way back, in one block; or, where many wait,
//! the message alone in a [segment]'s slot.

use super::batch;
use super::carried::{Carried, carried};
use super::context::{AnyEnvelope, enter};
use super::refs::ActorRef;
use super::reply::Reply;
use super::{Actor, Receive};
use crate::cell::batch::Batched;
use crate::cell::envelope::{
    Dating, Envelope, EnvelopeVtable, Lane, Origin, Parcel, Place, Sent, deliver, place_of, push_alone,
};
use crate::cell::header::Header;
use crate::cell::prepaid;
use crate::error::{AskError, SendError, TellManyError};
use crate::mailbox::inbox::{Filled, Node};
use crate::mailbox::segment::{self, Segment};
use crate::memory::{self, Heap, Held, Kind};
use crate::sched::local::Local;
use crate::variance::Invariant;
use std::any::TypeId;
use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ptr::NonNull;

/// A message that nobody waits for the answer of.
#[repr(C)]
pub(crate) struct Told<M, S> {
    envelope: Envelope,
    message: M,
    sent: S,
}

/// What can be done with a told message, in an undated envelope and in a dated one; and in a
/// segment, if it may be in one.
struct TellTable {
    undated: EnvelopeVtable,
    dated: EnvelopeVtable,
    segment: Option<segment::Kind>,
}

/// For messages of type `M` that travel as a `C`.
struct Tables<A, M, C>(PhantomData<(A, M, C)>);

impl<A: Receive<M>, M: Send + 'static, C: Carried<M>> Tables<A, M, C> {
    const PLAIN: TellTable = TellTable {
        segment: {
            let table: *const EnvelopeVtable = &Self::UNDATED;
            // A batch takes envelopes; and `take` must find the message where a slot has it, right behind the envelope's place.
            let behind = offset_of!(Told<C, ()>, message) == size_of::<Envelope>();
            match Self::UNDATED.batched {
                None if behind => segment::Kind::of::<C>(
                    TypeId::of::<M>(),
                    table.cast(),
                    unpack::<A, M, C>,
                    free_segment::<C>,
                ),
                _ => None,
            }
        },
        ..Self::table(handle::<A, M, C>, handle_dated::<A, M, C>, open::<M, C, A::Reply>)
    };
    const UNDATED: EnvelopeVtable =
        Self::table(handle::<A, M, C>, handle_dated::<A, M, C>, open::<M, C, A::Reply>).undated;
    const AGAIN: TellTable = Self::table(
        handle_prepaid::<A, M, C, true>,
        handle_prepaid_dated::<A, M, C, true>,
        open_prepaid::<M, C, A::Reply, true>,
    );
    const NOTICE: TellTable = Self::table(
        handle_prepaid::<A, M, C, false>,
        handle_prepaid_dated::<A, M, C, false>,
        open_prepaid::<M, C, A::Reply, false>,
    );

    const fn table(handle: Handle, handle_dated: Handle, open: batch::Open) -> TellTable {
        let (discard, sent) = (discard::<C>, place_of::<Sent>(offset_of!(Told<C, Sent>, sent)));
        let (undated, dated) = (batched::<A, M>(open), batched::<A, M>(open));
        TellTable {
            undated: EnvelopeVtable { handle, discard, sent: 0, batched: undated },
            dated: EnvelopeVtable { handle: handle_dated, discard, sent, batched: dated },
            segment: None,
        }
    }
}

/// What is told has no deadline.
const fn batched<A: Receive<M>, M: Send + 'static>(open: batch::Open) -> Option<Batched> {
    batch::batched::<A, M>(open, batch::never_expires)
}

type Handle = unsafe fn(AnyEnvelope, NonNull<Header>, Place);

/// A message on its way into an envelope.
pub(crate) struct Telling<M> {
    message: M,
    /// Made for an `M`.
    table: &'static TellTable,
    made_for: Invariant<M>,
}

impl<C: Send + 'static> Telling<C> {
    #[inline]
    pub(crate) fn plain<A: Receive<M>, M: Send + 'static>(message: C) -> Self
    where
        C: Carried<M>,
    {
        Telling { message, table: &Tables::<A, M, C>::PLAIN, made_for: PhantomData }
    }

    /// The one that [`Context::again`](super::context::Context::again) prepays.
    pub(crate) fn again<A: Receive<M>, M: Send + 'static>(message: C) -> Self
    where
        C: Carried<M>,
    {
        Telling { message, table: &Tables::<A, M, C>::AGAIN, made_for: PhantomData }
    }

    /// What [`Context::when_room`](super::context::Context::when_room) prepays.
    pub(crate) fn notice<A: Receive<M>, M: Send + 'static>(message: C) -> Self
    where
        C: Carried<M>,
    {
        Telling { message, table: &Tables::<A, M, C>::NOTICE, made_for: PhantomData }
    }

    pub(crate) fn into_message(self) -> C {
        self.message
    }

    /// An envelope before a place is known for it: for one who will wait for that. `at` is where it
    /// will be sent.
    pub(crate) fn pack_for(self, at: &Header) -> AnyEnvelope {
        let dated = at.stopwatch().is_some();
        at.core().with_heap(|heap| if dated { self.pack_dated(heap) } else { self.pack(heap) })
    }
}

/// With fewer messages than this in a mailbox a segment would take more memory than they do.
const WORTH_A_SEGMENT: u32 = 6;
/// After a message that met a segment of another type: so many that would begin a segment do not.
/// Where types alternate, each segment would have one message.
const NO_SEGMENTS_FOR: u32 = 32;

thread_local! {
    /// How many are still to go without.
    static MIXED: Cell<u32> = const { Cell::new(0) };
}

/// Have messages of several types lately met in mailboxes? For whoever would begin a segment, and
/// counted so.
#[inline]
fn mixed() -> bool {
    let left = MIXED.get();
    if left > 0 {
        MIXED.set(left - 1);
    }
    left > 0
}

impl<M: Send + 'static> Parcel for Telling<M> {
    type Receipt = ();

    #[inline]
    fn receipt(_: AnyEnvelope) {}

    /// Where many wait it goes into a segment, if it may.
    #[inline]
    unsafe fn put(self, to: &Header, from: &impl Origin) {
        let Telling { mut message, table, made_for } = self;
        if let Some(kind) = &table.segment {
            // SAFETY: so `PLAIN` says.
            message = match unsafe { to.inbox.fill(kind, message) } {
                Filled::Done => return,
                Filled::NoSegment(message) if to.state.peek().len() >= WORTH_A_SEGMENT && !mixed() => {
                    // SAFETY: as above, and just begun, so it is on no queue.
                    return unsafe {
                        let segment = from.with_heap(|heap| segment::begin(heap, kind, message));
                        to.inbox.push_segment(segment);
                    };
                }
                Filled::NoSegment(message) | Filled::Contended(message) => message,
                Filled::OtherType(message) => {
                    MIXED.set(NO_SEGMENTS_FOR);
                    message
                }
            };
        }
        // SAFETY: the caller's.
        unsafe { push_alone(Telling { message, table, made_for }, to, from) };
    }

    #[inline]
    fn pack(self, heap: &Heap) -> AnyEnvelope {
        Told::boxed(heap, &self.table.undated, (), self.message)
    }
    fn pack_dated(self, heap: &Heap) -> AnyEnvelope {
        Told::boxed(heap, &self.table.dated, Sent::BLANK, self.message)
    }
}

impl<M: Send + 'static, S: Dating> Told<M, S> {
    #[inline]
    fn boxed(heap: &Heap, vtable: &'static EnvelopeVtable, sent: S, message: M) -> AnyEnvelope {
        let make = || Told { envelope: Envelope::new(vtable), message, sent };
        memory::boxed(heap, Kind::Message, make).cast()
    }

    /// The message back.
    ///
    /// # Safety
    /// With the only pointer to an envelope of this type; `held` is of its pool.
    #[inline]
    unsafe fn open(this: AnyEnvelope, held: Held<'_>) -> M {
        // SAFETY: the caller's.
        unsafe { Self::take(this, Place::Own, held) }
    }

    /// # Safety
    /// With the only pointer to an envelope of this type, or where that of a message in a slot
    /// would be; `held` is of its pool.
    #[inline]
    unsafe fn take(this: AnyEnvelope, place: Place, held: Held<'_>) -> M {
        let this: NonNull<Self> = this.cast();
        // SAFETY: the caller's. Of a message in a slot nothing but itself is read: to name its place touches no envelope, and needs
        // none to be aligned there.
        unsafe {
            let message = (&raw const (*this.as_ptr()).message).read();
            if place == Place::Own {
                Local::with_heap(|here| memory::free(here, Kind::Message, this, held));
            }
            message
        }
    }
}

/// A message out of its slot, in an envelope.
unsafe fn unpack<A, M, C>(slot: NonNull<()>, whose: NonNull<()>) -> *mut Node
where
    A: Receive<M>,
    M: Send + 'static,
    C: Carried<M>,
{
    // SAFETY: the caller's: the message is ours, and we are in its actor's turn.
    unsafe {
        let (message, header) = (slot.cast::<C>().read(), whose.cast::<Header>());
        let table = &Tables::<A, M, C>::PLAIN.undated;
        Envelope::node(header.as_ref().core().with_heap(|heap| Told::boxed(heap, table, (), message)))
    }
}

unsafe fn free_segment<M>(segment: NonNull<Segment>) {
    // SAFETY: one of ours, and nothing is in it any more. Segments are freed by the mailbox's receiver: a turn, whose thread holds
    // the core until after the turn, or a pool that empties a hold, which has a handle.
    Local::with_heap(|here| unsafe { segment::free::<M>(here, segment, Held::promised()) });
}

/// The message back.
///
/// # Safety
/// With the only pointer to an envelope that a [`Telling`] of this type made; `held` is of its
/// pool.
pub(crate) unsafe fn unwrap<M: Send + 'static>(this: AnyEnvelope, held: Held<'_>) -> M {
    // SAFETY: the caller's.
    unsafe {
        if Envelope::is_dated(this) {
            Told::<M, Sent>::open(this, held)
        } else {
            Told::<M, ()>::open(this, held)
        }
    }
}

unsafe fn handle<A: Receive<M>, M: Send + 'static, C: Carried<M>>(
    this: AnyEnvelope,
    header: NonNull<Header>,
    place: Place,
) {
    // SAFETY: the caller's: our message, in the actor's turn.
    unsafe {
        let message = Told::<C, ()>::take(this, place, header.as_ref().held());
        let (actor, mut ctx) = enter::<A>(header);
        actor.receive(message.arrive(), Reply::nobody(), &mut ctx);
    }
}

/// A prepaid message is come to; the one that is under way, if it is that of `again`.
fn come_to_prepaid<const AGAIN: bool>(header: &Header) {
    prepaid::in_hand();
    if AGAIN {
        header.again.set(false);
    }
}

unsafe fn handle_prepaid<A: Receive<M>, M: Send + 'static, C: Carried<M>, const AGAIN: bool>(
    this: AnyEnvelope,
    header: NonNull<Header>,
    place: Place,
) {
    // SAFETY: the caller's.
    unsafe {
        come_to_prepaid::<AGAIN>(header.as_ref());
        handle::<A, M, C>(this, header, place);
    }
}

/// Packed once more, as an undated one: so a handler is compiled into one place only, as it would
/// be if nobody were timed.
unsafe fn handle_dated<A: Receive<M>, M: Send + 'static, C: Carried<M>>(
    this: AnyEnvelope,
    header: NonNull<Header>,
    _: Place,
) {
    // SAFETY: the caller's; the new envelope is an undated one of this type.
    unsafe {
        let message = Told::<C, Sent>::open(this, header.as_ref().held());
        let table = &Tables::<A, M, C>::PLAIN.undated;
        let undated = header.as_ref().core().with_heap(|heap| Told::boxed(heap, table, (), message));
        handle::<A, M, C>(undated, header, Place::Own);
    }
}

unsafe fn handle_prepaid_dated<A: Receive<M>, M: Send + 'static, C: Carried<M>, const AGAIN: bool>(
    this: AnyEnvelope,
    header: NonNull<Header>,
    place: Place,
) {
    // SAFETY: the caller's.
    unsafe {
        come_to_prepaid::<AGAIN>(header.as_ref());
        handle_dated::<A, M, C>(this, header, place);
    }
}

/// For a batch; dated or not.
unsafe fn open<M: Send + 'static, C: Carried<M>, R: Send + 'static>(
    this: AnyEnvelope,
    header: &Header,
    into: NonNull<()>,
) {
    // SAFETY: the caller's: our envelope, and room for what is in it.
    unsafe { batch::put::<M, R>(into, unwrap::<C>(this, header.held()).arrive(), Reply::nobody()) };
}

unsafe fn open_prepaid<M: Send + 'static, C: Carried<M>, R: Send + 'static, const AGAIN: bool>(
    this: AnyEnvelope,
    header: &Header,
    into: NonNull<()>,
) {
    come_to_prepaid::<AGAIN>(header);
    // SAFETY: the caller's.
    unsafe { open::<M, C, R>(this, header, into) };
}

unsafe fn discard<M: Send + 'static>(this: AnyEnvelope, _: AskError, held: Held<'_>) {
    // SAFETY: the caller's.
    drop(unsafe { unwrap::<M>(this, held) });
}

impl<A: Actor> ActorRef<A> {
    /// Sends a message. Never waits, wherever it is called.
    ///
    /// Messages from one sender are handled in the order sent. The cost is a few tens of
    /// nanoseconds.
    ///
    /// # Limits
    /// A message of more than 4 KiB is moved into a box, and out of it for the handler. With the
    /// default [stack](crate::Builder::stack_size) a message of up to 512 KiB can be sent, in debug
    /// builds too. A larger one may overflow the stack, which ends the process: send a [`Box`].
    ///
    /// # Errors
    /// The message comes back inside the error if the mailbox is full, the actor has stopped, the
    /// executor shuts down, or the process was forked.
    ///
    /// ```
    /// # use heist::{Actor, Context, Executor, Handler};
    /// # struct Log(Vec<String>);
    /// # impl Actor for Log {}
    /// impl Handler<String> for Log {
    ///     type Reply = ();
    ///     fn handle(&mut self, line: String, _: &mut Context<Self>) {
    ///         self.0.push(line);
    ///     }
    /// }
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let executor = Executor::new();
    /// let log = executor.spawn(Log(Vec::new()));
    /// log.tell("a line".to_string())?;
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn tell<M: Send + 'static>(&self, message: M) -> Result<(), SendError<M>>
    where
        A: Receive<M>,
    {
        carried!(message => self.tell_as::<M, _>(message))
    }

    #[inline]
    pub(crate) fn tell_as<M: Send + 'static, C: Carried<M>>(&self, message: C) -> Result<(), SendError<C>>
    where
        A: Receive<M>,
    {
        // SAFETY: `self` is a strong reference; the envelope is made for an actor of its type.
        match unsafe { deliver(self.as_ptr(), Telling::plain::<A, M>(message), Lane::Ordinary) } {
            Ok(_) => Ok(()),
            Err((telling, refusal)) => Err(SendError::new(telling.into_message(), refusal)),
        }
    }

    /// Sends all messages of an iterator, in order, up to the first that is refused. Returns how
    /// many messages were accepted.
    ///
    /// # Errors
    /// The error holds the refused message, the rest of the iterator, and the number of messages
    /// accepted before.
    pub fn tell_many<I>(&self, messages: I) -> Result<usize, TellManyError<I::Item, I::IntoIter>>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        A: Receive<I::Item>,
    {
        let mut rest = messages.into_iter();
        let mut accepted = 0;
        while let Some(message) = rest.next() {
            if let Err(error) = self.tell(message) {
                let refusal = error.refusal();
                return Err(TellManyError::new(accepted, error.into_message(), rest, refusal));
            }
            accepted += 1;
        }
        Ok(accepted)
    }
}

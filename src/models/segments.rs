//! Segments on an inbox's stack: senders of one type and of two, and the receiver.
//!
//! Covers: each message comes out once, whole and in its sender's order. A sender that claims a
//! slot sees the segment's front. No segment is freed while a sender is in it, and each is freed
//! once it was passed completely. A slot of the wrong type is passed over.
//!
//! Does not cover: when a segment is worth its memory (here: always), and the state word, which
//! `mailbox` models with the gap between a reserved place and a linked message. A segment has two
//! slots here.

use super::{explore, spawn};
use crate::fork::Birth;
use crate::mailbox::inbox::{Filled, Inbox, Popped};
use crate::mailbox::link::Node;
use crate::mailbox::segment::{self, Segment, SegmentKind};
use crate::memory::{Held, MemoryPool};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::any::TypeId;
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// Sender and number. loom sees whether the content was published.
type Content = UnsafeCell<(usize, u32)>;

/// Two types of message.
#[repr(transparent)]
struct Apple(Box<Content>);
#[repr(transparent)]
struct Pear(Box<Content>);

#[repr(C)]
struct Single {
    node: Node,
    content: Box<Content>,
}

trait Fruit: Sized + 'static {
    const KIND: Option<SegmentKind> =
        SegmentKind::for_message::<Self>(TypeId::of::<Self>(), ptr::null(), unpack, free::<Self>);

    fn new(content: Box<Content>) -> Self;
    fn into_content(self) -> Box<Content>;
}

impl Fruit for Apple {
    fn new(content: Box<Content>) -> Self {
        Apple(content)
    }
    fn into_content(self) -> Box<Content> {
        self.0
    }
}

impl Fruit for Pear {
    fn new(content: Box<Content>) -> Self {
        Pear(content)
    }
    fn into_content(self) -> Box<Content> {
        self.0
    }
}

fn single(content: Box<Content>) -> *mut Node {
    Box::into_raw(Box::new(Single { node: Node::new(), content })).cast()
}

unsafe fn unpack(slot: NonNull<()>, _: NonNull<()>) -> *mut Node {
    // SAFETY: the receiver passes a filled slot of this kind, and reads it once.
    single(unsafe { slot.cast::<Box<Content>>().read() })
}

unsafe fn free<M>(segment: NonNull<Segment>) {
    // SAFETY: the receiver has passed the segment, which holds messages of type `M` and came from a
    // pool that the mailbox keeps.
    unsafe { segment::free_memory::<M>(None, segment, Held::promised()) };
}

struct Mailbox {
    inbox: Inbox,
    pool: MemoryPool,
}

// SAFETY: inbox and segments are made for several threads. With loom's atomics a segment is larger
// than any block, so the pool's heap, which no thread claims here, is never used.
unsafe impl Sync for Mailbox {}
// SAFETY: nothing in it is tied to a thread.
unsafe impl Send for Mailbox {}

impl Mailbox {
    fn new() -> Arc<Self> {
        Arc::new(Mailbox {
            inbox: Inbox::new(),
            pool: MemoryPool::new(1, Birth::in_this_process()),
        })
    }

    /// Sends like a tell puts a message into a mailbox.
    fn send<M: Fruit>(&self, sender: usize, number: u32) {
        // One constant for each type, as in the crate, where kinds are compared by address first.
        let kind = const { &M::KIND }.as_ref().expect("small enough");
        let message = M::new(Box::new(UnsafeCell::new((sender, number))));
        // SAFETY: `kind` is that of `M`. Segments and nodes are given up when they are pushed.
        unsafe {
            match self.inbox.fill_top_segment(kind, message) {
                Filled::Done => {}
                Filled::NoSegment(message) => {
                    // A segment is begun wherever none is open, to have as many as possible.
                    let segment = segment::new_with_first(self.pool.of_worker(0), kind, message);
                    self.inbox.push_segment(segment);
                }
                Filled::Contended(message) | Filled::OtherType(message) => {
                    // One attempt at a slot, then a node of its own, like a tell.
                    self.inbox.push(single(message.into_content()));
                }
            }
        }
    }

    /// Receives `messages` messages, in each sender's order, and checks that nothing is left. With
    /// `apart`, each comes in a node of its own.
    fn receive(&self, messages: usize, apart: bool) {
        let mut latest = [0; 2];
        // SAFETY: this thread is the only receiver.
        let rest = Cell::new(unsafe { self.inbox.load_taken() });
        let mut got = 0;
        while got < messages {
            // SAFETY: this thread is the only receiver, and every node or slot was filled by
            // `send`.
            let content = unsafe {
                let popped = if apart {
                    self.inbox.pop(NonNull::dangling()).map(Popped::Node)
                } else {
                    self.inbox.pop_from(&rest)
                };
                match popped {
                    Some(Popped::Node(node)) => Box::from_raw(node.cast::<Single>()).content,
                    Some(Popped::Slot(_, slot)) => slot.cast::<Box<Content>>().read(),
                    None => {
                        thread::yield_now();
                        continue;
                    }
                }
            };
            // SAFETY: the receiver alone has the content; loom's cell reports a read that was not
            // published.
            let (sender, number) = content.with(|content| unsafe { *content });
            assert!(latest[sender] < number, "out of order");
            latest[sender] = number;
            got += 1;
        }
        // SAFETY: this thread is the only receiver, and `rest` is what it has not received.
        unsafe {
            if !apart {
                self.inbox.store_taken(rest.get());
            }
            assert!(self.inbox.load_taken().is_null(), "a segment is left");
        }
        assert!(self.inbox.has_nothing_pushed());
    }
}

#[test]
fn senders_of_one_type_fill_segments() {
    explore(3, || {
        let mailbox = Mailbox::new();
        mailbox.send::<Apple>(0, 1);
        let other = spawn(&mailbox, |mailbox| mailbox.send::<Apple>(1, 1));
        let first = spawn(&mailbox, |mailbox| mailbox.send::<Apple>(0, 2));
        mailbox.receive(3, false);
        other.join().unwrap();
        first.join().unwrap();
    });
}

#[test]
fn a_full_segment_is_followed_by_the_next() {
    explore(3, || {
        let mailbox = Mailbox::new();
        let sender =
            // Two slots a segment: one fills up, and another follows.
            spawn(&mailbox, |mailbox| (1..=4).for_each(|number| mailbox.send::<Apple>(0, number)));
        mailbox.receive(4, true);
        sender.join().unwrap();
    });
}

#[test]
fn a_slot_of_the_wrong_type_is_passed_over() {
    explore(3, || {
        let mailbox = Mailbox::new();
        mailbox.send::<Apple>(0, 1);
        let other = spawn(&mailbox, |mailbox| {
            mailbox.send::<Pear>(1, 1);
            // Behind the first pear, wherever that one lies.
            mailbox.send::<Pear>(1, 2);
        });
        let first = spawn(&mailbox, |mailbox| mailbox.send::<Apple>(0, 2));
        mailbox.receive(4, false);
        other.join().unwrap();
        first.join().unwrap();
    });
}

//! Segments on an inbox's stack: senders of one type and of two, and the receiver.
//!
//! Covers: each message comes out once, in its sender's order, whole; a segment's front is seen by whoever claims a slot of it;
//! no segment is freed while a sender is in it, and each is freed once all of it was passed; a slot of the wrong type is passed over.
//!
//! Does not cover: when a segment is worth it (here: always), and the state word, whose model has the gap between a
//! place that is reserved and a message that is linked. A segment has two slots here.

use super::{explore, spawn};
use crate::mailbox::inbox::{Filled, Inbox, Node, Popped};
use crate::mailbox::segment::{self, Kind, Segment};
use crate::memory::{Held, Pool};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::any::TypeId;
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// Sender and number; loom sees whether it was published.
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
    const KIND: Option<Kind> = Kind::of::<Self>(TypeId::of::<Self>(), ptr::null(), unpack, free::<Self>);

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
    // SAFETY: the caller's.
    single(unsafe { slot.cast::<Box<Content>>().read() })
}

unsafe fn free<M>(segment: NonNull<Segment>) {
    // SAFETY: the caller's.
    unsafe { segment::free::<M>(None, segment, Held::promised()) };
}

struct Mailbox {
    inbox: Inbox,
    pool: Pool,
}

// SAFETY: its parts are made for this; the pool's one heap has nothing for what is as large as loom's atomics.
unsafe impl Sync for Mailbox {}
// SAFETY: likewise.
unsafe impl Send for Mailbox {}

impl Mailbox {
    fn new() -> Arc<Self> {
        Arc::new(Mailbox { inbox: Inbox::new(), pool: Pool::new(1) })
    }

    /// As told messages are put into a mailbox.
    fn send<M: Fruit>(&self, sender: usize, number: u32) {
        let kind = const { &M::KIND }.as_ref().expect("small enough");
        let message = M::new(Box::new(UnsafeCell::new((sender, number))));
        // SAFETY: of this type; what is pushed is given up.
        unsafe {
            match self.inbox.fill(kind, message) {
                Filled::Done => {}
                Filled::NoSegment(message) => {
                    let segment = segment::begin(self.pool.of_worker(0), kind, message);
                    self.inbox.push_segment(segment);
                }
                Filled::Contended(message) | Filled::OtherType(message) => {
                    self.inbox.push(single(message.into_content()));
                }
            }
        }
    }

    /// Receives so many, in each sender's order; then nothing is left. `apart`: each in a node of its own.
    fn receive(&self, messages: usize, apart: bool) {
        let mut latest = [0; 2];
        // SAFETY: there is one receiver.
        let rest = Cell::new(unsafe { self.inbox.begin() });
        let mut got = 0;
        while got < messages {
            // SAFETY: as above; what comes out is a node or a slot that `send` filled.
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
            // SAFETY: loom checks it.
            let (sender, number) = content.with(|content| unsafe { *content });
            assert!(latest[sender] < number, "out of order");
            latest[sender] = number;
            got += 1;
        }
        // SAFETY: as above.
        unsafe {
            if !apart {
                self.inbox.end(rest.get());
            }
            assert!(self.inbox.begin().is_null(), "a segment is left");
        }
        assert!(self.inbox.nothing_pushed());
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
        let sender = spawn(&mailbox, |mailbox| (1..=4).for_each(|number| mailbox.send::<Apple>(0, number)));
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
            mailbox.send::<Pear>(1, 2);
        });
        let first = spawn(&mailbox, |mailbox| mailbox.send::<Apple>(0, 2));
        mailbox.receive(4, false);
        other.join().unwrap();
        first.join().unwrap();
    });
}

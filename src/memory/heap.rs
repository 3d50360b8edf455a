//! A heap: the slabs of one worker or of one stripe, and what its holder does with them.
//!
//! | a free block is | counted by its slab as | bounded by |
//! |---|---|---|
//! | on its shelf's list, from which blocks are taken | out | what one slab had, and [`NEAR`] that came back since |
//! | in a chain that came home | out | [`CHAINS`] for each shelf |
//! | in a chain on its way home | out | 64 for each of the sender's open chains; none while the sender sleeps |
//! | in its slab | free | nothing: an empty slab is given back |
//!
//! So the usual ways, taking and giving a block, do not even look at a slab's counts.

use super::chunks::Chunks;
use super::poison;
use super::returns::{Block, Returns};
use super::slab::{Chain, SLAB, Slab};
use super::{Held, SIZES, block_size};
use crate::sync::{AtomicBool, AtomicPtr, Claim, Ordering::Relaxed, Padded, prefetch};
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// Blocks that are sent home together.
const CHAIN: usize = 64;
/// Chains that are collected at the same time.
const OPEN: usize = 16;
/// Chains that came home and are kept for a shelf as they are.
const CHAINS: u32 = 32;
/// Blocks given back that a shelf's list takes.
const NEAR: u32 = 256;
/// Empty slabs that a heap keeps while its holder is awake.
const EMPTIES: usize = 4;
/// Chains taken in at a time, and blocks of those that are taken apart: between two steps the holder looks whether there is something
/// better to do.
const STEP: usize = 64;
pub(super) const STEP_BLOCKS: usize = 512;
/// Blocks that a thread without a heap sends home between two looks whether their holder sleeps. A prime, so that a pattern in which
/// heap they belong to does not keep it from looking at all of these.
const LOOK_EVERY: u32 = 251;

thread_local! {
    /// Blocks that this thread has sent home one by one since its last look.
    static SENT: Cell<u32> = const { Cell::new(0) };
}

/// See the room's page. All but `returns` is its holder's.
#[derive(Debug)]
pub(crate) struct Heap {
    returns: Padded<Returns>,
    claim: Claim,
    /// A hint to the thread that puts this heap in order: its owner waits for the claim.
    wanted: AtomicBool,
    pub(super) chunks: Arc<Chunks>,
    pub(super) shelves: [Shelf; 2 * SIZES],
    pub(super) empty: Cell<*const Slab>,
    pub(super) empties: Cell<usize>,
    /// Slabs of this heap, the empty ones included.
    pub(super) slabs: Cell<usize>,
    /// Chains that were taken off `returns` and not looked at yet. The holder's; others see that there are some.
    taken: AtomicPtr<Block>,
    open: [Outgoing; OPEN],
}

/// Blocks of one size.
#[derive(Debug)]
pub(super) struct Shelf {
    /// From here blocks are taken.
    pub(super) free: Cell<*mut Block>,
    pub(super) count: Cell<u32>,
    pub(super) chained: Cell<u32>,
    pub(super) chains: Cell<*mut Block>,
    /// Slabs that may have something.
    slabs: Cell<*const Slab>,
}

/// A chain that grows.
#[derive(Debug)]
struct Outgoing {
    home: Cell<*const Heap>,
    shelf: Cell<usize>,
    first: Cell<*mut Block>,
    count: Cell<usize>,
}

impl Shelf {
    fn new() -> Self {
        Shelf {
            free: Cell::new(ptr::null_mut()),
            count: Cell::new(0),
            chained: Cell::new(0),
            chains: Cell::new(ptr::null_mut()),
            slabs: Cell::new(ptr::null()),
        }
    }
}

impl Outgoing {
    fn new() -> Self {
        Outgoing {
            home: Cell::new(ptr::null()),
            shelf: Cell::new(0),
            first: Cell::new(ptr::null_mut()),
            count: Cell::new(0),
        }
    }

    /// Adds a block of another heap.
    #[inline]
    fn add(&self, home: *const Heap, shelf: usize, block: *mut Block) {
        if self.home.get() != home || self.shelf.get() != shelf {
            self.send();
            self.home.set(home);
            self.shelf.set(shelf);
        }
        // SAFETY: the block is ours.
        unsafe { (*block).next = self.first.get() };
        self.first.set(block);
        self.count.set(self.count.get() + 1);
        if self.count.get() == CHAIN {
            self.send();
        }
    }

    #[cold]
    fn send(&self) {
        let first = self.first.replace(ptr::null_mut());
        if !first.is_null() {
            // SAFETY: the chain is ours, and a heap lives as long as one of its blocks is out.
            unsafe {
                (*first).count = self.count.replace(0);
                (*self.home.get()).returns.push(first);
            }
        }
    }
}

// SAFETY: whoever holds the claim is alone with all the cells; `returns` is made for many.
unsafe impl Sync for Heap {}
// SAFETY: nothing in it belongs to a thread.
unsafe impl Send for Heap {}

impl Heap {
    pub(super) fn new(chunks: &Arc<Chunks>) -> Self {
        Heap {
            returns: Padded(Returns::new()),
            claim: Claim::new(),
            wanted: AtomicBool::new(false),
            chunks: Arc::clone(chunks),
            shelves: std::array::from_fn(|_| Shelf::new()),
            empty: Cell::new(ptr::null()),
            empties: Cell::new(0),
            slabs: Cell::new(0),
            taken: AtomicPtr::new(ptr::null_mut()),
            open: std::array::from_fn(|_| Outgoing::new()),
        }
    }

    /// Becomes its holder; waits for one who tidies up.
    pub(crate) fn claim(&self) {
        if !self.claim.try_take() {
            self.wait_for_claim();
        }
    }

    #[cold]
    fn wait_for_claim(&self) {
        // Relaxed: a hint. The holder sees it within a step or two, and lets go.
        self.wanted.store(true, Relaxed);
        self.claim.take();
        self.wanted.store(false, Relaxed);
    }

    /// Returns `true` if another thread waits for the claim.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Relaxed)
    }

    pub(super) fn try_claim(&self) -> bool {
        self.claim.try_take()
    }

    /// Is its holder no more.
    ///
    /// # Safety
    /// The caller is its holder, and does nothing more with it.
    pub(crate) unsafe fn let_go(&self) {
        // SAFETY: the caller's.
        unsafe { self.claim.give() };
    }

    pub(super) fn has_returns(&self) -> bool {
        // Relaxed: a hint, as the stack's own.
        !self.returns.is_empty() || !self.taken.load(Relaxed).is_null()
    }

    /// A block from a shelf.
    #[inline]
    pub(super) fn take(&self, shelf: usize) -> NonNull<u8> {
        let shelf_ = &self.shelves[shelf];
        match NonNull::new(shelf_.free.get()) {
            Some(block) => {
                // SAFETY: blocks on the list are free, and ours.
                let next = unsafe { block.as_ref() }.next;
                let step = next.addr().wrapping_sub(block.addr().get()) as isize;
                prefetch(next.wrapping_byte_offset(step * 8));
                shelf_.free.set(next);
                shelf_.count.set(shelf_.count.get() - 1);
                block.cast()
            }
            None => self.refill(shelf),
        }
    }

    #[cold]
    #[inline(never)]
    fn refill(&self, index: usize) -> NonNull<u8> {
        let shelf = &self.shelves[index];
        let chain = loop {
            // Chains first, and before fresh memory is touched: what has come back?
            if shelf.chains.get().is_null() {
                self.take_in();
            }
            let first = shelf.chains.get();
            if !first.is_null() {
                // SAFETY: a chain that is ours.
                let (below, count) = unsafe { ((*first).below, (*first).count) };
                shelf.chains.set(below);
                shelf.chained.set(shelf.chained.get() - 1);
                break Chain { first, count: count as u32 };
            }
            // SAFETY: a shelf's slab is this heap's.
            match unsafe { shelf.slabs.get().as_ref() } {
                Some(slab) => match slab.take_some() {
                    Some(chain) => break chain,
                    None => self.unlist(slab),
                },
                None if !self.taken.load(Relaxed).is_null() => {}
                None => self.list(self.another(index)),
            }
        };
        // SAFETY: never empty, and ours.
        let rest = unsafe { (*chain.first).next };
        shelf.free.set(rest);
        shelf.count.set(chain.count - 1);
        // SAFETY: likewise.
        unsafe { NonNull::new_unchecked(chain.first).cast() }
    }

    /// An empty slab for a shelf.
    fn another(&self, shelf: usize) -> &Slab {
        let memory = match NonNull::new(self.empty.get().cast_mut()) {
            Some(slab) => {
                // SAFETY: one of our empty ones.
                self.empty.set(unsafe { slab.as_ref() }.next.get());
                self.empties.set(self.empties.get() - 1);
                slab
            }
            None => {
                self.slabs.set(self.slabs.get() + 1);
                self.chunks.take()
            }
        };
        let size = block_size(shelf);
        let (chunk, index) = Slab::place(memory);
        poison::unpoison(memory.as_ptr().map_addr(|_| chunk + index * SLAB).cast(), SLAB);
        // SAFETY: nothing is in it, and it is ours.
        unsafe { Slab::begin(memory, self, shelf, size) }
    }

    /// Gives up a block of this shelf.
    ///
    /// # Safety
    /// It came from some heap's [`take`](Self::take); the caller has it alone, and holds `here`, if that is given.
    #[inline(always)]
    pub(super) unsafe fn give(here: Option<&Heap>, shelf: usize, block: NonNull<u8>, held: Held<'_>) {
        let block: *mut Block = block.as_ptr().cast();
        // SAFETY: a slab lives as long as one of its blocks is out. Its `home` does not change in that time.
        let home = unsafe { (*Slab::of(block)).home };
        // SAFETY: the pool is held, and its heaps are part of it.
        debug_assert!(held.is_of(unsafe { &(*home).chunks }), "held is another pool than the block's");
        let _ = held;
        match here {
            Some(here) if ptr::eq(here, home) => {
                let list = &here.shelves[shelf];
                let count = list.count.get();
                if count < NEAR {
                    // SAFETY: ours.
                    unsafe { (*block).next = list.free.get() };
                    list.free.set(block);
                    list.count.set(count + 1);
                } else {
                    // SAFETY: our slab, our block.
                    unsafe { here.put_far(block) };
                }
            }
            // SAFETY: the caller's.
            _ => unsafe { Heap::send_home(here, home, shelf, block) },
        }
    }

    /// # Safety
    /// As for [`give`](Self::give); the block is of another heap, `home`.
    #[inline(never)]
    unsafe fn send_home(here: Option<&Heap>, home: *const Heap, shelf: usize, block: *mut Block) {
        match here {
            // SAFETY: heaps live as long as their pool, and this one's has a block out.
            Some(here) if ptr::eq(Arc::as_ptr(&here.chunks), Arc::as_ptr(unsafe { &(*home).chunks })) => {
                let spread = home.addr() / size_of::<Heap>() * 5 + shelf;
                here.open[spread % OPEN].add(home, shelf, block);
            }
            // A heap of another executor, which might be gone before a chain is full; or none.
            // SAFETY: a chain of one, ours.
            _ => unsafe {
                (*block).next = ptr::null_mut();
                (*block).count = 1;
                (*home).returns.push(block);
                let sent = SENT.get() + 1;
                SENT.set(sent);
                // Not in a model: its executions follow each other on one thread, and a count that lives on would tell them apart.
                if sent >= LOOK_EVERY && cfg!(not(heist_loom)) {
                    SENT.set(0);
                    (*home).look_after();
                }
            },
        }
    }

    /// To its slab, since the shelf's list has enough.
    ///
    /// # Safety
    /// The block is this heap's, and the caller gives it up.
    #[inline(never)]
    unsafe fn put_far(&self, block: *mut Block) {
        // SAFETY: the caller's.
        unsafe { self.put(&*Slab::of(block), block) };
    }

    /// Back to its slab.
    ///
    /// # Safety
    /// The block is this slab's, the slab is ours, and the caller gives the block up.
    #[inline]
    unsafe fn put(&self, slab: &Slab, block: *mut Block) {
        // SAFETY: the caller's.
        let out = unsafe { slab.put(block) };
        if out == 0 || !slab.listed.get() {
            self.settle(slab, out);
        }
    }

    /// A slab that has room again, or is empty.
    #[cold]
    fn settle(&self, slab: &Slab, out: u32) {
        if !slab.listed.get() {
            self.list(slab);
        }
        if out == 0 {
            self.retire(slab);
        }
    }

    /// Keeps an empty slab, or gives it back.
    fn retire(&self, slab: &Slab) {
        debug_assert!(slab.is_unused());
        if slab.listed.get() {
            self.unlist(slab);
        }
        if self.empties.get() < EMPTIES {
            slab.next.set(self.empty.replace(slab.as_ptr().as_ptr()));
            self.empties.set(self.empties.get() + 1);
        } else {
            self.slabs.set(self.slabs.get() - 1);
            // SAFETY: all its blocks are back.
            unsafe { self.chunks.give(slab.as_ptr()) };
        }
    }

    fn list(&self, slab: &Slab) {
        let first = &self.shelves[slab.shelf as usize].slabs;
        slab.listed.set(true);
        slab.previous.set(ptr::null());
        // SAFETY: listed slabs are ours.
        if let Some(second) = unsafe { first.get().as_ref() } {
            second.previous.set(slab);
        }
        slab.next.set(first.replace(slab));
    }

    fn unlist(&self, slab: &Slab) {
        let (next, previous) = (slab.next.get(), slab.previous.get());
        slab.listed.set(false);
        // SAFETY: listed slabs are ours.
        unsafe {
            match previous.as_ref() {
                Some(previous) => previous.next.set(next),
                None => self.shelves[slab.shelf as usize].slabs.set(next),
            }
            if let Some(next) = next.as_ref() {
                next.previous.set(previous);
            }
        }
    }

    /// Takes in some of the chains that were returned. True: there are more.
    pub(super) fn take_in(&self) -> bool {
        let mut chain = self.taken.load(Relaxed);
        if chain.is_null() {
            chain = self.returns.take();
        }
        let (mut chains, mut blocks) = (0, 0);
        while !chain.is_null() && chains < STEP && blocks < STEP_BLOCKS {
            chains += 1;
            // SAFETY: what was returned is ours, and a chain's blocks are of one shelf.
            unsafe {
                let below = (*chain).below;
                let shelf = &self.shelves[(*Slab::of(chain)).shelf as usize];
                if shelf.chained.get() < CHAINS {
                    (*chain).below = shelf.chains.replace(chain);
                    shelf.chained.set(shelf.chained.get() + 1);
                } else {
                    blocks += (*chain).count;
                    self.dissolve(chain);
                }
                chain = below;
            }
        }
        self.taken.store(chain, Relaxed);
        !chain.is_null()
    }

    /// # Safety
    /// The chain is ours to give up.
    pub(super) unsafe fn dissolve(&self, mut block: *mut Block) {
        while !block.is_null() {
            // SAFETY: the caller's.
            unsafe {
                let next = (*block).next;
                self.put(&*Slab::of(block), block);
                block = next;
            }
        }
    }

    /// Sends all unfinished chains home.
    pub(crate) fn send_all(&self) {
        self.open.iter().for_each(Outgoing::send);
    }
}

//! A heap: the slabs of one worker or of one stripe, and what its holder does with them.
//!
//! | a free block is | counted by its slab as | bounded by |
//! |---|---|---|
//! | on its size class's list, ready to be taken | out | blocks of one slab, and [`NEAR`] back since |
//! | in a chain that came home | out | [`CHAINS`] for each size class |
//! | in a chain on its way home | out | 64 for each open chain; none while the sender sleeps |
//! | in its slab | free | nothing: an empty slab is given back |
//!
//! So the usual operations, taking and giving a block, do not touch a slab's counts.

use super::chunks::{Chunks, SLAB};
use super::held::Held;
use super::poison;
use super::returns::{Block, Returns};
use super::sizes::{SIZES, block_size};
use super::slab::{Chain, Slab};
use crate::sync::{AtomicBool, AtomicPtr, Claim, Ordering::Relaxed, Padded, prefetch};
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// Length of a chain sent home.
const CHAIN: usize = 64;
/// Number of chains a heap collects at the same time.
const OPEN: usize = 16;
/// Number of returned chains a size class keeps as they are.
const CHAINS: u32 = 32;
/// Length of a size class's list up to which returned blocks go onto it.
const NEAR: u32 = 256;
/// Number of empty slabs a heap keeps while the holder is awake.
const EMPTIES: usize = 4;
/// Chains taken in by one step, and blocks of chains taken apart in a step. Between two steps the
/// holder checks whether it has better work.
const STEP: usize = 64;
pub(super) const STEP_BLOCKS: usize = 512;
/// Number of blocks a thread without a heap sends home between two checks whether the holder
/// sleeps. A prime, so that a regular pattern of heaps cannot hide some of the heaps from the
/// checks.
const LOOK_EVERY: u32 = 251;

thread_local! {
    /// Number of blocks the thread has sent home singly since the last check.
    static SENT: Cell<u32> = const { Cell::new(0) };
}

/// Memory of one worker or one stripe; see the room's page. Only its holder touches fields other
/// than `returns`, `claim`, `wanted` and `taken`.
#[derive(Debug)]
pub(crate) struct Heap {
    returns: Padded<Returns>,
    claim: Claim,
    /// Set while the owner waits for the claim: a hint to the thread that tidies the heap.
    wanted: AtomicBool,
    pub(super) chunks: Arc<Chunks>,
    pub(super) classes: [SizeClass; 2 * SIZES],
    pub(super) empty: Cell<*const Slab>,
    pub(super) empties: Cell<usize>,
    /// Number of slabs of this heap, including empty ones.
    pub(super) slabs: Cell<usize>,
    /// Chains taken off `returns` and not looked at yet. Only the holder changes the field; other
    /// threads read whether it is null.
    taken: AtomicPtr<Block>,
    open: [Outgoing; OPEN],
}

/// Blocks of one size.
#[derive(Debug)]
pub(super) struct SizeClass {
    /// List of free blocks, from which `take_block` takes.
    pub(super) free: Cell<*mut Block>,
    pub(super) count: Cell<u32>,
    pub(super) chained: Cell<u32>,
    pub(super) chains: Cell<*mut Block>,
    /// List of slabs that may have free or fresh blocks.
    slabs: Cell<*const Slab>,
}

/// A growing chain of blocks of another heap.
#[derive(Debug)]
struct Outgoing {
    home: Cell<*const Heap>,
    class: Cell<usize>,
    first: Cell<*mut Block>,
    count: Cell<usize>,
}

impl SizeClass {
    fn new() -> Self {
        SizeClass {
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
            class: Cell::new(0),
            first: Cell::new(ptr::null_mut()),
            count: Cell::new(0),
        }
    }

    /// Adds a block of the heap `home`. A chain for another heap or size class is sent first.
    #[inline]
    fn add_block(&self, home: *const Heap, class: usize, block: *mut Block) {
        // Several pairs of heap and size share this entry, and a chain is for one pair.
        if self.home.get() != home || self.class.get() != class {
            self.send_chain();
            self.home.set(home);
            self.class.set(class);
        }
        // SAFETY: the block was given up by its user, so the caller alone has it.
        unsafe { (*block).next = self.first.get() };
        self.first.set(block);
        self.count.set(self.count.get() + 1);
        if self.count.get() == CHAIN {
            self.send_chain();
        }
    }

    #[cold]
    fn send_chain(&self) {
        let first = self.first.replace(ptr::null_mut());
        if !first.is_null() {
            // SAFETY: the caller alone has the chain's blocks. A heap lives as long as one of its
            // blocks is out, and blocks of a chain on their way home count as out.
            unsafe {
                (*first).count = self.count.replace(0);
                (*self.home.get()).returns.push_chain(first);
            }
        }
    }
}

// SAFETY: the holder of the claim has exclusive use of all `Cell`s. The other fields are atomics,
// and any thread may use them.
unsafe impl Sync for Heap {}
// SAFETY: nothing in a heap belongs to a particular thread.
unsafe impl Send for Heap {}

impl Heap {
    pub(super) fn new(chunks: &Arc<Chunks>) -> Self {
        Heap {
            returns: Padded(Returns::new()),
            claim: Claim::new(),
            wanted: AtomicBool::new(false),
            chunks: Arc::clone(chunks),
            classes: std::array::from_fn(|_| SizeClass::new()),
            empty: Cell::new(ptr::null()),
            empties: Cell::new(0),
            slabs: Cell::new(0),
            taken: AtomicPtr::new(ptr::null_mut()),
            open: std::array::from_fn(|_| Outgoing::new()),
        }
    }

    /// Claims the heap. Waits if another thread is tidying the heap.
    pub(crate) fn claim_or_wait(&self) {
        if !self.claim.try_take() {
            self.wait_for_claim();
        }
    }

    #[cold]
    fn wait_for_claim(&self) {
        // Relaxed: a hint. The tidying thread sees the flag within a step or two and releases the
        // heap.
        self.wanted.store(true, Relaxed);
        self.claim.take_or_wait();
        self.wanted.store(false, Relaxed);
    }

    /// Returns `true` if another thread waits for the claim.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Relaxed)
    }

    pub(super) fn try_claim(&self) -> bool {
        self.claim.try_take()
    }

    /// Releases the heap.
    ///
    /// # Safety
    /// The caller holds the heap and does not use the heap afterwards.
    pub(crate) unsafe fn release_claim(&self) {
        // SAFETY: the caller holds the claim.
        unsafe { self.claim.give_up() };
    }

    pub(super) fn has_returns(&self) -> bool {
        // Relaxed: a hint, like the stack's own `is_empty`.
        !self.returns.is_empty() || !self.taken.load(Relaxed).is_null()
    }

    /// Takes a block of a size class.
    #[inline]
    pub(super) fn take_block(&self, class: usize) -> NonNull<u8> {
        let size_class = &self.classes[class];
        match NonNull::new(size_class.free.get()) {
            Some(block) => {
                // SAFETY: blocks on the size class's list are free, and the heap's holder alone
                // reads them.
                let next = unsafe { block.as_ref() }.next;
                // Blocks mostly lie in the order in which they are handed out. So the distance to
                // the next block predicts where the eighth block from here lies, and its line is
                // fetched now.
                let step = next.addr().wrapping_sub(block.addr().get()) as isize;
                // Wrapping: at the list's end `next` is null, and the distance is a whole address.
                prefetch(next.wrapping_byte_offset(step.wrapping_mul(8)));
                // `count` is kept so that `give_block_back` can bound the list without walking it.
                size_class.free.set(next);
                size_class.count.set(size_class.count.get() - 1);
                block.cast()
            }
            None => self.refill_class(class),
        }
    }

    #[cold]
    #[inline(never)]
    fn refill_class(&self, index: usize) -> NonNull<u8> {
        let class = &self.classes[index];
        let chain = loop {
            // Chains first, before fresh memory is touched: returned blocks are likely to be in a
            // cache.
            if class.chains.get().is_null() {
                self.take_in();
            }
            let first = class.chains.get();
            if !first.is_null() {
                // SAFETY: a chain of the size class came home, so the heap's holder alone has its
                // blocks.
                let (below, count) = unsafe { ((*first).below, (*first).count) };
                class.chains.set(below);
                class.chained.set(class.chained.get() - 1);
                break Chain { first, count: count as u32 };
            }
            // SAFETY: a listed slab belongs to the heap, and lives as long as it is listed.
            match unsafe { class.slabs.get().as_ref() } {
                Some(slab) => match slab.take_some() {
                    Some(chain) => break chain,
                    None => self.unlist_slab(slab),
                },
                // `take_in` works in steps. While it has chains left, one of them may be for this
                // size class, so no new slab is begun.
                None if !self.taken.load(Relaxed).is_null() => {}
                None => self.list_slab(self.empty_slab_for(index)),
            }
        };
        // SAFETY: a chain is never empty, and the caller alone has its blocks.
        let rest = unsafe { (*chain.first).next };
        class.free.set(rest);
        class.count.set(chain.count - 1);
        // SAFETY: the first block of a chain is not null.
        unsafe { NonNull::new_unchecked(chain.first).cast() }
    }

    /// Returns an empty slab for a size class, from the heap's own empty slabs or from the pool.
    fn empty_slab_for(&self, class: usize) -> &Slab {
        let memory = match NonNull::new(self.empty.get().cast_mut()) {
            Some(slab) => {
                // SAFETY: an empty slab on this list belongs to the heap, and its header is
                // initialized.
                self.empty.set(unsafe { slab.as_ref() }.next.get());
                self.empties.set(self.empties.get() - 1);
                slab
            }
            None => {
                self.slabs.set(self.slabs.get() + 1);
                let (chunk, index) = self.chunks.take_slab();
                Slab::header_at(chunk, index)
            }
        };
        let size = block_size(class);
        let (chunk, index) = Slab::place_in_chunk(memory);
        poison::unpoison(memory.as_ptr().map_addr(|_| chunk + index * SLAB).cast(), SLAB);
        // SAFETY: no block of the slab is in use, and the heap's holder alone has the slab.
        unsafe { Slab::init_header(memory, self, class, size) }
    }

    /// Gives back a block of this size class.
    ///
    /// # Safety
    /// The block came from some heap's [`take_block`](Self::take_block), of the same size class.
    /// The caller alone has it and holds `here`, if given. `held` is of the block's pool.
    #[inline(always)]
    pub(super) unsafe fn give_block_back(
        here: Option<&Heap>,
        class: usize,
        block: NonNull<u8>,
        held: Held<'_>,
    ) {
        let block: *mut Block = block.as_ptr().cast();
        // SAFETY: a slab lives as long as one of its blocks is out, and this block is. Its `home`
        // does not change in that time, so the plain read does not race.
        let home = unsafe { (*Slab::of_block(block)).home };
        // SAFETY: the pool is held, and its heaps are part of it.
        debug_assert!(held.is_of(unsafe { &(*home).chunks }), "another pool than the block's");
        let _ = held;
        match here {
            Some(here) if ptr::eq(here, home) => {
                let list = &here.classes[class];
                let count = list.count.get();
                if count < NEAR {
                    // SAFETY: the caller gave the block up, so the caller alone has it.
                    unsafe { (*block).next = list.free.get() };
                    list.free.set(block);
                    list.count.set(count + 1);
                } else {
                    // SAFETY: the block belongs to the heap, `here` is its holder's, and the caller
                    // gave the block up.
                    unsafe { here.put_far(block) };
                }
            }
            // SAFETY: the block belongs to `home`, which is another heap, and the caller gave the
            // block up.
            _ => unsafe { Heap::send_home(here, home, class, block) },
        }
    }

    /// Sends a block of another heap home, in a chain or by itself.
    ///
    /// # Safety
    /// `block` came from [`take_block`](Self::take_block) of `home` and its size class `class`, and
    /// `home` is not `here`. The caller alone has the block and holds `here`, if given.
    #[inline(never)]
    unsafe fn send_home(here: Option<&Heap>, home: *const Heap, class: usize, block: *mut Block) {
        // SAFETY: heaps live as long as their pool, and this heap's pool lives because one of its
        // blocks is out.
        let chunks = unsafe { Arc::as_ptr(&(*home).chunks) };
        match here {
            Some(here) if ptr::eq(Arc::as_ptr(&here.chunks), chunks) => {
                // Direct-mapped: two pairs of heap and size that meet in one entry send each
                // other's chains early, which costs time but nothing else. Neighbouring heaps lie
                // five entries apart, so their first few classes do not meet.
                let spread = home.addr() / size_of::<Heap>() * 5 + class;
                here.open[spread % OPEN].add_block(home, class, block);
            }
            // A heap of another executor may be gone before a chain is full, and a thread without a
            // heap has no chains. Both send the block at once. SAFETY: the caller alone has the
            // block, which becomes a chain of one. `home` lives because the block is out.
            _ => unsafe {
                (*block).next = ptr::null_mut();
                (*block).count = 1;
                (*home).returns.push_chain(block);
                let sent = SENT.get() + 1;
                SENT.set(sent);
                // Not in a model: loom's executions follow each other on one thread, and a count
                // that survives them would make them differ.
                if sent >= LOOK_EVERY && cfg!(not(heist_loom)) {
                    SENT.set(0);
                    (*home).look_after();
                }
            },
        }
    }

    /// Puts a block back into its slab, since the size class's list is long enough. Out of line, to
    /// keep `give_block_back` short.
    ///
    /// # Safety
    /// The block belongs to the heap and the caller gives it up, as the heap's holder.
    #[inline(never)]
    unsafe fn put_far(&self, block: *mut Block) {
        // SAFETY: the block's slab lives while the block is out, and belongs to the heap.
        unsafe { self.put_into_slab(&*Slab::of_block(block), block) };
    }

    /// Puts a block back into its slab.
    ///
    /// # Safety
    /// The block belongs to `slab`, the slab belongs to the heap, the caller holds the heap and
    /// gives the block up.
    #[inline]
    unsafe fn put_into_slab(&self, slab: &Slab, block: *mut Block) {
        // SAFETY: the block belongs to the slab, and the caller gives it up.
        let out = unsafe { slab.put_block(block) };
        if out == 0 || !slab.listed.get() {
            self.relist_or_retire(slab, out);
        }
    }

    /// Relists a slab that has free blocks again, and retires it if it is empty.
    #[cold]
    fn relist_or_retire(&self, slab: &Slab, out: u32) {
        if !slab.listed.get() {
            self.list_slab(slab);
        }
        if out == 0 {
            self.retire_slab(slab);
        }
    }

    /// Keeps an empty slab, or gives it back to the pool.
    fn retire_slab(&self, slab: &Slab) {
        debug_assert!(slab.is_unused());
        if slab.listed.get() {
            self.unlist_slab(slab);
        }
        if self.empties.get() < EMPTIES {
            slab.next.set(self.empty.replace(slab.as_ptr().as_ptr()));
            self.empties.set(self.empties.get() + 1);
        } else {
            self.slabs.set(self.slabs.get() - 1);
            // SAFETY: no block of the slab is out, and the slab is on no list any more.
            unsafe { self.release_slab(slab.as_ptr()) };
        }
    }

    fn list_slab(&self, slab: &Slab) {
        let first = &self.classes[slab.class as usize].slabs;
        slab.listed.set(true);
        slab.previous.set(ptr::null());
        // SAFETY: listed slabs belong to the heap, and the caller holds it.
        if let Some(second) = unsafe { first.get().as_ref() } {
            second.previous.set(slab);
        }
        slab.next.set(first.replace(slab));
    }

    fn unlist_slab(&self, slab: &Slab) {
        let (next, previous) = (slab.next.get(), slab.previous.get());
        slab.listed.set(false);
        // SAFETY: listed slabs belong to the heap, and the caller holds it.
        unsafe {
            match previous.as_ref() {
                Some(previous) => previous.next.set(next),
                None => self.classes[slab.class as usize].slabs.set(next),
            }
            if let Some(next) = next.as_ref() {
                next.previous.set(previous);
            }
        }
    }

    /// Takes in some of the chains that were returned. Returns `true` if more are left.
    pub(super) fn take_in(&self) -> bool {
        let mut chain = self.taken.load(Relaxed);
        if chain.is_null() {
            chain = self.returns.take_chains();
        }
        let (mut chains, mut blocks) = (0, 0);
        while !chain.is_null() && chains < STEP && blocks < STEP_BLOCKS {
            chains += 1;
            // SAFETY: the holder alone has what it took off `returns`. A chain's blocks are all of
            // one size class, so the first one's slab names it.
            unsafe {
                let below = (*chain).below;
                let class = &self.classes[(*Slab::of_block(chain)).class as usize];
                // Kept whole: such a chain is used as it came, without a look at its blocks.
                if class.chained.get() < CHAINS {
                    (*chain).below = class.chains.replace(chain);
                    class.chained.set(class.chained.get() + 1);
                } else {
                    blocks += (*chain).count;
                    self.dissolve_chain(chain);
                }
                chain = below;
            }
        }
        // Relaxed: the chains were acquired by `returns.take`, and only the holder follows the
        // pointer. Holders follow each other through the claim.
        self.taken.store(chain, Relaxed);
        !chain.is_null()
    }

    /// Puts each block of a chain back into its slab.
    ///
    /// # Safety
    /// The caller holds this heap and alone has the chain. The chain's blocks belong to the heap.
    pub(super) unsafe fn dissolve_chain(&self, mut block: *mut Block) {
        while !block.is_null() {
            // SAFETY: the blocks belong to the heap, and each is read before it is given up.
            unsafe {
                let next = (*block).next;
                self.put_into_slab(&*Slab::of_block(block), block);
                block = next;
            }
        }
    }

    /// Sends all unfinished chains home.
    pub(crate) fn send_all(&self) {
        self.open.iter().for_each(Outgoing::send_chain);
    }
}

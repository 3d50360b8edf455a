//! The sizes of blocks, and which type takes a block of which size.

use super::returns::Block;

/// The largest block in bytes.
pub(crate) const LARGEST: usize = 256;
/// Granularity of block sizes and alignments. The smallest block is the exception.
const GRANULE: usize = 16;
/// The strictest alignment of a type that has blocks. Rust rounds such a type's size up to a
/// multiple of its alignment, and a slab's blocks begin at a multiple too.
pub(super) const STRICTEST: usize = 2 * GRANULE;
/// Size of the smallest block: enough for a message of up to a word, and for the links of a free
/// block. Aligned to words only.
pub(super) const SMALLEST: usize = 24;
/// Number of sizes: 24, 32, 48, 64, ... bytes.
pub(super) const SIZES: usize = LARGEST / GRANULE;

const _: () = assert!(size_of::<Block>() <= SMALLEST);

/// The purpose of a block. Long-lived cells do not share slabs with messages, which come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Message,
    Cell,
}

/// Returns `true` if the pool has blocks for `T`.
pub(super) const fn is_pooled<T>() -> bool {
    size_of::<T>() <= LARGEST && align_of::<T>() <= STRICTEST && !cfg!(heist_plain_memory)
}

/// Returns the index of the size class that holds blocks for `T`.
pub(super) const fn class_of<T>(kind: Kind) -> usize {
    // Alignment too: the smallest blocks are aligned to words only.
    let small = size_of::<T>() <= SMALLEST && align_of::<T>() <= align_of::<Block>();
    // A value of one granule that needs a stricter alignment gets the next size, of two.
    let granules = if size_of::<T>() <= GRANULE { 2 } else { size_of::<T>().div_ceil(GRANULE) };
    let of_its_kind = if small { 0 } else { granules - 1 };
    of_its_kind + if matches!(kind, Kind::Cell) { SIZES } else { 0 }
}

/// Returns the size of a size class's blocks in bytes.
pub(super) const fn block_size(class: usize) -> usize {
    match class % SIZES {
        0 => SMALLEST,
        others => (others + 1) * GRANULE,
    }
}

//! The first part of a skill's heap: memory that is there from the start.
//!
//! An instance serves one call and is gone, and most calls need a few kilobytes. The usual allocator begins by asking for
//! more memory, which costs the host two system calls, and each of these stops its other processors. Here the first
//! 64 KiB are part of the module; whatever does not fit in there is the usual allocator's.
//!
//! Pure skills only: on WASI the C library gives back what Rust has allocated, and would not know these bytes.
//!
//! What it will not do: use space again, but for the newest allocation's, which is what a growing text or list is.

// An allocator cannot be written in safe Rust. It is confined to this module.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};
use std::ptr;

/// 64 KiB. With stack and constants a small skill then fits into what the host keeps of a slot's memory (256 KiB).
#[cfg(target_family = "wasm")]
const FIRST_BYTES: usize = 64 << 10;

#[cfg(target_family = "wasm")]
#[global_allocator]
static HEAP: Heap<FIRST_BYTES> = Heap::new();

/// Hands out its own bytes, each once, then those of [`System`].
pub(crate) struct Heap<const BYTES: usize> {
    first: UnsafeCell<[u8; BYTES]>,
    used: Cell<usize>,
}

// SAFETY: a WebAssembly module without shared memory has one thread, and tests do not share theirs.
unsafe impl<const BYTES: usize> Sync for Heap<BYTES> {}

impl<const BYTES: usize> Heap<BYTES> {
    pub(crate) const fn new() -> Self {
        Self { first: UnsafeCell::new([0; BYTES]), used: Cell::new(0) }
    }

    fn base(&self) -> *mut u8 {
        self.first.get().cast()
    }

    /// How far into the first bytes an allocation begins, if it is there.
    fn offset(&self, at: *mut u8) -> Option<usize> {
        at.addr().checked_sub(self.base().addr()).filter(|offset| *offset < BYTES)
    }

    fn take(&self, layout: Layout) -> Option<*mut u8> {
        let from = self.base().addr() + self.used.get();
        let offset = from.checked_next_multiple_of(layout.align())? - self.base().addr();
        let end = offset.checked_add(layout.size()).filter(|end| *end <= BYTES)?;
        self.used.set(end);
        // SAFETY: the offset is within the bytes.
        Some(unsafe { self.base().add(offset) })
    }
}

// SAFETY: what is handed out lies within the bytes, is aligned, and is not handed out again before it is given back; the rest
// is the usual allocator's, told apart by its address.
unsafe impl<const BYTES: usize> GlobalAlloc for Heap<BYTES> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        self.take(layout).unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        match self.offset(at) {
            Some(offset) if offset + layout.size() == self.used.get() => self.used.set(offset),
            Some(_) => {}
            // SAFETY: it is not of the first bytes, so it was the usual allocator that gave it.
            None => unsafe { System.dealloc(at, layout) },
        }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(offset) = self.offset(at) else {
            // SAFETY: as above.
            return unsafe { System.realloc(at, layout, size) };
        };
        let newest = offset + layout.size() == self.used.get();
        let end = offset.checked_add(size).filter(|end| *end <= BYTES);
        if let Some(end) = end.filter(|_| newest || size <= layout.size()) {
            if newest {
                self.used.set(end);
            }
            return at;
        }
        // SAFETY: the caller promises that the size is good for this alignment; the two do not overlap.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                ptr::copy_nonoverlapping(at, new, layout.size().min(size));
                self.dealloc(at, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn what_fits_is_of_the_first_bytes_and_the_rest_is_not() {
        let heap = Heap::<256>::new();
        // SAFETY: each is given back as it was taken, and used within its size.
        unsafe {
            let (a, b) = (heap.alloc(layout(1, 1)), heap.alloc(layout(64, 16)));
            assert_eq!((heap.offset(a), b.addr() % 16), (Some(0), 0));
            assert!(heap.offset(b).is_some_and(|offset| (1..=16).contains(&offset)));
            let large = heap.alloc(layout(256, 1));
            assert_eq!(heap.offset(large), None);
            large.write_bytes(7, 256);
            heap.dealloc(large, layout(256, 1));
            heap.dealloc(a, layout(1, 1));
            let used = heap.used.get();
            heap.dealloc(b, layout(64, 16));
            assert!(heap.used.get() < used);
        }
    }

    #[test]
    fn the_newest_grows_in_place_and_others_move_with_what_is_in_them() {
        let heap = Heap::<256>::new();
        // SAFETY: as above.
        unsafe {
            let a = heap.alloc(layout(8, 1));
            a.write_bytes(1, 8);
            assert_eq!(heap.realloc(a, layout(8, 1), 16), a);
            let b = heap.alloc(layout(8, 1));
            let moved = heap.realloc(a, layout(16, 1), 32);
            assert!(moved != a && heap.offset(moved).is_some());
            assert_eq!(*moved.add(7), 1);
            // Shrinking what is not the newest changes nothing but the owner's mind.
            assert_eq!(heap.realloc(b, layout(8, 1), 4), b);
            let far = heap.realloc(moved, layout(32, 1), 1000);
            assert_eq!((heap.offset(far), *far.add(7)), (None, 1));
            let farther = heap.realloc(far, layout(1000, 1), 2000);
            assert_eq!(*farther.add(7), 1);
            heap.dealloc(farther, layout(2000, 1));
        }
    }

    #[test]
    fn absurd_sizes_are_the_usual_allocators_business() {
        let heap = Heap::<256>::new();
        assert!(heap.take(layout(isize::MAX as usize, 1)).is_none());
        assert!(heap.take(layout(257, 1)).is_none());
        assert_eq!(heap.take(layout(256, 1)), Some(heap.base()));
    }
}

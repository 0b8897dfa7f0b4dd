//! How many bytes a thread has at once, counted by the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting. A program that makes it its global one can [`watch`].
#[derive(Debug)]
pub struct Watched;

std::thread_local! {
    /// Bytes that the thread has now, and the most that it had, since the watch began.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// Runs something; says how many bytes it had at once, beyond those of before. 0 where [`Watched`] is not in use.
pub fn watch<T>(run: impl FnOnce() -> T) -> (T, usize) {
    HELD.set((0, 0));
    let value = run();
    (value, HELD.get().1.max(0) as usize)
}

fn note(bytes: isize) {
    // While a thread ends there is nothing to note it in.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        held.set((now + bytes, most.max(now + bytes)));
    });
}

#[expect(unsafe_code, reason = "hands every call on to the system's allocator as it is")]
// SAFETY: every call is the system's own; the counts change nothing of it.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(bytes as isize - layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

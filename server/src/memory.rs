//! Memory of the process as the operating system sees it.
#![expect(unsafe_code, reason = "the allocator's own functions are C; see `set_up` and `collect`")]

use std::ffi::c_long;
use std::time::Duration;

/// As long as the allocator keeps what was freed for who may want it again.
const EVERY: Duration = Duration::from_secs(1);

/// So long the allocator keeps pages that are free of everything. By itself it does so much longer: what a burst of large
/// messages took then counts once more while the next burst takes other pages.
const PURGE_DELAY_MS: c_long = 10;
/// `mi_option_purge_delay` of mimalloc.h, which its crate does not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Tells the allocator how long to keep what is free, unless its environment does (`MIMALLOC_PURGE_DELAY`).
pub(crate) fn set_up() {
    // SAFETY: sets a number that the allocator reads when it looks for pages to give back; may be called at any time.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MS) }
}

/// Has what was freed given back to the operating system for as long as it runs. The allocator does that by itself only
/// while it is busy: what a start or a checkpoint of very many queues freed would stay with a broker that is idle then.
pub(crate) async fn give_back() {
    loop {
        tokio::time::sleep(EVERY).await;
        // Where much was freed it takes milliseconds, which no connection is to wait for.
        if tokio::task::spawn_blocking(collect).await.is_err() {
            return;
        }
    }
}

fn collect() {
    // SAFETY: may be called at any time from any thread, and touches nothing but the allocator's free pages. In a program
    // with another allocator it finds none.
    unsafe { libmimalloc_sys::mi_collect(false) }
}

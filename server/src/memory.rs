//! Memory of the process as the operating system sees it.
#![expect(unsafe_code, reason = "the allocator's own functions are C; see `set_up` and `collect`")]

use std::env;
use std::ffi::c_long;
use std::time::Duration;

use tracing::debug;

/// As often what was freed is given back, at the latest.
const EVERY: Duration = Duration::from_secs(1);

/// So long the allocator keeps pages that are free of everything. By itself it does for a second: what a burst of large
/// messages took counts once more while the next burst takes other pages.
const PURGE_DELAY_MS: c_long = 25;
/// `mi_option_purge_delay` of mimalloc.h, which its crate does not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Says how the process is to use memory; to be called before anything large is allocated.
///
/// Huge pages are declined: the allocator asks for them, and one message that is kept, or one connection's buffer,
/// then holds 2 MiB (a server without work had 17 MiB instead of 3, one under a full stream 76 to 89 instead of 34 to 36),
/// and no gain could be measured. `MIMALLOC_PURGE_DELAY` still has the last word on the delay.
pub(crate) fn set_up() {
    // What came of it is looked for when there is a log: see `tell`.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    if env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: sets a number that the allocator reads when it looks for pages to give back. Nothing else sets it, and the
        // server has no other thread yet.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) }
    }
}

/// Says in the log where [`set_up`] could not do what it should.
pub(crate) fn tell() {
    if !rustix::thread::transparent_huge_pages_are_disabled().unwrap_or(false) {
        debug!("huge pages cannot be declined: memory is rounded up to them");
    }
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

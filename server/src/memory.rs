//! Memory of the process as the operating system sees it.
#![expect(unsafe_code, reason = "the allocator's own functions are C; see `collect`")]

use std::time::Duration;

/// As long as the allocator keeps what was freed for who may want it again.
const EVERY: Duration = Duration::from_secs(1);

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

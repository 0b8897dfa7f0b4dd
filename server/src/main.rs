//! The binary `leveret`.

use std::process::ExitCode;

/// Messages are allocated on one thread and freed on another, all the time, which is where the system's allocator is
/// slow: a quarter of the server's work under a stream of small publishes was its own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    leveret_server::cli::run()
}

//! What threads meet by: the standard library's locks, atomics and threads. In tests with the feature `interleave` it is
//! those of a scheduler that decides, at each of them, who gets on; then time goes with its decisions.

#[cfg(not(all(test, feature = "interleave")))]
mod real {
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, atomic};
    pub(crate) use std::thread::{Builder, JoinHandle};
    pub(crate) use std::time::Instant;

    /// A call to the disk may take long.
    #[cfg(feature = "sim")]
    #[inline]
    pub(crate) fn pause() {}
}

#[cfg(all(test, feature = "interleave"))]
mod real {
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard, atomic};
    pub(crate) use shuttle::thread::{Builder, JoinHandle};
    use std::time::Duration;

    /// Time, as the scheduler has it.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Instant(usize);

    impl Instant {
        pub(crate) fn now() -> Self {
            Self(shuttle::current::context_switches())
        }

        pub(crate) fn elapsed(&self) -> Duration {
            Duration::from_millis((shuttle::current::context_switches() - self.0) as u64 / 64)
        }
    }

    /// A call to the disk may take long.
    pub(crate) fn pause() {
        shuttle::thread::yield_now();
    }
}

pub(crate) use real::*;

//! The one file that knows threads: it loops the workers' steps, each on a thread of its own.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::shared::{Bells, Step, lock};
use crate::store::{Store, Workers};

/// The running workers. [`Threads::join`] after [`Store::close`] waits for the clean close.
#[derive(Debug)]
pub struct Threads {
    handles: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

struct RealBells {
    writer: Arc<Bell>,
    reader: Arc<Bell>,
    keeper: Arc<Bell>,
    owner: Box<dyn Fn() + Send + Sync>,
}

/// Starts the workers. `wake_owner` is called, from their threads, whenever a watermark has moved, an answer has come
/// or the store has failed; it must not block.
pub fn start_threads(
    store: &Store,
    workers: Workers,
    wake_owner: impl Fn() + Send + Sync + 'static,
) -> io::Result<Threads> {
    let [writer, reader, keeper] = [(); 3].map(|()| Arc::new(Bell::default()));
    let bells = RealBells {
        writer: Arc::clone(&writer),
        reader: Arc::clone(&reader),
        keeper: Arc::clone(&keeper),
        owner: Box::new(wake_owner),
    };
    // The first to set them wins; a store is started once.
    drop(store.shared.bells.set(Box::new(bells)));
    let Workers { writer: mut w, reader: mut r, keeper: mut k } = workers;
    let handles = vec![
        spawn("leveret-writer", writer, move |now_ms| w.step(now_ms))?,
        spawn("leveret-reader", reader, move |_| r.step())?,
        spawn("leveret-keeper", keeper, move |now_ms| k.step(now_ms))?,
    ];
    Ok(Threads { handles })
}

impl Threads {
    /// Waits until the workers have ended: after [`Store::close`], or a failure.
    pub fn join(self) {
        for handle in self.handles {
            // A worker that panicked has said so on stderr; the process is ending.
            drop(handle.join());
        }
    }
}

fn spawn(
    name: &str,
    bell: Arc<Bell>,
    mut step: impl FnMut(u64) -> Step + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let start = Instant::now();
    thread::Builder::new().name(name.into()).spawn(move || {
        loop {
            match step(start.elapsed().as_millis() as u64) {
                Step::Worked => {}
                Step::Idle { again_ms } => bell.wait(again_ms.map(Duration::from_millis)),
                Step::Done => return,
            }
        }
    })
}

impl Bell {
    fn ring(&self) {
        *lock(&self.rung) = true;
        self.heard.notify_one();
    }

    fn wait(&self, timeout: Option<Duration>) {
        let mut rung = lock(&self.rung);
        if !*rung {
            rung = match timeout {
                Some(timeout) => {
                    self.heard.wait_timeout(rung, timeout).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.heard.wait(rung).unwrap_or_else(PoisonError::into_inner),
            };
        }
        *rung = false;
    }
}

impl Bells for RealBells {
    fn ring_writer(&self) {
        self.writer.ring();
    }

    fn ring_reader(&self) {
        self.reader.ring();
    }

    fn ring_keeper(&self) {
        self.keeper.ring();
    }

    fn ring_owner(&self) {
        (self.owner)();
    }
}

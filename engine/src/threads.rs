//! The one file that knows threads: it loops the workers' steps, each on a thread of its own.

use std::io;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use crate::error::Error;
use crate::shared::{Bells, Shared, Step, lock};
use crate::store::{Store, Workers};
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Builder, Condvar, Instant, JoinHandle, Mutex};
use crate::writer::Writer;

/// The running workers. [`Threads::join`] after [`Store::close`] waits for the clean close.
#[derive(Debug)]
pub struct Threads {
    handles: Vec<JoinHandle<()>>,
    writer: Arc<Mutex<Writer>>,
    shared: Arc<Shared>,
    start: Instant,
    /// So many chances to write inline are passed over: the disk was slow.
    passed_over: AtomicU32,
}

/// Name of the writer's thread.
const WRITER: &str = "leveret-writer";
/// An inline write that takes longer shows a disk that the owner should not wait for...
const INLINE_SLOW: Duration = Duration::from_millis(3);
/// ...the next so many times.
const INLINE_PASS_OVER: u32 = 32;
/// So long the writer's thread leaves alone who writes inline.
const BUSY_INLINE_MS: u64 = 50;
/// Steps of one group: take it, write its frames, sync.
const INLINE_STEPS_MAX: u32 = 8;

#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

struct RealBells {
    writer: Arc<Bell>,
    reader: Arc<Bell>,
    keeper: Arc<Bell>,
    settler: Arc<Bell>,
    spiller: Arc<Bell>,
    scrub: Arc<Bell>,
    blobs: Arc<Bell>,
    owner: Box<dyn Fn() + Send + Sync>,
}

/// Starts the workers. `wake_owner` is called, from their threads, whenever a watermark has moved, an answer has come
/// or the store has failed; it must not block.
pub fn start_threads(
    store: &Store,
    workers: Workers,
    wake_owner: impl Fn() + Send + Sync + 'static,
) -> io::Result<Threads> {
    let [writer, reader, keeper, settler, spiller, scrub, blobs] =
        [(); 7].map(|()| Arc::new(Bell::default()));
    let bells = RealBells {
        writer: Arc::clone(&writer),
        reader: Arc::clone(&reader),
        keeper: Arc::clone(&keeper),
        settler: Arc::clone(&settler),
        spiller: Arc::clone(&spiller),
        scrub: Arc::clone(&scrub),
        blobs: Arc::clone(&blobs),
        owner: Box::new(wake_owner),
    };
    // The first to set them wins; a store is started once.
    drop(store.shared.bells.set(Box::new(bells)));
    let Workers {
        writer: w,
        reader: mut r,
        keeper: mut k,
        settler: mut s,
        spiller: mut v,
        scrub: mut x,
        blobs: mut b,
    } = workers;
    let (w, start) = (Arc::new(Mutex::new(w)), Instant::now());
    let stepped = Arc::clone(&w);
    let shared = &store.shared;
    let handles = vec![
        spawn(WRITER, writer, start, shared, move |now_ms, rung| step_writer(&stepped, now_ms, rung))?,
        spawn("leveret-reader", reader, start, shared, move |_, _| r.step())?,
        spawn("leveret-keeper", keeper, start, shared, move |now_ms, _| k.step(now_ms))?,
        spawn("leveret-settler", settler, start, shared, move |now_ms, _| s.step(now_ms))?,
        spawn("leveret-spiller", spiller, start, shared, move |now_ms, _| v.step(now_ms))?,
        spawn("leveret-scrub", scrub, start, shared, move |now_ms, _| x.step(now_ms))?,
        spawn("leveret-blobs", blobs, start, shared, move |now_ms, _| b.step(now_ms))?,
    ];
    Ok(Threads { handles, writer: w, shared: Arc::clone(shared), start, passed_over: AtomicU32::new(0) })
}

impl Threads {
    /// Lets the calling thread write and sync what it has committed, instead of waking the writer for it and being woken
    /// again: worth it for an owner that has nothing else to do meanwhile. Does nothing, and says false, when the
    /// writer is at work, the disk was slow of late, or there is more to do than to write and sync: then wake the writer.
    pub fn write_inline(&self) -> bool {
        if self.passed_over.load(Ordering::Relaxed) > 0 {
            self.passed_over.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        let Ok(mut writer) = self.writer.try_lock() else { return false };
        if !writer.is_idle() {
            return false;
        }
        let _guard = PanicGuard { thread: WRITER, shared: Arc::clone(&self.shared) };
        let begin = Instant::now();
        for _ in 0..INLINE_STEPS_MAX {
            let step = writer.step(self.start.elapsed().as_millis() as u64);
            if step != Step::Worked || writer.is_rotating() || writer.is_idle() {
                break;
            }
        }
        // What waits on, for company or since it found no room in the frame, is the writer's: it sleeps, and has to hear of it.
        let done = writer.is_idle() && lock(&self.shared.inbox).waiting.is_empty();
        drop(writer);
        if begin.elapsed() > INLINE_SLOW {
            self.passed_over.store(INLINE_PASS_OVER, Ordering::Relaxed);
        }
        done
    }

    /// Waits until the workers have ended: after [`Store::close`], or a failure.
    pub fn join(self) {
        for handle in self.handles {
            // A worker that panicked has said so on stderr; the process is ending.
            drop(handle.join());
        }
    }
}

/// A step of the writer's own thread. Who only looks by the way whether there is something to do, and finds that somebody
/// writes inline, looks again later: waiting for the lock it would be woken each time that it is given back, and take it from
/// whoever writes inline next.
fn step_writer(writer: &Mutex<Writer>, now_ms: u64, rung: bool) -> Step {
    if rung {
        return lock(writer).step(now_ms);
    }
    match writer.try_lock() {
        Ok(mut writer) => writer.step(now_ms),
        Err(_) => Step::Idle { again_ms: Some(BUSY_INLINE_MS) },
    }
}

/// `step` is told the time, and whether it was called for: else it has only waited as long as it had said.
fn spawn(
    name: &'static str,
    bell: Arc<Bell>,
    start: Instant,
    shared: &Arc<Shared>,
    step: impl FnMut(u64, bool) -> Step + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let guard = PanicGuard { thread: name, shared: Arc::clone(shared) };
    Builder::new().name(name.into()).spawn(move || {
        // Dropped in the other order: the failure stands before the worker lets go of anything.
        let mut step = step;
        let _guard = guard;
        let mut rung = true;
        loop {
            match step(start.elapsed().as_millis() as u64, rung) {
                Step::Worked => rung = true,
                Step::Idle { again_ms } => rung = bell.wait(again_ms.map(Duration::from_millis)),
                Step::Done => return,
            }
        }
    })
}

/// Ends the store when a worker panics: the others would wait for it, and whoever waits for them for ever.
struct PanicGuard {
    thread: &'static str,
    shared: Arc<Shared>,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if thread::panicking() {
            self.shared.fail(Error::Panicked { thread: self.thread });
        }
    }
}

impl Bell {
    fn ring(&self) {
        *lock(&self.rung) = true;
        self.heard.notify_one();
    }

    /// Says whether it was rung.
    fn wait(&self, timeout: Option<Duration>) -> bool {
        let mut rung = lock(&self.rung);
        if !*rung {
            rung = match timeout {
                Some(timeout) => {
                    self.heard.wait_timeout(rung, timeout).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.heard.wait(rung).unwrap_or_else(PoisonError::into_inner),
            };
        }
        std::mem::take(&mut *rung)
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

    fn ring_settler(&self) {
        self.settler.ring();
    }

    fn ring_spiller(&self) {
        self.spiller.ring();
    }

    fn ring_scrub(&self) {
        self.scrub.ring();
    }

    fn ring_blobs(&self) {
        self.blobs.ring();
    }

    fn ring_owner(&self) {
        (self.owner)();
    }
}

#[cfg(all(test, feature = "interleave"))]
mod interleavings;
#[cfg(all(test, feature = "sim", not(feature = "interleave")))]
mod tests;

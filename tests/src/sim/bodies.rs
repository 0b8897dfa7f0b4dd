//! What front ends do with large bodies: they have them written before their messages enter the core. Whatever else
//! comes on the same channel waits behind them, and nothing else does, except that the simulated clients change no
//! topology before what they have sent has arrived: they know where it goes then.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use leveret_broker::{Blob, ChanId, Input, Op, Publish};
use leveret_engine::{BlobRef, Blobs};

/// Inputs that wait for bodies.
#[derive(Default)]
pub(super) struct Bodies {
    waiting: BTreeMap<Key, VecDeque<Waiting>>,
    /// What came with or behind a change of the topology.
    behind: VecDeque<Input>,
}

/// Among which inputs the order is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Channel(ChanId),
    /// Of the one client that publishes by single calls, one after the other.
    Calls,
}

struct Waiting {
    input: Input,
    /// Per body, in the order of the publishes, where its handle comes.
    bodies: Vec<Arc<Mutex<Option<BlobRef>>>>,
    bytes_min: u64,
}

impl Bodies {
    /// Takes what clients sent; gives what may enter now.
    pub(super) fn pass(&mut self, blobs: &Blobs, inputs: Vec<Input>) -> Vec<Input> {
        let mut ready = self.release();
        self.behind.extend(inputs);
        while let Some(input) = self.behind.front() {
            if !self.waiting.is_empty() && changes_topology(input) {
                break;
            }
            let Some(mut input) = self.behind.pop_front() else { break };
            if let Input::ChannelClosed { chan } = &input {
                // What waited for its body was not accepted.
                self.waiting.remove(&Key::Channel(*chan));
            }
            let Some(key) = key(&input) else {
                ready.push(input);
                continue;
            };
            let bytes_min = blobs.bytes_min();
            let large = large(&mut input, bytes_min);
            let bodies: Vec<_> = large.into_iter().map(|publish| write(blobs, publish)).collect();
            if bodies.is_empty() && !self.waiting.contains_key(&key) {
                ready.push(input);
            } else {
                self.waiting.entry(key).or_default().push_back(Waiting { input, bodies, bytes_min });
            }
        }
        ready
    }

    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.behind.is_empty()
    }

    fn release(&mut self) -> Vec<Input> {
        let mut ready = Vec::new();
        for waiting in self.waiting.values_mut() {
            while waiting.front().is_some_and(Waiting::is_written) {
                ready.extend(waiting.pop_front().map(Waiting::enter));
            }
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        ready
    }
}

impl Waiting {
    fn is_written(&self) -> bool {
        self.bodies.iter().all(|body| body.lock().unwrap_or_else(PoisonError::into_inner).is_some())
    }

    fn enter(mut self) -> Input {
        let mut bodies = self.bodies.into_iter();
        for publish in large(&mut self.input, self.bytes_min) {
            let Some(body) = bodies.next() else { break };
            let blob = body.lock().unwrap_or_else(PoisonError::into_inner).take();
            publish.blob = blob.map(Blob::new);
        }
        self.input
    }
}

fn changes_topology(input: &Input) -> bool {
    match input {
        Input::Request { op, .. } => matches!(
            op,
            Op::DeclareExchange(_)
                | Op::DeleteExchange { .. }
                | Op::DeclareQueue(_)
                | Op::DeleteQueue { .. }
                | Op::PurgeQueue { .. }
                | Op::Bind(_)
                | Op::Unbind(_)
        ),
        _ => false,
    }
}

fn key(input: &Input) -> Option<Key> {
    match input {
        Input::Publish { chan, .. }
        | Input::Settle { chan, .. }
        | Input::Writable { chan, .. }
        | Input::ChannelClosed { chan } => Some(Key::Channel(*chan)),
        Input::Request { chan: Some(chan), .. } => Some(Key::Channel(*chan)),
        Input::Request { op: Op::Publish(_), .. } => Some(Key::Calls),
        _ => None,
    }
}

/// The persistent publishes of an input whose bodies have at least so many bytes.
fn large(input: &mut Input, bytes_min: u64) -> Vec<&mut Publish> {
    let publishes: Vec<&mut Publish> = match input {
        Input::Publish { publish, .. } => vec![publish],
        Input::Request { op: Op::Publish(batch), .. } => batch.iter_mut().collect(),
        _ => Vec::new(),
    };
    let large = |publish: &&mut Publish| publish.persistent && publish.body.len() as u64 >= bytes_min;
    publishes.into_iter().filter(large).collect()
}

fn write(blobs: &Blobs, publish: &Publish) -> Arc<Mutex<Option<BlobRef>>> {
    let body = Arc::new(Mutex::new(None));
    let told = Arc::clone(&body);
    blobs.put(publish.body.clone(), move |blob| {
        *told.lock().unwrap_or_else(PoisonError::into_inner) = blob.ok();
    });
    body
}

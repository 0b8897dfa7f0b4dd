//! Large bodies are written before their messages enter the core, so that other confirms go on meanwhile; only whoever
//! sent them waits.
//!
//! The room that a body takes in memory is counted for as long as the blob writer has it, also when whoever sent it has
//! gone: a client that gives up and tries again must not have one copy after the other wait here.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use leveret_broker::{Blob, Input, Publish};
use leveret_engine::{BlobRef, Blobs, BodyWaiter, NotWritten};
use tokio::sync::oneshot;

use crate::hub::Permit;

/// Bodies to be written, each with the number of its publish among those it came with.
#[derive(Debug, Default)]
pub(crate) struct LargeBodies {
    blobs: Option<Blobs>,
    bodies: Vec<(usize, Bytes)>,
}

/// Why bodies are not on the disk, and their messages cannot enter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoBodies {
    /// The broker is going.
    Gone,
    /// The disk does not take them.
    NotWritten(NotWritten),
}

/// What comes back of a body, with the room that it took.
type WayBack = (Result<BlobRef, NotWritten>, Permit);

/// One body's way back, with the room that it takes.
struct Waiter {
    share: Permit,
    done: oneshot::Sender<WayBack>,
}

impl BodyWaiter for Waiter {
    fn is_gone(&self) -> bool {
        self.done.is_closed()
    }

    fn written(self: Box<Self>, written: Result<BlobRef, NotWritten>) {
        // Whoever waited may have gone: then nothing holds the body, and it is freed.
        drop(self.done.send((written, self.share)));
    }
}

/// Bodies that are being written, in order.
#[derive(Debug)]
pub(crate) struct Writing {
    /// None once it was given away.
    permit: Option<Permit>,
    waiting: VecDeque<(usize, oneshot::Receiver<WayBack>)>,
    written: Vec<(usize, Blob)>,
}

/// Bodies that are on the disk.
#[derive(Debug, Default)]
pub(crate) struct Written(Vec<(usize, Blob)>);

impl LargeBodies {
    /// Those of persistent messages that the store wants apart from its log.
    pub(crate) fn of<'a>(blobs: Option<&Blobs>, publishes: impl Iterator<Item = &'a Publish>) -> Self {
        let Some(blobs) = blobs else { return Self::default() };
        let bytes_min = blobs.bytes_min();
        let large = |publish: &Publish| {
            publish.persistent && publish.blob.is_none() && publish.body.len() as u64 >= bytes_min
        };
        let bodies: Vec<_> = publishes
            .enumerate()
            .filter(|(_, publish)| large(publish))
            .map(|(number, publish)| (number, publish.body.clone()))
            .collect();
        Self { blobs: (!bodies.is_empty()).then(|| blobs.clone()), bodies }
    }

    /// There are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.bodies.is_empty()
    }

    /// Has them written, from now on. Ready when all are on the disk, with the permit of the publishes they belong to. Whoever
    /// does not wait for that gets neither: the bodies' part of the permit comes back when they are let go of.
    pub(crate) fn write(self, mut permit: Permit) -> Writing {
        let Some(blobs) = self.blobs else {
            return Writing { permit: Some(permit), waiting: VecDeque::new(), written: Vec::new() };
        };
        let begin = |(number, body): (usize, Bytes)| {
            let (done, written) = oneshot::channel();
            let share = permit.split(body.len());
            blobs.put_for(body, Box::new(Waiter { share, done }));
            (number, written)
        };
        let waiting: VecDeque<_> = self.bodies.into_iter().map(begin).collect();
        let written = Vec::with_capacity(waiting.len());
        Writing { permit: Some(permit), waiting, written }
    }
}

impl Future for Writing {
    type Output = Result<(Permit, Written), NoBodies>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { permit, waiting, written } = &mut *self;
        while let Some((number, body)) = waiting.front_mut() {
            let (blob, share) = ready!(Pin::new(body).poll(cx)).map_err(|_| NoBodies::Gone)?;
            if let Some(permit) = permit {
                permit.merge(share);
            }
            written.push((*number, Blob::new(blob.map_err(NoBodies::NotWritten)?)));
            waiting.pop_front();
        }
        let permit = permit.take().ok_or(NoBodies::Gone)?;
        Poll::Ready(Ok((permit, Written(std::mem::take(written)))))
    }
}

impl Written {
    /// Gives them to their publishes, which come in the order in which the bodies were looked for.
    pub(crate) fn give_to<'a>(self, publishes: impl Iterator<Item = &'a mut Publish>) {
        let mut written = self.0.into_iter().peekable();
        for (number, publish) in publishes.enumerate() {
            if let Some((_, blob)) = written.next_if(|(of, _)| *of == number) {
                publish.blob = Some(blob);
            }
        }
    }
}

/// The publishes among inputs.
pub(crate) fn publishes(inputs: &[Input]) -> impl Iterator<Item = &Publish> {
    inputs.iter().filter_map(|input| match input {
        Input::Publish { publish, .. } => Some(publish),
        _ => None,
    })
}

/// The same, to be changed.
pub(crate) fn publishes_mut(inputs: &mut [Input]) -> impl Iterator<Item = &mut Publish> {
    inputs.iter_mut().filter_map(|input| match input {
        Input::Publish { publish, .. } => Some(publish),
        _ => None,
    })
}

#[cfg(test)]
mod tests;

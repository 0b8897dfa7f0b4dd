//! Publishes of one client that are on their way into the core: they wait for room, or for large bodies that are being
//! written, and enter in the order in which they came, with everything that came between them.
//!
//! Several wait at once: one large body after the other, each with a sync of its own, would keep the disk waiting for
//! the client, and the client for the disk.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use leveret_broker::{Input, Refusal};
use tokio::time::Instant;

use crate::bodies::{LargeBodies, NoBodies, Writing, publishes, publishes_mut};
use crate::hub::{Hub, Permit};

/// With so many bytes of a client on their way, nothing more is taken from it: enough for some groups of the blob
/// writer, and a quarter of the room that all clients share by default.
const BYTES_MAX: usize = 16 << 20;
/// What an input takes beside its body, about: those that bring no body are bounded, too.
const INPUT_BYTES: usize = size_of::<Input>();

/// What waits. See the module.
pub(crate) struct Held {
    hub: Hub,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Since when nothing has entered.
    since: Instant,
}

/// What may enter now, in order.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) inputs: Vec<Input>,
    pub(crate) permit: Option<Permit>,
}

/// What came together.
struct Entry {
    inputs: Vec<Input>,
    bytes: usize,
    state: State,
}

enum State {
    /// For room, with the bodies that are written then. Only the last one does: nothing is taken in behind it.
    Room(Pin<Box<dyn Future<Output = Result<Permit, Refusal>> + Send>>, LargeBodies),
    /// For its bodies.
    Bodies(Writing),
    /// For those before it.
    Ready(Option<Permit>),
    Failed(NoBodies),
}

impl Held {
    pub(crate) fn new(hub: Hub) -> Self {
        Self { hub, entries: VecDeque::new(), bytes: 0, since: Instant::now() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// More may be taken in.
    pub(crate) fn accepts(&self) -> bool {
        self.bytes < BYTES_MAX && !matches!(self.entries.back(), Some(Entry { state: State::Room(..), .. }))
    }

    /// Since when nothing has entered, although something waits.
    pub(crate) fn waits_since(&self) -> Option<Instant> {
        (!self.is_empty()).then_some(self.since)
    }

    /// Takes inputs in, which need room for so many bytes of publishes; 0: there are none. Gives them back if they may enter
    /// at once.
    pub(crate) fn push(&mut self, inputs: Vec<Input>, publish_bytes: usize) -> Option<Ready> {
        let bodies = self.hub.large_bodies(publishes(&inputs));
        let permit = match publish_bytes {
            0 => None,
            bytes => match self.hub.try_permit(bytes) {
                Some(permit) => Some(permit),
                None => {
                    let hub = self.hub.clone();
                    let room = Box::pin(async move { hub.permit(bytes).await });
                    self.enqueue(inputs, publish_bytes, State::Room(room, bodies));
                    return None;
                }
            },
        };
        if self.is_empty() && bodies.is_empty() {
            return Some(Ready { inputs, permit });
        }
        let state = match permit {
            Some(permit) if !bodies.is_empty() => State::Bodies(bodies.write(permit)),
            permit => State::Ready(permit),
        };
        self.enqueue(inputs, publish_bytes, state);
        None
    }

    fn enqueue(&mut self, inputs: Vec<Input>, publish_bytes: usize, state: State) {
        if self.is_empty() {
            self.since = Instant::now();
        }
        let bytes = publish_bytes.saturating_add(inputs.len() * INPUT_BYTES);
        self.bytes = self.bytes.saturating_add(bytes);
        self.entries.push_back(Entry { inputs, bytes, state });
    }

    /// What may enter next, all of it that may. An error is of what comes first: then nothing else may enter. Waits for ever
    /// where nothing does. Nothing is lost when this is dropped.
    pub(crate) async fn next(&mut self) -> Result<Ready, NoBodies> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same without waiting.
    pub(crate) async fn at_once(&mut self) -> Option<Result<Ready, NoBodies>> {
        poll_fn(|cx| match self.poll_next(cx) {
            Poll::Ready(next) => Poll::Ready(Some(next)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Ready, NoBodies>> {
        if let Some(last) = self.entries.back_mut() {
            last.poll_room(cx);
        }
        let mut ready: Option<Ready> = None;
        while let Some(first) = self.entries.front_mut()
            && first.poll(cx)
        {
            if let State::Failed(why) = &first.state {
                match ready {
                    Some(_) => break,
                    None => return Poll::Ready(Err(why.clone())),
                }
            }
            let Some(Entry { inputs, bytes, state: State::Ready(permit) }) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= bytes;
            self.since = Instant::now();
            match &mut ready {
                Some(ready) => ready.append(inputs, permit),
                None => ready = Some(Ready { inputs, permit }),
            }
        }
        ready.map_or(Poll::Pending, |ready| Poll::Ready(Ok(ready)))
    }

    /// Drops all of it. What the core is to hear of inputs that it does not get.
    pub(crate) fn clear(&mut self) -> Vec<Input> {
        self.bytes = 0;
        let inputs = std::mem::take(&mut self.entries).into_iter().flat_map(|entry| entry.inputs);
        inputs
            .filter(|input| matches!(input, Input::ChannelClosed { .. } | Input::ConnectionClosed { .. }))
            .collect()
    }
}

impl Entry {
    fn poll_room(&mut self, cx: &mut Context<'_>) {
        let State::Room(room, bodies) = &mut self.state else { return };
        let Poll::Ready(permit) = room.as_mut().poll(cx) else { return };
        self.state = match permit {
            Ok(permit) => State::Bodies(std::mem::take(bodies).write(permit)),
            Err(_) => State::Failed(NoBodies::Gone),
        };
    }

    /// True when it may enter as far as it is concerned, or never will.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.state {
            State::Room(..) => false,
            State::Bodies(writing) => {
                let Poll::Ready(written) = Pin::new(writing).poll(cx) else { return false };
                self.state = match written {
                    Ok((permit, written)) => {
                        written.give_to(publishes_mut(&mut self.inputs));
                        State::Ready(Some(permit))
                    }
                    Err(why) => State::Failed(why),
                };
                true
            }
            State::Ready(_) | State::Failed(_) => true,
        }
    }
}

impl Ready {
    fn append(&mut self, inputs: Vec<Input>, permit: Option<Permit>) {
        self.inputs.extend(inputs);
        match (&mut self.permit, permit) {
            (Some(all), Some(permit)) => all.merge(permit),
            (all @ None, permit) => *all = permit,
            (Some(_), None) => {}
        }
    }
}

#[cfg(test)]
mod tests;

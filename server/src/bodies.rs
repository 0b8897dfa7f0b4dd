//! Large bodies are written before their messages enter the core, so that other confirms go on meanwhile; only whoever
//! sent them waits.

use bytes::Bytes;
use leveret_broker::{Blob, Input, Publish, Refusal};
use leveret_engine::Blobs;
use tokio::sync::oneshot;

use crate::hub::gone;

/// Bodies to be written, each with the number of its publish among those it came with.
#[derive(Debug, Default)]
pub(crate) struct LargeBodies {
    blobs: Option<Blobs>,
    bodies: Vec<(usize, Bytes)>,
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

    /// Has them written. Ready when all are on the disk; an error when the broker is going.
    pub(crate) async fn write(self) -> Result<Written, Refusal> {
        let Some(blobs) = self.blobs else { return Ok(Written::default()) };
        let begin = |(number, body)| {
            let (done, written) = oneshot::channel();
            // Whoever waits may have gone: then nothing holds the body, and it is freed.
            blobs.put(body, move |blob| drop(done.send(blob)));
            (number, written)
        };
        let writing: Vec<_> = self.bodies.into_iter().map(begin).collect();
        let mut written = Vec::with_capacity(writing.len());
        for (number, body) in writing {
            written.push((number, Blob::new(body.await.map_err(|_| gone())?)));
        }
        Ok(Written(written))
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

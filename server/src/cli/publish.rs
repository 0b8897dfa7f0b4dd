//! publish: bodies from the command line, or the lines of a file or of standard input, over one stream.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use leveret_proto::v1::message::Body;
use leveret_proto::v1::{
    Message, Properties, PublishException, PublishMessage, PublishOutcome, PublishStreamRequest,
    PublishStreamResponse,
};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::args::table;
use super::connect::connect;
use super::declare::{count_of_messages, tell};
use super::out::{Out, remark};
use super::{ClientOptions, Failure, PublishArgs};

mod source;

pub(super) use source::Source;

/// Requests that wait to be sent.
const REQUESTS_MAX: usize = 4;
/// Single complaints; the rest is only counted.
const COMPLAINTS_MAX: u64 = 10;

pub(super) async fn publish(
    options: &ClientOptions,
    args: PublishArgs,
    out: &mut Out,
) -> Result<(), Failure> {
    let source = Source::open(&args)?;
    let progress = progress(&source);
    let mut client = connect(options).await?;
    if source.is_typed() {
        remark("reading messages from standard input, one a line; end with Ctrl-D");
    }
    let key = args.routing_key.as_deref().unwrap_or_default();
    let mut tally = Tally::new(format!("exchange '{}', routing key '{key}'", args.exchange));
    let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
    let feeder = Feeder::start(source, Template::of(options, args), requests);
    let outcome = match client.publish_stream(ReceiverStream::new(receiver)).await {
        Ok(responses) => follow(responses.into_inner(), &mut tally, &feeder, &progress).await,
        Err(status) => Err(status.into()),
    };
    progress.finish_and_clear();
    let confirmed = tally.confirmed();
    tell(
        options,
        out,
        &format!("{} confirmed", count_of_messages(confirmed)),
        &json!({ "confirmed": confirmed, "unrouted": tally.unrouted, "rejected": tally.rejected }),
    )?;
    outcome?;
    feeder.finish(tally.settled)?;
    tally.verdict()
}

async fn follow(
    mut responses: Streaming<PublishStreamResponse>,
    tally: &mut Tally,
    feeder: &Feeder,
    progress: &ProgressBar,
) -> Result<(), Failure> {
    while let Some(response) = responses.message().await? {
        tally.count(response);
        progress.set_position(feeder.bytes.load(Ordering::Relaxed));
        progress.set_message(format!("{} confirmed", tally.confirmed()));
    }
    Ok(())
}

fn progress(source: &Source) -> ProgressBar {
    if source.is_long() && io::stderr().is_terminal() {
        let template = match source.bytes_total() {
            Some(_) => "{bar:30} {percent:>3}% {msg}  {bytes_per_sec}",
            None => "{spinner} {msg}  {bytes}, {bytes_per_sec}",
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        source.bytes_total().map_or_else(ProgressBar::new_spinner, ProgressBar::new).with_style(style)
    } else {
        ProgressBar::hidden()
    }
}

/// What all messages have in common.
pub(super) struct Template {
    vhost: String,
    message: PublishMessage,
}

impl Template {
    pub(super) fn of(options: &ClientOptions, args: PublishArgs) -> Self {
        let properties = Properties {
            content_type: args.content_type,
            headers: table(args.headers),
            priority: args.priority.map(u32::from),
            correlation_id: args.correlation_id,
            reply_to: args.reply_to,
            expiration: args.expiration,
            ..Properties::default()
        };
        let message = Message {
            body: None,
            persistent: Some(!args.transient),
            properties: (properties != Properties::default()).then(|| Box::new(properties)),
        };
        Self {
            vhost: options.vhost.clone(),
            message: PublishMessage {
                exchange: args.exchange,
                routing_key: args.routing_key.unwrap_or_default(),
                message: Some(message),
                mandatory: false,
            },
        }
    }

    pub(super) fn request(&self, bodies: Vec<Bytes>) -> PublishStreamRequest {
        let messages = bodies.into_iter().map(|body| {
            let mut publish = self.message.clone();
            if let Some(message) = &mut publish.message {
                message.body = Some(Body::Bytes(body));
            }
            publish
        });
        PublishStreamRequest { vhost: self.vhost.clone(), messages: messages.collect() }
    }
}

/// A thread that reads the source and fills the stream: reading a file or a terminal blocks.
struct Feeder {
    bytes: Arc<AtomicU64>,
    result: oneshot::Receiver<io::Result<u64>>,
}

impl Feeder {
    fn start(source: Source, template: Template, requests: mpsc::Sender<PublishStreamRequest>) -> Self {
        let (done, result) = oneshot::channel();
        let bytes = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&bytes);
        std::thread::spawn(move || {
            let mut messages = 0;
            let result = source.batches(|bodies| {
                messages += bodies.len() as u64;
                let size: usize = bodies.iter().map(|body| body.len() + 1).sum();
                read.fetch_add(size as u64, Ordering::Relaxed);
                requests.blocking_send(template.request(bodies)).is_ok()
            });
            // Before the stream closes, so that whoever sees its end finds the result.
            let _ = done.send(result.map(|()| messages));
            drop(requests);
        });
        Self { bytes, result }
    }

    /// Once the server has ended the stream: everything was read, and all of it has an outcome.
    fn finish(mut self, settled: u64) -> Result<(), Failure> {
        match self.result.try_recv() {
            Ok(Ok(messages)) if messages == settled => Ok(()),
            Ok(Err(e)) => Err(Failure::Refused(format!("reading messages: {e}"))),
            Ok(Ok(_)) | Err(_) => Err(Failure::NoConnection(
                "the server ended the stream before it had confirmed everything; what became of the rest is not known"
                    .to_owned(),
            )),
        }
    }
}

/// What became of the messages.
pub(super) struct Tally {
    place: String,
    settled: u64,
    pub(super) unrouted: u64,
    pub(super) rejected: u64,
    first_rejection: Option<String>,
}

impl Tally {
    /// `place` says where all messages go.
    pub(super) fn new(place: String) -> Self {
        Self { place, settled: 0, unrouted: 0, rejected: 0, first_rejection: None }
    }

    pub(super) fn count(&mut self, response: PublishStreamResponse) {
        self.settled = self.settled.max(response.confirmed_upto);
        for exception in response.exceptions {
            self.count_exception(&exception);
        }
    }

    pub(super) fn confirmed(&self) -> u64 {
        self.settled.saturating_sub(self.unrouted + self.rejected)
    }

    pub(super) fn verdict(self) -> Result<(), Failure> {
        let mut parts = Vec::new();
        if self.unrouted > 0 {
            parts.push(format!("{} reached no queue ({})", count_of_messages(self.unrouted), self.place));
        }
        if let Some(rejection) = self.first_rejection {
            parts.push(format!("{} rejected: {rejection}", count_of_messages(self.rejected)));
        }
        if parts.is_empty() { Ok(()) } else { Err(Failure::Refused(parts.join("; "))) }
    }

    fn count_exception(&mut self, exception: &PublishException) {
        let what = match (exception.outcome(), &exception.error) {
            (PublishOutcome::Unrouted, _) => {
                self.unrouted += 1;
                "reached no queue".to_owned()
            }
            (_, error) => {
                let text = error.as_ref().map_or_else(
                    || "the server gave no reason".to_owned(),
                    |error| format!("{} ({})", error.message, error.reason),
                );
                self.rejected += 1;
                self.first_rejection.get_or_insert_with(|| text.clone());
                format!("was rejected: {text}")
            }
        };
        if self.unrouted + self.rejected <= COMPLAINTS_MAX {
            remark(&format!("message {} {what}", exception.number));
        }
    }
}

//! consume and get: messages to standard output.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use leveret_proto::v1::consume_request::Action;
use leveret_proto::v1::{
    AckRequest, ConsumeOpen, ConsumeRequest, ConsumeResponse, ConsumeSettle, Delivery, ErrorEntry,
    GetRequest, NackRequest, SettleKind, SettleResult,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;

use super::connect::connect;
use super::out::{Out, remark};
use super::{Client, ClientOptions, ConsumeArgs, Failure, GetArgs, json};

const PREFETCH: u32 = 100;
/// Messages of one Get; more are taken by several.
const GET_COUNT: u32 = 100;
/// Acks held back near the end of --count leave after so long without a message.
const HOLD: Duration = Duration::from_millis(200);
/// How long the server may take to say that all is settled.
const FINISH: Duration = Duration::from_secs(10);

pub(super) async fn consume(
    options: &ClientOptions,
    args: ConsumeArgs,
    out: &mut Out,
) -> Result<(), Failure> {
    let plan = Plan::of(&args);
    let mut client = connect(options).await?;
    let (requests, receiver) = mpsc::unbounded_channel();
    let open = ConsumeOpen {
        vhost: options.vhost.clone(),
        queue: args.queue,
        prefetch_messages: plan.prefetch,
        auto_ack: plan.auto_ack,
        ..ConsumeOpen::default()
    };
    // The receiver is in hand, so this arrives.
    let _ = requests.send(ConsumeRequest { action: Some(Action::Open(open)) });
    let mut stream = client.consume(UnboundedReceiverStream::new(receiver)).await?.into_inner();
    let mut consumer =
        Consumer { plan, json: options.json, out, requests, printed: 0, unacked: VecDeque::new() };
    let ended = consumer.run(&mut stream, stop_signal()?).await;
    match ended {
        // The pipe is closed: what was printed whole is done, the rest goes back.
        Ok(()) | Err(Failure::OutputClosed) => {
            consumer.finish(&mut client, &mut stream).await?;
            ended
        }
        Err(_) => ended,
    }
}

pub(super) async fn get(options: &ClientOptions, args: GetArgs, out: &mut Out) -> Result<(), Failure> {
    let mut client = connect(options).await?;
    let mut put_back = Vec::new();
    let printed = get_and_print(options, &args, &mut client, out, &mut put_back).await;
    // Whatever happened: what was not acknowledged does not wait for the end of its lease.
    requeue(&mut client, put_back).await?;
    printed
}

async fn get_and_print(
    options: &ClientOptions,
    args: &GetArgs,
    client: &mut Client,
    out: &mut Out,
    put_back: &mut Vec<String>,
) -> Result<(), Failure> {
    let mut left = args.count;
    while left > 0 {
        let request = GetRequest {
            vhost: options.vhost.clone(),
            queue: args.queue.clone(),
            count: left.min(GET_COUNT),
            ..GetRequest::default()
        };
        let deliveries = client.get(request).await?.into_inner().deliveries;
        if deliveries.is_empty() {
            break;
        }
        left = left.saturating_sub(u32::try_from(deliveries.len()).unwrap_or(u32::MAX));
        put_back.extend(deliveries.iter().map(|delivery| delivery.ack_id.clone()));
        for delivery in &deliveries {
            print(delivery, options.json, out)?;
        }
        out.flush()?;
        if args.ack {
            acknowledge(client, std::mem::take(put_back)).await?;
        }
    }
    Ok(())
}

/// How the consumer is run. With a count, no message more than the count should leave the queue: acks bring new
/// messages, so those of the last `prefetch` messages are held back until all are there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) count: Option<u64>,
    pub(super) prefetch: u32,
    pub(super) auto_ack: bool,
}

impl Plan {
    pub(super) fn of(args: &ConsumeArgs) -> Self {
        // A tenth, so that most acks leave at once.
        let usual = args.count.map_or(PREFETCH, |count| (count / 10).clamp(1, u64::from(PREFETCH)) as u32);
        Self {
            count: args.count,
            prefetch: args.prefetch.unwrap_or(usual),
            // With a count, messages that are not wanted must not be settled as they leave.
            auto_ack: args.no_ack && args.count.is_none(),
        }
    }

    /// How many of the first messages may be acknowledged at once.
    pub(super) fn free_acks(&self) -> u64 {
        self.count.map_or(u64::MAX, |count| count.saturating_sub(u64::from(self.prefetch)))
    }

    fn is_full(&self, printed: u64) -> bool {
        self.count.is_some_and(|count| printed >= count)
    }
}

struct Consumer<'a> {
    plan: Plan,
    json: bool,
    out: &'a mut Out,
    requests: mpsc::UnboundedSender<ConsumeRequest>,
    printed: u64,
    /// Printed, not acknowledged: delivery tag and ack id.
    unacked: VecDeque<(u64, String)>,
}

impl Consumer<'_> {
    /// Prints and acknowledges until the count is reached, a signal comes or something fails.
    async fn run(
        &mut self,
        stream: &mut Streaming<ConsumeResponse>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        let mut stop = std::pin::pin!(stop);
        while !self.plan.is_full(self.printed) {
            tokio::select! {
                response = stream.message() => match response? {
                    Some(response) => self.take(response)?,
                    None => return Err(Failure::Refused("the server ended the stream".to_owned())),
                },
                () = sleep(HOLD), if !self.unacked.is_empty() => self.acknowledge_upto(u64::MAX),
                () = &mut stop => break,
            }
        }
        Ok(())
    }

    fn take(&mut self, response: ConsumeResponse) -> Result<(), Failure> {
        check_settled(&response)?;
        if !self.plan.auto_ack {
            let out =
                response.deliveries.iter().map(|delivery| (delivery.delivery_tag, delivery.ack_id.clone()));
            self.unacked.extend(out);
        }
        // What is beyond the count stays out until `finish` gives it back.
        let wanted = self.plan.count.map_or(u64::MAX, |count| count - self.printed);
        let wanted = response.deliveries.len().min(usize::try_from(wanted).unwrap_or(usize::MAX));
        for delivery in &response.deliveries[..wanted] {
            print(delivery, self.json, self.out)?;
        }
        self.out.flush()?;
        self.printed += wanted as u64;
        self.acknowledge_upto(self.plan.free_acks());
        Ok(())
    }

    /// Acknowledges on the stream what was printed, up to a delivery tag.
    fn acknowledge_upto(&mut self, tag_max: u64) {
        let mut newest = None;
        while self.unacked.front().is_some_and(|(tag, _)| *tag <= tag_max.min(self.printed)) {
            newest = self.unacked.pop_front().map(|(tag, _)| tag);
        }
        if let Some(delivery_tag) = newest {
            let settle = ConsumeSettle { delivery_tag, multiple: true, kind: SettleKind::Ack.into() };
            // A stream that is gone says so where it is read.
            let _ = self.requests.send(ConsumeRequest { action: Some(Action::Settle(settle)) });
        }
    }

    /// Half-closes, so that no more is delivered; only then settles what is out, by ack id; waits for the end.
    async fn finish(
        self,
        client: &mut Client,
        stream: &mut Streaming<ConsumeResponse>,
    ) -> Result<(), Failure> {
        drop(self.requests);
        let (printed, extra): (Vec<_>, Vec<_>) =
            self.unacked.into_iter().partition(|(tag, _)| *tag <= self.printed);
        acknowledge(client, printed.into_iter().map(|(_, id)| id).collect()).await?;
        requeue(client, extra.into_iter().map(|(_, id)| id).collect()).await?;
        let rest = async {
            while let Some(response) = stream.message().await? {
                check_settled(&response)?;
                if self.plan.auto_ack {
                    // They are gone from the queue: printed or lost.
                    for delivery in &response.deliveries {
                        print(delivery, self.json, self.out)?;
                    }
                    self.out.flush()?;
                } else {
                    requeue(
                        client,
                        response.deliveries.into_iter().map(|delivery| delivery.ack_id).collect(),
                    )
                    .await?;
                }
            }
            Ok(())
        };
        timeout(FINISH, rest).await.unwrap_or_else(|_| {
            Err(Failure::Refused("the server did not say in time that all acks are durable".to_owned()))
        })
    }
}

fn print(delivery: &Delivery, as_json: bool, out: &mut Out) -> Result<(), Failure> {
    if as_json {
        out.json(&json::delivery(delivery))?
    } else {
        out.line(json::body(delivery))?
    }
    Ok(())
}

async fn acknowledge(client: &mut Client, ack_ids: Vec<String>) -> Result<(), Failure> {
    if ack_ids.is_empty() {
        return Ok(());
    }
    let results = client.ack(AckRequest { ack_ids }).await?.into_inner().results;
    check_results("acknowledged", &results)
}

async fn requeue(client: &mut Client, ack_ids: Vec<String>) -> Result<(), Failure> {
    if ack_ids.is_empty() {
        return Ok(());
    }
    let results = client.nack(NackRequest { ack_ids, requeue: Some(true) }).await?.into_inner().results;
    check_results("put back", &results)
}

fn check_results(verb: &str, results: &[SettleResult]) -> Result<(), Failure> {
    let errors: Vec<&ErrorEntry> = results.iter().filter_map(|result| result.error.as_ref()).collect();
    unsettled(verb, &errors)
}

fn check_settled(response: &ConsumeResponse) -> Result<(), Failure> {
    let exceptions = response.settled.iter().flat_map(|settled| &settled.exceptions);
    let errors: Vec<&ErrorEntry> = exceptions.filter_map(|exception| exception.error.as_ref()).collect();
    unsettled("acknowledged", &errors)
}

fn unsettled(verb: &str, errors: &[&ErrorEntry]) -> Result<(), Failure> {
    match errors {
        [] => Ok(()),
        [first, ..] => Err(Failure::Refused(format!(
            "{} could not be {verb}: {} ({})",
            super::declare::count_of_messages(errors.len() as u64),
            first.message,
            first.reason,
        ))),
    }
}

/// Ready when the user or the system wants this to end.
fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => remark(""),
            _ = terminate.recv() => {}
        }
    })
}

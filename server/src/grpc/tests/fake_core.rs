//! A core that answers by simple rules, behind a front end on a real socket.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use leveret_broker::*;
use leveret_proto::v1::broker_client::BrokerClient;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::transport::Channel;

use crate::auth::{Auth, fake};
use crate::grpc::{GrpcParts, GrpcSettings, Health, ServeError, ServerStatus, StatusSource, serve};
use crate::hub::{Hub, LaneId, Output};
use crate::inbox::{Envelope, Inbox};
use crate::stage::Stage;

/// What the core saw, for assertions.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) connections: AtomicU64,
    pub(super) channels: AtomicU64,
    pub(super) credit_back: AtomicU64,
    pub(super) requeued: AtomicU64,
    pub(super) publishes: Mutex<Vec<Publish>>,
    /// Keep publishes for looking at.
    pub(super) keep: AtomicBool,
    /// Hold permits and confirms back while this is set.
    pub(super) disk_stands: AtomicBool,
    /// Who made the last request.
    pub(super) user: Mutex<Option<Arc<str>>>,
    /// Since when the login of the newest connection holds.
    pub(super) login_at: Mutex<Option<u64>>,
    /// Users change whenever one is looked up.
    pub(super) restless: AtomicBool,
    /// What counts as out on every channel.
    pub(super) out: AtomicU64,
}

/// A front end over a fake core.
pub(super) struct World {
    pub(super) client: BrokerClient<Channel>,
    pub(super) channel: Channel,
    pub(super) seen: Arc<Seen>,
    pub(super) stage: watch::Sender<Stage>,
    pub(super) health: Health,
    pub(super) served: tokio::task::JoinHandle<Result<(), ServeError>>,
    pub(super) addr: String,
    pub(super) hub: Hub,
    inbox: Arc<Inbox>,
    core: Option<JoinHandle<()>>,
}

struct Figures;

impl StatusSource for Figures {
    fn server_status(&self) -> ServerStatus {
        ServerStatus { version: "1.2.3".into(), epoch: 7, log_bytes: 9, ..ServerStatus::default() }
    }
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(GrpcSettings::default(), 1 << 26, 1 << 20).await
    }

    pub(super) async fn with(settings: GrpcSettings, publish_bytes: u32, credit_bytes: u64) -> Self {
        let inbox = Arc::new(Inbox::default());
        let seen = Arc::new(Seen::default());
        let core = std::thread::spawn({
            let mut core = Core {
                seen: Arc::clone(&seen),
                lanes: HashMap::new(),
                channels: HashMap::new(),
                held: Vec::new(),
                idle: Vec::new(),
            };
            let inbox = Arc::clone(&inbox);
            move || core.run(&inbox)
        });
        let (stage, stages) = watch::channel(Stage::Serving);
        let health = Health::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = format!("http://{}", listener.local_addr().unwrap());
        let hub = Hub::new(Arc::clone(&inbox), publish_bytes, credit_bytes);
        let kept = hub.clone();
        let auth = Auth::new(hub.clone(), vec!["guest".into()]).unwrap();
        let parts = GrpcParts { hub, auth, settings, status: Arc::new(Figures), health: health.clone() };
        let served = tokio::spawn(serve(listener, parts, stages));
        let channel = Channel::from_shared(addr.clone()).unwrap().connect().await.unwrap();
        let client = BrokerClient::new(channel.clone()).max_decoding_message_size(1 << 27);
        Self { client, channel, seen, stage, health, served, addr, hub: kept, inbox, core: Some(core) }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.inbox.push(Envelope::Close);
        if let Some(core) = self.core.take() {
            let _ = core.join();
        }
    }
}

struct Lane {
    sender: mpsc::UnboundedSender<Vec<Output>>,
    confirmed: u64,
    others: Vec<(u64, Outcome)>,
    settled: u64,
    delivered: u64,
    outputs: Vec<Output>,
}

struct Core {
    seen: Arc<Seen>,
    lanes: HashMap<LaneId, mpsc::UnboundedSender<Vec<Output>>>,
    channels: HashMap<ChanId, Lane>,
    held: Vec<crate::hub::Permit>,
    /// Who waits until nothing is out.
    idle: Vec<oneshot::Sender<Result<Reply, Refusal>>>,
}

impl Core {
    fn run(&mut self, inbox: &Inbox) {
        let mut batch = VecDeque::new();
        loop {
            inbox.take(&mut batch, Duration::from_millis(5));
            for envelope in batch.drain(..) {
                match envelope {
                    Envelope::Close => return,
                    Envelope::OpenLane { lane, sender, .. } => drop(self.lanes.insert(lane, sender)),
                    Envelope::CloseLane { lane } => drop(self.lanes.remove(&lane)),
                    Envelope::Batch { lane, inputs, permit } => {
                        self.held.extend(permit);
                        for input in inputs {
                            match input {
                                Input::ChannelOpened { chan, .. } => self.open(chan, lane),
                                input => self.input(input),
                            }
                        }
                    }
                    Envelope::Input(input) => self.input(input),
                    Envelope::Request { input, reply, .. } => {
                        let Input::Request { op, user, .. } = input else { unreachable!() };
                        if let (Op::LookUpUser { .. }, Some("other")) = (&op, user.as_deref()) {
                            let refusal = Refusal::new(RefusalKind::AccessRefused, "no administrator");
                            let _ = reply.send(Err(refusal));
                            continue;
                        }
                        if let Some(answer) = fake::answer(&op) {
                            if self.seen.restless.load(Ordering::Relaxed) {
                                inbox.access_changed();
                            }
                            let _ = reply.send(answer);
                            continue;
                        }
                        *self.seen.user.lock().unwrap() = user;
                        if let Op::WhenIdle { .. } = op {
                            self.idle.push(reply);
                            continue;
                        }
                        let _ = reply.send(self.request(op));
                    }
                }
            }
            if self.seen.out.load(Ordering::Relaxed) == 0 {
                self.idle.drain(..).for_each(|reply| drop(reply.send(Ok(Reply::Done))));
            }
            if self.seen.disk_stands.load(Ordering::Relaxed) {
                continue;
            }
            self.held.clear();
            for (chan, lane) in &mut self.channels {
                if lane.confirmed > 0 {
                    let (chan, others) = (*chan, std::mem::take(&mut lane.others));
                    let upto = std::mem::take(&mut lane.confirmed);
                    lane.outputs.push(Output::Confirms { chan, upto, others });
                }
                if !lane.outputs.is_empty() {
                    let _ = lane.sender.send(std::mem::take(&mut lane.outputs));
                }
            }
        }
    }

    fn open(&mut self, chan: ChanId, lane: LaneId) {
        self.seen.channels.fetch_add(1, Ordering::Relaxed);
        let lane = Lane {
            sender: self.lanes[&lane].clone(),
            confirmed: 0,
            others: vec![],
            settled: 0,
            delivered: 0,
            outputs: vec![],
        };
        self.channels.insert(chan, lane);
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::ConnectionOpened { info, .. } => {
                *self.seen.login_at.lock().unwrap() = info.login_at;
                self.seen.connections.fetch_add(1, Ordering::Relaxed);
            }
            Input::ConnectionClosed { .. } => {
                self.seen.connections.fetch_sub(1, Ordering::Relaxed);
            }
            Input::ChannelClosed { chan } => {
                self.channels.remove(&chan);
                self.seen.channels.fetch_sub(1, Ordering::Relaxed);
            }
            Input::Writable { bytes, .. } => {
                self.seen.credit_back.fetch_add(bytes, Ordering::Relaxed);
            }
            Input::Publish { chan, tag, publish, .. } => {
                let Some(lane) = self.channels.get_mut(&chan) else { return };
                lane.confirmed = tag;
                match &*publish.routing_key {
                    "nowhere" => {
                        lane.others.push((tag, Outcome::Unrouted));
                        if publish.mandatory {
                            lane.outputs.push(Output::Return {
                                chan,
                                tag,
                                message: Arc::new(message(publish.clone())),
                            });
                        }
                    }
                    "refused" => lane.others.push((tag, Outcome::Rejected(RefusalKind::NotFound))),
                    _ => {}
                }
                if self.seen.keep.load(Ordering::Relaxed) {
                    self.seen.publishes.lock().unwrap().push(publish);
                }
            }
            Input::Settle { chan, tag, .. } => {
                let Some(lane) = self.channels.get_mut(&chan) else { return };
                lane.settled += 1;
                let unknown = if tag > lane.delivered { vec![(lane.settled, tag)] } else { vec![] };
                self.seen.out.store(0, Ordering::Relaxed);
                lane.outputs.push(Output::Settled { chan, upto: lane.settled, unknown });
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn request(&mut self, op: Op) -> Result<Reply, Refusal> {
        match op {
            Op::Consume(consume) if &*consume.queue == "missing" => {
                Err(Refusal::new(RefusalKind::NotFound, "no queue 'missing' in vhost '/'")
                    .with("queue", "missing"))
            }
            Op::Consume(consume) => {
                let lane = self.channels.get_mut(&consume.chan).unwrap();
                // The queue's name says how many messages of how many bytes are in it; "gone" loses it.
                let mut numbers = consume.queue.split('x').map(|number| number.parse::<u64>().unwrap_or(0));
                let (count, bytes) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(1));
                for tag in 1..=count {
                    lane.delivered = tag;
                    lane.outputs.push(Output::Deliver(deliver(consume.chan, tag, bytes as usize)));
                }
                if &*consume.queue == "gone" {
                    let (chan, consumer_tag) = (consume.chan, "tag".into());
                    lane.outputs.push(Output::ConsumerCancelled { chan, consumer_tag });
                }
                Ok(Reply::Consuming { consumer_tag: "tag".into(), reply_to: None })
            }
            Op::Cancel { .. } => Ok(Reply::Done),
            Op::Publish(batch) => {
                let outcomes = batch.iter().map(|publish| match &*publish.routing_key {
                    "nowhere" => (Outcome::Unrouted, None),
                    "refused" => {
                        let refusal =
                            Refusal::new(RefusalKind::NotFound, "no exchange").with("exchange", "x");
                        (Outcome::Rejected(RefusalKind::NotFound), Some(refusal))
                    }
                    _ => (Outcome::Routed { queues: 1 }, None),
                });
                Ok(Reply::Published(outcomes.collect()))
            }
            Op::Get(get) => {
                if &*get.queue == "slow" {
                    std::thread::sleep(Duration::from_millis(100));
                }
                let messages = (1..=u64::from(get.count)).map(|seq| {
                    let deliver = deliver(ChanId(0), seq, 3);
                    GotMessage {
                        ack_id: deliver.ack_id,
                        delivery_tag: 0,
                        redelivered: false,
                        attempt: 1,
                        delivery_count: None,
                        message: deliver.message,
                    }
                });
                Ok(Reply::Got(Got { messages: messages.collect(), messages_ready: 5 }))
            }
            Op::SettleIds { ids, how } => {
                if how == Settle::Requeue {
                    self.seen.requeued.fetch_add(ids.len() as u64, Ordering::Relaxed);
                }
                let stale = || Refusal::new(RefusalKind::AckIdStale, "stale");
                let outcomes = ids.iter().map(|id| if id.seq.0 == 2 { Err(stale()) } else { Ok(()) });
                Ok(Reply::SettledIds(outcomes.collect()))
            }
            Op::DeclareQueue(declare) if declare.exclusive => {
                Err(Refusal::new(RefusalKind::SessionRequired, "an exclusive queue needs a session"))
            }
            Op::DeclareQueue(declare) => {
                Ok(Reply::QueueDeclared { name: declare.name, messages_ready: 0, consumers: 0 })
            }
            Op::Bind(_) | Op::AddUser(_) | Op::ChangePassword { .. } => Ok(Reply::Done),
            Op::Stats => {
                let partial = self.seen.user.lock().unwrap().as_deref() == Some("other");
                Ok(Reply::Stats(CoreStats { partial, queues: 3, ..CoreStats::default() }))
            }
            other => unreachable!("{other:?}"),
        }
    }
}

fn message(publish: Publish) -> Message {
    Message {
        exchange: publish.exchange,
        routing_key: publish.routing_key,
        properties: publish.properties,
        body: publish.body,
        received_ms: 0,
        persistent: publish.persistent,
        expiration_ms: None,
        dead_lettered: false,
        blob: None,
    }
}

fn deliver(chan: ChanId, tag: u64, bytes: usize) -> Deliver {
    Deliver {
        chan,
        consumer_tag: "tag".into(),
        delivery_tag: tag,
        ack_id: AckId { epoch: Epoch(1), queue: QueueId(1), seq: Seq(tag), attempt: 1 },
        redelivered: false,
        attempt: 1,
        delivery_count: None,
        message: Arc::new(Message {
            exchange: "".into(),
            routing_key: "q".into(),
            properties: Bytes::from_static(&[0x10, 0, 2]),
            body: Bytes::from(vec![b'x'; bytes]),
            received_ms: 0,
            persistent: true,
            expiration_ms: None,
            dead_lettered: false,
            blob: None,
        }),
    }
}

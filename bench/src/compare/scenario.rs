//! What is measured.

use crate::load::Acks;
use crate::peer::Kind;

/// A measurement that each of some peers goes through.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// As `--scenario` takes it.
    pub(crate) name: String,
    /// As the report has it.
    pub(crate) title: String,
    pub(crate) work: Work,
}

/// Its kind, with what it is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Work {
    Publish(Publish),
    EndToEnd(EndToEnd),
    Drain(Drain),
    Grpc(Grpc),
}

/// Publishes that are confirmed; nobody consumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Publish {
    /// Unconfirmed at most, on each connection.
    pub(crate) window: u64,
    /// Bytes of a body.
    pub(crate) body: usize,
    pub(crate) queues: usize,
    /// One publishes to all queues in turns; of several, each to one.
    pub(crate) connections: usize,
    pub(crate) persistent: bool,
    /// Bindings of a topic exchange, each message matching one of them; without, the default exchange.
    pub(crate) bindings: Option<usize>,
}

/// A publisher and a consumer with manual acks, a connection each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct EndToEnd {
    pub(crate) prefetch: u16,
    pub(crate) acks: Acks,
    pub(crate) body: usize,
    pub(crate) shape: Shape,
    pub(crate) load: Load,
}

/// Where messages go between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Through one queue.
    One,
    /// Through so many queues of a fanout exchange, all of them consumed.
    FanOut(usize),
    /// To two queues in turns, one of which nobody consumes.
    Kept,
}

/// How much is published.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Load {
    /// As much as the consumer takes.
    Full,
    /// Half of what a short run at full load came to, at fixed times.
    Half,
    /// So many messages a second, at fixed times.
    Rate(f64),
}

/// A backlog that is taken out and acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Drain {
    pub(crate) messages: u64,
    /// After a restart, with the page cache dropped.
    pub(crate) cold: bool,
}

/// PublishStream, and a bare tonic stream beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grpc {
    pub(crate) window: u64,
    pub(crate) body: usize,
    /// Messages in a request.
    pub(crate) batch: usize,
}

const PLAIN: Publish =
    Publish { window: 2_000, body: 100, queues: 1, connections: 1, persistent: true, bindings: None };
const THROUGH: EndToEnd =
    EndToEnd { prefetch: 2_000, acks: Acks::Each, body: 100, shape: Shape::One, load: Load::Full };

/// Window of each of a thousand connections.
const WINDOW_OF_MANY: u64 = 100;
/// Settings under which the log passes its budget within a run.
pub(crate) const SETTLING: [&str; 4] = ["--segment-size", "32MiB", "--log-budget", "128MiB"];

/// All of them, in the order of the report.
pub(crate) fn all(backlog: u64) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut add = |name: String, title: String, work: Work| all.push(Scenario { name, title, work });
    for (body, bytes) in [(16, "16b"), (100, "100b"), (1 << 10, "1k"), (64 << 10, "64k"), (1 << 20, "1m")] {
        for window in [1, 100, 2_000] {
            add(
                format!("publish-w{window}-{bytes}"),
                format!("confirmed publish, at most {window} unconfirmed, {} bodies", size(body)),
                Work::Publish(Publish { window, body, ..PLAIN }),
            );
        }
    }
    for queues in [10, 100, 1_000] {
        add(
            format!("publish-queues-{queues}"),
            format!("confirmed publish on one connection to {queues} queues in turns, window 2,000"),
            Work::Publish(Publish { queues, ..PLAIN }),
        );
    }
    for connections in [10, 100, 1_000] {
        let window = WINDOW_OF_MANY;
        add(
            format!("publish-connections-{connections}"),
            format!("confirmed publish on {connections} connections to a queue each, window {window} each"),
            Work::Publish(Publish { queues: connections, connections, window, ..PLAIN }),
        );
    }
    add(
        "publish-transient".into(),
        "confirmed publish of transient messages, window 2,000".into(),
        Work::Publish(Publish { persistent: false, ..PLAIN }),
    );
    add(
        "publish-topic".into(),
        "confirmed publish through a topic exchange with 10,000 bindings to 100 queues, window 2,000".into(),
        Work::Publish(Publish { queues: 100, bindings: Some(10_000), ..PLAIN }),
    );
    for prefetch in [1, 100, 2_000] {
        add(
            format!("end-to-end-p{prefetch}"),
            format!("publish, deliver, ack; prefetch {prefetch}, each message acked by itself"),
            Work::EndToEnd(EndToEnd { prefetch, ..THROUGH }),
        );
    }
    add(
        "end-to-end-multiple".into(),
        "publish, deliver, ack; prefetch 2,000, acks of many".into(),
        Work::EndToEnd(EndToEnd { acks: Acks::Multiple, ..THROUGH }),
    );
    add(
        "latency-half".into(),
        "latency from the time a message is due to its delivery, at half of the full rate".into(),
        Work::EndToEnd(EndToEnd { load: Load::Half, ..THROUGH }),
    );
    add(
        "latency-5000".into(),
        "latency from the time a message is due to its delivery, at 5,000 messages a second".into(),
        Work::EndToEnd(EndToEnd { load: Load::Rate(5_000.0), ..THROUGH }),
    );
    for queues in [1, 10, 100] {
        add(
            format!("fan-out-{queues}"),
            format!("fanout exchange to {queues} queues, deliveries acked by many"),
            Work::EndToEnd(EndToEnd { acks: Acks::Multiple, shape: Shape::FanOut(queues), ..THROUGH }),
        );
    }
    add(
        "settling".into(),
        "1 KiB bodies to two queues in turns, one consumed and one kept, the log at its budget".into(),
        Work::EndToEnd(EndToEnd { body: 1 << 10, shape: Shape::Kept, ..THROUGH }),
    );
    for (cold, title) in [(false, "just published"), (true, "after a restart with the page cache dropped")] {
        add(
            format!("drain-{}", if cold { "cold" } else { "hot" }),
            format!("a backlog of {backlog} delivered and acked, {title}"),
            Work::Drain(Drain { messages: backlog, cold }),
        );
    }
    for (batch, title) in [(1, "one message per request"), (100, "100 messages per request")] {
        let window = if batch == 1 { 2_000 } else { 20_000 };
        add(
            format!("grpc-{batch}"),
            format!("PublishStream, {title}, at most {window} unconfirmed"),
            Work::Grpc(Grpc { window, body: 100, batch }),
        );
    }
    all
}

impl Scenario {
    /// Who takes part, in the order of the report.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        use Kind::{Bare, BareRequests, Classic, Disk, Floor, Leveret, Nats, Quorum, Redis};
        match self.work {
            Work::Publish(Publish { window, body, queues: 1, persistent: true, .. }) => {
                let disk = window == 1 && body == 100 || window > 1 && body == 1 << 20;
                let all = [Disk, Floor, Leveret, Classic, Quorum, Nats, Redis];
                all.into_iter().filter(|kind| disk || *kind != Disk).collect()
            }
            Work::Publish(Publish { bindings: None, persistent: true, .. }) => {
                vec![Floor, Leveret, Classic, Quorum]
            }
            Work::Publish(_) | Work::EndToEnd(_) | Work::Drain(_) => vec![Leveret, Classic, Quorum],
            Work::Grpc(_) => vec![Bare, BareRequests, Leveret],
        }
    }

    /// Leveret's further settings.
    pub(crate) fn settings(&self) -> Vec<String> {
        match self.work {
            Work::EndToEnd(EndToEnd { shape: Shape::Kept, .. }) => SETTLING.map(String::from).to_vec(),
            _ => Vec::new(),
        }
    }

    /// Bytes of a body.
    pub(crate) fn body(&self) -> usize {
        match self.work {
            Work::Publish(Publish { body, .. }) | Work::EndToEnd(EndToEnd { body, .. }) => body,
            Work::Grpc(Grpc { body, .. }) => body,
            Work::Drain(_) => PLAIN.body,
        }
    }
}

fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

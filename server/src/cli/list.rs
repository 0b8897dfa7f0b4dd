//! The list commands. Each listing is one table of columns, named as rabbitmqctl names them.

use leveret_proto::v1::{
    Binding, ChannelInfo, ConnectionInfo, ConsumerInfo, DestinationKind, ExchangeInfo, ListBindingsRequest,
    ListChannelsRequest, ListConnectionsRequest, ListConsumersRequest, ListExchangesRequest,
    ListQueuesRequest, QueueInfo,
};

use super::columns::{Column, Listing, columns, print};
use super::connect::connect;
use super::json::arguments;
use super::out::Out;
use super::{ClientOptions, Failure, ListArgs};

pub(super) const QUEUES: Listing<QueueInfo> = Listing {
    command: "list_queues",
    usual: &["name", "messages"],
    columns: columns! { q:
        "name" => q.name,
        "durable" => q.durable,
        "auto_delete" => q.auto_delete,
        "exclusive" => q.exclusive,
        "arguments" => arguments(q.arguments.as_ref()),
        "messages_ready" => q.messages_ready,
        "messages_unacknowledged" => q.messages_unacknowledged,
        "messages" => q.messages,
        "consumers" => q.consumers,
        "memory" => q.memory,
        "published_total" => q.published_total,
        "delivered_total" => q.delivered_total,
        "acked_total" => q.acked_total,
        "redelivered_total" => q.redelivered_total,
    },
};

pub(super) const EXCHANGES: Listing<ExchangeInfo> = Listing {
    command: "list_exchanges",
    usual: &["name", "type"],
    columns: columns! { x:
        "name" => x.name,
        "type" => x.r#type,
        "durable" => x.durable,
        "auto_delete" => x.auto_delete,
        "internal" => x.internal,
        "arguments" => arguments(x.arguments.as_ref()),
    },
};

pub(super) const BINDINGS: Listing<Binding> = Listing {
    command: "list_bindings",
    usual: &[
        "source_name",
        "source_kind",
        "destination_name",
        "destination_kind",
        "routing_key",
        "arguments",
    ],
    columns: columns! { b:
        "source_name" => b.source,
        "source_kind" => "exchange",
        "destination_name" => b.destination,
        "destination_kind" => match b.destination_kind() {
            DestinationKind::Exchange => "exchange",
            DestinationKind::Queue | DestinationKind::Unspecified => "queue",
        },
        "routing_key" => b.routing_key,
        "arguments" => arguments(b.arguments.as_ref()),
    },
};

pub(super) const CONSUMERS: Listing<ConsumerInfo> = Listing {
    command: "list_consumers",
    usual: &["queue_name", "channel", "consumer_tag", "ack_required", "prefetch_count", "active"],
    columns: columns! { c:
        "queue_name" => c.queue,
        "channel" => c.channel,
        "consumer_tag" => c.consumer_tag,
        "ack_required" => c.ack_required,
        "prefetch_count" => c.prefetch_messages,
        "messages_unacknowledged" => c.messages_unacknowledged,
        "exclusive" => c.exclusive,
        "priority" => c.priority,
        "active" => c.active,
    },
};

pub(super) const CONNECTIONS: Listing<ConnectionInfo> = Listing {
    command: "list_connections",
    usual: &["id", "user", "peer", "protocol"],
    columns: columns! { c:
        "id" => c.id,
        "user" => c.user,
        "peer" => c.peer,
        "protocol" => c.protocol,
        "client" => c.client,
        "vhost" => c.vhost,
        "channels" => c.channels,
        "connected_at_ms" => c.connected_at_ms,
    },
};

pub(super) const CHANNELS: Listing<ChannelInfo> = Listing {
    command: "list_channels",
    usual: &["id", "connection", "consumer_count", "messages_unacknowledged"],
    columns: columns! { c:
        "id" => c.id,
        "connection" => c.connection,
        "consumer_count" => c.consumers,
        "messages_unacknowledged" => c.messages_unacknowledged,
        "messages_unconfirmed" => c.messages_unconfirmed,
        "prefetch_count" => c.prefetch_messages,
    },
};

pub(super) async fn queues(options: &ClientOptions, args: &ListArgs, out: &mut Out) -> Result<(), Failure> {
    let columns = QUEUES.choose(args, options.json)?;
    let request = ListQueuesRequest { vhost: options.vhost.clone(), name: String::new() };
    let rows = connect(options).await?.list_queues(request).await?.into_inner().queues;
    print(&rows, &columns, args, options.json, out)
}

pub(super) async fn exchanges(
    options: &ClientOptions,
    args: &ListArgs,
    out: &mut Out,
) -> Result<(), Failure> {
    let columns = EXCHANGES.choose(args, options.json)?;
    let request = ListExchangesRequest { vhost: options.vhost.clone() };
    let rows = connect(options).await?.list_exchanges(request).await?.into_inner().exchanges;
    print(&rows, &columns, args, options.json, out)
}

pub(super) async fn bindings(options: &ClientOptions, args: &ListArgs, out: &mut Out) -> Result<(), Failure> {
    let columns = BINDINGS.choose(args, options.json)?;
    let request = ListBindingsRequest { vhost: options.vhost.clone() };
    let rows = connect(options).await?.list_bindings(request).await?.into_inner().bindings;
    print(&rows, &columns, args, options.json, out)
}

pub(super) async fn consumers(
    options: &ClientOptions,
    args: &ListArgs,
    out: &mut Out,
) -> Result<(), Failure> {
    let columns = CONSUMERS.choose(args, options.json)?;
    let request = ListConsumersRequest { vhost: options.vhost.clone() };
    let rows = connect(options).await?.list_consumers(request).await?.into_inner().consumers;
    print(&rows, &columns, args, options.json, out)
}

pub(super) async fn connections(
    options: &ClientOptions,
    args: &ListArgs,
    out: &mut Out,
) -> Result<(), Failure> {
    let columns = CONNECTIONS.choose(args, options.json)?;
    let rows =
        connect(options).await?.list_connections(ListConnectionsRequest {}).await?.into_inner().connections;
    print(&rows, &columns, args, options.json, out)
}

pub(super) async fn channels(options: &ClientOptions, args: &ListArgs, out: &mut Out) -> Result<(), Failure> {
    let columns = CHANNELS.choose(args, options.json)?;
    let rows = connect(options).await?.list_channels(ListChannelsRequest {}).await?.into_inner().channels;
    print(&rows, &columns, args, options.json, out)
}

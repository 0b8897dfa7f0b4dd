//! Lines of listings as the interface says them.

use leveret_broker::{
    BindingRow, ChannelRow, ConnectionRow, ConsumerRow, CoreStats, DestinationKind, ExchangeRow, Permissions,
    QueueRow, TopicPermissions, UserRow, VhostRow,
};
use leveret_proto::v1;

use super::convert::table_to;
use super::status::{ServerStatus, memory_parts};

pub(super) fn exchange(row: ExchangeRow) -> v1::ExchangeInfo {
    v1::ExchangeInfo {
        name: row.name.as_ref().to_owned(),
        r#type: row.kind.to_owned(),
        durable: row.durable,
        auto_delete: row.auto_delete,
        internal: row.internal,
        arguments: Some(table_to(row.arguments)),
    }
}

pub(super) fn queue(row: QueueRow) -> v1::QueueInfo {
    v1::QueueInfo {
        name: row.name.as_ref().to_owned(),
        durable: row.durable,
        auto_delete: row.auto_delete,
        exclusive: row.exclusive_owner.is_some(),
        arguments: Some(table_to(row.arguments)),
        messages_ready: row.messages_ready,
        messages_unacknowledged: row.messages_unacknowledged,
        messages: row.messages_ready + row.messages_unacknowledged,
        consumers: row.consumers,
        memory: row.memory_bytes,
        published_total: row.published,
        delivered_total: row.delivered,
        acked_total: row.acked,
        redelivered_total: row.redelivered,
    }
}

pub(super) fn binding(row: BindingRow) -> v1::Binding {
    let destination_kind = match row.binding.destination_kind {
        DestinationKind::Queue => v1::DestinationKind::Queue,
        DestinationKind::Exchange => v1::DestinationKind::Exchange,
    };
    v1::Binding {
        source: row.binding.source.as_ref().to_owned(),
        destination: row.binding.destination.as_ref().to_owned(),
        destination_kind: destination_kind.into(),
        routing_key: row.binding.routing_key.as_ref().to_owned(),
        arguments: Some(table_to(row.binding.arguments)),
    }
}

pub(super) fn consumer(row: ConsumerRow) -> v1::ConsumerInfo {
    v1::ConsumerInfo {
        queue: row.queue.as_ref().to_owned(),
        channel: row.chan.0,
        consumer_tag: row.consumer_tag.as_ref().to_owned(),
        ack_required: row.ack_required,
        prefetch_messages: row.prefetch_messages,
        messages_unacknowledged: row.unacknowledged,
        exclusive: row.exclusive,
        priority: row.priority,
        active: row.active,
    }
}

pub(super) fn connection(row: ConnectionRow) -> v1::ConnectionInfo {
    v1::ConnectionInfo {
        id: row.conn.0,
        peer: row.info.peer,
        protocol: row.info.protocol.to_owned(),
        user: row.info.user,
        client: row.info.client,
        vhost: row.info.vhost,
        channels: row.channels,
        connected_at_ms: row.connected_at_ms,
    }
}

pub(super) fn channel(row: ChannelRow) -> v1::ChannelInfo {
    v1::ChannelInfo {
        id: row.chan.0,
        connection: row.conn.0,
        consumers: row.consumers,
        messages_unacknowledged: row.messages_unacknowledged,
        messages_unconfirmed: row.messages_unconfirmed,
        prefetch_messages: row.prefetch_messages,
    }
}

pub(super) fn user(row: UserRow) -> v1::UserInfo {
    v1::UserInfo { name: row.name.as_ref().to_owned(), tags: texts(&row.tags) }
}

pub(super) fn vhost(row: VhostRow) -> v1::VhostInfo {
    v1::VhostInfo {
        name: row.name.as_ref().to_owned(),
        description: row.description.as_ref().to_owned(),
        tags: texts(&row.tags),
    }
}

pub(super) fn permission(row: Permissions) -> v1::PermissionInfo {
    v1::PermissionInfo {
        user: row.user.as_ref().to_owned(),
        vhost: row.vhost.as_ref().to_owned(),
        configure: row.configure.as_ref().to_owned(),
        write: row.write.as_ref().to_owned(),
        read: row.read.as_ref().to_owned(),
    }
}

pub(super) fn topic_permission(row: TopicPermissions) -> v1::TopicPermissionInfo {
    v1::TopicPermissionInfo {
        user: row.user.as_ref().to_owned(),
        vhost: row.vhost.as_ref().to_owned(),
        exchange: row.exchange.as_ref().to_owned(),
        write: row.write.as_ref().to_owned(),
        read: row.read.as_ref().to_owned(),
    }
}

fn texts(names: &[std::sync::Arc<str>]) -> Vec<String> {
    names.iter().map(|name| name.as_ref().to_owned()).collect()
}

pub(super) fn status(core: CoreStats, server: ServerStatus) -> v1::StatusResponse {
    // What the store and the disk do tells what others do.
    let server = if core.partial {
        let ServerStatus { version, format_version, fsync, epoch, uptime_ms, .. } = server;
        ServerStatus { version, format_version, fsync, epoch, uptime_ms, ..ServerStatus::default() }
    } else {
        server
    };
    // Parts of what others do as well.
    let parts = if core.partial { Vec::new() } else { memory_parts(&core, &server.memory) };
    let part = |(name, bytes): (&str, u64)| v1::MemoryPart { name: name.to_owned(), bytes };
    v1::StatusResponse {
        memory_parts: parts.into_iter().map(part).collect(),
        spilled_messages: server.spilled_messages,
        spilled_bytes: server.spilled_bytes,
        spill_bytes_total: server.spill_bytes_total,
        version: server.version,
        format_version: server.format_version,
        data_dir: server.data_dir,
        fsync: server.fsync,
        epoch: server.epoch,
        uptime_ms: server.uptime_ms,
        recovery_ms: server.recovery_ms,
        recovered_clean: server.recovered_clean,
        connections: core.connections,
        channels: core.channels,
        exchanges: core.exchanges,
        queues: core.queues,
        bindings: core.bindings,
        consumers: core.consumers,
        messages_ready: core.messages_ready,
        messages_unacknowledged: core.messages_unacknowledged,
        published_total: core.published,
        confirmed_total: core.confirmed,
        delivered_total: core.delivered,
        acked_total: core.acked,
        memory_body_bytes: core.body_bytes,
        memory_budget_bytes: server.memory_budget_bytes,
        log_bytes: server.log_bytes,
        log_segments: server.log_segments,
        log_syncs_total: server.log_syncs_total,
        log_frames_total: server.log_frames_total,
        checkpoints_total: server.checkpoints_total,
        recycled_total: server.recycled_total,
        disk_free_bytes: server.disk_free_bytes,
        settled_segments: server.settled_segments,
        settled_bytes: server.settled_bytes,
        settled_live_bytes: server.settled_live_bytes,
        log_record_bytes_total: server.log_record_bytes_total,
        settle_bytes_total: server.settle_bytes_total,
        merge_bytes_total: server.merge_bytes_total,
        checkpoint_bytes_total: server.checkpoint_bytes_total,
        background_errors_total: server.background_errors_total,
        write_amplification: server.write_amplification,
        publishers_held: server.publishers_held,
        blob_files: server.blob_files,
        blob_bytes: server.blob_bytes,
        blob_live_bytes: server.blob_live_bytes,
        blob_bytes_total: server.blob_bytes_total,
        oldest_unsettled_ms: server.oldest_unsettled_ms,
        settled_dead_bytes: server.settled_dead_bytes,
        reserve_bytes: server.reserve_bytes,
        out_of_space_total: server.out_of_space_total,
        scrub_bytes_total: server.scrub_bytes_total,
        scrub_passes_total: server.scrub_passes_total,
        scrub_findings_total: server.scrub_findings_total,
        damage: server.damage,
    }
}

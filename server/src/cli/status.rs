//! status and ping.

use std::time::Duration;

use leveret_proto::v1::{StatusRequest, StatusResponse};
use serde_json::{Value, json};
use tokio::time::Instant;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::columns::{Column, cell, object};
use super::connect::{channel, connect};
use super::declare::tell;
use super::out::Out;
use super::{ClientOptions, Failure};

const PING_EVERY: Duration = Duration::from_millis(50);

macro_rules! figures {
    ($($name:ident),+ $(,)?) => {
        &[$(Column { name: stringify!($name), value: |status| json!(status.$name) }),+]
    };
}

const FIGURES: &[Column<StatusResponse>] = figures! {
    version, format_version, data_dir, fsync, epoch, uptime_ms, recovery_ms, recovered_clean, connections, channels,
    exchanges, queues, bindings, consumers, messages_ready, messages_unacknowledged, published_total,
    confirmed_total, delivered_total, acked_total, memory_body_bytes, memory_budget_bytes, log_bytes, log_segments,
    log_syncs_total, log_frames_total, checkpoints_total, recycled_total, disk_free_bytes,
    settled_segments, settled_bytes, settled_live_bytes, log_record_bytes_total, settle_bytes_total, merge_bytes_total,
    checkpoint_bytes_total, background_errors_total, write_amplification, publishers_held,
    blob_files, blob_bytes, blob_live_bytes, blob_bytes_total,
    oldest_unsettled_ms, settled_dead_bytes, reserve_bytes, out_of_space_total, scrub_bytes_total, scrub_passes_total,
    scrub_findings_total, damage, spilled_messages, spilled_bytes, spill_bytes_total,
};

pub(super) async fn status(options: &ClientOptions, out: &mut Out) -> Result<(), Failure> {
    let status = connect(options).await?.status(StatusRequest {}).await?.into_inner();
    if options.json {
        let columns: Vec<_> = FIGURES.iter().collect();
        let mut all = object(&status, &columns);
        let parts = status.memory_parts.iter().map(|part| (part.name.clone(), json!(part.bytes)));
        all.insert("memory_parts".into(), Value::Object(parts.collect()));
        out.json(&Value::Object(all))?;
    } else {
        let parts: Vec<_> =
            status.memory_parts.iter().map(|part| (format!("memory: {}", part.name), part.bytes)).collect();
        let names = FIGURES.iter().map(|figure| figure.name.len());
        let width = names.chain(parts.iter().map(|(name, _)| name.len())).max().unwrap_or(0);
        for figure in FIGURES {
            out.line(format!(
                "{:width$}  {}",
                figure.name,
                for_people(figure.name, &(figure.value)(&status))
            ))?;
        }
        for (name, bytes) in parts {
            out.line(format!("{name:width$}  {}", human_bytes(bytes)))?;
        }
    }
    Ok(out.flush()?)
}

pub(super) async fn ping(
    options: &ClientOptions,
    wait: Option<Duration>,
    out: &mut Out,
) -> Result<(), Failure> {
    let deadline = Instant::now() + wait.unwrap_or_default();
    loop {
        match is_serving(options).await {
            Ok(()) => return tell(options, out, "serving", &json!({ "status": "serving" })),
            Err(usage @ Failure::Usage(_)) => return Err(usage),
            Err(failure) if Instant::now() + PING_EVERY > deadline => return Err(failure),
            Err(_) => tokio::time::sleep(PING_EVERY).await,
        }
    }
}

async fn is_serving(options: &ClientOptions) -> Result<(), Failure> {
    let mut client = HealthClient::new(channel(options).await?);
    let status = client.check(HealthCheckRequest { service: String::new() }).await?.into_inner().status();
    match status {
        ServingStatus::Serving => Ok(()),
        _ => Err(Failure::Refused(format!(
            "the server at {} is not serving yet, or not any more",
            options.addr
        ))),
    }
}

fn for_people(name: &str, value: &Value) -> String {
    match value.as_u64() {
        Some(bytes) if name.ends_with("_bytes") => human_bytes(bytes),
        Some(millis) if name.ends_with("_ms") => format!("{}.{:03} s", millis / 1000, millis % 1000),
        _ => cell(value),
    }
}

fn human_bytes(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => format!("{:.1} {unit}", bytes as f64 / (1u64 << shift) as f64),
        None => format!("{bytes} B"),
    }
}

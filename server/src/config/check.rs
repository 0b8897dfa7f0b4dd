//! Limits of settings and what must hold between them. Nothing is clamped: what does not fit is an error.

use super::{ByteSize, Layers, ServeSettings, SettingValue, SettingsError};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

pub(super) fn check(settings: &ServeSettings, layers: &Layers) -> Result<(), SettingsError> {
    let size = |name, value: ByteSize, min, max| within(layers, name, value, ByteSize(min), ByteSize(max));
    size("memory_budget", settings.memory_budget, 8 * MIB, u64::MAX)?;
    size("segment_size", settings.segment_size, MIB, GIB)?;
    size("checkpoint_interval", settings.checkpoint_interval, MIB, u64::MAX)?;
    size("message_max", settings.message_max, KIB, 128 * MIB)?;
    size("publish_window", settings.publish_window, MIB, GIB)?;
    size("channel_credit", settings.channel_credit, 64 * KIB, GIB)?;
    size("grpc_decode_budget", settings.grpc_decode_budget, MIB, GIB)?;
    amqp(settings, layers)?;
    segments(settings, layers)?;
    different_addresses(settings, layers)
}

fn within(
    layers: &Layers,
    name: &'static str,
    value: ByteSize,
    min: ByteSize,
    max: ByteSize,
) -> Result<(), SettingsError> {
    if value >= min && value <= max {
        return Ok(());
    }
    let allowed = if max.0 == u64::MAX { format!("at least {min}") } else { format!("from {min} to {max}") };
    Err(SettingsError(format!("{} is {value}; allowed is {allowed}", layers.describe(name))))
}

/// Limits of what AMQP's numbers can say, and of what a connection may cost.
fn amqp(settings: &ServeSettings, layers: &Layers) -> Result<(), SettingsError> {
    let number = |name, value: u32, min: u32, max: u32| {
        if (min..=max).contains(&value) {
            return Ok(());
        }
        let text = format!("{} is {value}; allowed is from {min} to {max}", layers.describe(name));
        Err(SettingsError(text))
    };
    number("amqp_frame_max", settings.amqp_frame_max, 4096, MIB as u32)?;
    number("amqp_channel_max", settings.amqp_channel_max, 1, u16::MAX.into())?;
    let heartbeat = settings.amqp_heartbeat;
    if heartbeat.subsec_nanos() == 0 && heartbeat.as_secs() <= u16::MAX.into() {
        return Ok(());
    }
    Err(SettingsError(format!(
        "{} is {}; allowed are whole seconds up to 65535s",
        layers.describe("amqp_heartbeat"),
        heartbeat.show(),
    )))
}

fn segments(settings: &ServeSettings, layers: &Layers) -> Result<(), SettingsError> {
    if !settings.segment_size.0.is_multiple_of(4 * KIB) {
        return Err(SettingsError(format!(
            "{} is {}; allowed are multiples of 4KiB",
            layers.describe("segment_size"),
            settings.segment_size,
        )));
    }
    if settings.message_max.0 > settings.segment_size.0 / 2 {
        return Err(SettingsError(format!(
            "{} is {}, more than half of {}, which is {}: a message must fit twice into a log segment, so lower \
             message-max or raise segment-size",
            layers.describe("message_max"),
            settings.message_max,
            layers.describe("segment_size"),
            settings.segment_size,
        )));
    }
    if settings.log_budget.0 / 4 < settings.segment_size.0 {
        return Err(SettingsError(format!(
            "{} is {}, less than four times {}, which is {}: the log needs at least four segments, so raise \
             log-budget or lower segment-size",
            layers.describe("log_budget"),
            settings.log_budget,
            layers.describe("segment_size"),
            settings.segment_size,
        )));
    }
    Ok(())
}

fn different_addresses(settings: &ServeSettings, layers: &Layers) -> Result<(), SettingsError> {
    let (grpc, amqp, http) = (settings.grpc_addr, settings.amqp_addr, settings.http_addr);
    let pairs = [
        ("grpc_addr", grpc, "http_addr", http),
        ("grpc_addr", grpc, "amqp_addr", amqp),
        ("amqp_addr", amqp, "http_addr", http),
    ];
    // Port 0 lets the system choose.
    match pairs.into_iter().find(|(_, one, _, other)| one == other && one.port() != 0) {
        None => Ok(()),
        Some((name, addr, other, _)) => Err(SettingsError(format!(
            "{} and {} are both {addr}; give each its own port",
            layers.describe(name),
            layers.describe(other),
        ))),
    }
}

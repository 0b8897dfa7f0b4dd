//! Logs to standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry};

use crate::config::{LogFormat, LogLevel};

/// Starts logging. A second call in one process changes nothing.
pub(super) fn start(level: LogLevel, format: LogFormat) {
    // Libraries are heard only when they warn: below that they may show what clients send.
    let filter = Targets::new().with_default(level.0.min(LevelFilter::WARN)).with_target("leveret", level.0);
    let registry = registry().with(filter);
    let started = match format {
        LogFormat::Text => registry
            .with(fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal()))
            .try_init(),
        LogFormat::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_writer(io::stderr)).try_init()
        }
    };
    // Someone else's subscriber is as good.
    let _ = started;
}

//! The settings of `leveret serve`.
//!
//! Each one is a line of the table below, and nowhere else: name (the flag, the key of the file and, in capitals
//! after `LEVERET_`, the variable), type, default, doc text. Flags win over variables, these over the file, this
//! over the defaults. A bad value is an error wherever it stands, also where another source wins over it.

mod check;
mod layers;
mod print;
#[cfg(test)]
mod tests;
mod value;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use layers::{Layers, Resolved, SettingsError};
pub use print::to_toml;
pub use value::{ByteSize, Fsync, LogFormat, LogLevel, SettingValue, UserNames};

macro_rules! settings {
    ($( $(#[doc = $doc:literal])+ $name:ident: $ty:ty = $default:literal, $value_name:literal; )+) => {
        /// The settings, checked. See the module.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct ServeSettings { $( $(#[doc = $doc])+ pub $name: $ty, )+ }

        /// The settings as flags, not parsed yet.
        #[derive(Debug, Clone, Default, clap::Args)]
        #[expect(missing_docs, reason = "help texts stand on the settings")]
        pub struct SettingFlags {
            $(
                #[arg(
                    long,
                    value_name = $value_name,
                    help = concat!($($doc,)+ " [default: ", $default, "]").trim_start(),
                )]
                pub $name: Option<String>,
            )+
        }

        /// The table, for everything that goes over all settings.
        pub(crate) const SETTINGS: &[Setting] = &[ $( Setting {
            name: stringify!($name),
            doc: &[$($doc),+],
            default: $default,
            allowed: <$ty as SettingValue>::ALLOWED,
            bare: <$ty as SettingValue>::BARE,
            flag: |flags| flags.$name.as_deref(),
            show: |settings| settings.$name.show(),
        }, )+ ];

        fn resolve(layers: &Layers) -> Result<ServeSettings, SettingsError> {
            Ok(ServeSettings { $( $name: layers.pick(stringify!($name), $default)?, )+ })
        }
    };
}

/// A line of the table.
pub(crate) struct Setting {
    /// Name with underscores.
    pub(crate) name: &'static str,
    /// Doc text, a line each.
    pub(crate) doc: &'static [&'static str],
    /// Default, as it would be given.
    pub(crate) default: &'static str,
    /// What values there are.
    pub(crate) allowed: &'static str,
    /// Stands in TOML without quotes.
    pub(crate) bare: bool,
    /// The flag's value, if it was given.
    pub(crate) flag: fn(&SettingFlags) -> Option<&str>,
    /// The value in force.
    pub(crate) show: fn(&ServeSettings) -> String,
}

settings! {
    /// Where the store lives; made if it does not exist.
    data_dir: PathBuf = "./leveret-data", "DIR";
    /// Address for gRPC.
    grpc_addr: SocketAddr = "127.0.0.1:50051", "ADDR";
    /// Address for AMQP 0-9-1.
    amqp_addr: SocketAddr = "127.0.0.1:5672", "ADDR";
    /// Address for /metrics and /health, which need no login: whoever reaches it reads names and figures of all virtual
    /// hosts and queues.
    http_addr: SocketAddr = "127.0.0.1:15672", "ADDR";
    /// When a confirm may go out: `always` after its data was synced to the disk; `interval:MS` with a sync
    /// every MS milliseconds and `never` with none, so that a power failure loses confirmed messages.
    fsync: Fsync = "always", "POLICY";
    /// Message bodies kept in memory; beyond it they are read back from the disk.
    memory_budget: ByteSize = "256MiB", "SIZE";
    /// Log kept before its oldest part is settled.
    log_budget: ByteSize = "1GiB", "SIZE";
    /// Publishers wait while less than this is free on the disk; 0 for the smaller of 1GiB and a twentieth of the disk.
    disk_free_limit: ByteSize = "0B", "SIZE";
    /// Bytes a second that the scrub reads of what is kept for long, looking for media that went bad: once a day all of it,
    /// or as much as this allows; 0 for no scrub.
    scrub_rate: ByteSize = "4MiB", "SIZE";
    /// Size of a log segment. Takes effect for segments made from now on.
    segment_size: ByteSize = "64MiB", "SIZE";
    /// A checkpoint is written after so much log; more means fewer writes and a longer restart.
    checkpoint_interval: ByteSize = "256MiB", "SIZE";
    /// Largest message, body and properties together; at most half a segment and at most 128MiB.
    message_max: ByteSize = "16MiB", "SIZE";
    /// Published messages that may be on their way to the disk, over all clients; beyond it publishers wait.
    publish_window: ByteSize = "64MiB", "SIZE";
    /// Deliveries that may wait for one slow stream; beyond it that stream gets no more.
    channel_credit: ByteSize = "1MiB", "SIZE";
    /// Streams and calls that may be open on one gRPC connection.
    grpc_streams_max: u32 = "1024", "COUNT";
    /// Requests being received over all gRPC connections; beyond it clients wait.
    grpc_decode_budget: ByteSize = "128MiB", "SIZE";
    /// Largest AMQP frame offered to clients, in bytes; at least 4096.
    amqp_frame_max: u32 = "131072", "BYTES";
    /// Channels offered on one AMQP connection; at most 65535.
    amqp_channel_max: u32 = "2047", "COUNT";
    /// Heartbeat offered to AMQP clients, in whole seconds; 0s for none.
    amqp_heartbeat: Duration = "60s", "TIME";
    /// What AMQP clients are told of the broker as `product`; some behave differently without this one.
    amqp_product: String = "RabbitMQ", "NAME";
    /// What AMQP clients are told of the broker as `version`; some choose by it what they use.
    amqp_version: String = "3.13.7", "VERSION";
    /// Users who may log in from loopback only: names with commas between them, or `none`. gRPC calls from loopback
    /// without a login are made by guest for as long as its password is `guest`, whatever stands here.
    loopback_users: UserNames = "guest", "NAMES";
    /// How long a stopping server waits for acks of what is out with consumers.
    shutdown_timeout: Duration = "10s", "TIME";
    /// What is logged, to standard error.
    log_level: LogLevel = "info", "LEVEL";
    /// How it is logged: lines for people or JSON.
    log_format: LogFormat = "text", "FORMAT";
}

impl Setting {
    /// The flag's name without dashes before it, and the key of the file.
    pub(crate) fn key(&self) -> String {
        key(self.name)
    }
}

fn key(name: &str) -> String {
    name.replace('_', "-")
}

fn variable(name: &str) -> String {
    format!("LEVERET_{}", name.to_uppercase())
}

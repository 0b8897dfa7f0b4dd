//! What the command line looks like.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use leveret_proto::v1::TableEntry;

use super::access::AccessCommand;
use super::args::{duration, pair};
use crate::config::SettingFlags;

/// Leveret, a durable message broker, and its command line.
#[derive(Debug, Parser)]
#[command(name = "leveret", version = crate::version::LINE, max_term_width = 110)]
pub struct Cli {
    /// Options of all client commands.
    #[command(flatten)]
    pub options: ClientOptions,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of all client commands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Client options")]
pub struct ClientOptions {
    /// Address of the server.
    #[arg(
        long,
        global = true,
        env = "LEVERET_ADDR",
        value_name = "URL",
        default_value = "http://127.0.0.1:50051"
    )]
    pub addr: String,
    /// Virtual host.
    #[arg(long, short = 'p', global = true, env = "LEVERET_VHOST", value_name = "NAME", default_value = "/")]
    pub vhost: String,
    /// User to log in as; the password comes from LEVERET_PASSWORD or a prompt. Without one you are guest, on the
    /// broker's own machine and for as long as guest's password is `guest`.
    #[arg(long, global = true, env = "LEVERET_USER", value_name = "NAME")]
    pub user: Option<String>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// All commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the broker.
    Serve(Box<ServeArgs>),
    /// Talks to a server.
    #[command(flatten)]
    Client(ClientCommand),
    /// Works on a data directory.
    #[command(flatten)]
    Offline(OfflineCommand),
    /// Tells of the command line itself.
    #[command(flatten)]
    Generate(GenerateCommand),
}

/// Commands that tell of the command line itself, for packages and shells.
#[derive(Debug, Clone, Subcommand)]
pub enum GenerateCommand {
    /// Print what makes a shell complete this command line: `source <(leveret completions bash)`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages to a directory.
    Man {
        /// An existing directory.
        dir: PathBuf,
    },
}

/// Run the broker.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Settings as flags.
    #[command(flatten)]
    pub flags: SettingFlags,
    /// TOML file with settings; its keys are the names of the flags.
    #[arg(long, env = "LEVERET_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write the settings as a commented TOML file to standard output, and end.
    #[arg(long)]
    pub print_config: bool,
}

/// Commands that work on a data directory while no server does.
#[derive(Debug, Clone, Subcommand)]
pub enum OfflineCommand {
    /// Verify a data directory, changing nothing (no server may run on it).
    Check(DataDirArgs),
    /// Set damaged parts of a data directory aside, so that the server starts (no server may run on it).
    Repair(RepairArgs),
    /// Say what a data directory holds, changing nothing (no server may run on it).
    Inspect(InspectArgs),
}

/// What to repair.
#[derive(Debug, Clone, Args)]
pub struct RepairArgs {
    /// The data directory.
    #[command(flatten)]
    pub dir: DataDirArgs,
    /// Do not ask before anything is changed.
    #[arg(long)]
    pub yes: bool,
}

/// What to inspect.
#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    /// The data directory.
    #[command(flatten)]
    pub dir: DataDirArgs,
    /// Show the frames of this log segment only.
    #[arg(long, value_name = "NUMBER")]
    pub segment: Option<u64>,
    /// Show at most so many frames.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

/// A data directory.
#[derive(Debug, Clone, Args)]
pub struct DataDirArgs {
    /// The data directory.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
}

/// Commands that talk to a server.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Declare an exchange or a queue.
    #[command(subcommand)]
    Declare(DeclareCommand),
    /// Bind a queue or an exchange to an exchange: `bind QUEUE --exchange X`, `bind exchange DEST --exchange X`.
    Bind(BindArgs),
    /// Remove a binding; one that does not exist is fine.
    Unbind(BindArgs),
    /// Publish messages and wait until they are confirmed.
    Publish(PublishArgs),
    /// Print messages as they come, one a line; each is acknowledged after it was printed.
    Consume(ConsumeArgs),
    /// Print messages that are there; without --ack they are put back.
    Get(GetArgs),
    /// Remove all ready messages of a queue.
    Purge {
        /// The queue.
        queue: String,
    },
    /// Delete a queue or an exchange; one that does not exist is fine.
    #[command(subcommand)]
    Delete(DeleteCommand),
    /// List queues.
    #[command(name = "list_queues", visible_alias = "list-queues")]
    ListQueues(ListArgs),
    /// List exchanges.
    #[command(name = "list_exchanges", visible_alias = "list-exchanges")]
    ListExchanges(ListArgs),
    /// List bindings.
    #[command(name = "list_bindings", visible_alias = "list-bindings")]
    ListBindings(ListArgs),
    /// List consumers.
    #[command(name = "list_consumers", visible_alias = "list-consumers")]
    ListConsumers(ListArgs),
    /// List connections.
    #[command(name = "list_connections", visible_alias = "list-connections")]
    ListConnections(ListArgs),
    /// List channels.
    #[command(name = "list_channels", visible_alias = "list-channels")]
    ListChannels(ListArgs),
    /// Users, virtual hosts and permissions.
    #[command(flatten)]
    Access(AccessCommand),
    /// Say how the server and its store are doing.
    Status,
    /// Ask whether the server is serving.
    Ping {
        /// Wait so long for it.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        wait: Option<Duration>,
    },
}

/// What to declare.
#[derive(Debug, Subcommand)]
pub enum DeclareCommand {
    /// Declare an exchange.
    Exchange(DeclareExchangeArgs),
    /// Declare a queue.
    Queue(DeclareQueueArgs),
}

/// Declare an exchange.
#[derive(Debug, Args)]
pub struct DeclareExchangeArgs {
    /// Its name.
    pub name: String,
    /// direct, fanout, topic or headers.
    #[arg(long = "type", value_name = "TYPE", default_value = "direct")]
    pub kind: String,
    /// Whether it survives a restart.
    #[command(flatten)]
    pub durability: Durability,
    /// Deleted when its last binding goes.
    #[arg(long)]
    pub auto_delete: bool,
    /// Clients cannot publish to it.
    #[arg(long)]
    pub internal: bool,
    /// Argument: true and false are booleans, whole numbers are integers, the rest is text; K:=JSON says it exactly.
    #[arg(long = "arg", value_name = "K=V", value_parser = pair)]
    pub arguments: Vec<TableEntry>,
}

/// Declare a queue.
#[derive(Debug, Args)]
pub struct DeclareQueueArgs {
    /// Its name.
    pub name: String,
    /// Whether it survives a restart.
    #[command(flatten)]
    pub durability: Durability,
    /// Deleted when its last consumer goes.
    #[arg(long)]
    pub auto_delete: bool,
    /// Argument: true and false are booleans, whole numbers are integers, the rest is text; K:=JSON says it exactly.
    #[arg(long = "arg", value_name = "K=V", value_parser = pair)]
    pub arguments: Vec<TableEntry>,
}

/// Whether a thing survives a restart.
#[derive(Debug, Clone, Copy, Args)]
pub struct Durability {
    /// It survives a restart (the default).
    #[arg(long, conflicts_with = "transient")]
    pub durable: bool,
    /// It does not survive a restart.
    #[arg(long)]
    pub transient: bool,
}

/// A binding.
#[derive(Debug, Args)]
pub struct BindArgs {
    /// The queue, or `exchange` and an exchange's name.
    #[arg(value_name = "[exchange] NAME", required = true, num_args = 1..=2)]
    pub destination: Vec<String>,
    /// Source exchange.
    #[arg(long, value_name = "NAME")]
    pub exchange: String,
    /// Binding key.
    #[arg(long, value_name = "KEY", default_value = "")]
    pub routing_key: String,
    /// Argument, as with declare.
    #[arg(long = "arg", value_name = "K=V", value_parser = pair)]
    pub arguments: Vec<TableEntry>,
}

/// Publish messages.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// Exchange; the default one leads to the queue named by the routing key.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub exchange: String,
    /// Routing key; may be left out when an exchange is named.
    #[arg(long, value_name = "KEY", required_unless_present = "exchange")]
    pub routing_key: Option<String>,
    /// The messages survive a restart (the default).
    #[arg(long, conflicts_with = "transient")]
    pub persistent: bool,
    /// The messages do not survive a restart.
    #[arg(long)]
    pub transient: bool,
    /// Header, typed as --arg of declare.
    #[arg(long = "header", value_name = "K=V", value_parser = pair)]
    pub headers: Vec<TableEntry>,
    /// MIME type of the bodies.
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// Names the request that this answers.
    #[arg(long, value_name = "ID")]
    pub correlation_id: Option<String>,
    /// Queue for the answer.
    #[arg(long, value_name = "QUEUE")]
    pub reply_to: Option<String>,
    /// Time to live in milliseconds.
    #[arg(long, value_name = "MS")]
    pub expiration: Option<String>,
    /// Priority, 0 to 255.
    #[arg(long, value_name = "NUMBER")]
    pub priority: Option<u8>,
    /// Publish the lines of a file, a message a line.
    #[arg(long, value_name = "FILE", conflicts_with = "bodies")]
    pub file: Option<PathBuf>,
    /// The file or standard input is one message, with all its bytes.
    #[arg(long, conflicts_with = "bodies")]
    pub whole: bool,
    /// Bodies; without any and without --file: the lines of standard input, a message a line.
    #[arg(value_name = "BODY")]
    pub bodies: Vec<String>,
}

/// Consume messages.
#[derive(Debug, Args)]
pub struct ConsumeArgs {
    /// The queue.
    pub queue: String,
    /// End after so many messages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Messages that may be out at a time [default: 100, less with a small --count].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub prefetch: Option<u32>,
    /// Messages are settled as they leave the server: what is on its way when this ends is lost.
    #[arg(long)]
    pub no_ack: bool,
}

/// Get messages.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// The queue.
    pub queue: String,
    /// At most so many messages.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,
    /// Acknowledge them after they were printed.
    #[arg(long)]
    pub ack: bool,
}

/// What to delete.
#[derive(Debug, Subcommand)]
pub enum DeleteCommand {
    /// Delete an exchange with its bindings.
    Exchange(DeleteExchangeArgs),
    /// Delete a queue with its messages.
    Queue(DeleteQueueArgs),
}

/// Delete an exchange.
#[derive(Debug, Args)]
pub struct DeleteExchangeArgs {
    /// Its name.
    pub name: String,
    /// Only when it has no bindings.
    #[arg(long)]
    pub if_unused: bool,
}

/// Delete a queue.
#[derive(Debug, Args)]
pub struct DeleteQueueArgs {
    /// Its name.
    pub name: String,
    /// Only when it has no consumers.
    #[arg(long)]
    pub if_unused: bool,
    /// Only when it has no ready messages.
    #[arg(long)]
    pub if_empty: bool,
}

/// A listing.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Columns to print; an unknown one is answered with those that there are.
    #[arg(value_name = "COLUMN", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// No header line.
    #[arg(long, short)]
    pub quiet: bool,
}

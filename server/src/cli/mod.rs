//! The command line: one file a group of commands, all over gRPC but `serve` and the offline ones.

mod access;
mod args;
mod columns;
mod commands;
mod connect;
mod consume;
mod declare;
mod failure;
mod generate;
mod json;
mod list;
mod out;
mod password;
mod publish;
mod serve;
mod status;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches};

pub use access::{
    AccessCommand, ClearTopicArgs, NameArgs, PasswordArgs, PermissionArgs, TagsArgs, TopicPermissionArgs,
    UserListArgs, VhostArgs,
};
pub use commands::{
    BindArgs, Cli, ClientCommand, ClientOptions, Command, ConsumeArgs, DataDirArgs, DeclareCommand,
    DeclareExchangeArgs, DeclareQueueArgs, DeleteCommand, DeleteExchangeArgs, DeleteQueueArgs, Durability,
    GenerateCommand, GetArgs, InspectArgs, ListArgs, OfflineCommand, PublishArgs, RepairArgs, ServeArgs,
};
use connect::Client;
pub use failure::Failure;
use out::Out;
pub use out::complain;
pub(crate) use out::remark;

use crate::exit::Exit;

/// Parses the command line and does what it says.
pub fn run() -> ExitCode {
    let matches = command().get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(e) => e.exit(),
    };
    match cli.command {
        Command::Serve(args) => match client_flag(&matches) {
            Some(flag) => fail(&Failure::Usage(format!(
                "--{flag} is for the client commands; `leveret serve --help` lists what serve takes"
            ))),
            None => {
                crate::memory::set_up();
                serve::run(&args)
            }
        },
        Command::Generate(what) => match generate::run(what, command()) {
            Ok(()) => Exit::Done.into(),
            Err(failure) => fail(&failure),
        },
        Command::Offline(command) => crate::offline::run(&command, cli.options.json),
        Command::Client(command) => match client(&cli.options, command) {
            Ok(()) => Exit::Done.into(),
            Err(failure) => fail(&failure),
        },
    }
}

/// The command line, in which `serve` does not list the client's options.
fn command() -> clap::Command {
    let command = Cli::command();
    let hidden: Vec<Arg> =
        command.get_arguments().filter(|arg| arg.is_global_set()).map(|arg| arg.clone().hide(true)).collect();
    command.mut_subcommand("serve", |serve| serve.args(hidden))
}

/// A flag of the client that was given to `serve`, where it would mislead.
fn client_flag(matches: &ArgMatches) -> Option<&'static str> {
    let matches = matches.subcommand().map_or(matches, |(_, serve)| serve);
    ["addr", "vhost", "user", "json"]
        .into_iter()
        .find(|flag| matches.value_source(flag) == Some(ValueSource::CommandLine))
}

fn client(options: &ClientOptions, command: ClientCommand) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(dispatch(options, command, &mut Out::stdout()));
    // A thread that reads standard input may sit there for good.
    runtime.shutdown_background();
    result
}

async fn dispatch(options: &ClientOptions, command: ClientCommand, out: &mut Out) -> Result<(), Failure> {
    match command {
        ClientCommand::Declare(DeclareCommand::Exchange(args)) => declare::exchange(options, args, out).await,
        ClientCommand::Declare(DeclareCommand::Queue(args)) => declare::queue(options, args, out).await,
        ClientCommand::Bind(args) => declare::bind(options, args, out).await,
        ClientCommand::Unbind(args) => declare::unbind(options, args, out).await,
        ClientCommand::Delete(DeleteCommand::Exchange(args)) => {
            declare::delete_exchange(options, args, out).await
        }
        ClientCommand::Delete(DeleteCommand::Queue(args)) => declare::delete_queue(options, args, out).await,
        ClientCommand::Purge { queue } => declare::purge(options, queue, out).await,
        ClientCommand::Publish(args) => publish::publish(options, args, out).await,
        ClientCommand::Consume(args) => consume::consume(options, args, out).await,
        ClientCommand::Get(args) => consume::get(options, args, out).await,
        ClientCommand::ListQueues(args) => list::queues(options, &args, out).await,
        ClientCommand::ListExchanges(args) => list::exchanges(options, &args, out).await,
        ClientCommand::ListBindings(args) => list::bindings(options, &args, out).await,
        ClientCommand::ListConsumers(args) => list::consumers(options, &args, out).await,
        ClientCommand::ListConnections(args) => list::connections(options, &args, out).await,
        ClientCommand::ListChannels(args) => list::channels(options, &args, out).await,
        ClientCommand::Access(command) => access::run(options, command, out).await,
        ClientCommand::Status => status::status(options, out).await,
        ClientCommand::Ping { wait } => status::ping(options, wait, out).await,
    }
}

fn fail(failure: &Failure) -> ExitCode {
    if let Some(text) = failure.text() {
        complain(text);
    }
    failure.exit().into()
}

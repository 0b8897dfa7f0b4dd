//! Commands that change what exists: declare, bind, unbind, delete, purge.

use leveret_proto::v1::{
    BindRequest, Binding, DeclareExchangeRequest, DeclareQueueRequest, DeleteExchangeRequest,
    DeleteQueueRequest, DestinationKind, PurgeQueueRequest, UnbindRequest,
};
use serde_json::{Value, json};

use super::args::table;
use super::connect::connect;
use super::out::Out;
use super::{
    BindArgs, ClientOptions, DeclareExchangeArgs, DeclareQueueArgs, DeleteExchangeArgs, DeleteQueueArgs,
    Failure,
};

pub(super) async fn exchange(
    options: &ClientOptions,
    args: DeclareExchangeArgs,
    out: &mut Out,
) -> Result<(), Failure> {
    let request = DeclareExchangeRequest {
        vhost: options.vhost.clone(),
        name: args.name.clone(),
        r#type: args.kind,
        durable: Some(!args.durability.transient),
        auto_delete: args.auto_delete,
        internal: args.internal,
        arguments: table(args.arguments),
        passive: false,
    };
    connect(options).await?.declare_exchange(request).await?;
    tell(options, out, &format!("exchange '{}' declared", args.name), &json!({ "exchange": args.name }))
}

pub(super) async fn queue(
    options: &ClientOptions,
    args: DeclareQueueArgs,
    out: &mut Out,
) -> Result<(), Failure> {
    let request = DeclareQueueRequest {
        vhost: options.vhost.clone(),
        name: args.name,
        durable: Some(!args.durability.transient),
        exclusive: false,
        auto_delete: args.auto_delete,
        arguments: table(args.arguments),
        passive: false,
    };
    let queue = connect(options).await?.declare_queue(request).await?.into_inner();
    tell(
        options,
        out,
        &format!("queue '{}' declared", queue.name),
        &json!({ "queue": queue.name, "messages_ready": queue.messages_ready, "consumers": queue.consumers }),
    )
}

pub(super) async fn bind(options: &ClientOptions, args: BindArgs, out: &mut Out) -> Result<(), Failure> {
    let binding = binding(args)?;
    let (text, value) = about(&binding, "bound to");
    let request = BindRequest { vhost: options.vhost.clone(), binding: Some(binding) };
    connect(options).await?.bind(request).await?;
    tell(options, out, &text, &value)
}

pub(super) async fn unbind(options: &ClientOptions, args: BindArgs, out: &mut Out) -> Result<(), Failure> {
    let binding = binding(args)?;
    let (text, value) = about(&binding, "no longer bound to");
    let request = UnbindRequest { vhost: options.vhost.clone(), binding: Some(binding) };
    connect(options).await?.unbind(request).await?;
    tell(options, out, &text, &value)
}

pub(super) async fn delete_exchange(
    options: &ClientOptions,
    args: DeleteExchangeArgs,
    out: &mut Out,
) -> Result<(), Failure> {
    let request = DeleteExchangeRequest {
        vhost: options.vhost.clone(),
        name: args.name.clone(),
        if_unused: args.if_unused,
    };
    connect(options).await?.delete_exchange(request).await?;
    tell(options, out, &format!("exchange '{}' deleted", args.name), &json!({ "exchange": args.name }))
}

pub(super) async fn delete_queue(
    options: &ClientOptions,
    args: DeleteQueueArgs,
    out: &mut Out,
) -> Result<(), Failure> {
    let request = DeleteQueueRequest {
        vhost: options.vhost.clone(),
        name: args.name.clone(),
        if_unused: args.if_unused,
        if_empty: args.if_empty,
    };
    let messages = connect(options).await?.delete_queue(request).await?.into_inner().messages;
    let text = format!("queue '{}' deleted with {}", args.name, count_of_messages(messages));
    tell(options, out, &text, &json!({ "queue": args.name, "messages": messages }))
}

pub(super) async fn purge(options: &ClientOptions, queue: String, out: &mut Out) -> Result<(), Failure> {
    let request = PurgeQueueRequest { vhost: options.vhost.clone(), name: queue.clone() };
    let messages = connect(options).await?.purge_queue(request).await?.into_inner().messages;
    let text = format!("{} removed from queue '{queue}'", count_of_messages(messages));
    tell(options, out, &text, &json!({ "queue": queue, "messages": messages }))
}

/// "1 message", "2 messages".
pub(super) fn count_of_messages(count: u64) -> String {
    format!("{count} message{}", if count == 1 { "" } else { "s" })
}

pub(super) fn tell(options: &ClientOptions, out: &mut Out, text: &str, value: &Value) -> Result<(), Failure> {
    if options.json {
        out.json(value)?
    } else {
        out.line(text)?
    }
    Ok(out.flush()?)
}

/// NAME is a queue; `exchange NAME` and `queue NAME` say which.
pub(super) fn binding(args: BindArgs) -> Result<Binding, Failure> {
    let (kind, destination) = match args.destination.as_slice() {
        [name] => (DestinationKind::Queue, name),
        [kind, name] if kind == "queue" => (DestinationKind::Queue, name),
        [kind, name] if kind == "exchange" => (DestinationKind::Exchange, name),
        words => {
            return Err(Failure::Usage(format!(
                "'{}' is no destination; give QUEUE, queue NAME or exchange NAME",
                words.join(" "),
            )));
        }
    };
    Ok(Binding {
        source: args.exchange,
        destination: destination.clone(),
        destination_kind: kind.into(),
        routing_key: args.routing_key,
        arguments: table(args.arguments),
    })
}

fn about(binding: &Binding, verb: &str) -> (String, Value) {
    let kind = match binding.destination_kind() {
        DestinationKind::Exchange => "exchange",
        DestinationKind::Queue | DestinationKind::Unspecified => "queue",
    };
    let Binding { source, destination, routing_key, .. } = binding;
    let text = format!("{kind} '{destination}' {verb} exchange '{source}' with routing key '{routing_key}'");
    let value = json!({
        "source_name": source,
        "destination_name": destination,
        "destination_kind": kind,
        "routing_key": routing_key,
    });
    (text, value)
}

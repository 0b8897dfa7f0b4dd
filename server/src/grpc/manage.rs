//! Declares, binds and deletes as the core's operations.

use leveret_broker::{Binding, DeclareExchange, DeclareQueue, DestinationKind, Op, Refusal, Reply};
use leveret_proto::v1;
use tonic::Status;

use super::convert::arguments_from;
use super::errors::{self, invalid};
use super::names;
use crate::hub::{Caller, Hub};

const TYPE_DEFAULT: &str = "direct";

/// An operation and the vhost it is for.
pub(super) type Request = (String, Result<Op, Refusal>);

/// Asks the core.
pub(super) async fn ask(hub: &Hub, caller: Caller, (host, op): Request) -> Result<Reply, Status> {
    let vhost = names::vhost(&host).map_err(errors::status)?;
    hub.request(caller, vhost, op.map_err(errors::status)?).await.map_err(errors::status)
}

/// Asks for something that has no answer but that it is done.
pub(super) async fn done(hub: &Hub, caller: Caller, request: Request) -> Result<(), Status> {
    match ask(hub, caller, request).await? {
        Reply::Done => Ok(()),
        other => Err(errors::unexpected(&other)),
    }
}

/// Asks for something that removes messages, and says how many.
pub(super) async fn removed(hub: &Hub, caller: Caller, request: Request) -> Result<u64, Status> {
    match ask(hub, caller, request).await? {
        Reply::Removed { messages } => Ok(messages),
        other => Err(errors::unexpected(&other)),
    }
}

pub(super) fn declare_exchange(request: v1::DeclareExchangeRequest) -> Request {
    let v1::DeclareExchangeRequest {
        vhost,
        name,
        r#type,
        durable,
        auto_delete,
        internal,
        arguments,
        passive,
    } = request;
    let op = || {
        Ok(Op::DeclareExchange(DeclareExchange {
            name: names::name("name", &name)?,
            kind: if r#type.is_empty() { TYPE_DEFAULT.into() } else { names::name("type", &r#type)? },
            durable: durable.unwrap_or(true),
            auto_delete,
            internal,
            passive,
            arguments: arguments_from(arguments)?,
        }))
    };
    (vhost, op())
}

pub(super) fn delete_exchange(request: v1::DeleteExchangeRequest) -> Request {
    let op = names::name("name", &request.name);
    (request.vhost, op.map(|name| Op::DeleteExchange { name, if_unused: request.if_unused }))
}

pub(super) fn declare_queue(request: v1::DeclareQueueRequest) -> Request {
    let v1::DeclareQueueRequest { vhost, name, durable, exclusive, auto_delete, arguments, passive } =
        request;
    let op = || {
        Ok(Op::DeclareQueue(DeclareQueue {
            name: names::name("name", &name)?,
            durable: durable.unwrap_or(!exclusive),
            exclusive,
            auto_delete,
            passive,
            arguments: arguments_from(arguments)?,
        }))
    };
    (vhost, op())
}

pub(super) fn delete_queue(request: v1::DeleteQueueRequest) -> Request {
    let v1::DeleteQueueRequest { vhost, name, if_unused, if_empty } = request;
    (vhost, names::some_name("name", &name).map(|name| Op::DeleteQueue { name, if_unused, if_empty }))
}

pub(super) fn purge_queue(request: v1::PurgeQueueRequest) -> Request {
    (request.vhost, names::some_name("name", &request.name).map(|name| Op::PurgeQueue { name }))
}

pub(super) fn bind(request: v1::BindRequest) -> Request {
    (request.vhost, binding_from(request.binding).map(Op::Bind))
}

pub(super) fn unbind(request: v1::UnbindRequest) -> Request {
    (request.vhost, binding_from(request.binding).map(Op::Unbind))
}

pub(super) fn list_queues(request: v1::ListQueuesRequest) -> Request {
    let only = if request.name.is_empty() { Ok(None) } else { names::name("name", &request.name).map(Some) };
    (request.vhost, only.map(|name| Op::ListQueues { name }))
}

fn binding_from(binding: Option<v1::Binding>) -> Result<Binding, Refusal> {
    let binding = binding.ok_or_else(|| invalid("binding", "binding must be set"))?;
    let destination_kind = match v1::DestinationKind::try_from(binding.destination_kind) {
        Ok(v1::DestinationKind::Unspecified | v1::DestinationKind::Queue) => DestinationKind::Queue,
        Ok(v1::DestinationKind::Exchange) => DestinationKind::Exchange,
        Err(_) => {
            let text =
                format!("destination_kind is {}; it must be QUEUE or EXCHANGE", binding.destination_kind);
            return Err(invalid("destination_kind", text));
        }
    };
    Ok(Binding {
        source: names::name("source", &binding.source)?,
        destination_kind,
        destination: names::name("destination", &binding.destination)?,
        routing_key: names::name("routing_key", &binding.routing_key)?,
        arguments: arguments_from(binding.arguments)?,
    })
}

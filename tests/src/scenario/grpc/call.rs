//! Steps that are one call: declare, delete, bind, and what is asked about queues and exchanges.

use std::time::{Duration, Instant};

use leveret_proto::v1::{
    BindRequest, Binding, DeclareExchangeRequest, DeclareQueueRequest, DeleteExchangeRequest,
    DeleteQueueRequest, DestinationKind, ListQueuesRequest, PurgeQueueRequest, UnbindRequest,
};
use tonic::Code;

use super::convert::table;
use super::{Run, answered};
use crate::scenario::step::{At, ExpectExchange, ExpectQueue, QueueDeclare, Step};
use crate::scenario::value::Table;

const PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(25);

impl Run {
    pub(super) async fn call(&mut self, step: &Step) -> Result<(), String> {
        let error = step.error();
        match step {
            Step::ExchangeDeclare(step) => {
                self.names.made_exchange(&step.exchange);
                let kind = step.r#type.as_deref().unwrap_or(if step.passive { "" } else { "direct" });
                let message = DeclareExchangeRequest {
                    vhost: String::new(),
                    name: step.exchange.clone(),
                    r#type: kind.into(),
                    durable: step.durable,
                    auto_delete: step.auto_delete,
                    internal: step.internal,
                    arguments: Some(table(&step.arguments)),
                    passive: step.passive,
                };
                let open = self.open(&step.at).await?;
                let request = open.request(message)?;
                answered(open.client.rpc.declare_exchange(request).await, error).map(drop)
            }
            Step::ExchangeDelete(step) => {
                let message = DeleteExchangeRequest {
                    name: step.exchange.clone(),
                    if_unused: step.if_unused,
                    ..Default::default()
                };
                let open = self.open(&step.at).await?;
                let request = open.request(message)?;
                answered(open.client.rpc.delete_exchange(request).await, error).map(drop)
            }
            Step::QueueDeclare(step) => self.queue_declare(step).await,
            Step::QueueDelete(step) => {
                let message = DeleteQueueRequest {
                    vhost: String::new(),
                    name: self.names.named(&step.queue)?,
                    if_unused: step.if_unused,
                    if_empty: step.if_empty,
                };
                let open = self.open(&step.at).await?;
                let request = open.request(message)?;
                let answer = answered(open.client.rpc.delete_queue(request).await, error)?;
                same("messages", step.messages, answer.map(|answer| answer.messages))
            }
            Step::QueuePurge(step) => {
                let message =
                    PurgeQueueRequest { name: self.names.named(&step.queue)?, ..Default::default() };
                let open = self.open(&step.at).await?;
                let request = open.request(message)?;
                let answer = answered(open.client.rpc.purge_queue(request).await, error)?;
                same("messages", step.messages, answer.map(|answer| answer.messages))
            }
            Step::QueueBind(bind) => {
                let ends = (&*bind.exchange, &*bind.queue, DestinationKind::Queue);
                self.bind(step, &bind.at, ends, &bind.key, &bind.arguments).await
            }
            Step::QueueUnbind(bind) => {
                let ends = (&*bind.exchange, &*bind.queue, DestinationKind::Queue);
                self.bind(step, &bind.at, ends, &bind.key, &bind.arguments).await
            }
            Step::ExchangeBind(bind) => {
                let ends = (&*bind.source, &*bind.destination, DestinationKind::Exchange);
                self.bind(step, &bind.at, ends, &bind.key, &bind.arguments).await
            }
            Step::ExchangeUnbind(bind) => {
                let ends = (&*bind.source, &*bind.destination, DestinationKind::Exchange);
                self.bind(step, &bind.at, ends, &bind.key, &bind.arguments).await
            }
            other => Err(format!("{} is not for gRPC", other.name())),
        }
    }

    async fn bind(
        &mut self,
        step: &Step,
        at: &At,
        (source, destination, kind): (&str, &str, DestinationKind),
        key: &str,
        arguments: &Table,
    ) -> Result<(), String> {
        let binding = Some(Binding {
            source: source.into(),
            destination: self.names.named(destination)?,
            destination_kind: kind.into(),
            routing_key: self.names.named(key)?,
            arguments: Some(table(arguments)),
        });
        let open = self.open(at).await?;
        if matches!(step, Step::QueueBind(_) | Step::ExchangeBind(_)) {
            let request = open.request(BindRequest { vhost: String::new(), binding })?;
            return answered(open.client.rpc.bind(request).await, step.error()).map(drop);
        }
        let request = open.request(UnbindRequest { vhost: String::new(), binding })?;
        answered(open.client.rpc.unbind(request).await, step.error()).map(drop)
    }

    async fn queue_declare(&mut self, step: &QueueDeclare) -> Result<(), String> {
        let name = self.names.named(&step.queue)?;
        let message = DeclareQueueRequest {
            vhost: String::new(),
            name: name.clone(),
            durable: step.durable,
            exclusive: step.exclusive,
            auto_delete: step.auto_delete,
            arguments: Some(table(&step.arguments)),
            passive: step.passive,
        };
        let open = self.open(&step.at).await?;
        let request = open.request(message)?;
        let Some(answer) = answered(open.client.rpc.declare_queue(request).await, step.error.as_ref())?
        else {
            return Ok(());
        };
        self.names.made_queue(&answer.name);
        if let Some(save) = &step.save {
            self.names.save(save, &answer.name);
        }
        let right = match &step.named {
            Some(start) => answer.name.starts_with(start.as_str()),
            None => name.is_empty() || answer.name == name,
        };
        if !right {
            return Err(format!("the queue is named '{}'", answer.name));
        }
        same("ready messages", step.ready, Some(answer.messages_ready))?;
        same("consumers", step.consumers, Some(answer.consumers))
    }

    pub(super) async fn expect_queue(&mut self, step: &ExpectQueue) -> Result<(), String> {
        let until = Instant::now() + step.within_ms.map_or(PATIENCE, Duration::from_millis);
        let name = self.names.named(&step.queue)?;
        loop {
            let request = ListQueuesRequest { name: name.clone(), ..Default::default() };
            let found = match self.open(&step.at).await?.client.rpc.list_queues(request).await {
                Ok(answer) => answer.into_inner().queues.pop(),
                Err(status) if status.code() == Code::NotFound => None,
                Err(status) => return Err(status.to_string()),
            };
            let right = match &found {
                None => step.gone,
                Some(queue) => {
                    !step.gone
                        && step.ready.is_none_or(|wanted| wanted == queue.messages_ready)
                        && step.consumers.is_none_or(|wanted| wanted == queue.consumers)
                }
            };
            if right {
                return Ok(());
            }
            if Instant::now() > until {
                let found = found.map(|queue| (queue.messages_ready, queue.consumers));
                return Err(format!("queue '{name}' has (ready, consumers) {found:?}"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(super) async fn expect_exchange(&mut self, step: &ExpectExchange) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let request =
                DeclareExchangeRequest { name: step.exchange.clone(), passive: true, ..Default::default() };
            let gone = match self.open(&step.at).await?.client.rpc.declare_exchange(request).await {
                Ok(_) => false,
                Err(status) if status.code() == Code::NotFound => true,
                Err(status) => return Err(status.to_string()),
            };
            if gone == step.gone {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("exchange '{}': gone is {gone}", step.exchange));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Ends the connections, and removes what was made.
    pub(in crate::scenario) async fn clean_up(&mut self) -> Result<(), String> {
        self.connections.clear();
        self.access.clean_up().await?;
        let (queues, exchanges) =
            (std::mem::take(&mut self.names.queues), std::mem::take(&mut self.names.exchanges));
        if queues.is_empty() && exchanges.is_empty() {
            return Ok(());
        }
        let mut rpc = self.open(&At::default()).await?.client.rpc.clone();
        for name in queues {
            let until = Instant::now() + PATIENCE;
            loop {
                let request = DeleteQueueRequest { name: name.clone(), ..Default::default() };
                match rpc.delete_queue(request).await {
                    Ok(_) => break,
                    // One that is exclusive to a session that just ended goes by itself.
                    Err(_) if Instant::now() < until => tokio::time::sleep(POLL).await,
                    Err(status) => return Err(format!("queue '{name}': {status}")),
                }
            }
        }
        for name in exchanges {
            let request = DeleteExchangeRequest { name: name.clone(), ..Default::default() };
            rpc.delete_exchange(request).await.map_err(|status| format!("exchange '{name}': {status}"))?;
        }
        self.connections.clear();
        Ok(())
    }
}

/// Compares a count of an answer, where there is one.
fn same(what: &str, wanted: Option<u64>, found: Option<u64>) -> Result<(), String> {
    match (wanted, found) {
        (Some(wanted), Some(found)) if wanted != found => Err(format!("{found} {what}, not {wanted}")),
        _ => Ok(()),
    }
}

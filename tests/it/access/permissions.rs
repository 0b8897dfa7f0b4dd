//! The permissions table: every act, with all that it needs, and without each part of it, over both protocols.

use leveret_proto::v1::{
    BindRequest, Binding, DeclareExchangeRequest, DeclareQueueRequest, DeleteExchangeRequest,
    DeleteQueueRequest, DestinationKind, GetRequest, PublishMessage, PublishRequest, PurgeQueueRequest,
    Table, TableEntry, UnbindRequest, Value, value,
};
use leveret_tests::amqp::codec::{Value as AmqpValue, Writer};
use leveret_tests::amqp::{Connection, Error, calls, method};
use leveret_tests::client::{Client, bind, queue, reason, to_exchange};
use leveret_tests::streams::ConsumeLane;
use tonic::{Code, Status};

use super::Scene;

/// What a user does. `q`, `x` and `y` are there, `new-q` and `new-x` are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    DeclareQueue,
    DeclareQueueAgain,
    DeclareQueuePassively,
    DeclareQueueWithDeadLetters,
    DeleteQueue,
    DeclareExchange,
    DeclareExchangePassively,
    DeclareExchangeWithAlternate,
    DeleteExchange,
    PublishToExchange,
    PublishToQueue,
    Get,
    Consume,
    Purge,
    BindQueue,
    UnbindQueue,
    BindExchange,
    UnbindExchange,
}

/// What an act needs, as the refusal names it: kind of access, kind of thing, name.
type Need = (&'static str, &'static str, &'static str);

const TABLE: &[(Act, &[Need])] = &[
    (Act::DeclareQueue, &[("configure", "queue", "new-q")]),
    (Act::DeclareQueueAgain, &[("configure", "queue", "q")]),
    (Act::DeclareQueuePassively, &[]),
    (
        Act::DeclareQueueWithDeadLetters,
        &[("configure", "queue", "new-q"), ("read", "queue", "new-q"), ("write", "exchange", "y")],
    ),
    (Act::DeleteQueue, &[("configure", "queue", "q")]),
    (Act::DeclareExchange, &[("configure", "exchange", "new-x")]),
    (Act::DeclareExchangePassively, &[]),
    (
        Act::DeclareExchangeWithAlternate,
        &[("configure", "exchange", "new-x"), ("read", "exchange", "new-x"), ("write", "exchange", "y")],
    ),
    (Act::DeleteExchange, &[("configure", "exchange", "x")]),
    (Act::PublishToExchange, &[("write", "exchange", "x")]),
    (Act::PublishToQueue, &[("write", "exchange", "amq.default")]),
    (Act::Get, &[("read", "queue", "q")]),
    (Act::Consume, &[("read", "queue", "q")]),
    (Act::Purge, &[("read", "queue", "q")]),
    (Act::BindQueue, &[("write", "queue", "q"), ("read", "exchange", "x")]),
    (Act::UnbindQueue, &[("write", "queue", "q"), ("read", "exchange", "x")]),
    (Act::BindExchange, &[("write", "exchange", "y"), ("read", "exchange", "x")]),
    (Act::UnbindExchange, &[("write", "exchange", "y"), ("read", "exchange", "x")]),
];

const USER: &str = "worker";

/// Patterns that allow exactly these.
fn patterns(needs: &[Need]) -> [String; 3] {
    ["configure", "write", "read"].map(|kind| {
        let names: Vec<&str> = needs.iter().filter(|need| need.0 == kind).map(|need| need.2).collect();
        if names.is_empty() { String::new() } else { format!("^({})$", names.join("|")) }
    })
}

fn refusal((kind, thing, name): Need) -> String {
    format!("{kind} access to {thing} '{name}' in vhost '/' refused for user '{USER}'")
}

impl Scene {
    /// Everything is as the acts find it.
    async fn prepare(&mut self) {
        self.clear().await;
        self.root.declare_queue("q").await;
        for exchange in ["x", "y"] {
            self.root.declare_exchange(exchange, "direct").await;
        }
        self.root.bind("x", "q", "k").await;
    }

    /// Nothing of it is there.
    async fn clear(&mut self) {
        for name in ["q", "new-q"] {
            self.root.delete_queue(name).await;
        }
        for name in ["x", "y", "new-x"] {
            let request = DeleteExchangeRequest { name: name.into(), ..Default::default() };
            self.root.rpc.delete_exchange(request).await.expect("delete an exchange");
        }
    }

    async fn allow_exactly(&mut self, needs: &[Need]) {
        let [configure, write, read] = patterns(needs);
        self.allow(USER, "/", [&configure, &write, &read]).await;
    }
}

#[tokio::test]
async fn amqp_needs_what_the_table_says() {
    let mut scene = Scene::set().await;
    scene.add_worker(USER).await;
    let mut connection = scene.amqp(USER, "/").await;
    let mut channel = 1;
    for (act, needs) in TABLE {
        let mut trial = async |scene: &mut Scene, allowed: &[Need], there: bool| {
            if there {
                scene.prepare().await
            } else {
                scene.clear().await
            }
            scene.allow_exactly(allowed).await;
            channel += 1;
            connection.channel(channel).await.expect("a channel");
            match over_amqp(&mut connection, channel, *act).await {
                Ok(()) => Ok(()),
                Err(Error::Closed { channel: failed, code, text, .. }) if failed == channel => {
                    Err((code, text))
                }
                Err(error) => panic!("{act:?}: {error:?}"),
            }
        };
        assert_eq!(trial(&mut scene, needs, true).await, Ok(()), "{act:?} with all that it needs");
        for missing in *needs {
            let others: Vec<Need> = needs.iter().copied().filter(|need| need != missing).collect();
            let expected = Err((403, format!("ACCESS_REFUSED - {}", refusal(*missing))));
            assert_eq!(trial(&mut scene, &others, true).await, expected, "{act:?} without {missing:?}");
        }
        if !needs.is_empty() {
            // Who may do nothing learns nothing of what is there.
            let blind = trial(&mut scene, &[], false).await.expect_err("no permission");
            let seeing = trial(&mut scene, &[], true).await.expect_err("no permission");
            assert_eq!((blind.0, &blind), (403, &seeing), "{act:?}");
        }
    }
}

#[tokio::test]
async fn grpc_needs_what_the_table_says() {
    let mut scene = Scene::set().await;
    scene.add_worker(USER).await;
    let mut client = scene.grpc(USER).await;
    for (act, needs) in TABLE {
        let mut trial = async |scene: &mut Scene, allowed: &[Need], there: bool| {
            if there {
                scene.prepare().await
            } else {
                scene.clear().await
            }
            scene.allow_exactly(allowed).await;
            over_grpc(&mut client, *act).await.map_err(|status| (status.code(), status.message().to_owned()))
        };
        assert_eq!(trial(&mut scene, needs, true).await, Ok(()), "{act:?} with all that it needs");
        for missing in *needs {
            let others: Vec<Need> = needs.iter().copied().filter(|need| need != missing).collect();
            let expected = Err((Code::PermissionDenied, refusal(*missing)));
            assert_eq!(trial(&mut scene, &others, true).await, expected, "{act:?} without {missing:?}");
        }
        if !needs.is_empty() {
            let blind = trial(&mut scene, &[], false).await.expect_err("no permission");
            let seeing = trial(&mut scene, &[], true).await.expect_err("no permission");
            assert_eq!((blind.0, &blind), (Code::PermissionDenied, &seeing), "{act:?}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_open_loses_what_its_user_loses() {
    let mut scene = Scene::set().await;
    scene.prepare().await;
    scene.add_worker(USER).await;
    let client = scene.grpc(USER).await;
    let mut lane = leveret_tests::streams::PublishLane::open(&client).await;
    lane.send(vec![to_exchange("x", "k", "one")]);
    lane.confirmed(1).await;
    scene.allow(USER, "/", [".*", "^y$", ".*"]).await;
    lane.send(vec![to_exchange("x", "k", "two"), to_exchange("y", "k", "three")]);
    let exceptions: Vec<_> =
        lane.confirmed(3).await.into_iter().flat_map(|response| response.exceptions).collect();
    let refused: Vec<_> = exceptions
        .iter()
        .filter_map(|exception| Some((exception.number, exception.error.as_ref()?.reason.as_str())))
        .collect();
    assert_eq!(refused, [(2, "ACCESS_REFUSED")]);
    assert_eq!(scene.root.drain("q").await, ["one"]);
}

#[tokio::test]
async fn a_delivery_is_settled_by_who_may_read_its_queue() {
    let mut scene = Scene::set().await;
    scene.prepare().await;
    scene.add_worker(USER).await;
    scene.root.publish("q", "a").await;
    let taken = scene.root.get("q", 1).await;
    let ack_ids = vec![taken[0].ack_id.clone()];
    scene.allow(USER, "/", [".*", ".*", "^other$"]).await;
    let mut client = scene.grpc(USER).await;
    let request = leveret_proto::v1::AckRequest { ack_ids };
    // Who may not know of the queue hears what an id of no queue says.
    let results = client.rpc.ack(request.clone()).await.expect("ack").into_inner().results;
    assert!(results[0].error.is_none(), "{results:?}");
    scene.allow(USER, "/", [".*", ".*", ""]).await;
    let results = client.rpc.ack(request.clone()).await.expect("ack").into_inner().results;
    let error = results[0].error.as_ref().expect("refused");
    assert_eq!((error.code, error.reason.as_str()), (Code::PermissionDenied.into(), "ACCESS_REFUSED"));
    assert_eq!(scene.root.queue_info("q").await.messages_unacknowledged, 1, "nothing happened");
    scene.allow(USER, "/", ["", "", "^q$"]).await;
    let results = client.rpc.ack(request).await.expect("ack").into_inner().results;
    assert!(results[0].error.is_none(), "{results:?}");
    assert_eq!(scene.root.queue_info("q").await.messages_unacknowledged, 0);
}

#[tokio::test]
async fn a_message_carries_its_senders_own_name_or_an_impersonators() {
    let mut scene = Scene::set().await;
    scene.prepare().await;
    scene.add_worker(USER).await;
    let text = "user_id property set to 'mallory' but authenticated user was 'worker'";
    // AMQP: property flags with user-id alone, and its short string.
    let properties = |user: &str| [&[0x00, 0x10, user.len() as u8], user.as_bytes()].concat();
    let mut amqp = scene.amqp(USER, "/").await;
    amqp.confirm_select(1).await.expect("confirms");
    for user in [USER, "mallory"] {
        let bytes = calls::publish(1, ("", "q"), 0, &properties(user), b"a", 4096);
        amqp.send(&bytes).await.expect("sent");
        let answer = amqp.next().await;
        match user {
            USER => assert_eq!(answer.expect("confirmed").method(), Some(method::BASIC_ACK)),
            _ => assert_eq!(super::closed(answer), (1, 406, format!("PRECONDITION_FAILED - {text}"))),
        }
    }
    // gRPC.
    let message = |user: &str| {
        let mut publish = leveret_tests::client::to_queue("q", "b");
        let properties = leveret_proto::v1::Properties { user_id: Some(user.into()), ..Default::default() };
        publish.message.as_mut().expect("a message").properties = Some(Box::new(properties));
        publish
    };
    let mut client = scene.grpc(USER).await;
    let results = client.publish_batch(vec![message(USER), message("mallory")]).await;
    assert!(results[0].error.is_none(), "{results:?}");
    let error = results[1].error.as_ref().expect("refused");
    assert_eq!((error.reason.as_str(), error.message.as_str()), ("PRECONDITION_FAILED", text));
    scene.set_tags(USER, &["impersonator"]).await;
    let results = client.publish_batch(vec![message("mallory")]).await;
    assert!(results[0].error.is_none(), "{results:?}");
    assert_eq!(scene.root.drain("q").await.len(), 3);
}

async fn over_amqp(connection: &mut Connection, channel: u16, act: Act) -> Result<(), Error> {
    let argument = |name: &str| vec![(name.to_owned(), AmqpValue::Text("y".into()))];
    let binding = |to: &str, from: &str| {
        Writer::new().short(0).shortstr(to).shortstr(from).shortstr("k2").octet(0).table(&[])
    };
    let exchange = |name: &str, bits, arguments: &[_]| {
        Writer::new().short(0).shortstr(name).shortstr("direct").octet(bits).table(arguments)
    };
    let passive = calls::DURABLE | 1;
    match act {
        Act::DeclareQueue => drop(connection.declare_queue(channel, "new-q", &[]).await?),
        Act::DeclareQueueAgain => drop(connection.declare_queue(channel, "q", &[]).await?),
        Act::DeclareQueueWithDeadLetters => {
            connection.declare_queue(channel, "new-q", &argument("x-dead-letter-exchange")).await?;
        }
        Act::DeclareQueuePassively => {
            let declare = calls::queue("q", passive, &[]);
            connection.call(channel, method::QUEUE_DECLARE, &declare, method::QUEUE_DECLARE_OK).await?;
        }
        Act::DeleteQueue => drop(connection.delete_queue(channel, "q").await?),
        Act::DeclareExchange => connection.declare_exchange(channel, "new-x", "direct").await?,
        Act::DeclareExchangePassively => {
            let declare = exchange("x", passive, &[]);
            connection.call(channel, method::EXCHANGE_DECLARE, &declare, method::EXCHANGE_DECLARE_OK).await?;
        }
        Act::DeclareExchangeWithAlternate => {
            let declare = exchange("new-x", calls::DURABLE, &argument("alternate-exchange"));
            connection.call(channel, method::EXCHANGE_DECLARE, &declare, method::EXCHANGE_DECLARE_OK).await?;
        }
        Act::DeleteExchange => {
            let delete = Writer::new().short(0).shortstr("x").octet(0);
            connection.call(channel, method::EXCHANGE_DELETE, &delete, method::EXCHANGE_DELETE_OK).await?;
        }
        Act::PublishToExchange | Act::PublishToQueue => {
            let (exchange, key) = if act == Act::PublishToQueue { ("", "q") } else { ("x", "k") };
            connection.confirm_select(channel).await?;
            connection.publish(channel, exchange, key, true, b"a").await?;
            connection.expect(channel, method::BASIC_ACK).await?;
        }
        Act::Get => drop(connection.get(channel, "q").await?),
        Act::Consume => {
            connection.consume(channel, "q").await?;
            // Or its end would be told once the queue is deleted.
            let close = Writer::new().short(200).shortstr("").short(0).short(0);
            connection.call(channel, method::CHANNEL_CLOSE, &close, method::CHANNEL_CLOSE_OK).await?;
        }
        Act::Purge => drop(connection.purge(channel, "q").await?),
        Act::BindQueue => connection.bind(channel, "x", "q", "k2").await?,
        Act::UnbindQueue => connection.unbind(channel, "x", "q", "k2").await?,
        Act::BindExchange => {
            let bind = binding("y", "x");
            connection.call(channel, method::EXCHANGE_BIND, &bind, method::EXCHANGE_BIND_OK).await?;
        }
        Act::UnbindExchange => {
            let unbind = binding("y", "x");
            connection.call(channel, method::EXCHANGE_UNBIND, &unbind, method::EXCHANGE_UNBIND_OK).await?;
        }
    }
    Ok(())
}

async fn over_grpc(client: &mut Client, act: Act) -> Result<(), Status> {
    let argument = |name: &str| {
        let value = Some(Value { kind: Some(value::Kind::Text("y".into())) });
        Some(Table { entries: vec![TableEntry { name: name.into(), value }] })
    };
    let exchange = |name: &str| DeclareExchangeRequest { name: name.into(), ..Default::default() };
    let exchanges = || {
        Some(Binding {
            source: "x".into(),
            destination: "y".into(),
            destination_kind: DestinationKind::Exchange.into(),
            routing_key: "k2".into(),
            arguments: None,
        })
    };
    let rpc = &mut client.rpc;
    match act {
        Act::DeclareQueue => drop(rpc.declare_queue(queue("new-q")).await?),
        Act::DeclareQueueAgain => drop(rpc.declare_queue(queue("q")).await?),
        Act::DeclareQueuePassively => {
            drop(rpc.declare_queue(DeclareQueueRequest { passive: true, ..queue("q") }).await?);
        }
        Act::DeclareQueueWithDeadLetters => {
            let arguments = argument("x-dead-letter-exchange");
            drop(rpc.declare_queue(DeclareQueueRequest { arguments, ..queue("new-q") }).await?);
        }
        Act::DeleteQueue => {
            drop(rpc.delete_queue(DeleteQueueRequest { name: "q".into(), ..Default::default() }).await?);
        }
        Act::DeclareExchange => drop(rpc.declare_exchange(exchange("new-x")).await?),
        Act::DeclareExchangePassively => {
            drop(rpc.declare_exchange(DeclareExchangeRequest { passive: true, ..exchange("x") }).await?);
        }
        Act::DeclareExchangeWithAlternate => {
            let arguments = argument("alternate-exchange");
            drop(rpc.declare_exchange(DeclareExchangeRequest { arguments, ..exchange("new-x") }).await?);
        }
        Act::DeleteExchange => {
            let request = DeleteExchangeRequest { name: "x".into(), ..Default::default() };
            drop(rpc.delete_exchange(request).await?);
        }
        Act::PublishToExchange => publish(client, to_exchange("x", "k", "a")).await?,
        Act::PublishToQueue => publish(client, to_exchange("", "q", "a")).await?,
        Act::Get => {
            let request = GetRequest { queue: "q".into(), count: 1, ..Default::default() };
            drop(rpc.get(request).await?);
        }
        Act::Consume => {
            let open = leveret_proto::v1::ConsumeOpen { queue: "q".into(), ..Default::default() };
            let status = ConsumeLane::try_open(client, open).await.err();
            if let Some(status) = status {
                assert_eq!(reason(&status), "ACCESS_REFUSED");
                return Err(status);
            }
        }
        Act::Purge => {
            drop(rpc.purge_queue(PurgeQueueRequest { name: "q".into(), ..Default::default() }).await?);
        }
        Act::BindQueue => drop(rpc.bind(bind("x", "q", "k2")).await?),
        Act::UnbindQueue => {
            let BindRequest { vhost, binding } = bind("x", "q", "k2");
            drop(rpc.unbind(UnbindRequest { vhost, binding }).await?);
        }
        Act::BindExchange => {
            drop(rpc.bind(BindRequest { vhost: String::new(), binding: exchanges() }).await?);
        }
        Act::UnbindExchange => {
            drop(rpc.unbind(UnbindRequest { vhost: String::new(), binding: exchanges() }).await?);
        }
    }
    Ok(())
}

/// A publish whose entry's error is the call's.
async fn publish(client: &mut Client, message: PublishMessage) -> Result<(), Status> {
    let request = PublishRequest { vhost: String::new(), messages: vec![message] };
    let mut results = client.rpc.publish(request).await?.into_inner().results;
    match results.remove(0).error {
        None => Ok(()),
        Some(error) => {
            assert_eq!(error.reason, "ACCESS_REFUSED");
            Err(Status::new(Code::from_i32(error.code), error.message))
        }
    }
}

//! lapin as its users use it: `lapin SCENARIO`, against the broker on AMQP_PORT. A scenario that does not come out as
//! on RabbitMQ panics.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions,
    BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, Result};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);
const QUIET: Duration = Duration::from_millis(200);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let scenario = std::env::args().nth(1).expect("a scenario");
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    let queue = format!("lapin.{scenario}");
    // What an earlier run left.
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await?;
    match scenario.as_str() {
        "confirms" => confirms(&channel, &queue).await?,
        "prefetch" => prefetch(&channel, &queue).await?,
        "requeue" => requeue(&channel, &queue).await?,
        "cancel_notify" => cancel_notify(&channel, &queue).await?,
        "mandatory" => mandatory(&channel).await?,
        other => panic!("no scenario {other}"),
    }
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
    connection.close(200, "bye".into()).await
}

async fn connect() -> Result<Connection> {
    let port = std::env::var("AMQP_PORT").expect("AMQP_PORT");
    Connection::connect(&format!("amqp://127.0.0.1:{port}/%2f"), ConnectionProperties::default()).await
}

/// Sends a persistent message; awaiting what comes back waits for the confirm.
async fn publish(channel: &Channel, queue: &str, body: &str) -> Result<lapin::PublisherConfirm> {
    let properties = BasicProperties::default().with_delivery_mode(2).with_message_id(body.into());
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), properties).await
}

async fn consume(channel: &Channel, queue: &str, prefetch: u16) -> Result<Consumer> {
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    channel
        .basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await
}

async fn next(consumer: &mut Consumer) -> Delivery {
    timeout(PATIENCE, consumer.next()).await.expect("a delivery").expect("a live consumer").expect("no error")
}

fn text(delivery: &Delivery) -> &str {
    std::str::from_utf8(&delivery.data).expect("text")
}

async fn confirms(channel: &Channel, queue: &str) -> Result<()> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    // Many in flight, then one after the other.
    let mut pending = Vec::new();
    for number in 0..500 {
        pending.push(publish(channel, queue, &number.to_string()).await?);
    }
    for confirm in pending {
        assert_eq!(confirm.await?, Confirmation::Ack(None));
    }
    for number in 500..520 {
        assert_eq!(publish(channel, queue, &number.to_string()).await?.await?, Confirmation::Ack(None));
    }
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let declared = channel.queue_declare(queue.into(), passive, FieldTable::default()).await?;
    assert_eq!((declared.message_count(), declared.consumer_count()), (520, 0));
    let mut consumer = consume(channel, queue, 50).await?;
    for number in 0..520 {
        let delivery = next(&mut consumer).await;
        assert_eq!((text(&delivery), delivery.redelivered), (number.to_string().as_str(), false));
        assert_eq!(*delivery.properties.delivery_mode(), Some(2));
        assert!(delivery.ack(BasicAckOptions::default()).await?);
    }
    Ok(())
}

async fn prefetch(channel: &Channel, queue: &str) -> Result<()> {
    for number in 0..10 {
        publish(channel, queue, &number.to_string()).await?;
    }
    let mut consumer = consume(channel, queue, 3).await?;
    let mut out = Vec::new();
    for _ in 0..3 {
        out.push(next(&mut consumer).await);
    }
    assert!(timeout(QUIET, consumer.next()).await.is_err(), "a delivery beyond the prefetch");
    out[1].ack(BasicAckOptions { multiple: true }).await?;
    for number in ["3", "4"] {
        out.push(next(&mut consumer).await);
        assert_eq!(text(out.last().expect("just pushed")), number);
    }
    assert!(timeout(QUIET, consumer.next()).await.is_err(), "a delivery beyond the prefetch");
    Ok(())
}

async fn requeue(channel: &Channel, queue: &str) -> Result<()> {
    for body in ["a", "b", "c"] {
        publish(channel, queue, body).await?;
    }
    let mut consumer = consume(channel, queue, 1).await?;
    let first = next(&mut consumer).await;
    assert_eq!((text(&first), first.redelivered), ("a", false));
    first.nack(BasicNackOptions { requeue: true, ..Default::default() }).await?;
    let again = next(&mut consumer).await;
    assert_eq!((text(&again), again.redelivered), ("a", true));
    // Not wanted: gone.
    again.nack(BasicNackOptions::default()).await?;
    let second = next(&mut consumer).await;
    assert_eq!((text(&second), second.redelivered), ("b", false));
    // A connection that ends gives back what it had.
    let other = connect().await?;
    let aside = other.create_channel().await?;
    let got = aside.basic_get(queue.into(), BasicGetOptions::default()).await?;
    assert_eq!(text(&got.expect("a message").delivery), "c");
    other.close(200, "bye".into()).await?;
    second.ack(BasicAckOptions::default()).await?;
    let third = next(&mut consumer).await;
    assert_eq!((text(&third), third.redelivered), ("c", true));
    third.ack(BasicAckOptions::default()).await?;
    Ok(())
}

async fn cancel_notify(channel: &Channel, queue: &str) -> Result<()> {
    let mut consumer = consume(channel, queue, 10).await?;
    publish(channel, queue, "last").await?;
    assert_eq!(text(&next(&mut consumer).await), "last");
    let other = connect().await?;
    let aside = other.create_channel().await?;
    let count = aside.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
    assert_eq!(count, 0, "what is out does not count");
    let ended = timeout(PATIENCE, consumer.next()).await.expect("the consumer's end");
    assert!(ended.is_none(), "{ended:?}");
    assert!(channel.status().connected(), "the channel lives on");
    other.close(200, "bye".into()).await
}

async fn mandatory(channel: &Channel) -> Result<()> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let Confirmation::Ack(Some(returned)) = publish(channel, "lapin.nowhere", "lost").await?.await? else {
        panic!("an unroutable mandatory message comes back with its confirm");
    };
    assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
    assert_eq!(text(&returned.delivery), "lost");
    Ok(())
}

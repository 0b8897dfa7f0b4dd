//! Deliveries as the interface says them.

use leveret_broker::properties::with_delivery_count;
use leveret_broker::{Deliver, GotMessage, Message};
use leveret_proto::v1::{self, Delivery};

use super::ack_id;
use super::convert::{BodyAs, message_to};

/// Of a consumer.
pub(super) fn delivery(deliver: &Deliver, body: BodyAs) -> Delivery {
    Delivery {
        ack_id: ack_id::encode(&deliver.ack_id),
        delivery_tag: deliver.delivery_tag,
        redelivered: deliver.redelivered,
        exchange: deliver.message.exchange.as_ref().to_owned(),
        routing_key: deliver.message.routing_key.as_ref().to_owned(),
        message: Some(counted(&deliver.message, deliver.delivery_count, body)),
        consumer_tag: deliver.consumer_tag.as_ref().to_owned(),
    }
}

/// The message, with how often it was delivered before where its queue counts that.
fn counted(message: &Message, count: Option<u32>, body: BodyAs) -> v1::Message {
    match count {
        Some(1..) => {
            let properties = with_delivery_count(&message.properties, count);
            message_to(&Message { properties, ..message.clone() }, body)
        }
        Some(0) | None => message_to(message, body),
    }
}

/// Of a get. After an auto-ack get there is nothing to settle, and so no ack id.
pub(super) fn got(got: &GotMessage, auto_ack: bool, body: BodyAs) -> Delivery {
    Delivery {
        ack_id: if auto_ack { String::new() } else { ack_id::encode(&got.ack_id) },
        delivery_tag: 0,
        redelivered: got.redelivered,
        exchange: got.message.exchange.as_ref().to_owned(),
        routing_key: got.message.routing_key.as_ref().to_owned(),
        message: Some(counted(&got.message, got.delivery_count, body)),
        consumer_tag: String::new(),
    }
}

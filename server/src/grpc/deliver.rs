//! Deliveries as the interface says them.

use leveret_broker::{Deliver, GotMessage};
use leveret_proto::v1::Delivery;

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
        message: Some(message_to(&deliver.message, body)),
        consumer_tag: deliver.consumer_tag.as_ref().to_owned(),
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
        message: Some(message_to(&got.message, body)),
        consumer_tag: String::new(),
    }
}

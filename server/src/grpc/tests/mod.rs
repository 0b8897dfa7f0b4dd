//! The front end on a real socket, over a core that answers by simple rules.

mod consuming;
mod entering;
mod fake_core;
mod publishing;
mod stopping;
mod unary;

use std::time::Duration;

use leveret_proto::v1;
use tonic::Status;
use tonic_types::StatusExt;

/// Waits until something is so; panics when it does not become so.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..500 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

fn to(routing_key: &str, text: &str) -> v1::PublishMessage {
    v1::PublishMessage {
        routing_key: routing_key.into(),
        message: Some(v1::Message {
            body: Some(v1::message::Body::Text(text.into())),
            ..v1::Message::default()
        }),
        mandatory: true,
        ..v1::PublishMessage::default()
    }
}

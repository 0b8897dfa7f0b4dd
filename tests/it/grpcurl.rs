//! Every call by grpcurl through reflection, as a person would; and the interface by the book (buf lint).

use std::process::{Command, Output, Stdio};

use leveret_tests::binary::workspace;
use leveret_tests::server::Server;
use serde_json::{Value, json};

use crate::skip;

/// The unary calls, with a request for each and what the answer must contain. Run in this order on one server.
fn calls() -> Vec<(&'static str, Value, &'static str)> {
    let binding = json!({"source": "orders", "destination": "jobs", "routingKey": "new"});
    vec![
        ("DeclareExchange", json!({"name": "orders", "type": "topic"}), "{}"),
        ("ListExchanges", json!({}), "orders"),
        ("DeclareQueue", json!({"name": "jobs"}), "jobs"),
        ("Bind", json!({"binding": binding}), "{}"),
        ("ListBindings", json!({}), "orders"),
        (
            "Publish",
            json!({"messages": [
                {"exchange": "orders", "routingKey": "new", "message": {"text": "hello"}},
                {"routingKey": "jobs", "message": {"text": "again", "properties": {"contentType": "text/plain"}}},
            ]}),
            "PUBLISH_OUTCOME_ROUTED",
        ),
        ("ListQueues", json!({"name": "jobs"}), "\"messagesReady\": \"2\""),
        ("ListConsumers", json!({}), "{"),
        ("ListConnections", json!({}), "grpc"),
        ("ListChannels", json!({}), "{"),
        ("Status", json!({}), "\"fsync\": \"always\""),
        ("Unbind", json!({"binding": binding}), "{}"),
        ("PurgeQueue", json!({"name": "jobs"}), "\"messages\": \"2\""),
        ("DeleteQueue", json!({"name": "jobs"}), "{"),
        ("DeleteExchange", json!({"name": "orders"}), "{}"),
    ]
}

struct Grpcurl {
    path: std::path::PathBuf,
    server: Server,
}

impl Grpcurl {
    async fn start(test: &str) -> Option<Self> {
        let path = skip::tool("grpcurl", test)?;
        Some(Self { path, server: Server::start().await })
    }

    fn run(&self, before: &[&str], after: &[&str]) -> Output {
        let address = format!("127.0.0.1:{}", self.server.grpc_port());
        Command::new(&self.path)
            .args(["-plaintext", "-max-time", "20"])
            .args(before)
            .arg(address)
            .args(after)
            .stdin(Stdio::null())
            .output()
            .expect("grpcurl")
    }

    fn call(&self, method: &str, request: &Value) -> Value {
        let data = request.to_string();
        let output = self.run(&["-emit-defaults", "-d", &data], &[&format!("leveret.v1.Broker/{method}")]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{method} {data}: {output:?}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{method} answered {text}: {error}"))
    }
}

#[tokio::test]
async fn lists_and_describes_services() {
    let Some(grpcurl) = Grpcurl::start("grpcurl::lists_and_describes_services").await else { return };
    let listed = String::from_utf8(grpcurl.run(&[], &["list"]).stdout).expect("text");
    for name in ["leveret.v1.Broker", "grpc.health.v1.Health"] {
        assert!(listed.lines().any(|line| line == name), "{listed}");
    }
    let described =
        String::from_utf8(grpcurl.run(&[], &["describe", "leveret.v1.Broker"]).stdout).expect("text");
    for (method, _, _) in calls() {
        assert!(described.contains(&format!("rpc {method} ")), "{method} in {described}");
    }
    let health = grpcurl.run(&[], &["grpc.health.v1.Health/Check"]);
    assert!(String::from_utf8_lossy(&health.stdout).contains("SERVING"), "{health:?}");
}

#[tokio::test]
async fn every_unary_call() {
    let Some(grpcurl) = Grpcurl::start("grpcurl::every_unary_call").await else { return };
    for (method, request, expected) in calls() {
        let data = request.to_string();
        let output = grpcurl.run(&["-d", &data], &[&format!("leveret.v1.Broker/{method}")]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{method} {data}: {output:?}");
        assert!(text.contains(expected), "{method} {data} answered {text}, which has no {expected}");
    }
}

#[tokio::test]
async fn get_and_settle_by_ack_id() {
    let Some(grpcurl) = Grpcurl::start("grpcurl::get_and_settle_by_ack_id").await else { return };
    grpcurl.call("DeclareQueue", &json!({"name": "jobs"}));
    let message = |text: &str| json!({"routingKey": "jobs", "message": {"text": text}});
    grpcurl.call("Publish", &json!({"messages": [message("a"), message("b"), message("c")]}));
    for (method, left) in [("Nack", "3"), ("Ack", "2"), ("Reject", "1")] {
        let got = grpcurl.call("Get", &json!({"queue": "jobs", "text": true}));
        let delivery = &got["deliveries"][0];
        let settled = grpcurl.call(method, &json!({"ackIds": [delivery["ackId"]]}));
        assert!(settled["results"][0]["error"].is_null(), "{method}: {settled}");
        let queue = &grpcurl.call("ListQueues", &json!({"name": "jobs"}))["queues"][0];
        assert_eq!(queue["messages"], left, "after {method}");
    }
    let got = grpcurl.call("Get", &json!({"queue": "jobs", "text": true, "autoAck": true}));
    assert_eq!(got["deliveries"][0]["message"]["text"], "c");
}

#[tokio::test]
async fn subscribe_streams() {
    let Some(grpcurl) = Grpcurl::start("grpcurl::subscribe_streams").await else { return };
    grpcurl.call("DeclareQueue", &json!({"name": "jobs"}));
    grpcurl.call("Publish", &json!({"messages": [{"routingKey": "jobs", "message": {"text": "hello"}}]}));
    let request = json!({"queue": "jobs", "text": true, "autoAck": true}).to_string();
    // The stream ends by the time limit; what came until then counts.
    let output = grpcurl.run(&["-max-time", "2", "-d", &request], &["leveret.v1.Broker/Subscribe"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("\"text\": \"hello\""), "{output:?}");
}

#[tokio::test]
async fn errors_carry_their_reason() {
    let Some(grpcurl) = Grpcurl::start("grpcurl::errors_carry_their_reason").await else { return };
    let output = grpcurl.run(&["-d", r#"{"queue": "nowhere"}"#], &["leveret.v1.Broker/Get"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for word in ["NotFound", "nowhere", "google.rpc.ErrorInfo", "QUEUE_NOT_FOUND"] {
        assert!(text.contains(word), "{word} in {text}");
    }
}

#[test]
fn buf_lint_has_nothing_to_say() {
    let Some(buf) = skip::tool("buf", "grpcurl::buf_lint_has_nothing_to_say") else { return };
    let output = Command::new(buf)
        .arg("lint")
        .current_dir(workspace().join("proto"))
        .stdin(Stdio::null())
        .output()
        .expect("buf");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

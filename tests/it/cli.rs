//! The command line against a real server: its output, its exit codes.

use std::process::{Command, Output, Stdio};

use leveret_tests::binary;
use leveret_tests::server::Server;

fn leveret(server: &Server, arguments: &[&str]) -> Output {
    Command::new(binary::leveret())
        .args(arguments)
        .env("LEVERET_ADDR", format!("http://127.0.0.1:{}", server.grpc_port()))
        .stdin(Stdio::null())
        .output()
        .expect("the command line")
}

/// Runs blocking commands beside the server's task.
async fn all(server: &Server, commands: &[&[&str]]) -> Vec<String> {
    tokio::task::block_in_place(|| {
        commands
            .iter()
            .map(|arguments| {
                let output = leveret(server, arguments);
                assert!(output.status.success(), "{arguments:?}: {output:?}");
                String::from_utf8(output.stdout).expect("text")
            })
            .collect()
    })
}

fn fails(server: &Server, arguments: &[&str], code: i32) -> String {
    let output = tokio::task::block_in_place(|| leveret(server, arguments));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(!text.is_empty(), "{arguments:?} says why");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tour_by_commands() {
    let server = Server::start().await;
    let said = all(
        &server,
        &[
            &["declare", "exchange", "orders", "--type", "topic"],
            &["declare", "queue", "jobs"],
            &["bind", "jobs", "--exchange", "orders", "--routing-key", "order.#"],
            &["publish", "--exchange", "orders", "--routing-key", "order.new", "one", "two"],
            &["publish", "--routing-key", "jobs", "three"],
            &["list_queues", "name", "messages_ready", "messages_unacknowledged"],
            &["get", "jobs", "--count", "1"],
            &["get", "jobs", "--count", "1", "--ack"],
            &["consume", "jobs", "--count", "2"],
            &["list_queues", "name", "messages"],
            &["list_exchanges"],
            &["list_bindings"],
            &["status"],
            &["ping"],
        ],
    )
    .await;
    assert!(said[5].contains("name\tmessages_ready\tmessages_unacknowledged"), "{:?}", said[5]);
    assert!(said[5].contains("jobs\t3\t0"), "{:?}", said[5]);
    // Put back without --ack, so the next get sees it again.
    assert_eq!((said[6].lines().last(), said[7].lines().last()), (Some("one"), Some("one")));
    assert!(said[8].contains("two") && said[8].contains("three"), "{:?}", said[8]);
    assert!(said[9].contains("jobs\t0"), "{:?}", said[9]);
    assert!(said[10].contains("orders"), "{:?}", said[10]);
    all(&server, &[&["purge", "jobs"], &["delete", "queue", "jobs"], &["delete", "exchange", "orders"]])
        .await;
    assert!(server.client().await.queue_names().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn json_everywhere() {
    let server = Server::start().await;
    let said = all(
        &server,
        &[
            &["declare", "queue", "jobs", "--json"],
            &["publish", "--routing-key", "jobs", "one", "--json"],
            &["list_queues", "--json"],
            &["get", "jobs", "--json"],
            &["status", "--json"],
            &["list_exchanges", "--json"],
        ],
    )
    .await;
    for text in said {
        for document in serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>() {
            document.expect("JSON");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes() {
    let server = Server::start().await;
    assert!(fails(&server, &["get", "nowhere"], 1).contains("nowhere"));
    fails(&server, &["get"], 2);
    fails(&server, &["fly"], 2);
    let address = format!("http://127.0.0.1:{}", server.grpc_port());
    server.kill();
    let output = tokio::task::block_in_place(|| {
        Command::new(binary::leveret()).args(["status", "--addr", &address]).stdin(Stdio::null()).output()
    })
    .expect("the command line");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_finds_no_fault_in_what_a_kill_left() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    for n in 0..500u32 {
        client.publish("jobs", n.to_string()).await;
    }
    let (home, options) = server.kill();
    let check = Command::new(binary::leveret()).arg("check").arg("--data-dir").arg(home.data()).output();
    let check = check.expect("the command line");
    assert!(check.status.success(), "{check:?}");
    // It changed nothing.
    let server = Server::start_on(&home, options).await;
    assert_eq!(server.client().await.queue_info("jobs").await.messages_ready, 500);
}

#[test]
fn the_printed_configuration_reads_back() {
    let home = leveret_tests::server::Home::new().expect("a directory");
    let print = |command: &mut Command| {
        let output = command.stdin(Stdio::null()).output().expect("the command line");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let first = print(Command::new(binary::leveret()).args(["serve", "--print-config"]));
    assert!(first.contains("memory-budget"), "{first}");
    let path = home.path().join("leveret.toml");
    std::fs::write(&path, &first).expect("write");
    let second =
        print(Command::new(binary::leveret()).args(["serve", "--print-config", "--config"]).arg(&path));
    assert_eq!(first, second);
    let version = print(Command::new(binary::leveret()).arg("--version"));
    assert!(version.contains("leveret"), "{version}");
}

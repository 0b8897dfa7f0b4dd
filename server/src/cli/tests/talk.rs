//! Commands against a server.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::net::TcpListener;

use super::fake::Fake;
use super::*;

/// Runs a client command; what it printed, and how it ended.
async fn run(addr: SocketAddr, line: &str) -> (String, Result<(), Failure>) {
    let cli = parse(&format!("--addr http://{addr} {line}")).expect("good command line");
    let Command::Client(command) = cli.command else { panic!("{line}") };
    let sink = Sink::default();
    let result = dispatch(&cli.options, command, &mut Out::to(sink.clone())).await;
    (sink.text(), result)
}

async fn print(addr: SocketAddr, line: &str) -> String {
    let (text, result) = run(addr, line).await;
    assert_eq!(result, Ok(()), "{line}");
    text
}

#[tokio::test]
async fn publish_get_and_put_back() {
    let (fake, addr) = Fake::start("jobs").await;
    assert_eq!(print(addr, "publish --routing-key jobs a b c").await, "3 messages confirmed\n");
    assert_eq!(fake.ready("jobs"), ["a", "b", "c"]);
    assert_eq!(print(addr, "get jobs --count 2").await, "a\nb\n");
    assert_eq!(fake.ready("jobs"), ["a*", "b*", "c"]);
    assert_eq!(print(addr, "get jobs --ack").await, "a\n");
    assert_eq!(fake.ready("jobs"), ["b*", "c"]);
    assert_eq!(print(addr, "get jobs --count 1000 --ack").await, "b\nc\n");
    assert_eq!(print(addr, "get jobs").await, "");
    assert_eq!(fake.out("jobs"), 0);
}

#[tokio::test]
async fn publish_sets_what_was_asked_for() {
    let (fake, addr) = Fake::start("jobs").await;
    print(addr, "publish --routing-key jobs a").await;
    print(
        addr,
        "publish --routing-key jobs --transient --header n=1 --content-type text/plain --priority 3 b",
    )
    .await;
    let messages: Vec<_> = fake.messages("jobs").into_iter().filter_map(|publish| publish.message).collect();
    assert_eq!(messages[0].persistent, Some(true));
    assert_eq!(messages[0].properties, None);
    assert_eq!(messages[1].persistent, Some(false));
    let properties = messages[1].properties.as_ref().expect("properties");
    assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
    assert_eq!(properties.priority, Some(3));
    assert_eq!(json::arguments(properties.headers.as_ref()), json!({ "n": 1 }));
}

#[tokio::test]
async fn a_file_is_published_line_by_line() {
    let (fake, addr) = Fake::start("jobs").await;
    let mut file = tempfile::NamedTempFile::new().expect("file");
    let text: String = (0..5000).map(|n| format!("{n}\n")).collect();
    file.write_all(text.as_bytes()).expect("written");
    let line = format!("publish --routing-key jobs --json --file {}", file.path().display());
    assert_eq!(print(addr, &line).await, "{\"confirmed\":5000,\"rejected\":0,\"unrouted\":0}\n");
    assert_eq!(fake.ready("jobs").len(), 5000);
    assert_eq!(fake.ready("jobs")[4999], "4999");
    let (_, result) = run(addr, "publish --routing-key jobs --file /no/such/file").await;
    assert!(matches!(result, Err(Failure::Refused(text)) if text.contains("/no/such/file")));
}

#[tokio::test]
async fn unrouted_messages_are_told_and_fail() {
    let (_fake, addr) = Fake::start("jobs").await;
    let (text, result) = run(addr, "publish --routing-key jbos a b").await;
    assert_eq!(text, "0 messages confirmed\n");
    let Err(Failure::Refused(error)) = result else { panic!("{result:?}") };
    assert_eq!(error, "2 messages reached no queue (exchange '', routing key 'jbos')");
}

/// Guards against messages beyond the count that leave the queue, and against those that come back marked.
#[tokio::test]
async fn consume_takes_exactly_what_was_asked_for() {
    for (count, options) in
        [(1, ""), (2, ""), (2, "--prefetch 5"), (40, ""), (40, "--no-ack"), (7, "--prefetch 3")]
    {
        let (fake, addr) = Fake::start("jobs").await;
        let bodies: Vec<String> = (0..50).map(|n| n.to_string()).collect();
        print(addr, &format!("publish --routing-key jobs {}", bodies.join(" "))).await;
        let line = format!("consume jobs --count {count} {options}");
        let text = print(addr, &line).await;
        assert_eq!(text.lines().collect::<Vec<_>>(), bodies[..count], "{line}");
        assert_eq!(fake.out("jobs"), 0, "{line}");
        let ready: Vec<String> =
            fake.ready("jobs").iter().map(|body| body.trim_end_matches('*').to_owned()).collect();
        assert_eq!(ready, bodies[count..], "{line}");
        if options.is_empty() {
            assert_eq!(fake.ready("jobs"), bodies[count..], "{line}: none was touched");
        }
    }
}

#[tokio::test]
async fn consume_acknowledges_while_it_waits_for_more() {
    let (fake, addr) = Fake::start("jobs").await;
    print(addr, "publish --routing-key jobs a b").await;
    let consuming = tokio::spawn(run(addr, "consume jobs --count 3 --prefetch 10"));
    while !fake.ready("jobs").is_empty() || fake.out("jobs") > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    print(addr, "publish --routing-key jobs c d").await;
    let (text, result) = consuming.await.expect("no panic");
    assert_eq!((text.as_str(), result), ("a\nb\nc\n", Ok(())));
    assert_eq!((fake.ready("jobs").len(), fake.out("jobs")), (1, 0));
}

#[tokio::test]
async fn a_reader_that_leaves_costs_no_message() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (fake, addr) = Fake::start("jobs").await;
    print(addr, "publish --routing-key jobs a b").await;
    for line in ["consume jobs", "get jobs --ack --count 2", "list_queues"] {
        let cli = parse(&format!("--addr {addr} {line}")).expect(line);
        let Command::Client(command) = cli.command else { panic!("{line}") };
        let result = dispatch(&cli.options, command, &mut Out::to(Closed)).await;
        assert_eq!(result, Err(Failure::OutputClosed), "{line}");
        assert_eq!(Failure::OutputClosed.exit(), Exit::Done);
        assert_eq!(fake.ready("jobs"), ["a*", "b*"], "{line}");
    }
}

#[tokio::test]
async fn json_lines_say_everything() {
    let (_fake, addr) = Fake::start("jobs").await;
    print(addr, "publish --routing-key jobs --reply-to back hello").await;
    let text = print(addr, "get jobs --json").await;
    let found: Value = serde_json::from_str(&text).expect("JSON");
    let expected = json!({
        "exchange": "",
        "routing_key": "jobs",
        "redelivered": false,
        "persistent": true,
        "properties": { "reply_to": "back" },
        "body_encoding": "text",
        "body": "hello",
    });
    assert_eq!(found, expected);
}

#[tokio::test]
async fn refusals_carry_sentence_and_reason() {
    let (_fake, addr) = Fake::start("jobs").await;
    for line in ["get jbos", "consume jbos", "purge jbos"] {
        let (_, result) = run(addr, line).await;
        let failure = result.expect_err(line);
        assert_eq!(failure.text(), Some("no queue 'jbos' in vhost '/' (NOT_FOUND)"), "{line}");
        assert_eq!(failure.exit(), Exit::Refused);
    }
}

#[tokio::test]
async fn status_and_listing() {
    let (_fake, addr) = Fake::start("jobs").await;
    print(addr, "publish --routing-key jobs a b").await;
    assert_eq!(print(addr, "list_queues name messages_ready").await, "name\tmessages_ready\njobs\t2\n");
    let text = print(addr, "status").await;
    assert!(text.contains("\nlog_bytes                3.0 MiB\n"), "{text}");
    assert!(text.contains("\nuptime_ms                1.500 s\n"), "{text}");
    let text: Value = serde_json::from_str(&print(addr, "status --json").await).expect("JSON");
    assert_eq!((&text["version"], &text["log_bytes"]), (&json!("nobody"), &json!(3 << 20)));
}

#[tokio::test]
async fn no_server_is_told_with_its_address() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("listener").local_addr().expect("address");
    for line in ["status", "ping", "ping --wait 120ms"] {
        let (_, result) = run(free, line).await;
        let Err(Failure::NoConnection(text)) = &result else { panic!("{line}: {result:?}") };
        for part in [&free.to_string(), "refused", "leveret serve", "--addr"] {
            assert!(text.contains(part), "{text}");
        }
    }
    let usage = parse("--addr https://x status").expect("parsed");
    let Command::Client(command) = usage.command else { panic!() };
    let result = dispatch(&usage.options, command, &mut Out::to(Sink::default())).await;
    assert!(matches!(result, Err(Failure::Usage(text)) if text.contains("TLS")));
}

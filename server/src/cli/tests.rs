//! Parsing, columns and rendering here; commands against a server in `talk`.

use std::io::{self, Cursor, Write};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use clap::CommandFactory;
use leveret_proto::v1::value::Kind;
use leveret_proto::v1::{DestinationKind, QueueInfo};
use serde_json::json;

use super::args::{pair, table};
use super::columns::Listing;
use super::publish::Source;
use super::*;

mod fake;
mod talk;

/// A writer whose bytes can be looked at.
#[derive(Clone, Default)]
pub(super) struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("lock").clone()).expect("UTF-8")
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn parse(line: &str) -> Result<Cli, clap::Error> {
    let words = std::iter::once("leveret").chain(line.split_whitespace());
    command().try_get_matches_from(words).and_then(|matches| Cli::from_arg_matches(&matches))
}

fn client_command(line: &str) -> ClientCommand {
    match parse(line).expect("good command line").command {
        Command::Client(command) => command,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
    command().debug_assert();
}

#[test]
fn command_lines_of_the_manual_are_understood() {
    for line in [
        "serve --data-dir d --grpc-addr 127.0.0.1:1 --fsync interval:5 --print-config",
        "declare exchange logs --type topic --durable --internal --auto-delete --arg alternate-exchange=x",
        "declare queue jobs --transient --arg x-max-length=10",
        "bind jobs --exchange logs --routing-key a.* --arg k=v",
        "unbind exchange copy --exchange logs",
        "publish --routing-key jobs one two",
        "publish --exchange logs --header n=1 --persistent",
        "publish --routing-key jobs --file f",
        "consume jobs --count 3 --prefetch 2 --no-ack --json",
        "get jobs --count 2 --ack",
        "purge jobs --vhost other",
        "delete queue jobs --if-unused --if-empty",
        "delete exchange logs --if-unused",
        "list_queues name messages_ready -q",
        "list_exchanges",
        "list_bindings",
        "list_consumers --quiet",
        "list_connections",
        "list_channels",
        "add_user alice secret",
        "add_user alice",
        "add-user alice secret -q",
        "delete_user alice",
        "change_password alice secret",
        "set_user_tags alice",
        "set_user_tags alice administrator monitoring",
        "list_users --quiet",
        "add_vhost shop --description sales --tags a,b",
        "delete_vhost shop",
        "list_vhosts name tags",
        "set_permissions -p shop alice ^own .* .*",
        "clear_permissions --vhost shop alice",
        "list_permissions -p shop",
        "list_user_permissions alice",
        "set_topic_permissions -p shop alice amq.topic ^w ^r",
        "clear_topic_permissions alice",
        "clear_topic_permissions alice amq.topic",
        "list_topic_permissions",
        "status --json --user alice",
        "--addr http://127.0.0.1:7 ping --wait 30s",
        "check --data-dir d",
        "repair --data-dir d",
        "inspect --data-dir d --json",
    ] {
        if let Err(e) = parse(line) {
            panic!("{line}: {e}");
        }
    }
}

/// Guards against an argument that is taken for the login.
#[test]
fn users_whom_a_command_is_about_do_not_log_in() {
    for line in [
        "add_user alice x",
        "delete_user alice",
        "set_permissions alice a b c",
        "list_user_permissions alice",
        "set_topic_permissions alice x a b",
        "clear_topic_permissions alice",
    ] {
        assert_eq!(parse(line).expect(line).options.user, None, "{line}");
    }
}

#[test]
fn command_lines_that_are_wrong_are_refused() {
    for (line, says) in [
        ("declare queue jobs --durable --transient", "--transient"),
        ("publish one", "--routing-key"),
        ("publish --routing-key k --file f one", "--file"),
        ("publish --routing-key k --header n one", "--header"),
        ("consume jobs --count 0", "--count"),
        ("ping --wait soon", "--wait"),
        ("add_user", "USER"),
        ("set_permissions alice .*", "WRITE"),
        ("serve --mqtt-addr 127.0.0.1:1883", "--mqtt-addr"),
        ("check", "--data-dir"),
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), i32::from(Exit::Usage as u8), "{line}");
        assert!(error.to_string().contains(says), "{line}: {error}");
    }
}

#[test]
fn client_options_do_not_pass_for_settings_of_serve() {
    for (line, flag) in [("serve --addr x", "addr"), ("--user u serve", "user"), ("serve --json", "json")] {
        let matches =
            command().try_get_matches_from(std::iter::once("leveret").chain(line.split(' '))).expect(line);
        assert_eq!(client_flag(&matches), Some(flag), "{line}");
    }
    let matches = command().try_get_matches_from(["leveret", "serve"]).expect("serve");
    assert_eq!(client_flag(&matches), None);
    let help = command().try_get_matches_from(["leveret", "serve", "--help"]).expect_err("help").to_string();
    assert!(help.contains("--data-dir") && !help.contains("--vhost"), "{help}");
}

#[test]
fn version_says_commit_and_format() {
    let text = command().render_version();
    assert!(text.starts_with(&format!("leveret {}", crate::version::VERSION)), "{text}");
    assert!(text.contains("commit ") && text.contains("format 1"), "{text}");
}

#[test]
fn pairs_have_the_type_they_look_like() {
    for (text, name, kind) in [
        ("a=true", "a", Kind::Bool(true)),
        ("a=false", "a", Kind::Bool(false)),
        ("x-max-length=-10", "x-max-length", Kind::Int64(-10)),
        ("a=007", "a", Kind::Text("007".to_owned())),
        ("a=+5", "a", Kind::Text("+5".to_owned())),
        ("a=1.5", "a", Kind::Text("1.5".to_owned())),
        ("a=9223372036854775808", "a", Kind::Text("9223372036854775808".to_owned())),
        ("a=", "a", Kind::Text(String::new())),
        ("a=b=c", "a", Kind::Text("b=c".to_owned())),
        ("a:=1.5", "a", Kind::Double(1.5)),
        ("a:=\"1\"", "a", Kind::Text("1".to_owned())),
    ] {
        let entry = pair(text).expect(text);
        assert_eq!(
            (entry.name.as_str(), entry.value.and_then(|value| value.kind)),
            (name, Some(kind)),
            "{text}"
        );
    }
    let nested = table(vec![pair("t:={\"a\":[1,null,\"x\"]}").expect("table")]).expect("entries");
    assert_eq!(json::table(&nested), json!({ "t": { "a": [1, null, "x"] } }));
    for text in ["a", "=1", ":=1", "a:=", "a:={", "a:=18446744073709551615"] {
        assert!(pair(text).is_err(), "{text}");
    }
    assert!(pair(&format!("{}=1", "k".repeat(256))).is_err());
}

#[test]
fn destinations_of_bindings() {
    let destination = |line| match client_command(line) {
        ClientCommand::Bind(args) => declare::binding(args).map(|b| (b.destination_kind(), b.destination)),
        other => panic!("{other:?}"),
    };
    let queue = |name: &str| Ok((DestinationKind::Queue, name.to_owned()));
    assert_eq!(destination("bind jobs --exchange x"), queue("jobs"));
    assert_eq!(destination("bind exchange --exchange x"), queue("exchange"));
    assert_eq!(destination("bind queue jobs --exchange x"), queue("jobs"));
    assert_eq!(
        destination("bind exchange copy --exchange x"),
        Ok((DestinationKind::Exchange, "copy".to_owned()))
    );
    assert!(matches!(destination("bind topic copy --exchange x"), Err(Failure::Usage(_))));
}

fn list(listing: &Listing<QueueInfo>, line: &str, json: bool) -> Result<String, Failure> {
    let ClientCommand::ListQueues(args) = client_command(line) else { panic!("{line}") };
    let columns = listing.choose(&args, json)?;
    let row = QueueInfo { name: "a\tb".to_owned(), messages: 3, messages_ready: 2, ..QueueInfo::default() };
    let sink = Sink::default();
    columns::print(&[row], &columns, &args, json, &mut Out::to(sink.clone()))?;
    Ok(sink.text())
}

#[test]
fn listings_print_the_columns_asked_for() {
    let list = |line, json| list(&list::QUEUES, line, json).expect(line);
    assert_eq!(list("list_queues", false), "name\tmessages\na\\tb\t3\n");
    assert_eq!(
        list("list_queues messages_ready name durable", false),
        "messages_ready\tname\tdurable\n2\ta\\tb\tfalse\n"
    );
    assert_eq!(list("list_queues -q messages,arguments", false), "3\t{}\n");
    assert_eq!(list("list_queues name messages", true), "[{\"messages\":3,\"name\":\"a\\tb\"}]\n");
    assert!(list("list_queues", true).contains("\"messages_unacknowledged\":0"));
}

#[test]
fn an_unknown_column_is_answered_with_those_that_there_are() {
    let Err(Failure::Usage(text)) = list(&list::QUEUES, "list_queues name colour", false) else { panic!() };
    for part in ["list_queues", "'colour'", "messages_ready", "consumers", "memory"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn usual_columns_exist() {
    fn check<R>(listing: &Listing<R>) {
        for name in listing.usual {
            assert!(listing.columns.iter().any(|column| column.name == *name), "{}: {name}", listing.command);
        }
    }
    check(&list::QUEUES);
    check(&list::EXCHANGES);
    check(&list::BINDINGS);
    check(&list::CONSUMERS);
    check(&list::CONNECTIONS);
    check(&list::CHANNELS);
}

fn batches(source: Source) -> Vec<Vec<Bytes>> {
    let mut batches = Vec::new();
    let read = source.batches(|batch| {
        batches.push(batch);
        true
    });
    read.expect("readable");
    batches
}

fn lines(text: &[u8]) -> Source {
    Source::Lines { reader: Box::new(Cursor::new(text.to_vec())), bytes_total: None, typed: false }
}

#[test]
fn lines_become_messages() {
    assert_eq!(batches(lines(b"")), Vec::<Vec<Bytes>>::new());
    assert_eq!(batches(lines(b"a\n\nb\r\nc")).concat(), ["a", "", "b\r", "c"]);
    assert_eq!(batches(Source::Whole(Box::new(Cursor::new(b"a\nb\n".to_vec())))), [["a\nb\n"]]);
    let many = batches(lines("x\n".repeat(1000).as_bytes()));
    assert_eq!(many.iter().map(Vec::len).collect::<Vec<_>>(), [256, 256, 256, 232]);
    let large = batches(lines(format!("{}\nb\n", "x".repeat(300 << 10)).as_bytes()));
    assert_eq!(large.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
}

/// A terminal or a slow program: what it wrote must leave before it writes more.
#[test]
fn what_was_read_does_not_wait_for_more() {
    struct Slow(Vec<&'static [u8]>);
    impl io::Read for Slow {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Some(part) = self.0.pop() else { return Ok(0) };
            into[..part.len()].copy_from_slice(part);
            Ok(part.len())
        }
    }
    let reader = Box::new(Slow(vec![b"e\n", b"d", b"c\n", b"a\nb\n"]));
    let found = batches(Source::Lines { reader, bytes_total: None, typed: false });
    assert_eq!(found, [vec!["a", "b"], vec!["c"], vec!["de"]]);
}

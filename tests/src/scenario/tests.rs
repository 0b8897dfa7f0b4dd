//! The files are checked, and values compared, as they should be.

use std::path::Path;

use bytes::Bytes;

use super::case::parse;
use super::properties::Properties;
use super::step::{Fault, Step};
use super::value::{Table, Value};
use crate::amqp::codec::Writer;

const FILE: &str = "tests/scenarios/3-declare/some.toml";

fn refused(text: &str) -> String {
    parse(Path::new(FILE), text).expect_err("a file that is not right")
}

fn case(rest: &str) -> String {
    format!("[[case]]\nname = \"n\"\nrule = \"3.1a\"\n{rest}\n")
}

#[test]
fn a_step_knows_its_line() {
    let text = case(
        "steps = [\n    { do = \"wait\", ms = 5 },\n    { do = \"get\", at = \"b/7\", queue = \"q\" },\n]",
    );
    let cases = parse(Path::new(FILE), &text).expect("a right file");
    let lines: Vec<usize> = cases[0].steps.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [5, 6]);
    assert_eq!((&*cases[0].section, cases[0].line), ("3-declare", 1));
    let Step::Get(get) = &cases[0].steps[1].1 else { panic!("{:?}", cases[0].steps) };
    assert_eq!((&*get.at.connection, get.at.channel, &*get.queue), ("b", 7, "q"));
}

#[test]
fn what_is_not_known_is_an_error_with_its_line() {
    let unknown_key = refused(&case("steps = [\n    { do = \"get\", queue = \"q\", colour = 1 },\n]"));
    assert!(unknown_key.contains("some.toml:5: ") && unknown_key.contains("colour"), "{unknown_key}");
    let unknown_step = refused(&case("steps = [{ do = \"dance\" }]"));
    assert!(unknown_step.contains("some.toml:4: ") && unknown_step.contains("dance"), "{unknown_step}");
    let unknown_field = refused(&case("colour = 1\nsteps = [{ do = \"get\", queue = \"q\" }]"));
    assert!(unknown_field.contains("colour"), "{unknown_field}");
}

#[test]
fn a_case_must_expect_something_on_every_front_end() {
    assert!(refused(&case("steps = [{ do = \"wait\", ms = 5 }]")).ends_with(":1: case 'n' expects nothing"));
    let one = "on = [\"amqp\", \"grpc\"]\nsteps = [{ do = \"get\", queue = \"q\", only = \"amqp\" }]";
    assert!(refused(&case(one)).ends_with("expects nothing"));
    assert!(refused("[[case]]\nname = \"n\"\nsteps = [{ do = \"get\" }]").ends_with("names no rule"));
}

#[test]
fn a_difference_needs_a_reason_and_a_reason_a_difference() {
    let differs = "steps = [{ do = \"get\", queue = \"q\", only = \"leveret\" }]";
    assert!(refused(&case(differs)).contains("reason"));
    let same = "reason = \"why\"\nsteps = [{ do = \"get\", queue = \"q\" }]";
    assert!(refused(&case(same)).contains("reason"));
}

#[test]
fn a_fault_is_a_code_and_its_explanation() {
    let fault = Fault::try_from("404 no queue 'q' in vhost '/'".to_string()).expect("a fault");
    assert!(fault.matches("no queue 'q' in vhost '/'") && !fault.matches("no queue 'q' in vhost '/', sorry"));
    let fault = Fault::try_from("530 reuse…".to_string()).expect("a fault");
    assert!(fault.matches("reuse of it") && !fault.matches("no reuse") && fault.ends_connection());
    let fault = Fault::try_from("403 read access to queue 'q' refused".to_string()).expect("a fault");
    assert!(fault.without_kind().matches("access to queue 'q' refused"));
    assert!(!fault.without_kind().matches("access to queue 'r' refused"));
    Fault::try_from("299 nothing".to_string()).expect_err("no such code");
}

#[test]
fn values_are_compared_by_type_only_where_it_is_written() {
    assert!(Value::Integer(5).matches(&Value::Int64(5)) && Value::Integer(5).matches(&Value::Uint8(5)));
    assert!(!Value::Integer(5).matches(&Value::Int64(6)) && !Value::Int32(5).matches(&Value::Int64(5)));
    assert!(Value::Any("timestamp".into()).matches(&Value::Timestamp(1)));
    assert!(!Value::Any("timestamp".into()).matches(&Value::Int64(1)));
    let table = |value| Value::Table(Table(vec![("a".into(), value)]));
    assert!(table(Value::Integer(1)).matches(&table(Value::Int8(1))));
    let empty = Value::Table(Table::default());
    assert!(!table(Value::Integer(1)).matches(&empty) && !empty.matches(&table(Value::Integer(1))));
}

#[test]
fn properties_come_back_from_the_wire() {
    let text = "content_type = \"t\"\ndelivery_mode = 2\npriority = 3\nreply_to = \"r\"\ntimestamp = 9\napp_id = \"a\"\n\
                headers = { a = 1, b = [true, 1.5], c = { table = { d = { int8 = -1 } } }, e = { void = true } }";
    let properties: Properties = toml::from_str(text).expect("properties");
    let read = Properties::read(Bytes::from(properties.write())).expect("what was written");
    assert_eq!(properties.differences(&read), Vec::<String>::new());
    let other = Properties { priority: Some(4), ..read };
    assert_eq!(properties.differences(&other).len(), 1);
    assert!(other.has("a") && other.has("reply_to") && !other.has("expiration"));
}

#[test]
fn a_table_that_is_cut_off_is_not_read() {
    let table = Table(vec![("name".into(), Value::Text("value".into()))]);
    let bytes = table.write(Writer::new()).0;
    assert_eq!(Table::read(&mut Bytes::from(bytes.clone())), Some(table));
    for length in 0..bytes.len() {
        assert_eq!(Table::read(&mut Bytes::copy_from_slice(&bytes[..length])), None, "{length} bytes");
    }
}

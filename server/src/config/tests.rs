use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    flags: SettingFlags,
}

fn flags(line: &[&str]) -> SettingFlags {
    Line::parse_from(std::iter::once("leveret").chain(line.iter().copied())).flags
}

/// Settings from a command line, variables and a file's text.
fn settings(line: &[&str], variables: &[(&str, &str)], file: &str) -> Result<Resolved, SettingsError> {
    let mut layers = Layers::default();
    layers.add_flags(&flags(line));
    layers
        .add_variables(variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))))?;
    layers.add_file(Path::new("leveret.toml"), file)?;
    layers.resolve()
}

fn good(line: &[&str], variables: &[(&str, &str)], file: &str) -> ServeSettings {
    settings(line, variables, file).expect("good settings").settings
}

/// The sentence with which settings are refused.
fn refused(line: &[&str], variables: &[(&str, &str)], file: &str) -> String {
    settings(line, variables, file).expect_err("bad settings").to_string()
}

fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "'{text}' does not say '{part}'");
    }
}

#[test]
fn defaults_are_good() {
    let settings = good(&[], &[], "");
    assert_eq!(settings.data_dir, Path::new("./leveret-data"));
    assert_eq!(settings.grpc_addr.to_string(), "127.0.0.1:50051");
    assert_eq!(settings.http_addr.to_string(), "127.0.0.1:15672");
    assert_eq!(settings.fsync, Fsync::Always);
    assert_eq!(settings.memory_budget, ByteSize(256 << 20));
    assert_eq!(settings.log_budget, ByteSize(1 << 30));
    assert_eq!(settings.message_max, ByteSize(16 << 20));
    assert_eq!(settings.shutdown_timeout, Duration::from_secs(10));
}

#[test]
fn flags_win_over_variables_over_file_over_defaults() {
    let file = "memory-budget = '32MiB'\nlog-level = 'warn'\nfsync = 'never'\ngrpc-streams-max = 7";
    let variables = [("LEVERET_MEMORY_BUDGET", "64MiB"), ("LEVERET_LOG_LEVEL", "error")];
    let settings = good(&["--memory-budget", "128MiB"], &variables, file);
    assert_eq!(settings.memory_budget, ByteSize(128 << 20));
    assert_eq!(settings.log_level.show(), "error");
    assert_eq!(settings.fsync, Fsync::Never);
    assert_eq!(settings.grpc_streams_max, 7);
    assert_eq!(settings.log_budget, ByteSize(1 << 30));
}

/// Guards against a setting that prints what it does not read.
#[test]
fn printed_settings_read_back_equal() {
    let line = [
        "--fsync",
        "interval:250",
        "--shutdown-timeout",
        "1500ms",
        "--loopback-users",
        "guest,admin",
        "--data-dir",
        "a \"b\"\\c",
        "--log-level",
    ];
    for line in [&[][..], &[&line[..], &["debug"]].concat()] {
        let before = good(line, &[], "");
        let text = to_toml(&before);
        assert_eq!(good(&[], &[], &text), before);
        for setting in SETTINGS {
            assert_says(
                &text,
                &[&format!("\n{} = ", setting.key()), &format!("# Default: {}\n", setting.default)],
            );
        }
    }
}

#[test]
fn unknown_keys_of_the_file_are_errors() {
    assert_says(
        &refused(&[], &[], "colour = 'red'"),
        &["colour", "file 'leveret.toml'", "no such setting", "data-dir"],
    );
    assert_says(&refused(&[], &[], "log_level = 'info'"), &["log_level", "did you mean 'log-level'?"]);
    assert_says(&refused(&[], &[], "[serve]\nfsync = 'never'"), &["serve", "no such setting"]);
    assert_says(&refused(&[], &[], "fsync = "), &["leveret.toml", "not TOML"]);
}

#[test]
fn unknown_variables_are_warnings() {
    let variables = [
        ("LEVERET_COLOUR", "red"),
        ("LEVERET_ADDR", "http://[::1]:1"),
        ("LEVERET_PASSWORD", "x"),
        ("HOME", "/"),
    ];
    let resolved = settings(&[], &variables, "").expect("good settings");
    assert_eq!(resolved.warnings, ["the variable LEVERET_COLOUR names no setting and is ignored"]);
}

/// Every setting refuses nonsense from every source, names itself, the source and what is allowed.
#[test]
fn bad_values_name_key_source_and_what_is_allowed() {
    let texts = ["data_dir", "amqp_product", "amqp_version", "loopback_users"];
    for setting in SETTINGS.iter().filter(|setting| !texts.contains(&setting.name)) {
        let key = setting.key();
        let flag = format!("--{key}");
        let variable = variable(setting.name);
        let by_flag = refused(&[&flag, "nonsense"], &[], "");
        assert_says(&by_flag, &[&key, &format!("flag {flag}"), "'nonsense'", setting.allowed]);
        let by_variable = refused(&[], &[(&variable, "nonsense")], "");
        assert_says(&by_variable, &[&key, &format!("variable {variable}"), "'nonsense'", setting.allowed]);
        let by_file = refused(&[], &[], &format!("{key} = 'nonsense'"));
        assert_says(&by_file, &[&key, "file 'leveret.toml'", "'nonsense'", setting.allowed]);
        let by_type = refused(&[], &[], &format!("{key} = [1]"));
        assert_says(&by_type, &[&key, "file 'leveret.toml'", setting.allowed]);
    }
    for text in texts {
        let key = super::key(text);
        let flag = format!("--{key}");
        assert_says(&refused(&[&flag, ""], &[], ""), &[&key, &format!("flag {flag}")]);
    }
    assert_says(&refused(&["--amqp-product", "a\tb"], &[], ""), &["amqp-product", "control characters"]);
}

#[test]
fn a_bad_value_is_an_error_also_where_another_wins() {
    let text = refused(&["--fsync", "always"], &[("LEVERET_FSYNC", "sometimes")], "");
    assert_says(&text, &["fsync", "LEVERET_FSYNC", "'sometimes'"]);
}

#[test]
fn limits_are_errors_never_clamped() {
    let text = refused(&["--message-max", "40MiB"], &[], "");
    assert_says(
        &text,
        &["message-max (flag --message-max) is 40MiB", "segment-size (default)", "twice", "lower"],
    );
    let text =
        refused(&["--message-max", "129MiB", "--segment-size", "512MiB", "--log-budget", "8GiB"], &[], "");
    assert_says(&text, &["message-max", "129MiB", "128MiB"]);
    let text = refused(&[], &[("LEVERET_LOG_BUDGET", "128MiB")], "");
    assert_says(&text, &["log-budget (variable LEVERET_LOG_BUDGET) is 128MiB", "four segments"]);
    assert_says(&refused(&["--memory-budget", "1MiB"], &[], ""), &["memory-budget", "at least 8MiB"]);
    assert_says(&refused(&["--segment-size", "1048577"], &[], ""), &["segment-size", "4KiB"]);
    assert_says(&refused(&["--grpc-streams-max", "0"], &[], ""), &["grpc-streams-max", "'0'"]);
    good(&["--message-max", "128MiB", "--segment-size", "256MiB"], &[], "");
    assert_says(&refused(&["--amqp-frame-max", "4095"], &[], ""), &["amqp-frame-max", "4095", "from 4096"]);
    assert_says(&refused(&["--amqp-channel-max", "65536"], &[], ""), &["amqp-channel-max", "to 65535"]);
    assert_says(&refused(&["--amqp-heartbeat", "1500ms"], &[], ""), &["amqp-heartbeat", "whole seconds"]);
    assert_says(&refused(&["--amqp-heartbeat", "19h"], &[], ""), &["amqp-heartbeat", "65535s"]);
    good(&["--amqp-heartbeat", "0s", "--amqp-frame-max", "4096"], &[], "");
}

#[test]
fn loopback_users_are_names_or_none() {
    let names = |value| good(&["--loopback-users", value], &[], "").loopback_users.0;
    assert_eq!(good(&[], &[], "").loopback_users.0, ["guest"]);
    assert_eq!(names("guest, admin"), ["guest", "admin"]);
    assert!(names("none").is_empty());
    for bad in ["", ",", "a,,b"] {
        assert_says(&refused(&["--loopback-users", bad], &[], ""), &["loopback-users", "or none"]);
    }
}

#[test]
fn addresses_are_any_but_different_ones() {
    good(&["--grpc-addr", "0.0.0.0:50051", "--amqp-addr", "[::]:5672"], &[], "http-addr = '192.168.1.7:1'");
    good(&["--grpc-addr", "[::1]:50051", "--http-addr", "127.0.0.2:1"], &[], "");
    assert_eq!(good(&["--grpc-addr", "localhost:9"], &[], "").grpc_addr.to_string(), "127.0.0.1:9");
    let text = refused(&["--http-addr", "127.0.0.1:50051"], &[], "");
    assert_says(&text, &["grpc-addr (default)", "http-addr (flag --http-addr)"]);
    good(&["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"], &[], "");
}

#[test]
fn sizes() {
    let cases =
        [("0", 0), ("1048576", 1 << 20), ("512KiB", 512 << 10), ("256MiB", 256 << 20), ("1 GiB", 1 << 30)];
    for (text, bytes) in cases {
        assert_eq!(ByteSize::parse(text), Some(ByteSize(bytes)), "{text}");
        assert_eq!(ByteSize::parse(&ByteSize(bytes).show()), Some(ByteSize(bytes)));
    }
    for text in
        ["", "MiB", "-1", "+1", "1.5GiB", "1MB", "1mib", "1GiBs", "17000000TiB", "99999999999999999999"]
    {
        assert_eq!(ByteSize::parse(text), None, "{text}");
    }
    assert_eq!(ByteSize(1536).show(), "1536");
    assert_eq!(ByteSize(3 << 29).show(), "1536MiB");
}

#[test]
fn durations() {
    let cases = [("0s", 0), ("500ms", 500), ("10s", 10_000), ("2min", 120_000), ("1h", 3_600_000)];
    for (text, millis) in cases {
        assert_eq!(Duration::parse(text), Some(Duration::from_millis(millis)), "{text}");
        assert_eq!(
            Duration::parse(&Duration::from_millis(millis).show()),
            Some(Duration::from_millis(millis))
        );
    }
    for text in ["", "10", "s", "1.5s", "-1s", "10 m", "1d"] {
        assert_eq!(Duration::parse(text), None, "{text}");
    }
}

#[test]
fn fsync_policies() {
    for text in ["always", "never", "interval:1", "interval:60000"] {
        assert_eq!(Fsync::parse(text).map(|fsync| fsync.show()).as_deref(), Some(text));
    }
    for text in [
        "",
        "Always",
        "interval",
        "interval:",
        "interval:0",
        "interval:60001",
        "interval:10ms",
        "interval:+5",
    ] {
        assert_eq!(Fsync::parse(text), None, "{text}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Layers::gather(&flags(&[]), std::iter::empty(), Some(Path::new("/no/such/leveret.toml")));
    assert_says(&error.expect_err("no file").to_string(), &["config", "/no/such/leveret.toml"]);
}

//! A server that cannot start says what is wrong, with the exit code for it, and leaves others alone.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use leveret_tests::binary;
use leveret_tests::server::{Home, Options, Ports, Server, command};

/// Runs to the end, which must come by itself.
fn run(mut command: Command) -> (ExitStatus, String) {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the process");
    let end = Instant::now() + Duration::from_secs(20);
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait") {
            break status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            panic!("it starts although it should not");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut text = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut text).expect("text");
    (status, text)
}

fn serve(data: &Path, options: &Options) -> Command {
    command(data, Ports::free(), options)
}

fn refused(command: Command, code: i32, words: &[&str]) {
    let (status, text) = run(command);
    assert_eq!(status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} in {text:?}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[tokio::test]
async fn a_taken_port() {
    let server = Server::start().await;
    let home = Home::new().expect("a directory");
    let (free, taken) = (Ports::free(), server.grpc_port());
    refused(
        command(&home.data(), Ports { grpc: taken, ..free }, &Options::default()),
        1,
        &["in use", "grpc-addr", &taken.to_string()],
    );
    let foreign = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = foreign.local_addr().expect("its address").port();
    for (ports, setting) in
        [(Ports { amqp: taken, ..free }, "amqp-addr"), (Ports { http: taken, ..free }, "http-addr")]
    {
        refused(command(&home.data(), ports, &Options::default()), 1, &["in use", setting]);
    }
    server.client().await.declare_queue("fine").await;
}

#[tokio::test]
async fn a_data_directory_in_use() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    client.publish("jobs", "a").await;
    refused(serve(&server.home().data(), &Options::default()), 1, &["in use"]);
    assert_eq!(client.drain("jobs").await, ["a"]);
    // It is free again once its owner is gone, however it went.
    let server = server.kill_and_restart().await;
    assert_eq!(server.client().await.queue_names().await, ["jobs"]);
}

#[test]
fn a_data_directory_that_cannot_be_one() {
    let home = Home::new().expect("a directory");
    let file = home.path().join("file");
    fs::write(&file, "not a directory").expect("write");
    refused(serve(&file, &Options::default()), 1, &["file"]);
    assert_eq!(fs::read_to_string(&file).expect("read"), "not a directory", "left alone");
    refused(serve(&file.join("below"), &Options::default()), 1, &["below"]);
    // Not even root may write here.
    refused(serve(Path::new("/proc/leveret-data"), &Options::default()), 1, &["/proc/leveret-data"]);
}

#[test]
fn a_directory_with_foreign_files_is_left_alone() {
    let home = Home::new().expect("a directory");
    let data = home.data();
    fs::create_dir_all(&data).expect("mkdir");
    fs::write(data.join("holiday.jpg"), "precious").expect("write");
    let mut child = command(&data, Ports::free(), &Options::default())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the process");
    std::thread::sleep(Duration::from_millis(1000));
    let _ = child.kill();
    let _ = child.wait();
    // Refused or served, nothing foreign is deleted or changed.
    assert_eq!(fs::read_to_string(data.join("holiday.jpg")).expect("read"), "precious");
}

#[test]
fn configuration_that_is_wrong() {
    let home = Home::new().expect("a directory");
    let with_config = |text: &str| {
        let path = home.path().join("leveret.toml");
        fs::write(&path, text).expect("write");
        let mut command = Command::new(binary::leveret());
        command.arg("serve").arg("--config").arg(path);
        command
    };
    refused(with_config("colour = \"blue\"\n"), 2, &["colour"]);
    refused(with_config("memory-budget = \"much\"\n"), 2, &["memory-budget", "much"]);
    refused(with_config("this is not TOML\n"), 2, &["TOML"]);
    let flag = |flag: &str, value: &str| {
        let mut command = Command::new(binary::leveret());
        command.args(["serve", flag, value]);
        command
    };
    refused(flag("--fsync", "sometimes"), 2, &["fsync", "sometimes"]);
    refused(flag("--memory-budget", "1KiB"), 2, &["memory-budget"]);
    refused(flag("--grpc-addr", "0.0.0.0"), 2, &["grpc-addr", "0.0.0.0"]);
    refused(flag("--loopback-users", ","), 2, &["loopback-users"]);
    refused(flag("--no-such-flag", "1"), 2, &["no-such-flag"]);
    refused(flag("--config", "/no/such/file.toml"), 2, &["/no/such/file.toml"]);
    let mut variable = Command::new(binary::leveret());
    variable.arg("serve").env("LEVERET_FSYNC", "sometimes");
    refused(variable, 2, &["LEVERET_FSYNC", "sometimes"]);
}

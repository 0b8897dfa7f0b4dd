//! A client in another language under test: a program with its own assertions, that is told the ports of the broker in
//! AMQP_PORT and GRPC_PORT and may ask for the broker to be killed.
//!
//! ```text
//! the program writes   restart the broker     as a line on standard output
//! and then reads       restarted              as a line on standard input: killed with kill -9, and serving again
//! ```

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::server::{Options, Server};

/// The broker that a program works with.
#[derive(Debug)]
pub struct Broker {
    amqp_port: u16,
    /// The binary under test; None when AMQP_PORT is set, to see what the broker that listens there does.
    server: Option<Server>,
}

impl Broker {
    /// The one at AMQP_PORT, or a server of our own.
    pub async fn start(options: Options) -> Self {
        match std::env::var("AMQP_PORT") {
            Ok(port) => Self { amqp_port: port.parse().expect("AMQP_PORT is a number"), server: None },
            Err(_) => {
                let server = Server::start_with(options).await;
                Self { amqp_port: server.amqp_port(), server: Some(server) }
            }
        }
    }

    /// Its AMQP port on 127.0.0.1.
    pub fn amqp_port(&self) -> u16 {
        self.amqp_port
    }

    /// Its gRPC port, where it is ours.
    pub fn grpc_port(&self) -> Option<u16> {
        self.server.as_ref().map(Server::grpc_port)
    }

    async fn restart(&mut self) {
        let server = self.server.take().expect("the broker is not ours to kill");
        self.server = Some(server.restart_in_place().await);
    }
}

/// Runs a program in a directory until it ends, and gives its standard output.
///
/// # Panics
/// When it does not end well in time; with all it said.
pub async fn run(mut command: Command, directory: &Path, mut broker: Broker, timeout: Duration) -> String {
    let what = format!("{:?}", command.as_std());
    command
        .current_dir(directory)
        .env("AMQP_PORT", broker.amqp_port.to_string())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(port) = broker.grpc_port() {
        command.env("GRPC_PORT", port.to_string());
    }
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut stderr = child.stderr.take().expect("its standard error");
    let errors = tokio::spawn(async move {
        let mut bytes = Vec::new();
        // Whatever could be read is what there is to say.
        let _ = stderr.read_to_end(&mut bytes).await;
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let mut said = String::new();
    let ended = tokio::time::timeout(timeout, attend(&mut child, &mut broker, &mut said)).await;
    if ended.is_err() {
        child.kill().await.expect("kill");
    }
    let status = child.wait().await.expect("its end");
    // Its own children may hold standard error open after a kill.
    let errors = tokio::time::timeout(Duration::from_secs(5), errors).await;
    let errors = errors.map_or_else(|_| String::new(), |errors| errors.unwrap_or_default());
    assert!(ended.is_ok(), "{what} still runs after {timeout:?}:\n{said}\n{errors}");
    assert!(status.success(), "{what} ends with {status}:\n{said}\n{errors}");
    said
}

/// Reads what it says to the end, and does what it asks for.
async fn attend(child: &mut Child, broker: &mut Broker, said: &mut String) {
    let mut stdin = child.stdin.take().expect("its standard input");
    let mut lines = BufReader::new(child.stdout.take().expect("its standard output")).lines();
    while let Some(line) = lines.next_line().await.expect("a line") {
        said.push_str(&line);
        said.push('\n');
        if line == "restart the broker" {
            broker.restart().await;
            // A program that has ended by now is told by its status.
            let _ = stdin.write_all(b"restarted\n").await;
        }
    }
    let _ = child.wait().await;
}

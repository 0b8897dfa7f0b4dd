//! AMQP 0-9-1 on the wire, with frames of our own: what clients must not do, and what no client library does.

use std::time::Duration;

use leveret_tests::amqp::{Connection, Error};
use leveret_tests::server::{Options, Server};

mod channels;
mod frames;
mod hostile;

/// A broker: the one under test, or the one that listens on AMQP_PORT, for a look at how another one behaves.
struct Broker {
    server: Option<Server>,
    port: u16,
}

impl Broker {
    async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    async fn start_with(options: Options) -> Self {
        if let Ok(port) = std::env::var("AMQP_PORT") {
            return Self { server: None, port: port.parse().expect("AMQP_PORT is a number") };
        }
        let server = Server::start_with(options).await;
        let port = server.amqp_port();
        Self { server: Some(server), port }
    }

    async fn connect(&self) -> Connection {
        Connection::open(self.port).await.expect("a connection")
    }

    /// A connection with channel 1 open.
    async fn channel(&self) -> Connection {
        let mut connection = self.connect().await;
        connection.channel(1).await.expect("a channel");
        connection
    }

    /// Waits until the log has this word; only where the log is ours.
    async fn logged(&self, word: &str) {
        let Some(server) = &self.server else { return };
        for _ in 0..500 {
            if server.home().stderr().contains(word) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nothing of {word} in the log");
    }
}

/// Codes of errors that are the connection's.
const HARD: std::ops::RangeInclusive<u16> = 501..=541;

/// Asserts that the connection is closed by the broker with this code, and that the socket ends then.
async fn assert_connection_closed(connection: &mut Connection, code: u16) -> String {
    assert_connection_closed_by(connection, code..=code).await
}

/// The same, where it does not matter which of these codes it is.
async fn assert_connection_closed_by(
    connection: &mut Connection,
    codes: std::ops::RangeInclusive<u16>,
) -> String {
    loop {
        match connection.next().await {
            Ok(_) => {}
            Err(Error::Closed { channel: 0, code, text, .. }) if codes.contains(&code) => {
                connection.ended().await.expect("the end of the socket");
                return text;
            }
            Err(error) => panic!("the connection was to be closed with {codes:?}: {error:?}"),
        }
    }
}

/// Asserts that channel 1 is closed by the broker with this code.
async fn assert_channel_closed(connection: &mut Connection, code: u16) -> String {
    match connection.next().await {
        Err(Error::Closed { channel: 1, code: said, text, .. }) if said == code => text,
        other => panic!("channel 1 was to be closed with {code}: {other:?}"),
    }
}

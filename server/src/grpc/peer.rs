//! Accepted sockets: each is one connection in the core for every user that makes calls on it, for as long as it lives.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use leveret_broker::ConnectionInfo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use crate::hub::{Connection, Hub, Lane, Outputs};
use crate::stage::{self, Stage};

/// Protocol name in listings.
pub(super) const PROTOCOL: &str = "grpc";

/// Wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end; goes along with every request.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) addr: SocketAddr,
    /// Connections in the core, one for each user.
    users: Arc<Mutex<Vec<UserConnection>>>,
}

#[derive(Debug)]
struct UserConnection {
    user: Arc<str>,
    connection: Arc<Connection>,
    /// Tells the connection's end.
    outputs: Outputs,
    _lane: Lane,
}

impl Peer {
    pub(super) fn new(addr: SocketAddr) -> Self {
        Self { addr, users: Arc::default() }
    }

    /// The user's connection in the core; opened with the first call.
    pub(super) fn connection(&self, hub: &Hub, user: &Arc<str>, login_at: u64) -> Arc<Connection> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = users.iter().position(|known| known.user == *user) {
            // Whatever is told here is its end: a user of that name is another one by now.
            if users[at].outputs.try_recv().is_err() {
                return Arc::clone(&users[at].connection);
            }
            users.swap_remove(at);
        }
        let (connection, lane, outputs) = hub.open_connection(ConnectionInfo {
            peer: self.addr.to_string(),
            protocol: PROTOCOL,
            user: user.to_string(),
            login_at: Some(login_at),
            ..ConnectionInfo::default()
        });
        let connection = Arc::new(connection);
        let known = UserConnection {
            user: Arc::clone(user),
            connection: Arc::clone(&connection),
            outputs,
            _lane: lane,
        };
        users.push(known);
        connection
    }
}

/// An accepted socket.
#[derive(Debug)]
pub(super) struct PeerStream {
    stream: TcpStream,
    peer: Peer,
}

impl Connected for PeerStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Accepts until the broker stops serving, then closes the listener and stays silent: what is connected goes on.
pub(super) struct Incoming {
    listener: Option<TcpListener>,
    stopping: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// After an error: with no descriptor left, the next one comes at once.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    pub(super) fn new(listener: TcpListener, stage: stage::Receiver) -> Self {
        let stopping = Box::pin(stage::reached(stage, Stage::Draining));
        Self { listener: Some(listener), stopping, pause: None }
    }
}

impl Stream for Incoming {
    type Item = io::Result<PeerStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.listener.is_some() && self.stopping.as_mut().poll(cx).is_ready() {
            self.listener = None;
        }
        let this = &mut *self;
        let Some(listener) = &this.listener else { return Poll::Pending };
        loop {
            if let Some(pause) = &mut this.pause {
                ready!(pause.as_mut().poll(cx));
                this.pause = None;
            }
            match ready!(listener.poll_accept(cx)) {
                Ok((stream, addr)) => return Poll::Ready(Some(Ok(accepted(stream, addr)))),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    this.pause = Some(Box::pin(tokio::time::sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }
}

fn accepted(stream: TcpStream, addr: SocketAddr) -> PeerStream {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %addr, "TCP_NODELAY");
    }
    PeerStream { stream, peer: Peer::new(addr) }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

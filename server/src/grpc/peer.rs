//! Accepted sockets: each is one connection in the core for as long as it lives.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use leveret_broker::ConnectionInfo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use crate::hub::{Connection, Hub};
use crate::stage::{self, Stage};

/// Protocol name in listings.
pub(super) const PROTOCOL: &str = "grpc";

/// The user of a call without credentials.
pub(super) const GUEST: &str = "guest";

/// Wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end; goes along with every request.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) addr: SocketAddr,
    /// The connection in the core.
    pub(super) connection: Arc<Connection>,
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
    hub: Hub,
}

impl Incoming {
    pub(super) fn new(listener: TcpListener, hub: Hub, stage: stage::Receiver) -> Self {
        let stopping = Box::pin(stage::reached(stage, Stage::Draining));
        Self { listener: Some(listener), stopping, pause: None, hub }
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
                Ok((stream, addr)) => return Poll::Ready(Some(Ok(accepted(&this.hub, stream, addr)))),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    this.pause = Some(Box::pin(tokio::time::sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }
}

fn accepted(hub: &Hub, stream: TcpStream, addr: SocketAddr) -> PeerStream {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %addr, "TCP_NODELAY");
    }
    let connection = hub.open_connection(ConnectionInfo {
        peer: addr.to_string(),
        protocol: PROTOCOL,
        user: GUEST.to_owned(),
        ..ConnectionInfo::default()
    });
    PeerStream { stream, peer: Peer { addr, connection: Arc::new(connection) } }
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

//! The gRPC server around the services: connections in, and their end.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::Server;
use tracing::warn;

use super::{Phase, Phases};
use crate::config::ServeSettings;

/// The service's name for health checks.
pub(super) const SERVICE: &str = "leveret.v1.Broker";

const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// After a failed accept (out of file descriptors, mostly), which would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until [`Phase::Ending`]; returns when the connections are gone.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Routes,
    settings: Arc<ServeSettings>,
    mut phases: Phases,
) -> Result<(), tonic::transport::Error> {
    let (connections, incoming) = mpsc::channel(1);
    let accepting = tokio::spawn(accept(listener, connections, phases.clone()));
    let served = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .max_concurrent_streams(settings.grpc_streams_max)
        .add_routes(routes)
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), async move {
            phases.reached(Phase::Ending).await;
        })
        .await;
    accepting.abort();
    served
}

/// Accepts until [`Phase::Draining`], but keeps the stream of connections open until [`Phase::Ending`]: its end
/// would tell the connections that are there to go.
async fn accept(
    listener: TcpListener,
    connections: mpsc::Sender<Result<TcpStream, std::io::Error>>,
    mut phases: Phases,
) {
    let mut ending = phases.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = phases.reached(Phase::Draining) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                // Answers are small; waiting to fill a packet would only delay them.
                let _ = stream.set_nodelay(true);
                if connections.send(Ok(stream)).await.is_err() {
                    return;
                }
            }
            Err(e) => {
                warn!("cannot accept a connection: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    ending.reached(Phase::Ending).await;
}

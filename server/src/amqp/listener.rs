//! Accepts connections until the broker stops, and ends those that are there.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::connection;
use super::half_sent::HalfSent;
use super::session::SessionSettings;
use crate::auth::Auth;
use crate::hub::Hub;
use crate::stage::{self, Stage};

/// Wait after a failed accept: with no descriptor left, the next failure comes at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What is still open so long after the end was told is cut off.
const END_GRACE: Duration = Duration::from_secs(2);

/// Serves until the stage is `Ending` and the connections are gone, or shortly after.
pub async fn serve(
    listener: TcpListener,
    hub: Hub,
    auth: Auth,
    settings: SessionSettings,
    stage: stage::Receiver,
) {
    let settings = Arc::new(settings);
    let half_sent = HalfSent::new(settings.half_sent_bytes_max, Arc::clone(hub.half_sent_bytes()));
    let mut connections = JoinSet::new();
    let mut stopping = std::pin::pin!(stage::reached(stage.clone(), Stage::Draining));
    loop {
        tokio::select! {
            () = &mut stopping => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, addr)) => {
                    set_nodelay(&stream);
                    let (hub, auth) = (hub.clone(), auth.clone());
                    let (settings, stage) = (Arc::clone(&settings), stage.clone());
                    let share = half_sent.share();
                    connections.spawn(connection::run(stream, addr, hub, auth, settings, share, stage));
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    let ended = async {
        stage::reached(stage, Stage::Ending).await;
        tokio::time::sleep(END_GRACE).await;
    };
    tokio::select! {
        () = async { while connections.join_next().await.is_some() {} } => {}
        () = ended => warn!(connections = connections.len(), "AMQP connections that do not end are cut off"),
    }
}

fn set_nodelay(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY");
    }
}

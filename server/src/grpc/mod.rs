//! The gRPC front end: services leveret.v1.Broker and leveret.v1.Admin over HTTP/2, with health and reflection.
//!
//! Unary calls are requests to the core. Streams are channels of the core: see `lane`. Nothing here knows the disk,
//! and generated types go no further than this module.

mod ack_id;
mod admin;
mod budget;
mod consume;
mod convert;
mod deliver;
mod entrance;
mod errors;
mod gate;
mod get;
mod health;
#[cfg(feature = "sim")]
mod in_process;
mod lane;
mod manage;
mod names;
mod peer;
mod publish;
mod publish_stream;
mod rows;
mod service;
mod session;
mod status;
mod subscribe;

use std::sync::Arc;
use std::time::Duration;

use leveret_proto::FILE_DESCRIPTOR_SET;
use leveret_proto::v1::admin_server::AdminServer;
use leveret_proto::v1::broker_server::BrokerServer;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic_reflection::server::Builder;

pub use health::Health;
#[cfg(feature = "sim")]
pub use in_process::{Call, InProcess, InProcessSettings, Socket};

pub use status::{ServerStatus, StatusSource, memory_parts};

use crate::auth::Auth;
use crate::hub::Hub;
use crate::stage::{self, Stage};
use admin::Admin;
use budget::Budget;
use entrance::EntranceLayer;
use gate::Gate;
use peer::Incoming;
use service::Service;
use session::Sessions;

/// A request may be so much larger than the largest body, for everything around it.
const REQUEST_EXTRA_BYTES: usize = 1024 * 1024;
/// Flow control: what one stream and one connection may send ahead of the reader.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Fewer and larger frames for large bodies.
const FRAME_BYTES_MAX: u32 = 64 * 1024;
/// What is still open so long after the end was told is cut off.
const END_GRACE: Duration = Duration::from_secs(2);

/// Limits of the front end.
#[derive(Debug, Clone)]
pub struct GrpcSettings {
    /// Largest body of a message, in bytes.
    pub message_bytes_max: u32,
    /// Calls that one connection may have open.
    pub streams_per_connection_max: u32,
    /// Bytes of large requests that may be in memory, over all connections, before they are decoded. One request
    /// that is larger counts as all of it.
    pub decoding_bytes_max: u32,
    /// A ping goes out after so long without a sign of life...
    pub keepalive_interval: Duration,
    /// ...and must be answered within this time.
    pub keepalive_timeout: Duration,
}

impl Default for GrpcSettings {
    fn default() -> Self {
        Self {
            message_bytes_max: 16 * 1024 * 1024,
            streams_per_connection_max: 1000,
            decoding_bytes_max: 64 * 1024 * 1024,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
        }
    }
}

/// What the front end is made of.
pub struct GrpcParts {
    /// The way to the core.
    pub hub: Hub,
    /// Who may log in.
    pub auth: Auth,
    /// Limits.
    pub settings: GrpcSettings,
    /// What Status says of the process and its store.
    pub status: Arc<dyn StatusSource>,
    /// The health service; the caller keeps a clone, to say when the broker serves.
    pub health: Health,
}

/// Why the front end ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptors of the interface are wrong.
    #[error("gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// HTTP/2 or the socket.
    #[error("gRPC: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves until the stage is `Ending` and the connections are gone, or shortly after.
pub async fn serve(
    listener: TcpListener,
    parts: GrpcParts,
    stage: stage::Receiver,
) -> Result<(), ServeError> {
    let GrpcParts { hub, auth, settings, status, health } = parts;
    let gate = Gate { hub, auth, sessions: Sessions::default(), stage: stage.clone() };
    let admin = Admin { gate: gate.clone() };
    let entrance = EntranceLayer { gate: gate.clone(), budget: Budget::new(settings.decoding_bytes_max) };
    let service = Service { gate, status, message_bytes_max: settings.message_bytes_max.into() };
    let request_bytes_max = settings.message_bytes_max as usize + REQUEST_EXTRA_BYTES;
    let server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(settings.streams_per_connection_max)
        .http2_keepalive_interval(Some(settings.keepalive_interval))
        .http2_keepalive_timeout(Some(settings.keepalive_timeout))
        .layer(entrance)
        .add_service(BrokerServer::new(service).max_decoding_message_size(request_bytes_max))
        .add_service(AdminServer::new(admin))
        .add_service(health.service())
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);

    let incoming = Incoming::new(listener, stage.clone());
    let ending = stage.clone();
    let served = server.serve_with_incoming_shutdown(incoming, async move {
        stage::reached(stage.clone(), Stage::Draining).await;
        health.not_serving().await;
        stage::reached(stage, Stage::Ending).await;
    });
    tokio::select! {
        served = served => served?,
        () = async {
            stage::reached(ending, Stage::Ending).await;
            tokio::time::sleep(END_GRACE).await;
        } => {}
    }
    Ok(())
}

fn reflection<'a>() -> Builder<'a> {
    Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // google.rpc.ErrorInfo and its kin, so that tools can show what an error carries.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

#[cfg(test)]
mod tests;

//! The server's life: listeners first, so that a port that is taken is told at once; then the store; then serving;
//! then, on a signal, the stop in steps.
//!
//! ```text
//! Starting --recovered--> Serving --signal--> Draining --all settled, or time is up--> Ending --> closed, exit 0
//! ```

mod backend;
mod broker;
mod listen;
mod logging;
mod notify;
mod signals;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, error, info, warn};

pub use backend::{Backend, FailureFuture, Recovery, SettledFuture, Stopped};

use crate::amqp::{self, SessionSettings};
use crate::auth::{self, Auth};
use crate::cli::complain;
use crate::config::{LogFormat, Resolved, ServeSettings};
use crate::exit::Exit;
use crate::grpc::{self, GrpcParts, GrpcSettings, Health, ServerStatus, StatusSource};
use crate::http::{self, Serving};
use crate::hub::Hub;
use crate::memory;
use crate::stage::Stage;
use crate::version;
use signals::Signals;

const DRAIN_POLL: Duration = Duration::from_millis(20);
/// How long streams and calls may take to end once they were told to.
const END_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an AMQP client may take for the handshake, and for the answer to a close.
const AMQP_HANDSHAKE_MS: u64 = 10_000;
const AMQP_CLOSE_MS: u64 = 5_000;

/// Runs the server until it is stopped.
pub fn run(resolved: Resolved) -> ExitCode {
    let settings = Arc::new(resolved.settings);
    logging::start(settings.log_level, settings.log_format);
    memory::tell();
    for warning in resolved.warnings {
        warn!("{warning}");
    }
    raise_open_files();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return fail(&settings, &Stopped::refused(format!("cannot start threads: {e}"))),
    };
    let backend: Arc<dyn Backend> = Arc::new(broker::RealBackend::new(&settings));
    let result = runtime.block_on(until_signal(Arc::clone(&settings), backend));
    // Recovery may still run, when a signal came during it. It can be cut off anywhere.
    runtime.shutdown_background();
    match result {
        Ok(()) => Exit::Done.into(),
        Err(stopped) => fail(&settings, &stopped),
    }
}

async fn until_signal(settings: Arc<ServeSettings>, backend: Arc<dyn Backend>) -> Result<(), Stopped> {
    let mut signals = Signals::listen()?;
    let bound = Bound::bind(settings, backend).await?;
    let stop = async move {
        let signal = signals.next().await;
        info!("{} received, stopping; a second signal ends the process at once", signal.name());
        tokio::spawn(signals.exit_at_next());
    };
    bound.serve(stop).await
}

/// A server whose listeners are open.
pub struct Bound {
    settings: Arc<ServeSettings>,
    backend: Arc<dyn Backend>,
    grpc: TcpListener,
    amqp: TcpListener,
    http: TcpListener,
    addrs: Addrs,
}

/// Where the listeners are.
#[derive(Debug, Clone, Copy)]
struct Addrs {
    grpc: SocketAddr,
    amqp: SocketAddr,
    http: SocketAddr,
}

impl Bound {
    /// Opens the listeners.
    pub async fn bind(settings: Arc<ServeSettings>, backend: Arc<dyn Backend>) -> Result<Self, Stopped> {
        let (grpc, grpc_addr) = listen::listen("grpc-addr", settings.grpc_addr)?;
        let (amqp, amqp_addr) = listen::listen("amqp-addr", settings.amqp_addr)?;
        let (http, http_addr) = listen::listen("http-addr", settings.http_addr)?;
        let addrs = Addrs { grpc: grpc_addr, amqp: amqp_addr, http: http_addr };
        Ok(Self { settings, backend, grpc, amqp, http, addrs })
    }

    /// Where gRPC listens; the port that the system chose where port 0 was asked for.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.addrs.grpc
    }

    /// Where AMQP listens.
    pub fn amqp_addr(&self) -> SocketAddr {
        self.addrs.amqp
    }

    /// Where HTTP listens.
    pub fn http_addr(&self) -> SocketAddr {
        self.addrs.http
    }

    /// Recovers and serves until `stop`, then stops in steps.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> Result<(), Stopped> {
        let mut stop = std::pin::pin!(stop);
        let Self { settings, backend, grpc, amqp, http, addrs } = self;
        let (stage, stages) = watch::channel(Stage::Serving);
        let serving = Serving::default();
        let router = http::router(serving.clone(), Arc::<dyn Backend>::clone(&backend));
        // Dropping the set ends what is in it, whichever way this function ends.
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            if let Err(error) = axum::serve(http, router).await {
                warn!("the HTTP server ended by itself: {error}");
            }
        });
        tasks.spawn(memory::give_back());
        let health = Health::new().await;
        let auth = Auth::new(backend.hub().clone(), settings.loopback_users.0.clone())
            .map_err(|e| Stopped::refused(format!("cannot start threads for logins: {e}")))?;
        let parts = GrpcParts {
            hub: backend.hub().clone(),
            auth: auth.clone(),
            settings: grpc_settings(&settings),
            status: Arc::<dyn Backend>::clone(&backend),
            health: health.clone(),
        };
        let mut front = tokio::spawn(grpc::serve(grpc, parts, stages.clone()));
        let session = amqp_settings(&settings, backend.hub());
        let mut amqp_front = tokio::spawn(amqp::serve(amqp, backend.hub().clone(), auth, session, stages));

        let opening = Arc::clone(&backend);
        let recovery = tokio::select! {
            opened = tokio::task::spawn_blocking(move || opening.open()) => opened.map_err(Stopped::panicked)??,
            () = &mut stop => return Ok(()),
        };
        say_started(&settings, &recovery, addrs);
        warn_of_listeners(addrs);
        serving.set(true);
        health.serving().await;
        notify::ready();

        tokio::select! {
            () = &mut stop => {}
            text = backend.failed() => return Err(Stopped::refused(text)),
            ended = &mut front => return Err(Stopped::refused(format!("the gRPC server ended by itself: {ended:?}"))),
            ended = &mut amqp_front => {
                return Err(Stopped::refused(format!("the AMQP server ended by itself: {ended:?}")));
            }
        }

        notify::stopping();
        health.not_serving().await;
        serving.set(false);
        stage.send_replace(Stage::Draining);
        backend.hub().stop_deliveries();
        tokio::select! {
            () = drain(&*backend, settings.shutdown_timeout) => {}
            text = backend.failed() => return Err(Stopped::refused(text)),
        }
        stage.send_replace(Stage::Ending);
        let ended = timeout(END_TIMEOUT, async { tokio::join!(&mut front, &mut amqp_front) });
        if ended.await.is_err() {
            warn!("some connections did not end in time and are cut off");
            front.abort();
            amqp_front.abort();
        }
        let closing = Arc::clone(&backend);
        tokio::task::spawn_blocking(move || closing.close()).await.map_err(Stopped::panicked)??;
        info!("stopped");
        Ok(())
    }
}

fn grpc_settings(settings: &ServeSettings) -> GrpcSettings {
    GrpcSettings {
        message_bytes_max: u32::try_from(settings.message_max.0).unwrap_or(u32::MAX),
        streams_per_connection_max: settings.grpc_streams_max,
        decoding_bytes_max: u32::try_from(settings.grpc_decode_budget.0).unwrap_or(u32::MAX),
        ..GrpcSettings::default()
    }
}

fn amqp_settings(settings: &ServeSettings, hub: &Hub) -> SessionSettings {
    SessionSettings {
        message_bytes_max: settings.message_max.0,
        // Room for two of the largest always, so that one slow client cannot stand in everybody's way.
        half_sent_bytes_max: (settings.memory_budget.0 / 4).max(2 * settings.message_max.0),
        frame_max: settings.amqp_frame_max,
        channel_max: u16::try_from(settings.amqp_channel_max).unwrap_or(u16::MAX),
        heartbeat_s: u16::try_from(settings.amqp_heartbeat.as_secs()).unwrap_or(u16::MAX),
        handshake_ms: AMQP_HANDSHAKE_MS,
        close_ms: AMQP_CLOSE_MS,
        channel_credit_bytes: hub.channel_credit_bytes(),
        product: settings.amqp_product.clone(),
        version: settings.amqp_version.clone(),
    }
}

/// Waits until nothing is out and every publish has its outcome, or time is up.
async fn drain(backend: &dyn Backend, limit: Duration) {
    let deadline = Instant::now() + limit;
    loop {
        let Ok(figures) = tokio::time::timeout_at(deadline, backend.snapshot()).await else { return };
        let core = figures.core;
        if core.messages_unacknowledged == 0 && core.confirmed >= core.published {
            // Nothing is out, but notices of the last settlements may be on their way: the streams pass them on before
            // they are told to end.
            if tokio::time::timeout_at(deadline, backend.settled()).await.is_ok() {
                sleep(DRAIN_POLL).await;
            }
            return;
        }
        if Instant::now() + DRAIN_POLL > deadline {
            info!(
                unacknowledged = core.messages_unacknowledged,
                unconfirmed = core.published - core.confirmed,
                "shutdown-timeout is up; what is out goes back to its queues",
            );
            return;
        }
        sleep(DRAIN_POLL).await;
    }
}

/// The one line that says what was started and what was found.
fn say_started(settings: &ServeSettings, recovery: &Recovery, addrs: Addrs) {
    info!(
        version = version::VERSION,
        commit = version::COMMIT,
        data_dir = %settings.data_dir.display(),
        fsync = %settings.fsync,
        exchanges = recovery.exchanges,
        queues = recovery.queues,
        bindings = recovery.bindings,
        messages = recovery.messages,
        clean = recovery.clean,
        recovery_ms = u64::try_from(recovery.took.as_millis()).unwrap_or(u64::MAX),
        grpc = %addrs.grpc,
        amqp = %addrs.amqp,
        http = %addrs.http,
        "leveret is serving",
    );
}

fn warn_of_listeners(addrs: Addrs) {
    for (name, why) in exposed(addrs) {
        warn!("{name} is not loopback: {why}");
    }
}

/// What others can reach, and what they learn there. Until there is TLS, whoever is on the way reads along.
fn exposed(addrs: Addrs) -> impl Iterator<Item = (&'static str, &'static str)> {
    let read = "without TLS, passwords and messages can be read on the way";
    let open = "/metrics needs no login and tells names and figures of virtual hosts and queues";
    let all =
        [("grpc-addr", addrs.grpc, read), ("amqp-addr", addrs.amqp, read), ("http-addr", addrs.http, open)];
    let exposed = all.into_iter().filter(|(_, addr, _)| !auth::is_loopback(addr.ip()));
    exposed.map(|(name, _, why)| (name, why))
}

fn raise_open_files() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => debug!(limit, "open files"),
        Err(e) => warn!("cannot raise the limit of open files: {e}"),
    }
}

fn fail(settings: &ServeSettings, stopped: &Stopped) -> ExitCode {
    match settings.log_format {
        LogFormat::Text => complain(&stopped.text),
        LogFormat::Json => error!("{}", stopped.text),
    }
    stopped.exit.into()
}

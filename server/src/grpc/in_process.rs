//! The broker's service without sockets, threads and a clock of its own, for whoever is all of these: the simulator.
//!
//! A call is what HTTP/2 makes of it, a request with a body that comes in pieces and a response with one that is read in
//! pieces, and goes through the service as it is served: the budget, the codec, the service itself, the hub and the inbox
//! behind it, and the way back by lanes and permits. What is left out: HTTP/2 itself, the login of the call, and the core
//! thread, in whose place the caller makes turns:
//!
//! ```text
//! call --> service --> hub --> inbox --> inputs() --> host.turn() --> after_turn()
//!                                  lanes, answers <-- output(), flush() <-- effects
//! ```

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use leveret_broker::{Effect, Input};
use leveret_proto::v1::broker_server::BrokerServer;
use tokio::sync::watch;
use tonic::body::Body;
use tower::Service as _;

use super::budget::Budget;
use super::gate::{Gate, LoggedIn};
use super::peer::Peer;
use super::service::Service;
use super::session::Sessions;
use super::{ServerStatus, StatusSource};
use crate::auth::{Auth, GUEST};
use crate::core_thread::{Shell, hold_publishers};
use crate::host::Host;
use crate::hub::Hub;
use crate::inbox::{Envelope, Inbox};
use crate::stage::Stage;

/// A call that is being made: ready with the response's head. To be polled within a runtime, on which the tasks of streams
/// run.
pub type Call = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

/// Limits.
#[derive(Debug, Clone, Copy)]
pub struct InProcessSettings {
    /// The first id of connections, channels and requests; no other id of the core is as high.
    pub ids_from: u64,
    /// Bytes of publishes that may be on their way to the disk.
    pub publish_bytes: u32,
    /// Bytes of deliveries that each stream may hold.
    pub channel_credit_bytes: u64,
    /// Largest body of a message, in bytes.
    pub message_bytes_max: u64,
}

/// See the module.
pub struct InProcess {
    service: BrokerServer<Service>,
    budget: Budget,
    hub: Hub,
    inbox: Arc<Inbox>,
    shell: Shell,
    /// Taken from the inbox, and not yet on their way into the core.
    envelopes: VecDeque<Envelope>,
    ids_from: u64,
    /// Told for as long as this lives: serving.
    _stage: watch::Sender<Stage>,
}

/// A client's connection. Dropping it, and all calls made over it, ends it in the core.
#[derive(Debug)]
pub struct Socket(Peer);

struct NoFigures;

impl StatusSource for NoFigures {
    fn server_status(&self) -> ServerStatus {
        ServerStatus::default()
    }
}

impl InProcess {
    /// The service before this host, on which the guest of a first start exists.
    ///
    /// # Errors
    ///
    /// The system gives no thread or no random bytes for logins.
    pub fn new(settings: InProcessSettings, host: &Host) -> io::Result<Self> {
        let InProcessSettings { ids_from, publish_bytes, channel_credit_bytes, message_bytes_max } = settings;
        let inbox = Arc::new(Inbox::default());
        inbox.access_changed_before(host.access_changes());
        let hub = Hub::new(Arc::clone(&inbox), publish_bytes, channel_credit_bytes);
        hub.begin_ids_at(ids_from);
        hub.write_bodies_to(host.store().blobs());
        let (stage, stages) = watch::channel(Stage::Serving);
        let auth = Auth::new(hub.clone(), Vec::new())?;
        let gate = Gate { hub: hub.clone(), auth, sessions: Sessions::default(), stage: stages };
        let service = Service { gate, status: Arc::new(NoFigures), message_bytes_max };
        Ok(Self {
            service: BrokerServer::new(service),
            budget: Budget::new(1 << 20),
            hub,
            inbox,
            shell: Shell::default(),
            envelopes: VecDeque::new(),
            ids_from,
            _stage: stage,
        })
    }

    /// A client connects. Its port is its name.
    pub fn connect(&self, port: u16) -> Socket {
        Socket(Peer::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
    }

    /// Makes a call over a connection, as the guest, whose login counts as checked.
    pub fn call(&mut self, socket: &Socket, mut request: http::Request<Body>) -> Call {
        let login = LoggedIn { user: GUEST.into(), login_at: self.hub.access_generation() };
        request.extensions_mut().insert(socket.0.clone());
        request.extensions_mut().insert(login);
        self.service.call(self.budget.wrap(request))
    }

    /// How much waits to enter the core.
    pub fn waiting(&mut self) -> usize {
        if !self.inbox.is_empty() {
            let mut new = VecDeque::new();
            self.inbox.take(&mut new, Duration::ZERO);
            self.envelopes.append(&mut new);
        }
        self.envelopes.len()
    }

    /// Up to so much of what waits, for the next turn.
    pub fn inputs(&mut self, most: usize) -> Vec<Input> {
        let count = self.waiting().min(most);
        let mut closing = false;
        let Self { envelopes, shell, .. } = self;
        envelopes.drain(..count).flat_map(|envelope| shell.enter(envelope, &mut closing)).collect()
    }

    /// The turn is over.
    pub fn after_turn(&mut self, host: &Host) {
        self.shell.give_permits_back(host);
    }

    /// Publishers wait while the store says so. In which order several streams go on then, is chance.
    pub fn hold_publishers(&self, host: &Host) {
        hold_publishers(host, &self.hub);
    }

    /// Takes an effect that is for these clients; gives back what is not.
    pub fn output(&mut self, effect: Effect) -> Option<Effect> {
        let id = match &effect {
            Effect::Reply { req, .. } | Effect::Dropped { req } => req.0,
            Effect::Confirms { chan, .. }
            | Effect::Return { chan, .. }
            | Effect::Settled { chan, .. }
            | Effect::ConsumerCancelled { chan, .. }
            | Effect::ChannelFailed { chan, .. } => chan.0,
            Effect::ConnectionForced { conn, .. } => conn.0,
            Effect::Deliver(deliver) => deliver.chan.0,
            _ => return Some(effect),
        };
        if id < self.ids_from {
            return Some(effect);
        }
        self.shell.perform(effect, &self.inbox);
        None
    }

    /// What was taken goes out.
    pub fn flush(&mut self) {
        self.shell.flush();
    }
}

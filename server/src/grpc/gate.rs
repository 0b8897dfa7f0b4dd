//! The gate that every call passes: who makes it, on which connection, and whether it may come in at all.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request, Status};

use super::errors;
use super::peer::Peer;
use super::session::Sessions;
use crate::auth::{Auth, Login};
use crate::hub::{Caller, Channel, Connection, Hub, Outputs};
use crate::stage::{self, Stage};

/// Metadata key of the login.
const METADATA_KEY: &str = "authorization";
const SCHEME: &str = "basic ";

/// What tells who makes a call.
pub(super) type Of<'a> = (&'a MetadataMap, &'a Extensions);

/// The call's own.
pub(super) fn of<T>(request: &Request<T>) -> Of<'_> {
    (request.metadata(), request.extensions())
}

/// What every call needs. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    pub(super) hub: Hub,
    pub(super) auth: Auth,
    pub(super) sessions: Sessions,
    pub(super) stage: stage::Receiver,
}

/// The user of a call whose login was checked; goes along with it.
#[derive(Debug, Clone)]
pub(super) struct LoggedIn {
    pub(super) user: Arc<str>,
    /// See [`leveret_broker::ConnectionInfo`].
    pub(super) login_at: u64,
}

/// A call that has passed.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) user: Arc<str>,
    /// See [`leveret_broker::ConnectionInfo`].
    pub(super) login_at: u64,
    pub(super) peer: Peer,
    /// The session that it names, if any.
    session: Option<Arc<Connection>>,
    hub: Hub,
}

/// A channel for a stream and the connection it is on.
pub(super) struct Opened {
    pub(super) caller: Caller,
    pub(super) channel: (Channel, Outputs),
}

impl Gate {
    /// Refuses new work when the process is stopping.
    pub(super) fn serving(&self) -> Result<(), Status> {
        if *self.stage.borrow() == Stage::Serving {
            Ok(())
        } else {
            Err(errors::status(errors::shutting_down()))
        }
    }

    /// Lets a call of new work in.
    pub(super) async fn pass(&self, of: Of<'_>) -> Result<Passed, Status> {
        self.serving()?;
        self.pass_while_stopping(of).await
    }

    /// Lets a call in that is welcome while the process is stopping, too.
    pub(super) async fn pass_while_stopping(&self, (metadata, extensions): Of<'_>) -> Result<Passed, Status> {
        let peer = peer(extensions)?;
        let checked = extensions.get::<LoggedIn>();
        // Its body may have taken long to come.
        let LoggedIn { user, login_at } =
            match checked.filter(|login| login.login_at == self.hub.access_generation()) {
                Some(login) => login.clone(),
                None => self.check(metadata.get(METADATA_KEY).map(|sent| sent.as_bytes()), peer).await?,
            };
        let session = self.sessions.of(metadata, &user).map_err(errors::status)?;
        let peer = peer.clone();
        if session.is_none() {
            // So that listings show it.
            peer.connection(&self.hub, &user, login_at);
        }
        Ok(Passed { user, login_at, peer, session, hub: self.hub.clone() })
    }

    /// Checks the login of a call that has just begun.
    pub(super) async fn log_in(
        &self,
        headers: &http::HeaderMap,
        extensions: &http::Extensions,
    ) -> Result<LoggedIn, Status> {
        let peer = extensions.get::<Peer>().ok_or_else(no_peer)?;
        self.check(headers.get(METADATA_KEY).map(|sent| sent.as_bytes()), peer).await
    }

    async fn check(&self, sent: Option<&[u8]>, peer: &Peer) -> Result<LoggedIn, Status> {
        let from = peer.addr.ip();
        let login_at = self.hub.access_generation();
        let user = match sent {
            None => self.auth.anonymous(from).await,
            Some(sent) => {
                let decoded = decode(sent)?;
                self.auth.check(login(&decoded)?, from).await
            }
        };
        user.map(|user| LoggedIn { user, login_at }).map_err(errors::unauthenticated)
    }
}

impl Passed {
    /// The caller for a request outside any stream: a session counts, the client's socket does not.
    pub(super) fn caller(&self) -> Caller {
        let conn = self.session.as_ref().map(|session| session.id());
        Caller { user: Some(Arc::clone(&self.user)), conn }
    }

    /// Opens a channel: on the call's session if it names one, else on the user's connection from this client.
    pub(super) fn open_channel(&self) -> Opened {
        let connection = match &self.session {
            Some(session) => Arc::clone(session),
            None => self.peer.connection(&self.hub, &self.user, self.login_at),
        };
        let caller = Caller { user: Some(Arc::clone(&self.user)), conn: Some(connection.id()) };
        Opened { caller, channel: connection.open_channel() }
    }
}

fn peer(extensions: &Extensions) -> Result<&Peer, Status> {
    extensions.get::<Peer>().ok_or_else(no_peer)
}

fn no_peer() -> Status {
    Status::internal("a request without a connection")
}

/// The bytes of "Basic BASE64" (RFC 7617).
fn decode(sent: &[u8]) -> Result<Vec<u8>, Status> {
    let basic = sent
        .split_at_checked(SCHEME.len())
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME.as_bytes()));
    basic
        .and_then(|(_, encoded)| BASE64_STANDARD.decode(encoded).ok())
        .ok_or_else(|| errors::malformed_login("metadata authorization must be: Basic BASE64(USER:PASSWORD)"))
}

fn login(decoded: &[u8]) -> Result<Login<'_>, Status> {
    let malformed = || errors::malformed_login("metadata authorization holds no USER:PASSWORD in UTF-8");
    let colon = decoded.iter().position(|byte| *byte == b':').ok_or_else(malformed)?;
    let user = std::str::from_utf8(&decoded[..colon]).map_err(|_| malformed())?;
    Ok(Login { user, password: &decoded[colon + 1..] })
}

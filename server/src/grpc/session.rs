//! Sessions: connections of the core that a stream keeps alive and a token names.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use leveret_broker::{ConnectionInfo, Refusal, RefusalKind};
use leveret_proto::v1::{SessionRequest, SessionResponse};
use tokio_stream::Stream;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::errors::{self, invalid};
use super::names;
use super::peer::{PROTOCOL, Peer};
use crate::hub::{Connection, Hub, Lane, Output, Outputs};
use crate::stage::{self, Stage};

/// Metadata key of the token.
const METADATA_KEY: &str = "leveret-session";
/// Bytes of chance in a token: whoever guesses one owns the session.
const TOKEN_BYTES: usize = 16;

/// The open sessions by token.
#[derive(Debug, Clone, Default)]
pub(super) struct Sessions {
    open: Arc<Mutex<HashMap<String, Session>>>,
}

#[derive(Debug)]
struct Session {
    user: Arc<str>,
    connection: Weak<Connection>,
}

impl Sessions {
    /// The session that a call's metadata names; None when it names none. Another user's is no session.
    pub(super) fn of(
        &self,
        metadata: &MetadataMap,
        user: &Arc<str>,
    ) -> Result<Option<Arc<Connection>>, Refusal> {
        let Some(token) = metadata.get(METADATA_KEY) else { return Ok(None) };
        let token = token.to_str().map_err(|_| invalid(METADATA_KEY, "the session token is not ASCII"))?;
        let open = self.lock();
        let session = open.get(token).filter(|session| session.user == *user);
        let session = session.and_then(|session| session.connection.upgrade());
        session.map(Some).ok_or_else(|| {
            let text = "no session with this token: a session ends with its stream";
            Refusal::new(RefusalKind::NotFound, text).with("session", "unknown")
        })
    }

    /// Opens a session that lives as long as the stream. `login_at`: see [`ConnectionInfo`].
    pub(super) fn open(
        &self,
        hub: &Hub,
        peer: &Peer,
        (user, login_at): (Arc<str>, u64),
        request: SessionRequest,
        stage: stage::Receiver,
    ) -> Result<SessionStream, Refusal> {
        names::check("client", &request.client)?;
        let token = new_token().map_err(|error| {
            tracing::error!(%error, "no random bytes from the operating system");
            Refusal::new(RefusalKind::ShuttingDown, "no random bytes for a session token")
        })?;
        let (connection, lane, outputs) = hub.open_connection(ConnectionInfo {
            peer: peer.addr.to_string(),
            protocol: PROTOCOL,
            user: user.to_string(),
            client: request.client,
            vhost: String::new(),
            login_at: Some(login_at),
        });
        let connection = Arc::new(connection);
        self.lock().insert(token.clone(), Session { user, connection: Arc::downgrade(&connection) });
        Ok(SessionStream {
            first: Some(SessionResponse { token: token.clone() }),
            ending: Box::pin(stage::reached(stage, Stage::Ending)),
            ended: false,
            sessions: self.clone(),
            token,
            outputs,
            _lane: lane,
            _connection: connection,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Response stream of Session: the token, then nothing until the end.
pub(super) struct SessionStream {
    first: Option<SessionResponse>,
    ending: Pin<Box<dyn Future<Output = ()> + Send>>,
    ended: bool,
    sessions: Sessions,
    token: String,
    /// Tells the session's end, when it is not the client's doing.
    outputs: Outputs,
    _lane: Lane,
    _connection: Arc<Connection>,
}

impl Stream for SessionStream {
    type Item = Result<SessionResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let status = match self.outputs.poll_recv(cx) {
            Poll::Ready(outputs) => outputs
                .into_iter()
                .flatten()
                .find_map(|output| match output {
                    Output::ConnectionForced { refusal } => Some(errors::status(refusal)),
                    _ => None,
                })
                // The core is gone.
                .unwrap_or_else(|| errors::status(errors::shutting_down())),
            Poll::Pending => {
                std::task::ready!(self.ending.as_mut().poll(cx));
                errors::status(errors::shutting_down())
            }
        };
        self.ended = true;
        Poll::Ready(Some(Err(status)))
    }
}

impl Drop for SessionStream {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.token);
    }
}

fn new_token() -> Result<String, getrandom::Error> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

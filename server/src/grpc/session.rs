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
use super::peer::{GUEST, PROTOCOL, Peer};
use crate::hub::{Connection, Hub};
use crate::stage::{self, Stage};

/// Metadata key of the token.
const METADATA_KEY: &str = "leveret-session";
/// Bytes of chance in a token: whoever guesses one owns the session.
const TOKEN_BYTES: usize = 16;

/// The open sessions by token.
#[derive(Debug, Clone, Default)]
pub(super) struct Sessions {
    open: Arc<Mutex<HashMap<String, Weak<Connection>>>>,
}

impl Sessions {
    /// The session that a call's metadata names; None when it names none.
    pub(super) fn of(&self, metadata: &MetadataMap) -> Result<Option<Arc<Connection>>, Refusal> {
        let Some(token) = metadata.get(METADATA_KEY) else { return Ok(None) };
        let token = token.to_str().map_err(|_| invalid(METADATA_KEY, "the session token is not ASCII"))?;
        let session = self.lock().get(token).and_then(Weak::upgrade);
        session.map(Some).ok_or_else(|| {
            let text = "no session with this token: a session ends with its stream";
            Refusal::new(RefusalKind::NotFound, text).with("session", "unknown")
        })
    }

    /// Opens a session that lives as long as the stream.
    pub(super) fn open(
        &self,
        hub: &Hub,
        peer: &Peer,
        request: SessionRequest,
        stage: stage::Receiver,
    ) -> Result<SessionStream, Refusal> {
        names::check("client", &request.client)?;
        let token = new_token().map_err(|error| {
            tracing::error!(%error, "no random bytes from the operating system");
            Refusal::new(RefusalKind::ShuttingDown, "no random bytes for a session token")
        })?;
        let connection = Arc::new(hub.open_connection(ConnectionInfo {
            peer: peer.addr.to_string(),
            protocol: PROTOCOL,
            user: GUEST.to_owned(),
            client: request.client,
            vhost: String::new(),
        }));
        self.lock().insert(token.clone(), Arc::downgrade(&connection));
        Ok(SessionStream {
            first: Some(SessionResponse { token: token.clone() }),
            ending: Box::pin(stage::reached(stage, Stage::Ending)),
            ended: false,
            sessions: self.clone(),
            token,
            _connection: connection,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Weak<Connection>>> {
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
        std::task::ready!(self.ending.as_mut().poll(cx));
        self.ended = true;
        Poll::Ready(Some(Err(errors::status(errors::shutting_down()))))
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

//! From the protocol header to connection.open (AMQP 0-9-1, sections 2.2.4 and 4.2.2).

use std::sync::Arc;

use bytes::Bytes;
use leveret_broker::{RefusalKind, Table, Value};

use super::client::Client;
use super::close::End;
use super::{PROTOCOL_HEADER_BYTES, Phase, Session, failed};
use crate::amqp::frame::FRAME_MAX_MIN;
use crate::amqp::method::Method;
use crate::amqp::reply_code::{Failure, ReplyCode};
use crate::amqp::sasl::{self, Credentials};
use crate::auth::Refused;
use crate::version;

/// What we answer to any other protocol.
const OUR_HEADER: &[u8; PROTOCOL_HEADER_BYTES] = b"AMQP\x00\x00\x09\x01";
/// 0-9, which differs in nothing that matters; some clients say it.
const HEADER_0_9: &[u8; PROTOCOL_HEADER_BYTES] = b"AMQP\x01\x01\x00\x09";

/// What the broker can do, as clients look for it.
const CAPABILITIES: [&str; 9] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
];

impl Session {
    pub(super) fn protocol_header(&mut self, header: &[u8; PROTOCOL_HEADER_BYTES]) {
        if header != OUR_HEADER && header != HEADER_0_9 {
            self.out.write(|out| out.extend_from_slice(OUR_HEADER));
            self.phase = Phase::Ended(End::OtherProtocol(other_protocol(header)));
            return;
        }
        let start = Method::ConnectionStart {
            version_major: 0,
            version_minor: 9,
            server_properties: self.server_properties(),
            mechanisms: b"PLAIN AMQPLAIN",
            locales: b"en_US",
        };
        self.send(0, &start);
        self.phase = Phase::Starting;
    }

    pub(super) fn handshake_method(&mut self, method: &Method<'_>) -> Result<(), Failure> {
        match (&self.phase, method) {
            (Phase::Starting, Method::ConnectionStartOk { client_properties, mechanism, response, .. }) => {
                self.client = Client::from_properties(client_properties);
                self.login(mechanism, response)
            }
            (Phase::Tuning, &Method::ConnectionTuneOk { channel_max, frame_max, heartbeat }) => {
                self.channel_max =
                    negotiated("channel_max", channel_max.into(), self.settings.channel_max.into(), 0)?
                        as u16;
                self.frame_max = negotiated("frame_max", frame_max, self.settings.frame_max, FRAME_MAX_MIN)?;
                self.times.tuned(heartbeat);
                self.phase = Phase::Opening;
                Ok(())
            }
            (Phase::Opening, Method::ConnectionOpen { vhost, .. }) => {
                self.vhost = Arc::from(*vhost);
                self.phase = Phase::Entering;
                Ok(())
            }
            (_, Method::ConnectionClose { .. }) => {
                self.closed_by_client();
                Ok(())
            }
            (_, other) => {
                Err(failed(ReplyCode::CommandInvalid, format!("{} is not expected here", other.name())))
            }
        }
    }

    fn login(&mut self, mechanism: &str, response: &[u8]) -> Result<(), Failure> {
        let (name, credentials) = match mechanism {
            "PLAIN" => ("PLAIN", sasl::plain(response)),
            "AMQPLAIN" => ("AMQPLAIN", sasl::amqplain(response)),
            other => {
                let text = format!("unknown authentication mechanism '{other}'");
                return Err(failed(ReplyCode::CommandInvalid, text));
            }
        };
        let Some(credentials) = credentials else {
            return Err(failed(ReplyCode::SyntaxError, format!("malformed {mechanism} response")));
        };
        self.phase = Phase::Authenticating { mechanism: name, credentials };
        Ok(())
    }

    /// The login that the owner is to check now; then it calls [`Session::login_checked`].
    pub fn wants_login(&self) -> Option<&Credentials> {
        match &self.phase {
            Phase::Authenticating { credentials, .. } => Some(credentials),
            _ => None,
        }
    }

    /// What became of the login.
    pub fn login_checked(&mut self, user: Result<Arc<str>, Refused>) {
        let Phase::Authenticating { mechanism, credentials } = &mut self.phase else {
            return;
        };
        let (mechanism, name) = (*mechanism, std::mem::take(&mut credentials.user));
        match user {
            Ok(user) => {
                self.user = user;
                let SessionLimits { channel_max, frame_max, heartbeat } = self.limits();
                self.send(0, &Method::ConnectionTune { channel_max, frame_max, heartbeat });
                self.phase = Phase::Tuning;
            }
            Err(Refused::Gone) => self.shut_down(),
            Err(Refused::Busy) => {
                let text = "too many logins wait to be checked, try again later";
                self.refuse_login(failed(ReplyCode::ResourceError, text), name);
            }
            Err(Refused::Wrong | Refused::NotFromThere | Refused::Missing) => {
                let text = format!(
                    "Login was refused using authentication mechanism {mechanism}. For details see the broker \
                     logfile."
                );
                self.refuse_login(failed(ReplyCode::AccessRefused, text), name);
            }
        }
    }

    /// A new secret for a connection that is open (connection.update-secret), which is for logins that expire.
    ///
    /// A password does not, so there is nothing to check it against: as with RabbitMQ's own users any is good, and the
    /// connection stays what it was. A user who is deleted or whose permissions change is felt without it.
    pub(super) fn update_secret(&mut self) {
        self.send(0, &Method::ConnectionUpdateSecretOk {});
    }

    /// User and virtual host for which the owner is to ask the core now; then it calls [`Session::entered`].
    pub fn wants_vhost(&self) -> Option<(Arc<str>, Arc<str>)> {
        (self.phase == Phase::Entering).then(|| (Arc::clone(&self.user), Arc::clone(&self.vhost)))
    }

    /// Whether the user may use the virtual host.
    pub fn entered(&mut self, result: Result<(), RefusalKind>) {
        if self.phase != Phase::Entering {
            return;
        }
        let (user, vhost) = (&self.user, &self.vhost);
        let text = match result {
            Ok(()) => {
                self.times.opened();
                self.phase = Phase::Connecting;
                return;
            }
            Err(RefusalKind::ShuttingDown) => return self.shut_down(),
            Err(RefusalKind::NotFound) => format!("vhost {vhost} not found"),
            Err(_) => format!("access to vhost '{vhost}' refused for user '{user}'"),
        };
        self.close_connection(Failure::new(ReplyCode::NotAllowed, text, OPEN));
    }

    /// A client that cannot take a close at this point understands a closed socket.
    fn refuse_login(&mut self, failure: Failure, user: String) {
        let end = End::LoginRefused(user);
        if !self.client.authentication_failure_close {
            self.phase = Phase::Ended(end);
            return;
        }
        let close = Method::ConnectionClose {
            reply_code: failure.code.number(),
            reply_text: &failure.reply_text(),
            class_id: 0,
            method_id: 0,
        };
        self.send(0, &close);
        self.end_after_close(end);
    }

    fn limits(&self) -> SessionLimits {
        let settings = &self.settings;
        SessionLimits {
            channel_max: settings.channel_max,
            frame_max: settings.frame_max,
            heartbeat: settings.heartbeat_s,
        }
    }

    fn server_properties(&self) -> Table {
        let text = |text: &str| Value::Bytes(Bytes::copy_from_slice(text.as_bytes()));
        let capabilities = CAPABILITIES.iter().map(|name| ((*name).to_owned(), Value::Bool(true))).collect();
        let entries = [
            ("capabilities", Value::Table(Table(capabilities))),
            ("cluster_name", text("leveret")),
            ("copyright", text("Copyright the Leveret authors")),
            ("information", text("Licensed under MIT or Apache-2.0")),
            ("platform", text("Rust")),
            ("product", text(&self.settings.product)),
            ("version", text(&self.settings.version)),
            ("leveret_version", text(version::VERSION)),
        ];
        Table(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

const OPEN: (u16, u16) = (10, 40);

struct SessionLimits {
    channel_max: u16,
    frame_max: u32,
    heartbeat: u16,
}

/// A value that both sides agree to: at most ours. 0 means no limit, which is more than any.
fn negotiated(name: &str, theirs: u32, ours: u32, least: u32) -> Result<u32, Failure> {
    let refused = |what: String| Err(failed(ReplyCode::NotAllowed, format!("negotiated {name} = {what}")));
    if theirs == 0 && ours == 0 {
        return Ok(u32::MAX);
    }
    if theirs == 0 {
        return refused(format!("0 (no limit) is higher than the maximum allowed value ({ours})"));
    }
    if theirs < least {
        return refused(format!("{theirs} is lower than the minimum allowed value ({least})"));
    }
    if ours != 0 && theirs > ours {
        return refused(format!("{theirs} is higher than the maximum allowed value ({ours})"));
    }
    Ok(theirs)
}

fn other_protocol(header: &[u8; PROTOCOL_HEADER_BYTES]) -> &'static str {
    match header {
        [0x16, 0x03, ..] => "a TLS handshake",
        [b'A', b'M', b'Q', b'P', ..] => "another version of AMQP",
        [b'P', b'R', b'I', b' ', ..] => "HTTP/2, as gRPC speaks it",
        [b'G', b'E', b'T', b' ', ..]
        | [b'P', b'O', b'S', b'T', ..]
        | [b'P', b'U', b'T', b' ', ..]
        | [b'H', b'E', b'A', b'D', ..]
        | [b'O', b'P', b'T', b'I', ..]
        | [b'D', b'E', b'L', b'E', ..] => "an HTTP request",
        _ => "an unknown protocol",
    }
}

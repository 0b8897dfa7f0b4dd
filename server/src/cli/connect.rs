//! A connection to the server, with the login that the options ask for.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use leveret_proto::v1::admin_client::AdminClient;
use leveret_proto::v1::broker_client::BrokerClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::failure::deepest;
use super::{ClientOptions, Failure, password};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(20);

/// The broker's client.
pub(super) type Client = BrokerClient<InterceptedService<Channel, Login>>;

/// Adds the login to every call.
#[derive(Clone)]
pub(super) struct Login(Option<MetadataValue<Ascii>>);

/// The client of users, virtual hosts and permissions.
pub(super) type Admin = AdminClient<InterceptedService<Channel, Login>>;

/// Connects; what it answers with takes messages of any size, as the server has the limit.
pub(super) async fn connect(options: &ClientOptions) -> Result<Client, Failure> {
    let login = Login::of(options)?;
    let channel = channel(options).await?;
    Ok(BrokerClient::with_interceptor(channel, login)
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX))
}

/// Connects for users, virtual hosts and permissions.
pub(super) async fn admin(options: &ClientOptions) -> Result<Admin, Failure> {
    let login = Login::of(options)?;
    let channel = channel(options).await?;
    Ok(AdminClient::with_interceptor(channel, login).max_decoding_message_size(usize::MAX))
}

/// A bare connection.
pub(super) async fn channel(options: &ClientOptions) -> Result<Channel, Failure> {
    let addr = &options.addr;
    endpoint(addr)?.connect().await.map_err(|e| {
        Failure::NoConnection(format!(
            "cannot connect to {addr}: {}; start a broker with `leveret serve`, or say with --addr or LEVERET_ADDR \
             where it is",
            deepest(&e),
        ))
    })
}

fn endpoint(addr: &str) -> Result<Endpoint, Failure> {
    if addr.starts_with("https://") {
        return Err(Failure::Usage(format!(
            "--addr {addr}: TLS is not supported yet; give http://HOST:PORT"
        )));
    }
    let url = if addr.contains("://") { addr.to_owned() } else { format!("http://{addr}") };
    let endpoint = Endpoint::from_shared(url.clone())
        .ok()
        .filter(|_| url.starts_with("http://"))
        .ok_or_else(|| Failure::Usage(format!("--addr {addr}: expected http://HOST:PORT")))?;
    Ok(endpoint
        .user_agent(format!("leveret-cli/{}", crate::version::VERSION))
        .map_err(|e| Failure::Usage(e.to_string()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true))
}

impl Login {
    pub(super) fn of(options: &ClientOptions) -> Result<Self, Failure> {
        let Some(user) = &options.user else { return Ok(Self(None)) };
        if user.contains(':') {
            return Err(Failure::Usage(format!("--user {user}: a user name has no ':'")));
        }
        let password = password::of(user)?;
        let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
        // Base64 is always a valid header value.
        let mut value: MetadataValue<Ascii> = format!("Basic {encoded}")
            .parse()
            .map_err(|_| Failure::Usage("--user is not usable".to_owned()))?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Login {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

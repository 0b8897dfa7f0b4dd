//! Opening a listener, with an error that names the address and the flag.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::Stopped;

pub(super) async fn listen(key: &str, addr: SocketAddr) -> Result<(TcpListener, SocketAddr), Stopped> {
    let opened = TcpListener::bind(addr).await.and_then(|listener| {
        let addr = listener.local_addr()?;
        Ok((listener, addr))
    });
    opened.map_err(|e| {
        let why = match e.kind() {
            io::ErrorKind::AddrInUse => "the port is in use by another process".to_owned(),
            io::ErrorKind::PermissionDenied => "this user may not open that port".to_owned(),
            io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
            _ => e.to_string(),
        };
        Stopped::refused(format!("cannot listen on {addr}: {why}; choose another address with --{key}"))
    })
}

//! Opening a listener, with an error that names the address and the flag.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use super::Stopped;

/// Connections that may wait until they are accepted; the kernel allows at most net.core.somaxconn, which is as much
/// nowadays. One that finds no place is tried again by its client's kernel after one second, three, seven: when thousands of
/// clients come at once, as after a restart, most of them would wait for that and not for the broker.
const BACKLOG: u32 = 4096;

pub(super) fn listen(key: &str, addr: SocketAddr) -> Result<(TcpListener, SocketAddr), Stopped> {
    open(addr).map_err(|e| {
        let why = match e.kind() {
            io::ErrorKind::AddrInUse => "the port is in use by another process".to_owned(),
            io::ErrorKind::PermissionDenied => "this user may not open that port".to_owned(),
            io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
            _ => e.to_string(),
        };
        Stopped::refused(format!("cannot listen on {addr}: {why}; choose another address with --{key}"))
    })
}

fn open(addr: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of a process before this one, which the kernel still remembers, do not keep the port.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    let listener = socket.listen(BACKLOG)?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

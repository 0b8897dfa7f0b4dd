//! The floor: what an AMQP server costs that is a broker in nothing but its promise.
//!
//! It answers the handshake, then parses every frame, copies each message with a CRC into a buffer, writes the buffer into a
//! file that is there already, calls fdatasync, and confirms; all that has come meanwhile goes into the next round. No
//! routing, no queue, no delivery, nothing to find again. One thread.

mod log;
mod session;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::Error;
use log::Log;
use session::Session;

const READ_BYTES: usize = 1 << 20;
/// Bytes of records at which a round ends although more has come.
const ROUND_BYTES: usize = 8 << 20;
const EVENTS: usize = 1024;
/// The event that is the listener's; the others are connections.
const LISTENER: u64 = u64::MAX;

struct Conn {
    stream: TcpStream,
    session: Session,
    input: Vec<u8>,
    out: Vec<u8>,
}

/// Serves until killed.
pub(crate) fn serve(addr: SocketAddr, directory: &Path) -> Result<bool, Error> {
    let mut log = Log::create(directory)?;
    // The port is there when the file is: whoever connects is served.
    let listener = TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut conns: Vec<Option<Conn>> = Vec::new();
    let (mut events, mut scratch) = (Vec::with_capacity(EVENTS), vec![0; READ_BYTES]);
    loop {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in &events {
            let data = event.data;
            if data.u64() == LISTENER {
                accept(&listener, &epoll, &mut conns)?;
                continue;
            }
            let index = data.u64() as usize;
            if let Some(conn) = &mut conns[index]
                && conn.receive(&mut scratch, &mut log).is_err()
            {
                // Its end, or a frame that it should not have sent.
                conns[index] = None;
            }
        }
        log.sync()?;
        for event in &events {
            let data = event.data;
            if let Some(Some(conn)) = conns.get_mut(data.u64() as usize)
                && conn.answer().is_err()
            {
                conns[data.u64() as usize] = None;
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    epoll: &impl std::os::fd::AsFd,
    conns: &mut Vec<Option<Conn>>,
) -> Result<(), Error> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let flags = EventFlags::IN | EventFlags::RDHUP;
        epoll::add(epoll, &stream, EventData::new_u64(conns.len() as u64), flags)?;
        conns.push(Some(Conn { stream, session: Session::default(), input: Vec::new(), out: Vec::new() }));
    }
}

impl Conn {
    /// Takes what is there, up to the end of the round.
    fn receive(&mut self, scratch: &mut [u8], log: &mut Log) -> Result<(), Error> {
        while log.pending() < ROUND_BYTES {
            let read = match self.stream.read(scratch) {
                Ok(0) => return Err("closed".into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            if self.input.is_empty() {
                let taken = self.session.take(&scratch[..read], &mut self.out, log)?;
                self.input.extend_from_slice(&scratch[taken..read]);
            } else {
                self.input.extend_from_slice(&scratch[..read]);
                let taken = self.session.take(&self.input, &mut self.out, log)?;
                self.input.drain(..taken);
            }
            if read < scratch.len() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Confirms all that is on the disk now.
    fn answer(&mut self) -> Result<(), Error> {
        self.session.confirm(&mut self.out);
        if !self.out.is_empty() {
            // Answers are few and small; a client that does not read them is no client of a benchmark.
            self.stream.write_all(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }
}

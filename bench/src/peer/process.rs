//! A process under measurement that is ready when its port is.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Error;

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Killed when dropped.
pub(super) struct Process {
    child: Child,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts it and waits until something listens there.
    pub(super) fn start(command: &mut Command, addr: SocketAddr) -> Result<Self, Error> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut process = Self { child };
        let begun = Instant::now();
        while TcpStream::connect(addr).is_err() {
            if let Some(status) = process.child.try_wait()? {
                return Err(format!("{:?} ended with {status}", command.get_program()).into());
            }
            if begun.elapsed() > START_TIMEOUT {
                return Err(format!("{:?} does not serve", command.get_program()).into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(process)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

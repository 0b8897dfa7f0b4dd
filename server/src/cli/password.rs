//! The password: from LEVERET_PASSWORD, else asked for on the terminal without an echo.

use std::io::{self, BufRead, IsTerminal, Write};

use rustix::termios::{self, LocalModes, OptionalActions, Termios};

use super::Failure;

/// The password of a user.
pub(super) fn of(user: &str) -> Result<String, Failure> {
    match std::env::var("LEVERET_PASSWORD") {
        Ok(password) => Ok(password),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Failure::Usage("LEVERET_PASSWORD is not UTF-8".to_owned()))
        }
        Err(std::env::VarError::NotPresent) if io::stdin().is_terminal() => Ok(ask(user)?),
        Err(std::env::VarError::NotPresent) => Err(Failure::Usage(
            "--user needs a password: set LEVERET_PASSWORD, or run on a terminal".to_owned(),
        )),
    }
}

fn ask(user: &str) -> io::Result<String> {
    write!(io::stderr(), "Password of {user}: ")?;
    let quiet = NoEcho::start()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    drop(quiet);
    writeln!(io::stderr())?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// The terminal does not show what is typed until this is dropped.
struct NoEcho(Termios);

impl NoEcho {
    fn start() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        termios::tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

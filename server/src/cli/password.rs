//! Passwords: for a login from LEVERET_PASSWORD, a new one from standard input; else asked for on the terminal without an
//! echo.

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
        Err(std::env::VarError::NotPresent) if io::stdin().is_terminal() => {
            Ok(ask(&format!("Password of {user}: "))?)
        }
        Err(std::env::VarError::NotPresent) => Err(Failure::Usage(
            "--user needs a password: set LEVERET_PASSWORD, or run on a terminal".to_owned(),
        )),
    }
}

/// A new password: as it was given, else a line of standard input.
pub(super) fn new(given: Option<String>) -> Result<String, Failure> {
    if let Some(password) = given {
        return Ok(password);
    }
    if io::stdin().is_terminal() {
        return Ok(ask("Password: ")?);
    }
    match line()? {
        Some(password) => Ok(password),
        None => Err(Failure::Usage("Password is not provided via argument or stdin".to_owned())),
    }
}

fn ask(prompt: &str) -> io::Result<String> {
    write!(io::stderr(), "{prompt}")?;
    let quiet = NoEcho::start()?;
    let password = line();
    drop(quiet);
    writeln!(io::stderr())?;
    Ok(password?.unwrap_or_default())
}

/// A line of standard input; None at its end.
fn line() -> io::Result<Option<String>> {
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line)?;
    Ok((read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
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

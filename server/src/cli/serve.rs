//! The command `serve`: settings from everywhere, then the server.

use std::process::ExitCode;

use super::out::Out;
use super::{Failure, ServeArgs, fail};
use crate::config::{Layers, to_toml};
use crate::exit::Exit;

pub(super) fn run(args: &ServeArgs) -> ExitCode {
    let layers = Layers::gather(&args.flags, std::env::vars_os(), args.config.as_deref());
    let resolved = match layers.and_then(Layers::resolve) {
        Ok(resolved) => resolved,
        Err(e) => return fail(&Failure::Usage(e.to_string())),
    };
    if !args.print_config {
        return crate::serve::run(resolved);
    }
    let mut out = Out::stdout();
    match out.line(to_toml(&resolved.settings).trim_end()).and_then(|()| out.flush()) {
        Ok(()) => Exit::Done.into(),
        Err(e) => fail(&e.into()),
    }
}

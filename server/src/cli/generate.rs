//! Completions for shells, and manual pages: both from the one description of the command line.

use std::path::Path;

use super::commands::GenerateCommand;
use super::failure::Failure;

/// Writes what is asked for.
pub(super) fn run(what: GenerateCommand, mut command: clap::Command) -> Result<(), Failure> {
    match what {
        GenerateCommand::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "leveret", &mut script);
            // A reader that has enough, as of `| head`, is no failure.
            match std::io::Write::write_all(&mut std::io::stdout(), &script) {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
                _ => Ok(()),
            }
        }
        GenerateCommand::Man { dir } => pages(command, &dir),
    }
}

/// A page for the program and one for each of its commands: leveret.1, leveret-serve.1, ...
fn pages(command: clap::Command, dir: &Path) -> Result<(), Failure> {
    if !dir.is_dir() {
        return Err(Failure::Usage(format!("{} is no directory", dir.display())));
    }
    clap_mangen::generate_to(command.disable_help_subcommand(true), dir)?;
    Ok(())
}

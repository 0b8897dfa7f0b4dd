//! The offline commands: check, repair, inspect. The store's own tools do the work; here it is shown and agreed to.

mod loose;
mod show;

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use leveret_engine::offline::{self, Checked, LeaveOut};
use leveret_engine::{Disk, Error, RealDisk};
use serde_json::json;

use crate::cli::{InspectArgs, OfflineCommand, RepairArgs, complain, remark};
use crate::exit::Exit;

/// Off a terminal progress is told so often.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Runs one.
pub fn run(command: &OfflineCommand, json: bool) -> ExitCode {
    let result = match command {
        OfflineCommand::Check(args) => check(&args.data_dir, json),
        OfflineCommand::Repair(args) => repair(args, json),
        OfflineCommand::Inspect(args) => inspect(args, json),
    };
    result
        .unwrap_or_else(|trouble| {
            complain(&trouble.to_string());
            Exit::Refused
        })
        .into()
}

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Store(#[from] Error),
    #[error("cannot write the report: {0}")]
    Output(#[from] io::Error),
    #[error("the answer cannot be asked for without a terminal: say --yes to repair without being asked")]
    NoTerminal,
}

fn check(dir: &Path, json: bool) -> Result<Exit, Trouble> {
    let disk = RealDisk::open_existing(dir)?;
    let checked = with_progress(|progress| offline::check(&disk, progress))?;
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", show::checked_json(&checked))?;
    } else {
        show::checked(&mut out, &checked)?;
    }
    Ok(if checked.sound { Exit::Done } else { Exit::NeedsRepair })
}

fn repair(args: &RepairArgs, json: bool) -> Result<Exit, Trouble> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open_existing(&args.dir.data_dir)?);
    let mut asked = Ok(false);
    let mut loose = LeaveOut::default();
    let done = with_progress(|progress| {
        offline::repair(&disk, progress, &mut |checked| {
            loose = loose::loose_ends(checked);
            asked = agree(args, json, checked, &loose);
            matches!(asked, Ok(true)).then(|| loose.clone())
        })
    })?;
    asked?;
    let mut out = io::stdout().lock();
    if json {
        let report = json!({
            "changed": done.changed,
            "refused": done.refused,
            "set_aside": done.set_aside,
            "left_out": show::left_out_json(&loose),
            "found": show::checked_json(&done.found),
        });
        writeln!(out, "{report}")?;
    } else if done.changed {
        writeln!(out, "Repaired. Set aside, with nothing deleted:")?;
        for name in &done.set_aside {
            writeln!(out, "  {name}")?;
        }
        writeln!(out, "Every message that is left is delivered again, marked redelivered.")?;
    } else if let Some(why) = &done.refused {
        writeln!(out, "Nothing was changed: {why}.")?;
    } else {
        writeln!(out, "Nothing is damaged, nothing was changed.")?;
    }
    Ok(match (done.changed || done.found.sound, done.found.beyond_repair.is_some()) {
        (true, _) => Exit::Done,
        (false, true) => Exit::NeedsRepair,
        (false, false) => Exit::Refused,
    })
}

/// Says what would be lost and asks.
fn agree(args: &RepairArgs, json: bool, checked: &Checked, loose: &LeaveOut) -> Result<bool, Trouble> {
    let mut err = io::stderr().lock();
    if !json {
        show::checked(&mut err, checked)?;
        show::left_out(&mut err, loose)?;
    }
    if args.yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        return Err(Trouble::NoTerminal);
    }
    write!(err, "Set the damaged parts aside and go on with what is sound? Type yes: ")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

fn inspect(args: &InspectArgs, json: bool) -> Result<Exit, Trouble> {
    let disk = RealDisk::open_existing(&args.dir.data_dir)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut filter = show::Filter::new(args.segment, args.limit);
    let mut written = Ok(());
    offline::inspect(&disk, &mut |piece| {
        if filter.shows(&piece) {
            written = show::piece(&mut out, &piece, json);
        }
        written.is_ok() && !filter.done()
    })?;
    written?;
    out.flush()?;
    Ok(Exit::Done)
}

/// Shows a bar on a terminal while the files are read, and elsewhere a line now and then.
fn with_progress<T>(work: impl FnOnce(offline::Progress<'_>) -> T) -> T {
    if !io::stderr().is_terminal() {
        let (started, mut lines) = (Instant::now(), Lines::default());
        return work(&mut |done, total| {
            if let Some(line) = lines.line(started.elapsed(), done, total) {
                remark(&line);
            }
        });
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {percent:>3}% reading the files  {bytes_per_sec}")
    {
        bar.set_style(style);
    }
    let done = work(&mut |done, total| {
        // After the log come the bodies of large messages, with figures of their own.
        if done < total && bar.is_finished() {
            bar.reset();
        }
        bar.set_length(total);
        bar.set_position(done);
        if done == total {
            // What comes next may ask a question.
            bar.finish_and_clear();
        }
    });
    bar.finish_and_clear();
    done
}

/// When to say how far it is, where nobody sees a bar: whoever reads a log file wants to know that it goes on.
#[derive(Default)]
struct Lines {
    said: Duration,
}

impl Lines {
    /// What to say after that time, if anything: nothing of what takes no time.
    fn line(&mut self, elapsed: Duration, done: u64, total: u64) -> Option<String> {
        if elapsed < self.said + LINE_EVERY {
            return None;
        }
        self.said = elapsed;
        let percent = u128::from(done) * 100 / u128::from(total.max(1));
        Some(format!("{percent}% read, {} of {} MiB", done >> 20, total >> 20))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_from_a_terminal_a_line_every_few_seconds_says_how_far_it_is() {
        let mut lines = Lines::default();
        let said: Vec<_> =
            (0..=12).filter_map(|s| lines.line(Duration::from_secs(s), (s * 10) << 20, 200 << 20)).collect();
        assert_eq!(said, ["25% read, 50 of 200 MiB", "50% read, 100 of 200 MiB"]);
        assert_eq!(lines.line(Duration::from_secs(60), 0, 0).as_deref(), Some("0% read, 0 of 0 MiB"));
    }
}

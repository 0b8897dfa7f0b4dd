//! Files of scenarios: read, checked, and each step with its line.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::step::{Only, Step};
use crate::binary::workspace;

/// A front end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FrontEnd {
    /// AMQP 0-9-1; also against RabbitMQ.
    Amqp,
    /// gRPC.
    Grpc,
}

/// One scenario.
#[derive(Debug, Clone)]
pub struct Case {
    /// Directory of the file: the section.
    pub section: String,
    /// File, below the workspace.
    pub file: PathBuf,
    /// What the case says.
    pub name: String,
    /// The rules that break it when they are broken.
    pub rules: Vec<String>,
    pub(super) line: usize,
    pub(super) on: Vec<FrontEnd>,
    pub(super) no_rabbitmq: Option<String>,
    pub(super) flags: Vec<String>,
    pub(super) steps: Vec<(usize, Step)>,
}

impl Case {
    /// File and line of its last step.
    pub fn last_line(&self) -> String {
        let line = self.steps.last().map_or(self.line, |(line, _)| *line);
        format!("{}:{line}", self.file.display())
    }

    /// It stops or kills the broker.
    pub(super) fn restarts(&self) -> bool {
        self.steps.iter().any(|(_, step)| matches!(step, Step::Restart(_) | Step::Kill(_)))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    rule: Option<String>,
    #[serde(default)]
    rules: Vec<String>,
    #[serde(default = "amqp")]
    on: Vec<FrontEnd>,
    /// Why RabbitMQ is not asked.
    no_rabbitmq: Option<String>,
    /// Why the two brokers differ.
    reason: Option<String>,
    /// Flags of the server.
    #[serde(default)]
    flags: Vec<String>,
    /// Typed one by one, so that an error names the step's line.
    steps: Vec<Spanned<toml::Table>>,
}

fn amqp() -> Vec<FrontEnd> {
    vec![FrontEnd::Amqp]
}

/// All scenarios below a directory, in the order of their files.
///
/// # Errors
/// With file and line, when a file is not as it should be.
pub fn load(directory: &Path) -> Result<Vec<Case>, String> {
    let mut files = Vec::new();
    for section in entries(directory)?.into_iter().filter(|path| path.is_dir()) {
        files.extend(
            entries(&section)?
                .into_iter()
                .filter(|path| path.extension().is_some_and(|extension| extension == "toml")),
        );
    }
    let mut cases = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        cases.extend(parse(&path, &text)?);
    }
    Ok(cases)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error| format!("{}: {error}", directory.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The scenarios of one file, whose directory is their section.
///
/// # Errors
/// With file and line, when the file is not as it should be.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Case>, String> {
    let file: File = toml::from_str(text).map_err(|error| format!("{}: {error}", path.display()))?;
    let path = path.strip_prefix(workspace()).unwrap_or(path);
    let section = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let line = |offset: usize| text[..offset].matches('\n').count() + 1;
    let mut cases = Vec::new();
    for entry in file.case {
        let at = line(entry.span().start);
        let Entry { name, rule, mut rules, on, no_rabbitmq, reason, flags, steps } = entry.into_inner();
        let typed = |step: Spanned<toml::Table>| {
            let at = line(step.span().start);
            let step = step.into_inner().try_into::<Step>();
            step.map(|step| (at, step))
                .map_err(|error| format!("{}:{at}: {}", path.display(), error.message()))
        };
        let steps = steps.into_iter().map(typed).collect::<Result<Vec<_>, _>>()?;
        let wrong = |what: &str| Err(format!("{}:{at}: case '{name}' {what}", path.display()));
        rules.extend(rule);
        if rules.is_empty() {
            return wrong("names no rule");
        }
        if on.is_empty() {
            return wrong("runs nowhere");
        }
        for front_end in &on {
            // Every front end must be told something that it can fail.
            let other = if *front_end == FrontEnd::Amqp { Only::Grpc } else { Only::Amqp };
            let mut asserting = steps.iter().filter(|(_, step)| step.asserts());
            if !asserting.any(|(_, step)| step.only() != Some(other)) {
                return wrong("expects nothing");
            }
        }
        let differs = |(_, step): &(usize, Step)| matches!(step.only(), Some(Only::Leveret | Only::Rabbitmq));
        if steps.iter().any(differs) != reason.is_some() {
            return wrong("has a reason when, and only when, the brokers differ");
        }
        cases.push(Case {
            section: section.clone(),
            file: path.to_path_buf(),
            name,
            rules,
            line: at,
            on,
            no_rabbitmq,
            flags,
            steps,
        });
    }
    Ok(cases)
}

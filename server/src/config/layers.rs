//! Where values come from, and which one wins.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{SETTINGS, ServeSettings, SettingFlags, SettingValue, check, key, resolve, variable};

/// Variables that are not settings: the client's, the file's name, and the one that the build looks at.
const OTHER_VARIABLES: [&str; 6] =
    ["LEVERET_ADDR", "LEVERET_VHOST", "LEVERET_USER", "LEVERET_PASSWORD", "LEVERET_CONFIG", "LEVERET_COMMIT"];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Flag,
    Variable,
    File(PathBuf),
    Default,
}

/// A setting that is wrong: names the key, where the value came from, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(pub(super) String);

/// Settings that are in force, and what an operator should hear about how they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The settings.
    pub settings: ServeSettings,
    /// Sentences for the log.
    pub warnings: Vec<String>,
}

/// Values by source, not parsed yet; what comes first wins.
#[derive(Debug, Default)]
pub struct Layers {
    values: Vec<(&'static str, Source, String)>,
    warnings: Vec<String>,
}

impl Layers {
    /// Gathers what is given: flags, then variables, then the file.
    pub fn gather(
        flags: &SettingFlags,
        variables: impl Iterator<Item = (OsString, OsString)>,
        file: Option<&Path>,
    ) -> Result<Self, SettingsError> {
        let mut layers = Self::default();
        layers.add_flags(flags);
        layers.add_variables(variables)?;
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|e| {
                SettingsError(format!("config: cannot read the file '{}': {e}", path.display()))
            })?;
            layers.add_file(path, &text)?;
        }
        Ok(layers)
    }

    /// The settings in force, checked one by one and against each other.
    pub fn resolve(self) -> Result<Resolved, SettingsError> {
        let settings = resolve(&self)?;
        check::check(&settings, &self)?;
        Ok(Resolved { settings, warnings: self.warnings })
    }

    pub(super) fn add_flags(&mut self, flags: &SettingFlags) {
        for setting in SETTINGS {
            if let Some(value) = (setting.flag)(flags) {
                self.values.push((setting.name, Source::Flag, value.to_owned()));
            }
        }
    }

    pub(super) fn add_variables(
        &mut self,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<(), SettingsError> {
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with("LEVERET_")) else { continue };
            if let Some(setting) = SETTINGS.iter().find(|setting| variable(setting.name) == name) {
                let value = value.into_string().map_err(|_| {
                    SettingsError(format!("{} (variable {name}): the value is not UTF-8", setting.key()))
                })?;
                self.values.push((setting.name, Source::Variable, value));
            } else if !OTHER_VARIABLES.contains(&name) {
                self.warnings.push(format!("the variable {name} names no setting and is ignored"));
            }
        }
        Ok(())
    }

    pub(super) fn add_file(&mut self, path: &Path, text: &str) -> Result<(), SettingsError> {
        let table: toml::Table = toml::from_str(text)
            .map_err(|e| SettingsError(format!("config: the file '{}' is not TOML: {e}", path.display())))?;
        for (given, value) in table {
            let Some(setting) = SETTINGS.iter().find(|setting| setting.key() == given) else {
                return Err(unknown(path, &given));
            };
            let value = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                other => {
                    let text = other.to_string();
                    return Err(bad(setting.name, &Source::File(path.to_owned()), &text, setting.allowed));
                }
            };
            self.values.push((setting.name, Source::File(path.to_owned()), value));
        }
        Ok(())
    }

    /// The value that wins. Every value given is parsed, so that a bad one does not lie in wait.
    pub(super) fn pick<T: SettingValue>(
        &self,
        name: &'static str,
        default: &str,
    ) -> Result<T, SettingsError> {
        let mut winner = None;
        for (_, source, text) in self.values.iter().filter(|(given, ..)| *given == name) {
            let value = T::parse(text).ok_or_else(|| bad(name, source, text, T::ALLOWED))?;
            winner.get_or_insert(value);
        }
        match winner {
            Some(value) => Ok(value),
            None => T::parse(default).ok_or_else(|| bad(name, &Source::Default, default, T::ALLOWED)),
        }
    }

    /// "segment-size (flag --segment-size)", for sentences about a setting's value.
    pub(super) fn describe(&self, name: &'static str) -> String {
        let source =
            self.values.iter().find(|(given, ..)| *given == name).map_or(&Source::Default, |found| &found.1);
        place(name, source)
    }
}

fn place(name: &str, source: &Source) -> String {
    let key = key(name);
    match source {
        Source::Flag => format!("{key} (flag --{key})"),
        Source::Variable => format!("{key} (variable {})", variable(name)),
        Source::File(path) => format!("{key} (file '{}')", path.display()),
        Source::Default => format!("{key} (default)"),
    }
}

fn bad(name: &str, source: &Source, text: &str, allowed: &str) -> SettingsError {
    SettingsError(format!("{}: '{text}' is not allowed; give {allowed}", place(name, source)))
}

fn unknown(path: &Path, given: &str) -> SettingsError {
    let keys: Vec<String> = SETTINGS.iter().map(super::Setting::key).collect();
    let alike = given.replace('_', "-").to_lowercase();
    let hint = if keys.contains(&alike) {
        format!("did you mean '{alike}'?")
    } else {
        format!("known keys: {}", keys.join(", "))
    };
    SettingsError(format!("{given} (file '{}'): there is no such setting; {hint}", path.display()))
}

//! Settings as a commented TOML file.

use std::fmt::Write;

use super::{SETTINGS, ServeSettings};

/// Every setting with its doc text, its default and its value in force. Reading it back gives equal settings.
pub fn to_toml(settings: &ServeSettings) -> String {
    let mut text = String::from(
        "# Settings of `leveret serve --config FILE`. Flags (--log-level) win over variables (LEVERET_LOG_LEVEL),\n\
         # these over this file, this over the defaults.\n",
    );
    for setting in SETTINGS {
        text.push('\n');
        for line in setting.doc {
            text.push_str("# ");
            text.push_str(line.trim());
            text.push('\n');
        }
        let value = (setting.show)(settings);
        let value = if setting.bare { value } else { toml::Value::String(value).to_string() };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# Allowed: {}.", setting.allowed);
        let _ = writeln!(text, "# Default: {}", setting.default);
        let _ = writeln!(text, "{} = {value}", setting.key());
    }
    text
}

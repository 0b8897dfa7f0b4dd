//! The README's commands work as printed.
//!
//! A fenced block after the line `<!-- test: NAME -->` is part of the script NAME: all its blocks in order are one
//! bash script, run in an empty directory with `leveret` and the tools in PATH. A block after `<!-- expect: NAME -->`
//! holds lines that the script's output must have, in this order. Default addresses are replaced by free ports.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use leveret_tests::binary::{self, workspace};
use leveret_tests::server::{Home, Ports};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::skip;

/// A script may take so long.
const TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, Default, PartialEq, Eq)]
struct Script {
    commands: String,
    expected: Vec<String>,
}

fn scripts(text: &str) -> BTreeMap<String, Script> {
    let mut scripts: BTreeMap<String, Script> = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((kind, name)) = marker(line) else { continue };
        let fence = lines.next().unwrap_or_default();
        assert!(fence.starts_with("```"), "a fenced block must follow {line:?}, not {fence:?}");
        let block = lines.by_ref().take_while(|line| !line.starts_with("```"));
        let script = scripts.entry(name.to_string()).or_default();
        for line in block {
            match kind {
                "test" => script.commands.push_str(&format!("{line}\n")),
                _ => script.expected.push(line.to_string()),
            }
        }
    }
    scripts
}

fn marker(line: &str) -> Option<(&str, &str)> {
    let inner = line.trim().strip_prefix("<!--")?.strip_suffix("-->")?;
    let (kind, name) = inner.split_once(':')?;
    let kind = kind.trim();
    ["test", "expect"].contains(&kind).then_some((kind, name.trim()))
}

#[test]
fn the_readme_works() {
    let text = fs::read_to_string(workspace().join("README.md")).expect("README.md");
    let scripts = scripts(&text);
    assert!(!scripts.is_empty(), "README.md has no block marked <!-- test: NAME -->");
    for (name, script) in scripts {
        let needs_grpcurl = script.commands.contains("grpcurl");
        if needs_grpcurl && skip::tool("grpcurl", "readme::the_readme_works").is_none() {
            continue;
        }
        run(&name, &script);
    }
}

fn run(name: &str, script: &Script) {
    let home = Home::new().expect("a directory");
    let Ports { grpc, amqp, http } = Ports::free();
    let mut commands = script.commands.clone();
    for host in ["127.0.0.1", "localhost"] {
        commands = commands.replace(&format!("{host}:50051"), &format!("127.0.0.1:{grpc}"));
        commands = commands.replace(&format!("{host}:5672"), &format!("127.0.0.1:{amqp}"));
        commands = commands.replace(&format!("{host}:15672"), &format!("127.0.0.1:{http}"));
    }
    let output = home.path().join("output");
    let file = fs::File::create(&output).expect("a file");
    let mut child = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &commands])
        .current_dir(home.path())
        .env("PATH", path())
        .env("LEVERET_GRPC_ADDR", format!("127.0.0.1:{grpc}"))
        .env("LEVERET_AMQP_ADDR", format!("127.0.0.1:{amqp}"))
        .env("LEVERET_HTTP_ADDR", format!("127.0.0.1:{http}"))
        .env("LEVERET_ADDR", format!("http://127.0.0.1:{grpc}"))
        .stdin(Stdio::null())
        .stdout(file.try_clone().expect("the file again"))
        .stderr(file)
        // A group of its own, so that servers it leaves running end with it.
        .process_group(0)
        .spawn()
        .expect("bash");
    let end = Instant::now() + TIMEOUT;
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait") {
            break Some(status);
        }
        if Instant::now() > end {
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // Nothing may be left; then there is nobody to signal.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
    let said = fs::read_to_string(&output).expect("its output");
    assert!(
        status.is_some_and(|status| status.success()),
        "{name} ends with {status:?}:\n{commands}\n---\n{said}"
    );
    let mut rest = said.lines();
    for line in script.expected.iter().map(|line| line.trim()).filter(|line| !line.is_empty()) {
        assert!(rest.any(|said| said.trim() == line), "{name} never says {line:?} (in this order):\n{said}");
    }
}

fn path() -> String {
    let binary = binary::leveret();
    let directory = binary.parent().unwrap_or(Path::new("."));
    let system = std::env::var("PATH").unwrap_or_default();
    format!("{}:{}:{system}", directory.display(), skip::tools().join("bin").display())
}

#[test]
fn blocks_are_found_by_their_markers() {
    let text = "# T\n<!-- test: tour -->\n```sh\na\n```\n```sh\nnot this\n```\n<!-- expect: tour -->\n```text\nb\n```\n\
                <!-- test: tour -->\n```sh\nc\n```\n";
    let expected = Script { commands: "a\nc\n".into(), expected: vec!["b".into()] };
    assert_eq!(scripts(text), BTreeMap::from([("tour".to_string(), expected)]));
}

//! What packages need of the binary, and what they bring along.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use leveret_tests::binary::{self, workspace};
use leveret_tests::server::{Home, Options, Ports, command};

use crate::skip::tool;

fn leveret(arguments: &[&str]) -> Output {
    Command::new(binary::leveret()).args(arguments).stdin(Stdio::null()).output().expect("the command line")
}

/// Asks nicely, as systemd does.
fn terminate(pid: u32) {
    let kill = Command::new("kill").args(["-TERM", &pid.to_string()]).status().expect("kill");
    assert!(kill.success());
}

#[test]
fn systemd_hears_when_it_is_ready_and_when_it_stops() {
    let home = Home::new().expect("a directory");
    let socket = home.path().join("notify");
    let systemd = UnixDatagram::bind(&socket).expect("a socket");
    systemd.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let mut server = command(&home.data(), Ports::free(), &Options::default())
        .env("NOTIFY_SOCKET", &socket)
        .stderr(Stdio::null())
        .spawn()
        .expect("the server");
    let heard = || {
        let mut text = [0; 256];
        let length = systemd.recv(&mut text).expect("a notice");
        String::from_utf8_lossy(&text[..length]).trim().to_string()
    };
    assert_eq!(heard(), "READY=1");
    terminate(server.id());
    assert_eq!(heard(), "STOPPING=1");
    assert!(server.wait().expect("the end").success());
}

/// Paths and users of an installed package are not there in a test, so the unit is verified with this binary's.
#[test]
fn the_unit_is_one_that_systemd_understands() {
    let test = "packaging::the_unit_is_one_that_systemd_understands";
    let Some(analyze) = tool("systemd-analyze", test) else { return };
    let unit = workspace().join("packaging/leveret.service");
    let verify = |text: &str| {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("leveret.service");
        std::fs::write(&path, text).expect("the unit");
        Command::new(&analyze).arg("verify").arg("--man=no").arg(&path).output().expect("systemd-analyze")
    };
    let binary = binary::leveret();
    let text = std::fs::read_to_string(unit).expect("the unit");
    let text = text.replace("/usr/bin/leveret", binary.to_str().expect("a path in UTF-8"));
    let good = verify(&text);
    let said = String::from_utf8_lossy(&good.stderr);
    assert!(good.status.success() && !said.contains("leveret.service"), "{said}");
    // It notices what is wrong.
    let bad = verify(&text.replace("Type=notify", "Type=notfy"));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("leveret.service"), "{bad:?}");
}

#[test]
fn the_unit_starts_what_the_command_line_knows() {
    let text = std::fs::read_to_string(workspace().join("packaging/leveret.service")).expect("the unit");
    let start =
        text.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/leveret ")).expect("ExecStart");
    let home = Home::new().expect("a directory");
    let config = home.path().join("leveret.toml");
    let printed = leveret(&["serve", "--print-config"]);
    std::fs::write(&config, &printed.stdout).expect("the settings");
    let data = home.data();
    let words = start.split(' ').map(|word| match word {
        "/etc/leveret/leveret.toml" => config.to_str().expect("a path in UTF-8"),
        "/var/lib/leveret" => data.to_str().expect("a path in UTF-8"),
        word => word,
    });
    // With --print-config nothing is started, and everything is read and checked.
    let arguments: Vec<&str> = words.chain(["--print-config"]).collect();
    let output = leveret(&arguments);
    assert!(output.status.success(), "{output:?}");
}

/// Guards against a package that can be built in one place only, and against one without what it needs.
#[test]
fn what_the_debian_package_is_made_of_is_there() {
    let read = |path: &str| std::fs::read_to_string(workspace().join(path)).expect(path);
    let manifest: toml::Table = read("server/Cargo.toml").parse().expect("TOML");
    let package = &manifest["package"]["metadata"]["deb"];
    let build = read("packaging/build-deb.sh");
    // The manifest names a place below the workspace, wherever cargo builds.
    assert!(build.lines().any(|line| line == "out=$PWD/target/packaging"), "{build}");
    let assets = package["assets"].as_array().expect("a list");
    let sources: Vec<&str> = assets.iter().filter_map(|asset| asset[0].as_str()).collect();
    assert!(sources.len() == assets.len() && sources.contains(&"target/release/leveret"), "{sources:?}");
    for source in sources {
        match source.strip_prefix("../target/packaging/") {
            Some("man/*.1.gz") => assert!(build.contains("\"$out\"/man/*.1"), "{build}"),
            Some(made) => {
                // What is made for each shell has its name.
                let named = build.contains(made) || build.contains("$out/leveret.$shell");
                assert!(named, "nothing makes {made}");
            }
            None if source.starts_with("target/release/") => {}
            None => assert!(workspace().join("server").join(source).exists(), "{source}"),
        }
    }
    let unit = &package["systemd-units"];
    let folder = unit["unit-scripts"].as_str().expect("a folder");
    assert!(workspace().join("server").join(folder).join("leveret.service").exists(), "{folder}");
    for script in ["postinst", "postrm"] {
        let text = read(&format!("packaging/debian/{script}"));
        assert!(text.starts_with("#!/bin/sh\n") && text.contains("\n#DEBHELPER#\n"), "{script}");
        let path = workspace().join("packaging/debian").join(script);
        let parsed = Command::new("sh").arg("-n").arg(&path).status().expect("sh");
        assert!(parsed.success(), "{script}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_str().expect("a path in UTF-8");
    let output = leveret(&["man", path]);
    assert!(output.status.success(), "{output:?}");
    let page = |name: &str| std::fs::read_to_string(Path::new(path).join(name)).unwrap_or_default();
    assert!(page("leveret.1").contains(".TH leveret 1"), "{}", page("leveret.1"));
    assert!(page("leveret-serve.1").contains("\\-\\-data\\-dir"));
    let help = String::from_utf8(leveret(&["--help"]).stdout).expect("text");
    let commands =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = commands.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: Vec<&str> = names.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains(&"serve") && names.contains(&"list_queues"), "{names:?}");
    for name in names.into_iter().filter(|name| *name != "help") {
        assert!(page(&format!("leveret-{name}.1")).contains(".TH"), "{name} has no page");
    }
    let missing = leveret(&["man", "/nowhere/at/all"]);
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
    assert!(
        String::from_utf8_lossy(&missing.stderr).contains("/nowhere/at/all is no directory"),
        "{missing:?}"
    );
}

#[test]
fn shells_are_told_how_to_complete_it() {
    for shell in ["bash", "zsh", "fish"] {
        let output = leveret(&["completions", shell]);
        let script = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success() && script.contains("list_queues"), "{shell}");
    }
    // bash is there wherever these tests run: tests/run is written in it.
    let script = "source <(\"$0\" completions bash); COMP_WORDS=(leveret list_q); COMP_CWORD=1; \
                  _leveret leveret list_q leveret; echo \"${COMPREPLY[*]}\"";
    let bash = Command::new("bash").arg("-c").arg(script).arg(binary::leveret()).output().expect("bash");
    assert_eq!(String::from_utf8_lossy(&bash.stdout).trim(), "list_queues", "{bash:?}");
    assert_eq!(leveret(&["completions", "cmd.exe"]).status.code(), Some(2));
}

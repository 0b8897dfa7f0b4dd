//! One short comparison, as a user runs it: with the floor and bare tonic, and with the server where LEVERET_BIN names one.

use std::path::Path;
use std::process::Command;

fn compare(arguments: &[&str], out: &Path) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret-bench"));
    command.arg("compare").args(arguments).args(["--runs", "2", "--seconds", "0.2", "--data-dir"]).arg(out);
    let output = command.arg("--out").arg(out).output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said)
}

#[test]
fn a_comparison_ends_with_a_table_json_and_plots() {
    let out = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut arguments = vec!["--scenario", "publish-w100-100b", "grpc-100", "--peer", "floor", "bare"];
    let mut peers = vec![("publish-w100-100b", "floor"), ("grpc-100", "bare")];
    if std::env::var_os("LEVERET_BIN").is_some() {
        arguments.push("leveret");
        peers = vec![
            ("publish-w100-100b", "floor"),
            ("publish-w100-100b", "leveret"),
            ("grpc-100", "bare"),
            ("grpc-100", "leveret"),
        ];
    }
    let (ended, said) = compare(&arguments, out.path());
    assert!(ended, "{said}");
    let json = std::fs::read(out.path().join("compare.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let rows = json["rows"].as_array().unwrap();
    let text = |row: &serde_json::Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let found: Vec<_> = rows.iter().map(|row| (text(row, "scenario"), text(row, "peer"))).collect();
    let wanted: Vec<_> = peers.iter().map(|(one, other)| (one.to_string(), other.to_string())).collect();
    assert_eq!(found, wanted, "{said}");
    for row in rows {
        let runs = row["runs"].as_array().unwrap();
        assert!(runs.len() == 2 && runs.iter().all(|run| run["rate"].as_f64().unwrap() > 0.0), "{row}");
        assert!(!text(row, "fsync").is_empty() && row["machine"]["cores"].as_u64().unwrap() > 0, "{row}");
    }
    let table = std::fs::read_to_string(out.path().join("compare.md")).unwrap();
    assert!(table.contains("| floor ") && table.contains("![windows](windows.svg)"), "{table}");
    assert!(std::fs::read_to_string(out.path().join("windows.svg")).unwrap().starts_with("<svg"));
    // What was started has ended and left nothing behind.
    let left = std::fs::read_dir(out.path()).unwrap().flatten().filter(|entry| entry.path().is_dir()).count();
    assert_eq!(left, 0);
}

#[test]
fn a_scenario_that_is_not_there_is_an_error() {
    let out = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (ended, said) = compare(&["--scenario", "nothing"], out.path());
    assert!(!ended && said.contains("no scenario \"nothing\""), "{said}");
}

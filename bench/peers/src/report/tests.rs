use super::*;

const LOAD: Load = Load { writers: 16, bytes: 100 };

/// A row of these rates, with a flush for so many appends.
fn row(peer: Kind, rates: &[f64], appends: f64) -> Row {
    let mut row = Row::new(peer, LOAD);
    row.version = "1.2.3".into();
    let run = |rate: &f64| Outcome {
        rate: *rate,
        p50: 100.0,
        p99: 200.0,
        max: 300.0,
        flushes: Some(rate / appends + 10.0),
        cores: 0.5,
    };
    row.runs = rates.iter().map(run).collect();
    row
}

fn report(rows: Vec<Row>) -> Report {
    let machine =
        Machine { cores: 2, cpu: "CPU".into(), kernel: "Linux 6".into(), file_system: "ext4".into() };
    Report { machine, runs: 3, seconds: 3.0, flushes_at_rest: Some(10.0), rows, left_out: Vec::new() }
}

#[test]
fn a_row_tells_median_spread_ratio_and_cost() {
    let rows = vec![row(Kind::Bare, &[5e3], 1.0), row(Kind::Leveret, &[100e3, 50e3, 110e3], 15.0)];
    let text = report(rows).markdown();
    let line = text.lines().find(|line| line.starts_with("| Leveret")).unwrap();
    assert_eq!(
        line,
        "| Leveret 1.2.3 | Fsync::Always | owner's thread | 100,000 | -50% +10% | 20.00 | 100 | 200 | 300 | 15.0 | 0.50 \
         | 5.0 |"
    );
    let columns = |line: &str| line.matches('|').count();
    let rows = text.lines().filter(|line| line.starts_with("| "));
    assert!(rows.clone().count() == 3 && rows.clone().all(|line| columns(line) == columns(HEAD)));
}

#[test]
fn who_flushes_too_seldom_is_marked_and_is_not_ahead_of_anybody() {
    let fast = row(Kind::Mrecordlog, &[900e3], 1000.0);
    let rows = vec![row(Kind::Leveret, &[100e3], 16.0), row(Kind::Fjall, &[50e3], 1.0), fast];
    let report = report(rows);
    assert_eq!(report.durable(&report.rows[0]), Durable::Yes);
    assert_eq!(report.durable(&report.rows[2]), Durable::No);
    let told = Standing { load: LOAD, first: "Leveret", best_peer: Some("fjall"), ratio: Some(2.0) };
    assert_eq!(report.standings(), [told]);
    assert!(report.is_ahead());
    assert_eq!(report.markdown().matches("NOT DURABLE").count(), 1);
}

#[test]
fn flushes_that_others_cause_do_not_count() {
    let mut slow = row(Kind::Fjall, &[10.0], 1.0);
    // Those at rest alone.
    slow.runs[0].flushes = Some(10.0);
    assert_eq!(slow.durable(10.0), Durable::No);
    assert_eq!(slow.durable(0.0), Durable::Yes);
    slow.runs[0].flushes = None;
    assert_eq!(slow.durable(0.0), Durable::Unknown);
}

#[test]
fn the_bare_loop_has_one_writer_whatever_is_asked() {
    assert_eq!(row(Kind::Bare, &[5e3], 2.0).durable(10.0), Durable::No);
    assert_eq!(row(Kind::BareDesk, &[5e3], 2.0).durable(10.0), Durable::Yes);
}

#[test]
fn leveret_is_not_ahead_when_it_is_behind_alone_or_somebody_failed() {
    let leveret = || row(Kind::Leveret, &[100e3], 16.0);
    assert!(!report(vec![leveret(), row(Kind::Rocksdb, &[101e3], 16.0)]).is_ahead());
    assert!(!report(vec![leveret()]).is_ahead());
    assert!(!report(Vec::new()).is_ahead());
    assert!(!report(vec![row(Kind::Leveret, &[100e3], 99.0), row(Kind::Rocksdb, &[1e3], 16.0)]).is_ahead());
    // The floor is no peer.
    assert!(
        report(vec![leveret(), row(Kind::Rocksdb, &[1e3], 16.0), row(Kind::BareDesk, &[1e6], 16.0)])
            .is_ahead()
    );
    let mut failed = row(Kind::Fjall, &[], 1.0);
    failed.failures.push("full".into());
    let report = report(vec![leveret(), row(Kind::Rocksdb, &[1e3], 16.0), failed]);
    assert!(!report.is_ahead());
    let report = Report { left_out: vec!["fjall (why)".into(), "RocksDB (not)".into()], ..report };
    let text = report.markdown();
    assert!(text.contains("\nLeft out: fjall (why); RocksDB (not).\n"));
    let line = text.lines().find(|line| line.contains("failed: full")).unwrap();
    assert_eq!(line.matches('|').count(), HEAD.matches('|').count());
}

#[test]
fn files_hold_rows_and_standings() {
    let directory = tempfile::tempdir().unwrap();
    let rows = vec![row(Kind::Leveret, &[100e3], 16.0), row(Kind::Rocksdb, &[50e3], 16.0)];
    report(rows).write(directory.path()).unwrap();
    let json = std::fs::read(directory.path().join("peers.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["rows"][1]["peer"], "rocksdb");
    assert_eq!(json["rows"][1]["version"], "1.2.3");
    assert_eq!(json["rows"][1]["writers"], 16);
    assert_eq!(json["machine"]["file_system"], "ext4");
    assert_eq!(json["standings"][0]["ratio"], 2.0);
    assert!(std::fs::read_to_string(directory.path().join("peers.md")).unwrap().contains("Leveret is ahead"));
}

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

struct Fixed(MetricsSnapshot);

impl MetricsSource for Fixed {
    fn snapshot(&self) -> SnapshotFuture<'_> {
        Box::pin(std::future::ready(self.0.clone()))
    }
}

async fn get(path: &str, serving: &Serving, snapshot: MetricsSnapshot) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
    let addr = listener.local_addr().expect("address");
    let router = router(serving.clone(), Arc::new(Fixed(snapshot)));
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let mut socket = TcpStream::connect(addr).await.expect("connection");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("request");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("answer");
    server.abort();
    answer
}

#[tokio::test]
async fn health_follows_the_server() {
    let serving = Serving::default();
    assert!(get("/health", &serving, MetricsSnapshot::default()).await.starts_with("HTTP/1.1 503"));
    assert!(get("/metrics", &serving, MetricsSnapshot::default()).await.contains("\nleveret_serving 0\n"));
    serving.set(true);
    assert!(get("/health", &serving, MetricsSnapshot::default()).await.starts_with("HTTP/1.1 200"));
    assert!(get("/metrics", &serving, MetricsSnapshot::default()).await.contains("\nleveret_serving 1\n"));
}

#[test]
fn histogram_is_cumulative_and_in_seconds() {
    let mut snapshot = MetricsSnapshot::default();
    snapshot.engine.sync_latency_us[0] = 1;
    snapshot.engine.sync_latency_us[7] = 2;
    snapshot.engine.sync_latency_us[31] = 3;
    snapshot.engine.sync_latency_us_total = 2_500_000;
    let text = metrics::encode(Some(&snapshot));
    for line in [
        "leveret_log_sync_seconds_bucket{le=\"0.000002\"} 1",
        "leveret_log_sync_seconds_bucket{le=\"0.000128\"} 1",
        "leveret_log_sync_seconds_bucket{le=\"0.000256\"} 3",
        "leveret_log_sync_seconds_bucket{le=\"+Inf\"} 6",
        "leveret_log_sync_seconds_sum 2.5",
        "leveret_log_sync_seconds_count 6",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn queues_are_escaped_and_capped() {
    let name: Arc<str> = "a\"b\\c\nd".into();
    let queue = QueueFigures { vhost: "/".into(), name, messages_ready: 4, ..QueueFigures::default() };
    let snapshot = MetricsSnapshot { queues: vec![queue; QUEUES_MAX + 5], ..MetricsSnapshot::default() };
    let text = metrics::encode(Some(&snapshot));
    let line = r#"leveret_queue_messages_ready{vhost="/",queue="a\"b\\c\nd"} 4"#;
    assert_eq!(text.lines().filter(|found| *found == line).count(), QUEUES_MAX);
    assert!(text.contains("\nleveret_queues_not_shown 5\n"));
}

/// Every family is described once, has samples, and carries our name.
#[test]
fn families_are_well_formed() {
    let text = metrics::encode(Some(&MetricsSnapshot {
        queues: vec![QueueFigures::default()],
        memory_parts: vec![("bodies", 1)],
        ..Default::default()
    }));
    let mut names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "a family stands twice");
    for name in names {
        assert!(name.starts_with("leveret_"), "{name}");
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} has no sample");
    }
}

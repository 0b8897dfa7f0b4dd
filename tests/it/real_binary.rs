//! The binary that users get has none of the test-only switches.

use leveret_tests::binary;
use leveret_tests::server::{Options, Server};

/// Names of switchable bugs as TESTING names them; none of them may be in the real binary.
const CONTROLS: [&str; 4] = ["skip_fdatasync", "confirm_before_sync", "ignore_crc", "skip_dir_sync"];

#[tokio::test]
async fn a_control_switch_is_an_unknown_variable() {
    for control in CONTROLS {
        let env = vec![("LEVERET_CONTROL".to_string(), control.to_string())];
        let server = Server::start_with(Options { env, ..Options::default() }).await;
        let mut client = server.client().await;
        client.declare_queue("jobs").await;
        client.publish("jobs", "a").await;
        let stderr = server.home().stderr();
        assert!(stderr.contains("LEVERET_CONTROL"), "a warning names the variable: {stderr}");
        let status =
            client.rpc.status(leveret_proto::v1::StatusRequest {}).await.expect("status").into_inner();
        assert!(status.log_syncs_total > 0, "it syncs all the same: {status:?}");
        let server = server.kill_and_restart().await;
        assert_eq!(server.client().await.drain("jobs").await, ["a"]);
    }
}

#[test]
fn no_control_is_compiled_in() {
    let binary = std::fs::read(binary::leveret()).expect("the binary");
    for control in CONTROLS {
        let found = binary.windows(control.len()).any(|window| window == control.as_bytes());
        assert!(
            !found,
            "{control} is in {}: build it with -p leveret-server alone",
            binary::leveret().display()
        );
    }
}

//! The commands, with rabbitmqctl's words: what they print, compared as text.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use leveret_tests::binary;

use super::{Scene, Server};

fn leveret(server: &Server, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(binary::leveret())
        .args(arguments)
        .env("LEVERET_ADDR", format!("http://127.0.0.1:{}", server.grpc_port()))
        .env("LEVERET_PASSWORD", "secret")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command line");
    // It may not want to read any.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    child.wait_with_output().expect("the command line")
}

/// What a command prints, when it succeeds.
fn prints(server: &Server, arguments: &[&str]) -> String {
    let output = tokio::task::block_in_place(|| leveret(server, arguments, ""));
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Standard error of a command that fails with this code.
fn fails(server: &Server, arguments: &[&str], code: i32) -> String {
    let output = tokio::task::block_in_place(|| leveret(server, arguments, ""));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).expect("text")
}

const ADDED: &str = "Adding user \"alice\" ...\nDone. Don't forget to grant the user permissions to some virtual hosts! See \
                     'leveret help set_permissions' to learn more.\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_say_what_rabbitmqctl_says() {
    let scene = Scene::set().await;
    let server = &scene.server;
    for (arguments, expected) in [
        (&["list_users"][..], "user\ttags\nguest\t[administrator]\n"),
        (&["list_vhosts"], "name\n/\n"),
        (&["list_permissions"], "user\tconfigure\twrite\tread\nguest\t.*\t.*\t.*\n"),
        (&["add_user", "alice", "secret"], ADDED),
        (
            &["set_user_tags", "alice", "monitoring", "other"],
            "Setting tags for user \"alice\" to [monitoring, other] ...\n",
        ),
        (&["list_users"], "user\ttags\nalice\t[monitoring, other]\nguest\t[administrator]\n"),
        (&["list_users", "-q"], "alice\t[monitoring, other]\nguest\t[administrator]\n"),
        (&["set_user_tags", "alice"], "Setting tags for user \"alice\" to [] ...\n"),
        (&["list_users", "user", "tags"], "user\ttags\nalice\t[]\nguest\t[administrator]\n"),
        (&["add_vhost", "shop", "--description", "sales", "--tags", "a,b"], "Adding vhost \"shop\" ...\n"),
        (&["add_vhost", "shop"], "Adding vhost \"shop\" ...\n"),
        (
            &["list_vhosts", "name", "description", "tags"],
            "name\tdescription\ttags\n/\t\t[]\nshop\tsales\t[a, b]\n",
        ),
        (
            &["set_permissions", "-p", "shop", "alice", "^own", ".*", ""],
            "Setting permissions for user \"alice\" in vhost \"shop\" ...\n",
        ),
        (&["list_permissions", "-p", "shop"], "user\tconfigure\twrite\tread\nalice\t^own\t.*\t\n"),
        (&["list_user_permissions", "alice"], "vhost\tconfigure\twrite\tread\nshop\t^own\t.*\t\n"),
        (
            &["set_topic_permissions", "-p", "shop", "alice", "amq.topic", "^w", "^r"],
            "Setting topic permissions on \"amq.topic\" for user \"alice\" in vhost \"shop\" ...\n",
        ),
        (
            &["list_topic_permissions", "--vhost", "shop"],
            "user\texchange\twrite\tread\nalice\tamq.topic\t^w\t^r\n",
        ),
        (
            &["clear_topic_permissions", "-p", "shop", "alice", "amq.topic"],
            "Clearing topic permissions on \"amq.topic\" for user \"alice\" in vhost \"shop\" ...\n",
        ),
        (
            &["clear_topic_permissions", "-p", "shop", "alice"],
            "Clearing topic permissions for user \"alice\" in vhost \"shop\" ...\n",
        ),
        (&["list_topic_permissions", "-p", "shop"], "user\texchange\twrite\tread\n"),
        (
            &["clear_permissions", "-p", "shop", "alice"],
            "Clearing permissions for user \"alice\" in vhost \"shop\" ...\n",
        ),
        (&["list_permissions", "-p", "shop"], "user\tconfigure\twrite\tread\n"),
        (&["change_password", "alice", "secret"], "Changing password for user \"alice\" ...\n"),
        (&["delete_vhost", "shop"], "Deleting vhost \"shop\" ...\n"),
        (&["delete_user", "alice"], "Deleting user \"alice\" ...\n"),
        (&["list_users"], "user\ttags\nguest\t[administrator]\n"),
        (&["list_vhosts"], "name\n/\n"),
        (&["add_user", "-q", "bob", "secret"], ""),
        (
            &["list_users", "--json"],
            "[{\"tags\":[],\"user\":\"bob\"},{\"tags\":[\"administrator\"],\"user\":\"guest\"}]\n",
        ),
        (&["delete_user", "bob", "--json"], "{\"user\":\"bob\"}\n"),
    ] {
        assert_eq!(prints(server, arguments), expected, "{arguments:?}");
    }
    for (arguments, part) in [
        (&["add_user", "guest", "x"][..], "ALREADY_EXISTS"),
        (&["delete_user", "nobody"], "nobody"),
        (&["change_password", "nobody", "x"], "nobody"),
        (&["delete_vhost", "nowhere"], "nowhere"),
        (&["set_permissions", "guest", "(", ".*", ".*"], "("),
        (&["set_permissions", "-p", "nowhere", "guest", ".*", ".*", ".*"], "nowhere"),
        (&["list_permissions", "-p", "nowhere"], "nowhere"),
        (&["list_user_permissions", "nobody"], "nobody"),
    ] {
        let text = fails(server, arguments, 1);
        assert!(text.contains(part), "{arguments:?}: {text}");
    }
    fails(server, &["set_permissions", "guest", ".*"], 2);
    fails(server, &["list_users", "colour"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_come_from_standard_input_and_logins_from_the_environment() {
    let mut scene = Scene::set().await;
    let run = |arguments: &[&str], input: &str| {
        tokio::task::block_in_place(|| leveret(&scene.server, arguments, input))
    };
    let added = run(&["add_user", "alice"], "secret\nnot this\n");
    assert_eq!((added.status.code(), String::from_utf8_lossy(&added.stdout).as_ref()), (Some(0), ADDED));
    let none = run(&["add_user", "bob"], "");
    assert_eq!(none.status.code(), Some(2));
    let text = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(text.contains("Password is not provided via argument or stdin"), "{text}");
    // Every command takes a login.
    let status = run(&["--user", "alice", "list_connections", "user"], "");
    assert_eq!(String::from_utf8_lossy(&status.stdout), "user\nalice\n", "{status:?}");
    let denied = run(&["--user", "alice", "list_users"], "");
    assert_eq!(denied.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&denied.stderr).contains("ACCESS_REFUSED"), "{denied:?}");
    let wrong = run(&["--user", "guest", "status"], "");
    assert_eq!(wrong.status.code(), Some(1));
    let text = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(text.contains("login refused (UNAUTHENTICATED)") && !text.contains("secret"), "{text}");
    // Neither a password nor its hash goes to the log or to a listing.
    let users = run(&["list_users", "--json"], "");
    assert!(!String::from_utf8_lossy(&users.stdout).contains("argon2"));
    scene.add_user("carol").await;
    let log = scene.server.home().stderr();
    assert!(!log.contains("secret") && !log.contains("argon2"), "{log}");
}

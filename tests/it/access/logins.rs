//! Logins: who gets in, what the others hear, and what becomes of those who are in.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use leveret_proto::v1::{
    AddUserRequest, ChangePasswordRequest, ListConnectionsRequest, ListPermissionsRequest, ListUsersRequest,
    SessionRequest, SetPermissionsRequest, StatusRequest,
};
use leveret_tests::amqp::codec::{PROTOCOL_HEADER, Writer};
use leveret_tests::amqp::{Connection, Error, method};
use leveret_tests::binary;
use leveret_tests::client::{Client, assert_refused, reason};
use leveret_tests::server::{Home, Ports};
use leveret_tests::streams::ConsumeLane;
use tonic::{Code, Status};

use super::{PASSWORD, Scene, closed, connection_closed};

const REFUSED: &str = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker \
                       logfile.";

#[tokio::test]
async fn wrong_logins_hear_the_same_whatever_is_wrong() {
    let mut scene = Scene::set().await;
    scene.add_worker("worker").await;
    let port = scene.server.amqp_port();
    for login in [("worker", "Secret"), ("worker", ""), ("nobody", PASSWORD), ("guest", "secret"), ("", "")] {
        let refused = Connection::open_as(port, login, "/").await.map(drop);
        assert_eq!(closed(refused), (0, 403, REFUSED.into()), "{login:?}");
        // A client that cannot take a close there is left without one.
        let mut old = Connection::raw(port).await.expect("a socket");
        old.send(&PROTOCOL_HEADER).await.expect("sent");
        old.expect(0, method::CONNECTION_START).await.expect("start");
        let response = format!("\0{}\0{}", login.0, login.1);
        old.start_ok_able("PLAIN", response.as_bytes(), &[]).await.expect("sent");
        assert_eq!(old.rest().await.expect("the end"), "", "{login:?}");
    }
    let mut said: Vec<Status> = Vec::new();
    for (user, password) in [("worker", "Secret"), ("nobody", PASSWORD), ("nobody", ""), ("guest", "secret")]
    {
        let mut client = scene.server.client_as(user, password).await;
        said.push(client.rpc.status(StatusRequest {}).await.expect_err("a wrong login"));
    }
    for status in &said {
        assert_eq!((status.code(), reason(status).as_str()), (Code::Unauthenticated, "UNAUTHENTICATED"));
        assert_eq!((status.message(), status.details()), (said[0].message(), said[0].details()));
    }
    // The right ones, by both mechanisms.
    scene.amqp("worker", "/").await;
    let mut amqplain = Connection::raw(port).await.expect("a socket");
    amqplain.send(&PROTOCOL_HEADER).await.expect("sent");
    amqplain.expect(0, method::CONNECTION_START).await.expect("start");
    let table = b"\x05LOGINS\x00\x00\x00\x06worker\x08PASSWORDS\x00\x00\x00\x06secret";
    amqplain.start_ok("AMQPLAIN", table).await.expect("sent");
    amqplain.expect(0, method::CONNECTION_TUNE).await.expect("logged in");
    scene.grpc("worker").await.rpc.status(StatusRequest {}).await.expect("logged in");
}

/// Guards against a user who is found out by the time that a refusal takes.
#[tokio::test]
async fn a_user_who_does_not_exist_costs_as_much_as_a_wrong_password() {
    let mut scene = Scene::set().await;
    scene.add_worker("worker").await;
    let mut fastest = [Duration::MAX; 2];
    for n in 0..5 {
        for (user, fastest) in ["worker", "nobody"].into_iter().zip(&mut fastest) {
            let mut client = scene.server.client_as(user, &format!("wrong {n}")).await;
            let start = Instant::now();
            client.rpc.status(StatusRequest {}).await.expect_err("a wrong login");
            *fastest = start.elapsed().min(*fastest);
        }
    }
    let [worker, nobody] = fastest;
    assert!(nobody > worker / 3 && worker > nobody / 3, "{worker:?} and {nobody:?}");
    assert!(nobody > Duration::from_millis(4), "{nobody:?} is no password hash");
}

#[tokio::test]
async fn a_password_that_changes_holds_at_once_and_ends_nothing() {
    let mut scene = Scene::set().await;
    scene.add_worker("worker").await;
    let mut amqp = scene.amqp("worker", "/").await;
    let mut old = scene.grpc("worker").await;
    old.rpc.status(StatusRequest {}).await.expect("logged in");
    let request = ChangePasswordRequest { name: "worker".into(), password: "new".into() };
    scene.root.admin().change_password(request).await.expect("changed");
    assert_eq!(old.rpc.status(StatusRequest {}).await.expect_err("old").code(), Code::Unauthenticated);
    old.with_login("worker", "new").rpc.status(StatusRequest {}).await.expect("new");
    assert_eq!(closed(scene.try_amqp("worker", "/").await.map(drop)), (0, 403, REFUSED.into()));
    amqp.declare_queue(1, "q", &[]).await.expect("what is open goes on");
    // A password does not expire: it may say the new one, or another, and that changes nothing.
    let secret = |secret: &str| Writer::new().longstr(secret.as_bytes()).shortstr("changed");
    let update = (method::CONNECTION_UPDATE_SECRET, method::CONNECTION_UPDATE_SECRET_OK);
    for text in ["new", "old"] {
        amqp.call(0, update.0, &secret(text), update.1).await.expect("update-secret-ok");
    }
    amqp.declare_queue(1, "q", &[]).await.expect("it goes on");
    assert_eq!(closed(scene.try_amqp("worker", "/").await.map(drop)), (0, 403, REFUSED.into()));
    let scene = scene.kill_and_restart().await;
    scene.root.with_login("worker", "new").rpc.status(StatusRequest {}).await.expect("after a crash");
    let request = ChangePasswordRequest { name: "nobody".into(), password: "new".into() };
    let missing = scene.root.admin().change_password(request).await;
    assert_eq!(missing.expect_err("no such user").code(), Code::NotFound);
}

#[tokio::test]
async fn a_deleted_users_connections_end() {
    let mut scene = Scene::set().await;
    scene.add_worker("worker").await;
    scene.root.declare_queue("q").await;
    scene.root.publish("q", "a").await;
    let mut amqp = scene.amqp("worker", "/").await;
    let mut bystander = scene.amqp("guest", "/").await;
    let mut client = scene.grpc("worker").await;
    let mut lane = ConsumeLane::on(&client, "q", 10).await;
    lane.next().await;
    let mut session = client.rpc.session(SessionRequest::default()).await.expect("a session").into_inner();
    session.message().await.expect("open").expect("a token");
    scene.delete_user("worker").await;
    let text = connection_closed(&mut amqp, 320).await;
    assert!(text.starts_with("CONNECTION_FORCED - ") && text.contains("worker"), "{text}");
    for ended in [lane.next_or_end().await.map(drop), session.message().await.map(drop)] {
        assert_refused(ended, Code::Aborted, &["CONNECTION_FORCED"]);
    }
    let gone = client.rpc.status(StatusRequest {}).await;
    assert_refused(gone, Code::Unauthenticated, &["UNAUTHENTICATED"]);
    // What was out is back, and others noticed nothing.
    let message = bystander.get(1, "q").await.expect("get").expect("a message");
    assert_eq!((message.body.as_ref(), message.delivery().1), (&b"a"[..], true));
    // A new user of that name is another one, also on a socket that the old one used.
    scene.add_worker("worker").await;
    let lane = ConsumeLane::on(&client, "q", 10).await;
    drop(lane);
    client.queue_info("q").await;
    let scene = scene.kill_and_restart().await;
    let users = scene.root.admin().list_users(ListUsersRequest {}).await.expect("list").into_inner().users;
    assert_eq!(users.len(), 2, "{users:?}");
}

#[tokio::test]
async fn users_and_permissions_survive_kill_9_and_a_clean_stop() {
    let mut scene = Scene::set().await;
    scene.add_vhost("a").await;
    for user in ["alice", "bob", "carol"] {
        scene.add_user(user).await;
        scene.allow(user, "a", ["^c", "^w", "^r"]).await;
    }
    scene.set_tags("alice", &["monitoring", "of-our-own"]).await;
    scene.delete_user("carol").await;
    let all = async |root: &mut Client| {
        let users = root.admin().list_users(ListUsersRequest {}).await.expect("list").into_inner().users;
        let request = ListPermissionsRequest { vhost: "a".into() };
        let permissions =
            root.admin().list_permissions(request).await.expect("list").into_inner().permissions;
        (users, permissions)
    };
    let before = all(&mut scene.root).await;
    assert_eq!(before.0.iter().map(|user| user.name.as_str()).collect::<Vec<_>>(), ["alice", "bob", "guest"]);
    assert_eq!(before.0[0].tags, ["monitoring", "of-our-own"]);
    assert_eq!((before.1.len(), before.1[1].write.as_str()), (2, "^w"));
    let mut scene = scene.kill_and_restart().await;
    assert_eq!(all(&mut scene.root).await, before);
    scene.grpc("bob").await.rpc.status(StatusRequest {}).await.expect("logged in");
    let (home, options) = scene.server.stop().await;
    let server = leveret_tests::server::Server::start_on(&home, options).await;
    assert_eq!(all(&mut server.client().await).await, before);
    Connection::open_as(server.amqp_port(), ("bob", PASSWORD), "a").await.expect("logged in");
}

/// Guards against defaults that come back.
#[tokio::test]
async fn guest_does_not_come_back_once_it_was_deleted() {
    let mut scene = Scene::set().await;
    scene.add_worker("admin").await;
    scene.set_tags("admin", &["administrator"]).await;
    let admin = scene.grpc("admin").await;
    scene.delete_user("guest").await;
    let mut nobody = scene.server.client().await;
    let status = nobody.rpc.status(StatusRequest {}).await;
    assert_refused(status, Code::Unauthenticated, &["UNAUTHENTICATED"]);
    admin.admin().list_users(ListUsersRequest {}).await.expect("administrators go on");
    let (home, options) = scene.server.kill();
    let server = leveret_tests::server::Server::start_on(&home, options).await;
    let status = server.client().await.rpc.status(StatusRequest {}).await;
    assert_refused(status, Code::Unauthenticated, &["UNAUTHENTICATED"]);
    let admin = server.client_as("admin", PASSWORD).await;
    let users = admin.admin().list_users(ListUsersRequest {}).await.expect("list").into_inner().users;
    assert_eq!(users.len(), 1, "{users:?}");
}

/// Guards against a door that stays open when guest has a secret.
#[tokio::test]
async fn without_a_login_nobody_is_guest_once_guest_has_another_password() {
    let mut scene = Scene::set().await;
    let root = scene.server.client_as("guest", "secret").await;
    let to = |password: &str| ChangePasswordRequest { name: "guest".into(), password: password.into() };
    scene.root.admin().change_password(to("secret")).await.expect("changed");
    let refused = |status| assert_refused(status, Code::Unauthenticated, &["UNAUTHENTICATED"]);
    refused(scene.root.rpc.status(StatusRequest {}).await.map(drop));
    refused(scene.root.admin().change_password(to("guest")).await.map(drop));
    root.admin().list_users(ListUsersRequest {}).await.expect("guest, with a login");
    let mut scene = scene.kill_and_restart().await;
    refused(scene.root.rpc.status(StatusRequest {}).await.map(drop));
    let root = scene.server.client_as("guest", "secret").await;
    root.admin().change_password(to("guest")).await.expect("changed back");
    scene.root.rpc.status(StatusRequest {}).await.expect("open again");
}

#[tokio::test]
async fn only_administrators_administer_and_others_see_their_own() {
    let mut scene = Scene::set().await;
    scene.add_worker("worker").await;
    scene.add_worker("other").await;
    let _connections = [scene.amqp("worker", "/").await, scene.amqp("other", "/").await];
    let mut worker = scene.grpc("worker").await;
    let users = worker.admin().list_users(ListUsersRequest {}).await;
    assert_refused(users, Code::PermissionDenied, &["ACCESS_REFUSED"]);
    let add = AddUserRequest { name: "mine".into(), password: "x".into(), ..Default::default() };
    assert_refused(worker.admin().add_user(add).await, Code::PermissionDenied, &["ACCESS_REFUSED"]);
    let raise =
        leveret_proto::v1::SetUserTagsRequest { name: "worker".into(), tags: vec!["administrator".into()] };
    assert_refused(worker.admin().set_user_tags(raise).await, Code::PermissionDenied, &["ACCESS_REFUSED"]);
    let seen = async |client: &mut Client| {
        let list = client.rpc.list_connections(ListConnectionsRequest {}).await.expect("list").into_inner();
        let mut users: Vec<_> = list.connections.into_iter().map(|connection| connection.user).collect();
        users.sort_unstable();
        users.dedup();
        users
    };
    assert_eq!(seen(&mut worker).await, ["worker"]);
    assert_eq!(seen(&mut scene.root).await, ["guest", "other", "worker"]);
    scene.set_tags("worker", &["monitoring"]).await;
    assert_eq!(seen(&mut worker).await, ["guest", "other", "worker"]);
}

#[tokio::test]
async fn names_and_patterns_that_are_not_valid() {
    let mut scene = Scene::set().await;
    scene.add_worker("worker").await;
    let user =
        |name: &str| AddUserRequest { name: name.into(), password: PASSWORD.into(), ..Default::default() };
    for name in ["", "a:b", "a\nb", &"x".repeat(256)] {
        let refused = scene.root.admin().add_user(user(name)).await;
        assert_refused(refused, Code::InvalidArgument, &["INVALID_ARGUMENT"]);
    }
    let twice = scene.root.admin().add_user(user("worker")).await;
    assert_refused(twice, Code::AlreadyExists, &["ALREADY_EXISTS"]);
    let set = |user: &str, vhost: &str, write: &str| SetPermissionsRequest {
        user: user.into(),
        vhost: vhost.into(),
        write: write.into(),
        ..Default::default()
    };
    let large = "(((a{1000}){1000}){1000})";
    for pattern in ["(", "[z-a]", "*", "a{5,2}", large, &"x".repeat(1 << 20)] {
        let refused = scene.root.admin().set_permissions(set("worker", "/", pattern)).await;
        let status = assert_refused(refused, Code::InvalidArgument, &["INVALID_ARGUMENT"]);
        let shown = &pattern[..pattern.len().min(20)];
        assert!(status.message().contains(shown), "{} says which", status.message());
    }
    for (name, vhost) in [("nobody", "/"), ("worker", "nowhere")] {
        let refused = scene.root.admin().set_permissions(set(name, vhost, ".*")).await;
        assert_eq!(refused.expect_err("a refusal").code(), Code::NotFound, "{name} {vhost}");
    }
    // One that runs away elsewhere takes no time here.
    scene.allow("worker", "/", ["^((a*)*)*$", ".*", ".*"]).await;
    let mut client = scene.grpc("worker").await;
    let name = format!("{}!", "a".repeat(254));
    let start = Instant::now();
    let refused = client.rpc.declare_queue(leveret_tests::client::queue(&name)).await;
    assert_refused(refused, Code::PermissionDenied, &["ACCESS_REFUSED"]);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

/// The address of this machine towards others, if it has one; nothing is sent.
fn own_address() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    match socket.local_addr().ok()?.ip() {
        std::net::IpAddr::V4(addr) if !addr.is_loopback() && !addr.is_unspecified() => Some(addr),
        _ => None,
    }
}

/// On a machine that has no address but loopback there is no other place to call from; server
/// `auth::tests::loopback_users_come_from_loopback` shows the rule there.
#[tokio::test(flavor = "multi_thread")]
async fn guest_calls_from_loopback_only() {
    let Some(addr) = own_address() else { return };
    for (loopback_users, let_in) in [("guest", false), ("none", true)] {
        let home = Home::new().expect("a directory");
        let ports = Ports::free();
        let mut server = Command::new(binary::leveret())
            .args(["serve", "--loopback-users", loopback_users, "--data-dir"])
            .arg(home.data())
            .args(["--grpc-addr", &format!("0.0.0.0:{}", ports.grpc)])
            .args(["--amqp-addr", &format!("0.0.0.0:{}", ports.amqp)])
            .args(["--http-addr", &format!("127.0.0.1:{}", ports.http)])
            .stderr(Stdio::null())
            .spawn()
            .expect("the process");
        while !leveret_tests::client::serving(ports.grpc).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let call = async |login: &str| {
            let url = format!("http://{addr}:{}", ports.grpc);
            let mut command = Command::new(binary::leveret());
            command.args(["list_queues", "--addr", &url]).env("LEVERET_PASSWORD", "guest");
            if !login.is_empty() {
                command.args(["--user", login]);
            }
            let output = command.stdin(Stdio::null()).output().expect("the command line");
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (good, text) = call("guest").await;
        assert_eq!(good, let_in, "{text}");
        let (good, text) = call("").await;
        assert!(!good && text.contains("UNAUTHENTICATED"), "without a login: {text}");
        let amqp = async {
            let mut connection = Connection::raw_to(addr, ports.amqp).await?;
            connection.send(&PROTOCOL_HEADER).await?;
            connection.expect(0, method::CONNECTION_START).await?;
            connection.start_ok("PLAIN", b"\0guest\0guest").await?;
            connection.expect(0, method::CONNECTION_TUNE).await
        };
        match amqp.await {
            Ok(_) => assert!(let_in),
            Err(Error::Closed { code: 403, text, .. }) => assert!(!let_in && text == REFUSED, "{text}"),
            Err(error) => panic!("{error:?}"),
        }
        server.kill().expect("killed");
        server.wait().expect("reaped");
    }
}

//! Logins over a core that counts how often it is asked.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use leveret_broker::{Input, PasswordHash, UserRecord};

use super::*;
use crate::inbox::{Envelope, Inbox};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

/// Users with passwords, in a core of its own.
struct World {
    auth: Auth,
    inbox: Arc<Inbox>,
    users: Arc<Mutex<HashMap<String, String>>>,
    asked: Arc<AtomicU64>,
    core: Option<JoinHandle<()>>,
}

impl World {
    fn new(users: &[(&str, &str)]) -> Self {
        Self::over(users, Hasher::start())
    }

    fn over(users: &[(&str, &str)], hasher: io::Result<Hasher>) -> Self {
        let inbox = Arc::new(Inbox::default());
        let asked = Arc::new(AtomicU64::new(0));
        let hashes = users.iter().map(|(name, password)| ((*name).to_owned(), hash_of(password)));
        let users = Arc::new(Mutex::new(hashes.collect::<HashMap<_, _>>()));
        let core = std::thread::spawn({
            let (inbox, users, asked) = (Arc::clone(&inbox), Arc::clone(&users), Arc::clone(&asked));
            move || answer(&inbox, &users, &asked)
        });
        let hub = Hub::new(Arc::clone(&inbox), 1000, 1000);
        let auth = Auth::over(hub, vec!["guest".to_owned()], hasher.expect("threads")).expect("a key");
        Self { auth, inbox, users, asked, core: Some(core) }
    }

    async fn check(&self, user: &str, password: &str, from: IpAddr) -> Result<Arc<str>, Refused> {
        self.auth.check(Login { user, password: password.as_bytes() }, from).await
    }

    fn known(&self, user: &str, password: &str) -> Option<Result<Arc<str>, Refused>> {
        self.auth.known(Login { user, password: password.as_bytes() }, HERE)
    }

    /// Changes users as the core does, and says so.
    fn change(&self, change: impl FnOnce(&mut HashMap<String, String>)) {
        change(&mut lock(&self.users));
        self.inbox.access_changed();
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.inbox.push(Envelope::Close);
        if let Some(core) = self.core.take() {
            let _ = core.join();
        }
    }
}

fn answer(inbox: &Inbox, users: &Mutex<HashMap<String, String>>, asked: &AtomicU64) {
    let mut batch = VecDeque::new();
    loop {
        inbox.take(&mut batch, Duration::from_millis(50));
        for envelope in batch.drain(..) {
            match envelope {
                Envelope::Close => return,
                Envelope::Request { input: Input::Request { op, .. }, reply, .. } => {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let Op::LookUpUser { name } = op else { panic!("{op:?}") };
                    let hash = lock(users).get(&*name).cloned();
                    let record = hash.map(|hash| UserRecord {
                        name,
                        password_hash: PasswordHash(hash.into()),
                        tags: Vec::new(),
                    });
                    let _ = reply.send(Ok(Reply::User(record)));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn hash_of(password: &str) -> String {
    hasher::hash(&Password::new(password)).expect("a hash")
}

#[tokio::test]
async fn a_login_is_checked_once() {
    let world = World::new(&[("alice", "secret")]);
    assert_eq!(world.known("alice", "secret"), None);
    assert_eq!(world.check("alice", "secret", HERE).await, Ok("alice".into()));
    assert_eq!(world.known("alice", "secret"), Some(Ok("alice".into())));
    assert_eq!(world.check("alice", "secret", THERE).await, Ok("alice".into()));
    assert_eq!(world.asked(), 1);
}

/// Guards against a wrong password that counts as good afterwards, and against one that tells who exists.
#[tokio::test]
async fn wrong_logins_are_refused_alike() {
    let world = World::new(&[("alice", "secret"), ("locked", "")]);
    lock(&world.users).insert("locked".into(), String::new());
    for (user, password) in [
        ("alice", "Secret"),
        ("alice", ""),
        ("nobody", "secret"),
        ("locked", ""),
        ("", ""),
        ("alic", "esecret"),
    ] {
        for _ in 0..2 {
            assert_eq!(world.check(user, password, HERE).await, Err(Refused::Wrong), "{user} {password}");
        }
        assert_eq!(world.known(user, password), Some(Err(Refused::Wrong)), "{user} {password}");
    }
    assert_eq!(world.check("alice", "secret", HERE).await, Ok("alice".into()));
    // The decoy is nobody's password.
    assert_eq!(world.check("nobody", "nobody is here.", HERE).await, Err(Refused::Wrong));
}

#[tokio::test]
async fn a_change_has_every_login_looked_at_again() {
    let world = World::new(&[("alice", "secret"), ("bob", "secret")]);
    for user in ["alice", "bob", "carol"] {
        let _ = world.check(user, "secret", HERE).await;
    }
    world.change(|users| {
        users.insert("alice".into(), hash_of("new"));
        users.insert("carol".into(), hash_of("secret"));
    });
    assert_eq!(world.known("alice", "secret"), None);
    assert_eq!(world.check("alice", "secret", HERE).await, Err(Refused::Wrong));
    assert_eq!(world.check("alice", "new", HERE).await, Ok("alice".into()));
    assert_eq!(world.check("bob", "secret", HERE).await, Ok("bob".into()));
    assert_eq!(world.check("carol", "secret", HERE).await, Ok("carol".into()), "who was nobody before");
    world.change(|users| drop(users.remove("bob")));
    assert_eq!(world.check("bob", "secret", HERE).await, Err(Refused::Wrong));
}

/// Guards against argon2 for every login again after every change of permissions.
#[tokio::test]
async fn a_password_that_did_not_change_is_not_verified_again() {
    let world = World::new(&[("alice", "secret")]);
    world.check("alice", "secret", HERE).await.expect("good");
    let digest = world.auth.inner.cache.digest(Login { user: "alice", password: b"secret" });
    let hash = lock(&world.users)["alice"].clone();
    for _ in 0..3 {
        world.change(|_| {});
        let generation = world.inbox.access_generation();
        let known = world.auth.inner.cache.renew(&digest, &hash, generation);
        assert_eq!(known, Some(Known::Good("alice".into())));
        assert_eq!(world.auth.inner.cache.renew(&digest, "another hash", generation), None);
    }
    world.change(|_| {});
    assert_eq!(world.check("alice", "secret", HERE).await, Ok("alice".into()));
    assert_eq!(world.asked(), 2);
}

/// Guards against a storm of wrong logins that keeps those out who were in, whenever an administrator changes something.
#[tokio::test]
async fn what_was_good_is_renewed_in_any_storm() {
    // Nobody runs argon2 here.
    let world = World::over(&[("alice", "secret"), ("bob", "secret")], Hasher::with_threads(0));
    let (login, inner) = (Login { user: "alice", password: b"secret" }, &world.auth.inner);
    let (digest, hash) = (inner.cache.digest(login), Arc::from(&*lock(&world.users)["alice"]));
    let good = Known::Good("alice".into());
    inner.cache.put(digest, &good, "alice".into(), hash, world.inbox.access_generation());
    for n in 0..FLIGHTS_MAX {
        let digest = inner.cache.digest(Login { user: "bob", password: n.to_string().as_bytes() });
        assert_eq!(inner.join(digest, oneshot::channel().0, false), Ok(true));
    }
    world.change(|_| {});
    assert_eq!(world.known("alice", "secret"), None);
    assert_eq!(world.check("bob", "secret", HERE).await, Err(Refused::Busy));
    assert_eq!(world.check("alice", "secret", HERE).await, Ok("alice".into()));
    assert_eq!(world.known("alice", "secret"), Some(Ok("alice".into())));
    assert_eq!((world.asked(), lock(&inner.flights).len()), (1, FLIGHTS_MAX));
}

#[tokio::test]
async fn many_who_bring_one_login_wait_for_one_check() {
    let world = World::new(&[("alice", "secret")]);
    let checks: Vec<_> = (0..50)
        .map(|_| {
            let auth = world.auth.clone();
            tokio::spawn(async move { auth.check(Login { user: "alice", password: b"secret" }, HERE).await })
        })
        .collect();
    for check in checks {
        assert_eq!(check.await.expect("no panic"), Ok("alice".into()));
    }
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn loopback_users_come_from_loopback() {
    let world = World::new(&[("guest", "guest"), ("alice", "secret")]);
    assert_eq!(world.check("guest", "guest", THERE).await, Err(Refused::NotFromThere));
    assert_eq!(world.check("guest", "wrong", THERE).await, Err(Refused::Wrong));
    assert_eq!(world.check("guest", "guest", HERE).await, Ok("guest".into()));
    let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
    assert_eq!(world.check("guest", "guest", mapped).await, Ok("guest".into()));
    assert_eq!(world.check("guest", "guest", THERE).await, Err(Refused::NotFromThere), "also when known");
    assert_eq!(world.check("alice", "secret", THERE).await, Ok("alice".into()));
}

#[tokio::test]
async fn without_a_login_loopback_is_guest_while_everybody_knows_its_password() {
    let world = World::new(&[("guest", "guest")]);
    assert_eq!(world.auth.anonymous(HERE).await, Ok("guest".into()));
    assert_eq!(world.auth.anonymous(HERE).await, Ok("guest".into()));
    assert_eq!(world.asked(), 1);
    assert_eq!(world.auth.anonymous(THERE).await, Err(Refused::Missing));
    world.change(|users| drop(users.insert("guest".into(), hash_of("secret"))));
    for _ in 0..3 {
        assert_eq!(world.auth.anonymous(HERE).await, Err(Refused::Missing));
    }
    assert_eq!(world.asked(), 2, "that it is closed is known, too");
    // What was verified counts against the hash it was verified against.
    world.change(|users| drop(users.insert("guest".into(), hash_of("guest"))));
    assert_eq!(world.auth.anonymous(HERE).await, Ok("guest".into()));
    world.change(|users| drop(users.insert("guest".into(), String::new())));
    assert_eq!(world.auth.anonymous(HERE).await, Err(Refused::Missing));
    world.change(|users| drop(users.remove("guest")));
    assert_eq!(world.auth.anonymous(HERE).await, Err(Refused::Missing));
}

/// Guards against a secret in a log.
#[test]
fn passwords_are_never_shown() {
    let shown = format!("{:?} {:?}", Password::new("secret"), Login { user: "alice", password: b"secret" });
    assert!(!shown.contains("secret") && !shown.contains("115"), "{shown}");
}

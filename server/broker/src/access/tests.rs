use std::sync::Arc;

use super::pattern::Pattern;
use super::words::{AddUser, PasswordHash, Permissions, TopicPermissions};
use super::{Access, Passes, Right, Thing};
use crate::input::{Publish, PublishExtras};
use crate::refusal::RefusalKind::{AccessRefused, InvalidArgument, PreconditionFailed};
use crate::topology::{ExchangeKind, ExchangeProps};
use crate::value::Table;
use crate::vhosts::{Vhost, VhostId, Vhosts};

fn pattern(text: &str) -> Pattern {
    Pattern::new(&Arc::from(text)).unwrap()
}

#[test]
fn a_pattern_fits_anywhere_unless_it_is_anchored() {
    for (text, fitting, others) in [
        ("", &[""][..], &["q", " "][..]),
        (".*", &["", "q", "a\nb"], &[]),
        ("^$", &[""], &["q"]),
        ("job", &["job", "my-jobs"], &["jo", "JOB"]),
        ("^job$", &["job"], &["jobs", "a job"]),
        ("^(?i)job$", &["JOB"], &["jobs"]),
        (r"^team\d+-", &["team12-a"], &["team-a", "team\u{0661}-a"]),
        (r"\w", &["a"], &["", "-", "\u{00e4}"]),
        ("^\u{00e4}.$", &["\u{00e4}b"], &["\u{00e4}", "\u{00e4}\u{00e4}"]),
        ("a|^b", &["xa", "bx"], &["xb"]),
    ] {
        let pattern = pattern(text);
        assert!(fitting.iter().all(|name| pattern.fits(name)), "{text}");
        assert!(!others.iter().any(|name| pattern.fits(name)), "{text}");
        assert_eq!(&*pattern.text(), text);
    }
}

#[test]
fn a_bad_pattern_is_refused_with_itself_and_the_reason() {
    let refused = |text: &str| {
        let refusal = Pattern::new(&Arc::from(text)).unwrap_err();
        assert_eq!(refusal.kind, InvalidArgument);
        assert_eq!(refusal.details, [("field", "pattern".to_string())]);
        refusal.text
    };
    assert_eq!(refused("a(b"), "'a(b' is not a regular expression that can be used: unclosed group");
    assert!(refused("(?=ahead)").contains("look-around"), "{}", refused("(?=ahead)"));
    assert!(refused(r"(a)\1").contains("backreferences are not supported"));
    let grown = "((a{1000}){1000}){1000}";
    assert!(refused(grown).ends_with("compiled it takes more than 262144 bytes"), "{}", refused(grown));
    let long = refused(&"\u{00e4}".repeat(5_000));
    assert!(long.contains("\u{00e4}...' is not") && long.ends_with("it has 10000 bytes, the most is 4096"));
    let nested = refused(&["(".repeat(1_000), ")".repeat(1_000)].concat());
    assert!(nested.contains("maximum number of nested parentheses"), "{nested}");
}

#[test]
fn a_pattern_that_would_run_away_elsewhere_takes_linear_time() {
    let pattern = pattern("^(a+)+$");
    let name = "a".repeat(254) + "b";
    assert!((0..1_000).all(|_| !pattern.fits(&name)), "where time is exponential this does not end");
}

/// Guards against a short pattern that grows when it is used: states times groups, or the states of a lazy DFA.
#[test]
fn what_a_pattern_takes_is_bounded() {
    let groups = format!("{}(()|){{3000}}", "()".repeat(400));
    let stars = format!("{}c", "a*".repeat(2_000));
    let most = 1 << 20;
    for text in
        [&groups, &stars, "a{8000}", "[ab]*a[ab]{3000}c", "([ab]*a|b)*c{4000}", "^(([ab]*)*)*c{5000}$"]
    {
        let pattern = pattern(text);
        // Longer names are searched in another way.
        for length in [1, 255, 10_000] {
            let bytes = pattern.bytes(&"a".repeat(length));
            assert!((1..most).contains(&bytes), "{} and {length}: {bytes}", &text[text.len() - 7..]);
        }
    }
}

#[test]
fn a_topic_pattern_knows_its_user_and_vhost() {
    let text = Arc::from("^{vhost}-{username}[.]");
    let pattern = Pattern::of_topic(&text, "a.b", "/").unwrap();
    assert!(pattern.fits("/-a.b.c") && !pattern.fits("/-axb.c"), "names are taken as they are");
    assert_eq!(pattern.text(), text);
}

/// Virtual host "v" with a topic exchange "t", and the user ann, who may write what begins with "w" or "t", and read
/// what begins with "r".
struct Rules {
    access: Access,
    vhosts: Vhosts,
    vhost: VhostId,
}

impl Rules {
    fn new() -> Self {
        let mut vhosts = Vhosts::default();
        let vhost = vhosts.add("v".into(), "".into(), Vec::new());
        let arguments = Table::default();
        let kind = ExchangeKind::Topic;
        let props = ExchangeProps { kind, durable: true, auto_delete: false, internal: false, arguments };
        vhosts.topology_mut(vhost).unwrap().add_exchange("t".into(), props);
        let mut access = Access::default();
        let (name, password_hash, tags) = ("ann".into(), PasswordHash::default(), Vec::new());
        access.add_user(AddUser { name, password_hash, tags });
        let mut rules = Self { access, vhosts, vhost };
        rules.permit("", "^[wt]", "^r");
        rules
    }

    fn permit(&mut self, configure: &str, write: &str, read: &str) {
        let (vhost, user) = ("v".into(), "ann".into());
        let (configure, write, read) = (configure.into(), write.into(), read.into());
        let permissions = Permissions { vhost, user, configure, write, read };
        self.access.user_mut("ann").unwrap().set_permissions(&permissions).unwrap();
    }

    fn topic(&mut self, write: &str, read: &str) {
        let (vhost, user, exchange) = ("v".into(), "ann".into(), "t".into());
        let permissions = TopicPermissions { vhost, user, exchange, write: write.into(), read: read.into() };
        self.access.user_mut("ann").unwrap().set_topic_permissions(&permissions).unwrap();
    }

    fn vhost(&self) -> &Vhost {
        self.vhosts.get(self.vhost).unwrap()
    }

    fn publish(&self, passes: &mut Passes, publish: &Publish) -> Result<(), String> {
        let checked = self.access.check_publish("ann", passes, self.vhost(), publish);
        checked.map_err(|refusal| {
            assert!(matches!(refusal.kind, AccessRefused | PreconditionFailed));
            refusal.text
        })
    }
}

fn message(exchange: &str, key: &str) -> Publish {
    crate::broker::tests::world::message(exchange, key, "")
}

fn with_extras(publish: Publish, extras: PublishExtras) -> Publish {
    Publish { extras: Some(Box::new(extras)), ..publish }
}

#[test]
fn each_right_has_its_pattern_and_refusals_are_worded_as_rabbitmq_s() {
    let rules = Rules::new();
    let check = |user: &str, vhost: &str, right, thing, name: &str| {
        rules.access.check(user, vhost, right, thing, name).map_err(|refusal| refusal.text)
    };
    let text = |text: &str| Err(format!("{text} in vhost 'v' refused for user 'ann'"));
    assert_eq!(check("ann", "v", Right::Write, Thing::Queue, "w1"), Ok(()));
    assert_eq!(check("ann", "v", Right::Read, Thing::Exchange, "r1"), Ok(()));
    assert_eq!(check("ann", "v", Right::Read, Thing::Queue, "w1"), text("read access to queue 'w1'"));
    assert_eq!(
        check("ann", "v", Right::Write, Thing::Exchange, ""),
        text("write access to exchange 'amq.default'")
    );
    assert_eq!(check("ann", "v", Right::Configure, Thing::Queue, "q"), text("configure access to queue 'q'"));
    assert_eq!(
        check("ann", "v", Right::Configure, Thing::Queue, ""),
        Ok(()),
        "the empty pattern, the empty name"
    );
    assert!(check("ann", "/", Right::Write, Thing::Queue, "w1").is_err());
    assert!(check("bob", "v", Right::Write, Thing::Queue, "w1").is_err());
}

#[test]
fn what_was_found_holds_until_something_changes() {
    let mut rules = Rules::new();
    let mut passes = Passes::default();
    for _ in 0..2 {
        assert_eq!(rules.publish(&mut passes, &message("w", "k")), Ok(()));
        assert!(rules.publish(&mut passes, &message("x", "k")).is_err());
    }
    for number in 0..40 {
        assert_eq!(rules.publish(&mut passes, &message(&format!("w{number}"), "k")), Ok(()));
    }
    rules.permit("", "^x", "");
    assert!(rules.publish(&mut passes, &message("w", "k")).is_err());
    assert_eq!(rules.publish(&mut passes, &message("x", "k")), Ok(()));
    rules.access.remove_vhost("v");
    assert!(rules.publish(&mut passes, &message("x", "k")).is_err());
}

#[test]
fn topic_permissions_narrow_topic_exchanges_alone() {
    let mut rules = Rules::new();
    let mut passes = Passes::default();
    assert_eq!(rules.publish(&mut passes, &message("t", "b.1")), Ok(()), "without any all is allowed");
    rules.topic("^a", "^b");
    assert_eq!(rules.publish(&mut passes, &message("t", "a.1")), Ok(()));
    let text = "write access to topic 'b.1' in exchange 't' in vhost 'v' refused for user 'ann'";
    assert_eq!(rules.publish(&mut passes, &message("t", "b.1")), Err(text.to_string()));
    let routing_keys = vec![Arc::from("b.2")];
    let copied = with_extras(message("t", "a.1"), PublishExtras { routing_keys, ..PublishExtras::default() });
    assert!(rules.publish(&mut passes, &copied).is_err(), "every key counts");
    assert!(rules.access.check_topic("ann", "v", Right::Read, "t", "b.1").is_ok());
    assert!(rules.access.check_topic("ann", "v", Right::Read, "t", "a.1").is_err());
    assert_eq!(rules.publish(&mut passes, &message("w", "b.1")), Ok(()), "another exchange");
    rules.access.user_mut("ann").unwrap().clear_topic_permissions("v", "t");
    assert_eq!(rules.publish(&mut passes, &message("t", "b.1")), Ok(()));
}

#[test]
fn a_message_names_who_sends_it_or_nobody() {
    let mut rules = Rules::new();
    let mut passes = Passes::default();
    let from = |user: &str| {
        let user_id = Some(Arc::from(user));
        with_extras(message("w", "k"), PublishExtras { user_id, ..PublishExtras::default() })
    };
    assert_eq!(rules.publish(&mut passes, &from("ann")), Ok(()));
    let text = "user_id property set to 'bob' but authenticated user was 'ann'";
    assert_eq!(rules.publish(&mut passes, &from("bob")), Err(text.to_string()));
    rules.access.user_mut("ann").unwrap().tags = vec!["impersonator".into()];
    assert_eq!(rules.publish(&mut passes, &from("bob")), Ok(()));
}

//! Hashes, and who waits for whom.

use super::*;

/// Guards against a decoy that is faster than a real hash.
#[test]
fn the_decoy_costs_what_a_new_hash_costs() {
    let new = hash(&Password::new("secret")).expect("a hash");
    let decoy = PasswordHash::new(DECOY).expect("a hash");
    let parsed = PasswordHash::new(&new).expect("a hash");
    assert_eq!((decoy.algorithm, decoy.version), (parsed.algorithm, parsed.version));
    assert_eq!(decoy.params, parsed.params);
    let bytes = |hash: &PasswordHash| {
        (hash.salt.as_ref().map(|salt| salt.len()), hash.hash.as_ref().map(|hash| hash.len()))
    };
    assert_eq!(bytes(&decoy), bytes(&parsed));
    assert!(!verify(&Password::new(""), DECOY));
}

#[test]
fn a_hash_is_of_its_password_alone() {
    let (one, two) = (hash(&Password::new("secret")).unwrap(), hash(&Password::new("secret")).unwrap());
    assert_ne!(one, two, "each has its own salt");
    assert!(!one.contains("secret"));
    assert!(verify(&Password::new("secret"), &one) && verify(&Password::new("secret"), &two));
    assert!(!verify(&Password::new("Secret"), &one));
    assert!(!verify(&Password::new(""), &one));
    assert!(!verify(&Password::new("secret"), "no hash"));
}

#[tokio::test]
async fn a_storm_waits_for_itself() {
    // Without threads nothing is carried out: what is taken in, and in which order, can be seen.
    let hasher = Hasher::with_threads(0).expect("no threads");
    let put = |from: &str, user: &str| {
        let whose = Whose { from: from.parse().unwrap(), user: user.into() };
        let (done, _) = oneshot::channel();
        hasher.push(whose, Job::Hash { password: Password::new(user), done })
    };
    for _ in 0..OF_USER_MAX {
        put("10.0.0.1", "root").expect("room");
    }
    assert_eq!(put("10.0.0.1", "root"), Err(Refused::Busy));
    put("10.0.0.1", "other").expect("room");
    put("10.0.0.2", "root").expect("room");
    let mut order = Vec::new();
    for _ in 0..4 {
        let Some(Job::Hash { password, .. }) = hasher.shared.next() else { panic!() };
        order.push(String::from_utf8(password.bytes().to_vec()).unwrap());
    }
    assert_eq!(order, ["root", "other", "root", "root"], "one of each, then the storm");
    for n in 0..100 {
        // Names without end from one address.
        let _ = put("10.0.0.3", &format!("user {n}"));
    }
    assert_eq!(hasher.shared.lock().of_address[&"10.0.0.3".parse().unwrap()], OF_ADDRESS_MAX);
    put("10.0.0.4", "root").expect("room for others");
}

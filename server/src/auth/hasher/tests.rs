//! Hashes, and who waits for whom.

use std::net::IpAddr;

use super::*;
use crate::auth::turns::{OF_ADDRESS_MAX, WAITING_MAX};

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

/// Guards against one who waits for an answer that nobody will give.
#[test]
fn who_has_to_make_room_is_told() {
    // Without threads nothing is carried out.
    let hasher = Hasher::with_threads(0).expect("no threads");
    let put = |n: usize| {
        let from = IpAddr::from([10, 0, 0, u8::try_from(n / OF_ADDRESS_MAX).expect("few")]);
        let whose = Whose { from: from.into(), user: format!("user {}", n % OF_ADDRESS_MAX).into() };
        let (done, result) = oneshot::channel();
        hasher.push(whose, Job::Hash { password: Password::new(""), done });
        result
    };
    let mut results: Vec<_> = (0..WAITING_MAX).map(put).collect();
    results.push(put(WAITING_MAX));
    let refused = results.iter_mut().filter_map(|result| result.try_recv().ok());
    assert_eq!(refused.collect::<Vec<_>>(), [Err(Refused::Busy)]);
}

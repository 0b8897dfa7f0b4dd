//! Who is calling: logins, checked against the users that the core knows. For all front ends.
//!
//! ```text
//! front end -- known(login) --> cache --> answer at once
//!           -- check(login) --> core: the user's hash --> hasher (argon2, in turns) --> cache --> answer
//! ```
//!
//! One check of a login runs at a time, however many wait for it. A login is refused alike, and after the same work,
//! whether the user does not exist or the password is wrong.

mod cache;
mod complaints;
#[cfg(test)]
pub(crate) mod fake;
mod hasher;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use leveret_broker::{Op, Reply, UserRecord};
use tokio::sync::oneshot;

use crate::hub::{Caller, Hub};
use cache::{Cache, Digest, Known};
use complaints::Complaints;
use hasher::{DECOY, Hasher};
use turns::Whose;

/// The user of a call from loopback that brings no login, for as long as that user has the password that everybody knows.
pub const GUEST: &str = "guest";
/// The password of [`GUEST`] on a new data directory.
const GUEST_PASSWORD: &str = "guest";
/// What a call from loopback that brings no login is taken for.
const GUEST_LOGIN: Login<'_> = Login { user: GUEST, password: GUEST_PASSWORD.as_bytes() };

/// Checks of logins that may be under way. More than wait for their turn, so that it is [`turns`] that says who has to go.
const FLIGHTS_MAX: usize = 8 * turns::WAITING_MAX;

/// A name and a password, as they were sent.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// The user.
    pub user: &'a str,
    /// The password.
    pub password: &'a [u8],
}

/// A password. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Vec<u8>);

/// Why a login is refused. Callers hear the same of `Wrong` and `NotFromThere`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No such user, or not its password.
    Wrong,
    /// The user may log in from loopback only.
    NotFromThere,
    /// The call brings none, and needs one.
    Missing,
    /// Too many logins wait to be checked.
    Busy,
    /// The broker is shutting down.
    Gone,
}

/// The handle; cheap to clone. See the module.
#[derive(Debug, Clone)]
pub struct Auth {
    inner: Arc<Inner>,
}

/// Who waits for a check.
type Waits = oneshot::Sender<Result<Known, Refused>>;

#[derive(Debug)]
struct Inner {
    hub: Hub,
    cache: Cache,
    hasher: Hasher,
    /// Who waits for which check.
    flights: Mutex<HashMap<Digest, Vec<Waits>>>,
    /// Of [`GUEST_LOGIN`].
    guest: Digest,
    complaints: Complaints,
    /// Users who may log in from loopback only.
    loopback_users: Vec<String>,
}

impl Auth {
    /// Over the users that the core behind `hub` knows.
    pub fn new(hub: Hub, loopback_users: Vec<String>) -> io::Result<Self> {
        Self::over(hub, loopback_users, Hasher::start()?)
    }

    fn over(hub: Hub, loopback_users: Vec<String>, hasher: Hasher) -> io::Result<Self> {
        let cache = Cache::new().map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self {
            inner: Arc::new(Inner {
                hub,
                guest: cache.digest(GUEST_LOGIN),
                cache,
                hasher,
                flights: Mutex::default(),
                complaints: Complaints::default(),
                loopback_users,
            }),
        })
    }

    /// The user of a login that was checked before, without asking anybody; None when it has to be checked.
    pub fn known(&self, login: Login<'_>, from: IpAddr) -> Option<Result<Arc<str>, Refused>> {
        let Inner { hub, cache, .. } = &*self.inner;
        let known = cache.look(&cache.digest(login), hub.access_generation())?;
        Some(self.admit(known, login.user, from))
    }

    /// The user of a login. It is checked even if nobody waits for the answer any more.
    pub async fn check(&self, login: Login<'_>, from: IpAddr) -> Result<Arc<str>, Refused> {
        if let Some(known) = self.known(login, from) {
            return known;
        }
        let known = self.find_out(self.inner.cache.digest(login), login, from).await?;
        self.admit(known, login.user, from)
    }

    /// The user of a call that brings no login: guest, if it comes from loopback, and could as well say guest's password.
    pub async fn anonymous(&self, from: IpAddr) -> Result<Arc<str>, Refused> {
        if !is_loopback(from) {
            return Err(Refused::Missing);
        }
        let Inner { hub, cache, guest, .. } = &*self.inner;
        let known = match cache.look(guest, hub.access_generation()) {
            Some(known) => known,
            None => self.find_out(*guest, GUEST_LOGIN, from).await?,
        };
        match known {
            Known::Good(user) => Ok(user),
            Known::Wrong => Err(Refused::Missing),
        }
    }

    /// Waits for the check of a login, and makes it if nobody does.
    async fn find_out(&self, digest: Digest, login: Login<'_>, from: IpAddr) -> Result<Known, Refused> {
        let (waits, answer) = oneshot::channel();
        // That one is not for argon2, unless the password has changed: it must not suffer from a storm of others.
        let was_good = self.inner.cache.was_good(&digest);
        if self.inner.join(digest, waits, was_good)? {
            let (user, password) = (Arc::from(login.user), Password::new(login.password));
            tokio::spawn(self.clone().fly(digest, user, password, from));
        }
        answer.await.unwrap_or(Err(Refused::Gone))
    }

    /// The hash of a new password that a user asks for.
    pub async fn hash(
        &self,
        password: Password,
        asked_by: &Arc<str>,
        from: IpAddr,
    ) -> Result<String, Refused> {
        let whose = Whose { from: from.into(), user: Arc::clone(asked_by) };
        self.inner.hasher.hash(whose, password).await
    }

    /// Where the user of a good login calls from counts, too. Refusals are logged here, for all front ends.
    fn admit(&self, known: Known, user: &str, from: IpAddr) -> Result<Arc<str>, Refused> {
        let here_only = || self.inner.loopback_users.iter().any(|name| name == user);
        let refused = match known {
            Known::Good(_) if !is_loopback(from) && here_only() => Refused::NotFromThere,
            Known::Good(user) => return Ok(user),
            Known::Wrong => Refused::Wrong,
        };
        self.inner.complaints.tell(user, from, refused);
        Err(refused)
    }

    /// Checks a login for all who wait for it.
    async fn fly(self, digest: Digest, user: Arc<str>, password: Password, from: IpAddr) {
        let result = self.verify(digest, user, password, from).await;
        let waiting = lock(&self.inner.flights).remove(&digest).unwrap_or_default();
        for waits in waiting {
            // Whoever is gone by now needs no answer.
            let _ = waits.send(result.clone());
        }
    }

    async fn verify(
        &self,
        digest: Digest,
        user: Arc<str>,
        password: Password,
        from: IpAddr,
    ) -> Result<Known, Refused> {
        let Inner { hub, cache, hasher, .. } = &*self.inner;
        // Before the core is asked: what changes behind the answer makes it worthless.
        let generation = hub.access_generation();
        let record = self.look_up(&user).await?;
        let hash = record.map(|record| record.password_hash.0).filter(|hash| !hash.is_empty());
        let (exists, hash) = (hash.is_some(), hash.unwrap_or_else(|| DECOY.into()));
        if let Some(known) = cache.renew(&digest, &hash, generation) {
            return Ok(known);
        }
        let whose = Whose { from: from.into(), user: Arc::clone(&user) };
        let matches = hasher.verify(whose, password, Arc::clone(&hash)).await?;
        let known = if matches && exists { Known::Good(Arc::clone(&user)) } else { Known::Wrong };
        cache.put(digest, &known, user, hash, generation);
        Ok(known)
    }

    async fn look_up(&self, user: &str) -> Result<Option<UserRecord>, Refused> {
        let op = Op::LookUpUser { name: user.into() };
        match self.inner.hub.request(Caller::default(), "/".into(), op).await {
            Ok(Reply::User(record)) => Ok(record),
            _ => Err(Refused::Gone),
        }
    }
}

impl Inner {
    /// Waits for a check; true for the first, who has to see to it. There is always room for a login that was good.
    fn join(&self, digest: Digest, waits: Waits, was_good: bool) -> Result<bool, Refused> {
        let mut flights = lock(&self.flights);
        if let Some(waiting) = flights.get_mut(&digest) {
            waiting.push(waits);
            return Ok(false);
        }
        if flights.len() >= FLIGHTS_MAX && !was_good {
            return Err(Refused::Busy);
        }
        flights.insert(digest, vec![waits]);
        Ok(true)
    }
}

/// The hash of guest's first password; None where the operating system gives no chance for it.
pub(crate) fn guest_hash() -> Option<String> {
    hasher::hash(&Password::new(GUEST_PASSWORD))
}

/// The address is the machine's own.
pub(crate) fn is_loopback(addr: IpAddr) -> bool {
    addr.to_canonical().is_loopback()
}

impl Password {
    /// Takes a copy.
    pub fn new(password: impl AsRef<[u8]>) -> Self {
        Self(password.as_ref().to_vec())
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(...)")
    }
}

impl fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! A queue in which everybody has their turn: addresses first, then the users who come from one. Who puts much in waits
//! for themselves, not the others for them; and when it is full, who has most in it makes room.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Jobs that one user of an address may have waiting, and one address, and all.
pub(super) const OF_USER_MAX: usize = 16;
pub(super) const OF_ADDRESS_MAX: usize = 64;
pub(super) const WAITING_MAX: usize = 1024;

/// The bits of an IPv6 address that name a network. Whoever has one of its addresses can have them all.
const NETWORK_BITS: u32 = 64;

/// What counts as one address: one of IPv4, or a network of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin(IpAddr);

impl From<IpAddr> for Origin {
    fn from(addr: IpAddr) -> Self {
        Self(match addr.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << (128 - NETWORK_BITS))).into(),
            v4 => v4,
        })
    }
}

/// Whose turn a job is.
#[derive(Debug, Clone)]
pub(super) struct Whose {
    pub(super) from: Origin,
    pub(super) user: Arc<str>,
}

/// Jobs of type `J`. See the module.
#[derive(Debug)]
pub(super) struct Turns<J> {
    addresses: BTreeMap<Origin, Address<J>>,
    /// Who has jobs, the next one first.
    order: VecDeque<Origin>,
    waiting: usize,
}

/// The jobs of an address.
#[derive(Debug)]
struct Address<J> {
    users: BTreeMap<Arc<str>, VecDeque<J>>,
    /// Who has jobs, the next one first.
    order: VecDeque<Arc<str>>,
    waiting: usize,
}

impl<J> Turns<J> {
    /// Nobody has any.
    pub(super) fn new() -> Self {
        Self { addresses: BTreeMap::new(), order: VecDeque::new(), waiting: 0 }
    }

    /// Puts a job in. What it gives back has no place: this job, or another that makes room for it.
    pub(super) fn push(&mut self, whose: Whose, job: J) -> Option<J> {
        let Whose { from, user } = whose;
        let address = self.addresses.entry(from).or_insert_with(|| {
            self.order.push_back(from);
            Address { users: BTreeMap::new(), order: VecDeque::new(), waiting: 0 }
        });
        // That one has jobs already, so the address has, too.
        if address.users.get(&user).is_some_and(|jobs| jobs.len() >= OF_USER_MAX) {
            return Some(job);
        }
        address.push(&user, job);
        self.waiting += 1;
        if address.waiting > OF_ADDRESS_MAX {
            return self.take_newest(from, &user);
        }
        if self.waiting > WAITING_MAX {
            // Among equals the newcomer has to go.
            let most = self.addresses.iter().max_by_key(|(of, address)| (address.waiting, **of == from));
            let most = most.map(|(of, _)| *of)?;
            return self.take_newest(most, &user);
        }
        None
    }

    /// The next job.
    pub(super) fn pop(&mut self) -> Option<J> {
        let from = self.order.pop_front()?;
        let address = self.addresses.get_mut(&from)?;
        let job = address.pop()?;
        self.waiting -= 1;
        if address.waiting == 0 {
            self.addresses.remove(&from);
        } else {
            self.order.push_back(from);
        }
        Some(job)
    }

    fn take_newest(&mut self, from: Origin, newcomer: &str) -> Option<J> {
        let address = self.addresses.get_mut(&from)?;
        let job = address.take_newest(newcomer)?;
        self.waiting -= 1;
        if address.waiting == 0 {
            self.addresses.remove(&from);
            self.order.retain(|of| *of != from);
        }
        Some(job)
    }

    #[cfg(test)]
    pub(super) fn of_address(&self, from: Origin) -> usize {
        self.addresses.get(&from).map_or(0, |address| address.waiting)
    }
}

impl<J> Address<J> {
    fn push(&mut self, user: &Arc<str>, job: J) {
        let jobs = self.users.entry(Arc::clone(user)).or_insert_with(|| {
            self.order.push_back(Arc::clone(user));
            VecDeque::new()
        });
        jobs.push_back(job);
        self.waiting += 1;
    }

    fn pop(&mut self) -> Option<J> {
        let user = self.order.pop_front()?;
        let jobs = self.users.get_mut(&user)?;
        let job = jobs.pop_front()?;
        self.waiting -= 1;
        if jobs.is_empty() {
            self.users.remove(&user);
        } else {
            self.order.push_back(user);
        }
        Some(job)
    }

    /// Takes the newest job of the user who has most, among equals of the newcomer.
    fn take_newest(&mut self, newcomer: &str) -> Option<J> {
        let most = self.users.iter_mut().max_by_key(|(user, jobs)| (jobs.len(), ***user == *newcomer));
        let (user, jobs) = most?;
        let job = jobs.pop_back()?;
        self.waiting -= 1;
        if jobs.is_empty() {
            let user = Arc::clone(user);
            self.users.remove(&user);
            self.order.retain(|of| *of != user);
        }
        Some(job)
    }
}

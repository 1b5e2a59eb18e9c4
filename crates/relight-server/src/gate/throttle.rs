//! Slows guessing down: after some wrong passwords for a name from one address, no more are looked at for a while, and after
//! more of them, for any name. What comes from elsewhere does not count, so that nobody can lock somebody else out; whether
//! there is such a user does not either, so that nobody learns which there are.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

/// Wrong passwords for one name from one address before it has to wait.
const OF_A_NAME: u32 = 10;
/// And for all names: a host with one program that has a wrong password, asking every ten seconds, stays below.
const OF_AN_ADDRESS: u32 = 100;
/// For how long they count, in seconds.
const WINDOW: i64 = 300;
/// Counts that are kept. Beyond that the oldest are forgotten: whoever has so many addresses had a delay at each.
const REMEMBERED: usize = 16_384;

#[derive(Default)]
pub(super) struct Throttle {
    counts: Mutex<HashMap<Key, Count>>,
    hasher: RandomState,
}

/// An address, and a name by its hash: names may be long.
type Key = (IpAddr, Option<u64>);

#[derive(Clone, Copy)]
struct Count {
    since: i64,
    wrong: u32,
}

impl Count {
    fn counts(self, now: i64) -> bool {
        (0..WINDOW).contains(&(now - self.since))
    }
}

/// The part of an address that one sender can hardly change: a host has at least 2^64 addresses of IPv6.
fn source(peer: SocketAddr) -> IpAddr {
    match peer.ip().to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        address => address,
    }
}

impl Throttle {
    fn keys(&self, peer: SocketAddr, name: &str) -> [(Key, u32); 2] {
        let (source, name) = (source(peer), self.hasher.hash_one(name));
        [((source, Some(name)), OF_A_NAME), ((source, None), OF_AN_ADDRESS)]
    }

    /// Whether a password from there is looked at; if not, in how many seconds it will be.
    pub(super) fn check(&self, peer: Option<SocketAddr>, name: &str, now: i64) -> Result<(), u64> {
        let Some(peer) = peer else { return Ok(()) };
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, allowed) in self.keys(peer, name) {
            if let Some(count) = counts.get(&key)
                && count.counts(now)
                && count.wrong >= allowed
            {
                return Err(u64::try_from(count.since + WINDOW - now).unwrap_or(0));
            }
        }
        Ok(())
    }

    /// A wrong one came from there.
    pub(super) fn failed(&self, peer: Option<SocketAddr>, name: &str, now: i64) {
        let Some(peer) = peer else { return };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, _) in self.keys(peer, name) {
            if counts.len() >= REMEMBERED && !counts.contains_key(&key) {
                make_room(&mut counts, now);
            }
            let count = counts.entry(key).or_insert(Count { since: now, wrong: 0 });
            if !count.counts(now) {
                *count = Count { since: now, wrong: 0 };
            }
            count.wrong = count.wrong.saturating_add(1);
        }
    }
}

/// Forgets what no longer counts, and if that is not enough, the older half.
fn make_room(counts: &mut HashMap<Key, Count>, now: i64) {
    counts.retain(|_, count| count.counts(now));
    if counts.len() >= REMEMBERED {
        let mut times: Vec<i64> = counts.values().map(|count| count.since).collect();
        times.sort_unstable();
        let middle = times[times.len() / 2];
        let mut left = times.len() / 2;
        counts.retain(|_, count| {
            let keep = count.since > middle || (count.since == middle && left > 0);
            left -= usize::from(keep && count.since == middle);
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn an_address_waits_after_some_wrong_passwords_and_others_do_not() {
        let throttle = Throttle::default();
        let one = peer("192.0.2.1:1");
        for at in 0..i64::from(OF_A_NAME) {
            assert!(throttle.check(one, "a@pbs", 1000 + at).is_ok());
            throttle.failed(peer("192.0.2.1:2"), "a@pbs", 1000 + at);
        }
        assert_eq!(throttle.check(one, "a@pbs", 1010), Err(290));
        // The same host, by the other family.
        assert!(
            throttle
                .check(peer("[::ffff:192.0.2.1]:3"), "a@pbs", 1010)
                .is_err()
        );
        // Another name from there, the same from elsewhere, and later.
        assert!(throttle.check(one, "b@pbs", 1010).is_ok());
        assert!(throttle.check(peer("192.0.2.2:3"), "a@pbs", 1010).is_ok());
        assert!(throttle.check(one, "a@pbs", 1300).is_ok());
        // Many names from one address.
        for at in 0..OF_AN_ADDRESS {
            throttle.failed(peer("[2001:db8::1]:1"), &format!("user{at}@pbs"), 1000);
        }
        assert!(
            throttle
                .check(peer("[2001:db8::ffff:2]:1"), "fresh@pbs", 1000)
                .is_err()
        );
        assert!(
            throttle
                .check(peer("[2001:db8:0:1::1]:1"), "fresh@pbs", 1000)
                .is_ok()
        );
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = Throttle::default();
        for at in 0..u32::try_from(REMEMBERED).unwrap() + 100 {
            throttle.failed(Some((std::net::Ipv4Addr::from(at), 1).into()), "a@pbs", 1000);
        }
        assert!(throttle.counts.lock().unwrap().len() <= REMEMBERED);
    }
}

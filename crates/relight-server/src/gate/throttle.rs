//! Slows guessing down: after some wrong passwords from one address, no more are looked at for a while. Whose password was
//! wrong does not count, so that nobody can lock somebody else out from elsewhere, or learn which users there are.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

/// Wrong passwords from one address before it has to wait.
const ALLOWED: u32 = 10;
/// For how long they count, in seconds.
const WINDOW: i64 = 300;
/// Addresses that are remembered. Beyond that the oldest are forgotten; each of so many addresses has had its delay.
const REMEMBERED: usize = 16_384;

#[derive(Default)]
pub(super) struct Throttle {
    failures: Mutex<HashMap<IpAddr, (i64, u32)>>,
}

/// The part of an address that one sender can hardly change: a host has at least 2^64 addresses of IPv6.
fn source(peer: Option<SocketAddr>) -> Option<IpAddr> {
    Some(match peer?.ip().to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        address => address,
    })
}

impl Throttle {
    /// Whether a password from there is looked at; if not, in how many seconds it will be.
    pub(super) fn check(&self, peer: Option<SocketAddr>, now: i64) -> Result<(), u64> {
        let Some(source) = source(peer) else { return Ok(()) };
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.get(&source) {
            Some((since, count)) if *count >= ALLOWED && (0..WINDOW).contains(&(now - since)) => {
                Err(u64::try_from(since + WINDOW - now).unwrap_or(0))
            }
            _ => Ok(()),
        }
    }

    /// A wrong one came from there.
    pub(super) fn failed(&self, peer: Option<SocketAddr>, now: i64) {
        let Some(source) = source(peer) else { return };
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= REMEMBERED && !failures.contains_key(&source) {
            failures.retain(|_, (since, _)| (0..WINDOW).contains(&(now - *since)));
            let oldest = failures
                .iter()
                .min_by_key(|(_, (since, _))| *since)
                .map(|(source, _)| *source);
            if let Some(oldest) = oldest.filter(|_| failures.len() >= REMEMBERED) {
                failures.remove(&oldest);
            }
        }
        let (since, count) = failures.entry(source).or_insert((now, 0));
        if !(0..WINDOW).contains(&(now - *since)) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_waits_after_some_wrong_passwords_and_others_do_not() {
        let throttle = Throttle::default();
        let peer = |text: &str| Some(text.parse::<SocketAddr>().unwrap());
        for at in 0..i64::from(ALLOWED) {
            assert!(throttle.check(peer("192.0.2.1:1"), 1000 + at).is_ok());
            throttle.failed(peer("192.0.2.1:2"), 1000 + at);
        }
        assert_eq!(throttle.check(peer("192.0.2.1:3"), 1010), Err(290));
        // The same host, by the other family.
        assert!(throttle.check(peer("[::ffff:192.0.2.1]:3"), 1010).is_err());
        assert!(throttle.check(peer("192.0.2.2:3"), 1010).is_ok());
        assert!(throttle.check(peer("192.0.2.1:3"), 1300).is_ok());
        for _ in 0..ALLOWED {
            throttle.failed(peer("[2001:db8::1]:1"), 1000);
        }
        assert!(throttle.check(peer("[2001:db8::ffff:2]:1"), 1000).is_err());
        assert!(throttle.check(peer("[2001:db8:0:1::1]:1"), 1000).is_ok());
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = Throttle::default();
        for at in 0..u32::try_from(REMEMBERED).unwrap() + 100 {
            let address = std::net::Ipv4Addr::from(at);
            throttle.failed(Some((address, 1).into()), 1000);
        }
        assert!(throttle.failures.lock().unwrap().len() <= REMEMBERED);
    }
}

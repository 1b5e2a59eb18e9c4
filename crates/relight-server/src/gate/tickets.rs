//! Tickets: what a user gets for its password, good for two hours. Signed, not stored.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use relight_pbs::access::UserId;

/// How long a ticket is good, in seconds.
const LIFETIME: i64 = 7200;
/// How long after the password the second factor may come, in seconds.
const CHALLENGE_LIFETIME: i64 = 300;
/// How far ahead of the clock its time may be: clocks that were set back meanwhile.
const AHEAD: i64 = 300;
/// So many random bytes are in a ticket.
pub const SALT: usize = 12;
/// Name of the header with the token against forged requests.
pub const CSRF_TICKET: &str = "CSRFPreventionToken";

/// Why a ticket is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It does not look like one.
    #[error("it is malformed")]
    Malformed,
    /// It is too old, or from the future.
    #[error("it has expired")]
    Expired,
    /// Its signature is not from here.
    #[error("its signature is wrong")]
    Signature,
}

/// What a log-in gives.
pub struct Issued {
    /// The ticket, for the cookie.
    pub ticket: String,
    /// The token against forged requests that goes with it.
    pub csrf: String,
}

/// A ticket that was read, and is not too old. Whether it is genuine says [`Tickets::is_of`].
pub struct Ticket<'a> {
    user: UserId,
    signed: &'a str,
    signature: Vec<u8>,
}

impl Ticket<'_> {
    /// Whose it says it is.
    pub fn user(&self) -> &UserId {
        &self.user
    }
}

/// Makes and checks tickets.
///
/// `PBS:USER:TIME::SIGNATURE`, where the signature begins with random bytes, so that two log-ins within one second are two
/// sessions, and goes on with an HMAC-SHA256 of them, of what is before the `::` and of the user's epoch, which goes up when the
/// password changes. Clients only pass it on.
pub struct Tickets {
    key: hmac::Key,
}

impl Tickets {
    /// With a signing key.
    pub fn new(key: &[u8; 32]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
        }
    }

    /// A new ticket for a user. `now` in seconds since 1970; `salt` is random.
    pub fn issue(&self, user: &UserId, epoch: i64, now: i64, salt: [u8; SALT]) -> Issued {
        let text = format!("PBS:{user}:{now:08X}");
        let sum = hmac::sign(&self.key, &ticket_input(&text, epoch, &salt));
        let signature = BASE64.encode([&salt, sum.as_ref()].concat());
        Issued {
            ticket: format!("{text}::{signature}"),
            csrf: self.csrf(user, epoch, now),
        }
    }

    /// A new token against forged requests.
    pub fn csrf(&self, user: &UserId, epoch: i64, now: i64) -> String {
        let time = format!("{now:08X}");
        let csrf = BASE64.encode(hmac::sign(&self.key, &csrf_input(&time, user, epoch)));
        format!("{time}:{csrf}")
    }

    /// Reads a ticket.
    ///
    /// # Errors
    /// It is none, or too old.
    pub fn verify<'a>(&self, ticket: &'a str, now: i64) -> Result<Ticket<'a>, TicketError> {
        if ticket.len() > 512 {
            return Err(TicketError::Malformed);
        }
        let (signed, signature) = ticket.split_once("::").ok_or(TicketError::Malformed)?;
        let mut parts = signed.split(':');
        let (Some("PBS"), Some(user), Some(time), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TicketError::Malformed);
        };
        check_time(time, now, LIFETIME)?;
        Ok(Ticket {
            user: user.parse().map_err(|_| TicketError::Malformed)?,
            signed,
            signature: BASE64.decode(signature).map_err(|_| TicketError::Malformed)?,
        })
    }

    /// Whether a ticket was made here, for this epoch of its user.
    pub fn is_of(&self, ticket: &Ticket<'_>, epoch: i64) -> bool {
        ticket
            .signature
            .split_at_checked(SALT)
            .is_some_and(|(salt, sum)| {
                hmac::verify(&self.key, &ticket_input(ticket.signed, epoch, salt), sum).is_ok()
            })
    }

    /// What says that a user's password was good, until its second factor is shown: `PBS:!tfa!WHAT:TIME::SIGNATURE`, where
    /// `what` is what is asked for, as the original writes it.
    pub(super) fn challenge(&self, user: &UserId, epoch: i64, what: &serde_json::Value, now: i64) -> String {
        // Nothing but letters and digits: a `:` or `@` in it would make it look like a ticket.
        let what =
            percent_encoding::utf8_percent_encode(&what.to_string(), percent_encoding::NON_ALPHANUMERIC)
                .to_string();
        let text = format!("PBS:!tfa!{what}:{now:08X}");
        let signature = BASE64.encode(hmac::sign(&self.key, &challenge_input(&text, user, epoch)));
        format!("{text}::{signature}")
    }

    /// Checks one of a user.
    ///
    /// # Errors
    /// It is none, too old, or of another user.
    pub(super) fn verify_challenge(
        &self,
        challenge: &str,
        user: &UserId,
        epoch: i64,
        now: i64,
    ) -> Result<(), TicketError> {
        if challenge.len() > 1024 {
            return Err(TicketError::Malformed);
        }
        let (text, signature) = challenge.split_once("::").ok_or(TicketError::Malformed)?;
        let rest = text.strip_prefix("PBS:!tfa!").ok_or(TicketError::Malformed)?;
        let (_, time) = rest.split_once(':').ok_or(TicketError::Malformed)?;
        check_time(time, now, CHALLENGE_LIFETIME)?;
        let signature = BASE64.decode(signature).map_err(|_| TicketError::Malformed)?;
        hmac::verify(&self.key, &challenge_input(text, user, epoch), &signature)
            .map_err(|_| TicketError::Signature)
    }

    /// Checks a token against forged requests.
    ///
    /// # Errors
    /// It is none, too old, or of another user.
    pub fn verify_csrf(&self, token: &str, user: &UserId, epoch: i64, now: i64) -> Result<(), TicketError> {
        let (time, signature) = token.split_once(':').ok_or(TicketError::Malformed)?;
        check_time(time, now, LIFETIME)?;
        let signature = BASE64.decode(signature).map_err(|_| TicketError::Malformed)?;
        hmac::verify(&self.key, &csrf_input(time, user, epoch), &signature)
            .map_err(|_| TicketError::Signature)
    }
}

// The beginnings keep a signature of the one kind from passing for one of the other.
fn ticket_input(text: &str, epoch: i64, salt: &[u8]) -> Vec<u8> {
    let mut input = format!("ticket\0{text}\0{epoch}\0").into_bytes();
    input.extend_from_slice(salt);
    input
}

fn csrf_input(time: &str, user: &UserId, epoch: i64) -> Vec<u8> {
    format!("csrf\0{time}\0{user}\0{epoch}").into_bytes()
}

fn challenge_input(text: &str, user: &UserId, epoch: i64) -> Vec<u8> {
    format!("challenge\0{text}\0{user}\0{epoch}").into_bytes()
}

fn check_time(time: &str, now: i64, lifetime: i64) -> Result<(), TicketError> {
    if !(8..=15).contains(&time.len()) || !time.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(TicketError::Malformed);
    }
    let time = i64::from_str_radix(time, 16).map_err(|_| TicketError::Malformed)?;
    if (-AHEAD..=lifetime).contains(&now.saturating_sub(time)) {
        Ok(())
    } else {
        Err(TicketError::Expired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_381_225;

    fn check(tickets: &Tickets, ticket: &str, epoch: i64, now: i64) -> Result<String, TicketError> {
        let read = tickets.verify(ticket, now)?;
        if tickets.is_of(&read, epoch) {
            Ok(read.user().to_string())
        } else {
            Err(TicketError::Signature)
        }
    }

    #[test]
    fn a_ticket_is_good_for_its_user_until_it_expires_or_the_password_changes() {
        let tickets = Tickets::new(&[7; 32]);
        let user: UserId = "bkup@pbs".parse().unwrap();
        let issued = tickets.issue(&user, 5, NOW, [1; SALT]);
        assert!(
            issued.ticket.starts_with("PBS:bkup@pbs:6B0357E9::"),
            "{}",
            issued.ticket
        );
        assert_eq!(check(&tickets, &issued.ticket, 5, NOW).unwrap(), "bkup@pbs");
        let second = tickets.issue(&user, 5, NOW, [2; SALT]).ticket;
        assert_ne!(second, issued.ticket, "another session, in the same second");
        assert!(check(&tickets, &second, 5, NOW).is_ok());
        assert_eq!(
            check(&tickets, &issued.ticket, 5, NOW + 7200).unwrap(),
            "bkup@pbs"
        );
        assert_eq!(
            check(&tickets, &issued.ticket, 5, NOW + 7201),
            Err(TicketError::Expired)
        );
        assert_eq!(
            check(&tickets, &issued.ticket, 5, NOW - 301),
            Err(TicketError::Expired)
        );
        assert_eq!(
            check(&tickets, &issued.ticket, 6, NOW),
            Err(TicketError::Signature)
        );
        assert_eq!(
            check(&Tickets::new(&[8; 32]), &issued.ticket, 5, NOW),
            Err(TicketError::Signature)
        );
        assert_eq!(tickets.verify_csrf(&issued.csrf, &user, 5, NOW + 7200), Ok(()));
        let other: UserId = "other@pbs".parse().unwrap();
        assert_eq!(
            tickets.verify_csrf(&issued.csrf, &other, 5, NOW),
            Err(TicketError::Signature)
        );
        assert_eq!(
            tickets.verify_csrf(&issued.csrf, &user, 5, NOW + 7201),
            Err(TicketError::Expired)
        );
    }

    #[test]
    fn a_challenge_is_no_ticket_and_no_other_users() {
        let tickets = Tickets::new(&[7; 32]);
        let user: UserId = "bkup@pbs".parse().unwrap();
        let challenge = tickets.challenge(&user, 5, &serde_json::json!({"totp": true}), NOW);
        assert_eq!(tickets.verify_challenge(&challenge, &user, 5, NOW + 300), Ok(()));
        assert!(check(&tickets, &challenge, 5, NOW).is_err());
        let other: UserId = "other@pbs".parse().unwrap();
        for (user, epoch, now) in [(&user, 5, NOW + 301), (&user, 6, NOW), (&other, 5, NOW)] {
            assert!(tickets.verify_challenge(&challenge, user, epoch, now).is_err());
        }
        let ticket = tickets.issue(&user, 5, NOW, [1; SALT]).ticket;
        for bad in [
            ticket.as_str(),
            "",
            "PBS:!tfa!",
            &challenge[..challenge.len() - 1],
        ] {
            assert!(tickets.verify_challenge(bad, &user, 5, NOW).is_err());
        }
    }

    #[test]
    fn forged_tickets_are_none() {
        let tickets = Tickets::new(&[7; 32]);
        let user: UserId = "bkup@pbs".parse().unwrap();
        let good = tickets.issue(&user, 0, NOW, [1; SALT]).ticket;
        for bad in [
            good.replace("bkup", "root"),
            good.replace("6B0357E9", "6B0357EA"),
            good[..good.len() - 1].to_string(),
            good.replace("PBS:", "PVE:"),
            good.replace("::", ":"),
            "PBS:bkup@pbs:6B0357E9::".into(),
            format!("PBS:!tfa!{}", &good[4..]),
            "A".repeat(10_000),
            String::new(),
        ] {
            assert!(check(&tickets, &bad, 0, NOW).is_err(), "{bad}");
        }
    }
}

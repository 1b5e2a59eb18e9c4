//! Logging in: what the server demands between startup and the first query.

use md5::{Digest, Md5};
use zeroize::Zeroizing;

use super::scram::{BOUND_MECHANISM, Binding, MECHANISM, Scram};
use crate::connect::ChannelBinding;

/// A log-in under way.
pub(super) struct Login<'a> {
    pub user: &'a str,
    pub password: Option<Zeroizing<String>>,
    /// Whether the stream is encrypted or does not leave this host: only then a password is sent in clear.
    pub private: bool,
    wanted: ChannelBinding,
    /// What it can be bound to.
    end_point: Option<Vec<u8>>,
    scram: Option<Scram>,
}

/// What to do next.
pub(super) enum Step {
    /// Send this as a password message.
    Send(Zeroizing<Vec<u8>>),
    /// Wait for more.
    Wait,
    /// The server is content.
    Done,
}

impl<'a> Login<'a> {
    /// Nothing was said yet.
    pub fn new(user: &'a str, password: Option<Zeroizing<String>>, private: bool) -> Self {
        Self {
            user,
            password,
            private,
            wanted: ChannelBinding::Disable,
            end_point: None,
            scram: None,
        }
    }

    /// Whether the log-in is bound to the connection, and to what of it.
    pub fn bind(&mut self, wanted: ChannelBinding, end_point: Option<Vec<u8>>) {
        self.wanted = wanted;
        self.end_point = end_point.filter(|_| wanted != ChannelBinding::Disable);
    }

    /// Answers an authentication request (documentation of PostgreSQL, "Message Formats", Authentication…).
    pub fn answer(&mut self, body: &[u8]) -> Result<Step, String> {
        let Some((code, rest)) = body.split_first_chunk::<4>() else {
            return Err("its demand for authentication is cut off".into());
        };
        let kind = u32::from_be_bytes(*code);
        let is_bound = self.scram.as_ref().is_some_and(Scram::is_bound);
        if self.wanted == ChannelBinding::Require && !is_bound && kind != 10 {
            return Err(
                "channel_binding=require, but it wants a log-in that is not bound to the connection: nothing was sent; allow \
                 only scram-sha-256 over TLS in its pg_hba.conf"
                    .into(),
            );
        }
        match kind {
            0 if self.scram.as_ref().is_some_and(|scram| !scram.is_finished()) => {
                Err("it ended the log-in before it proved that it knows the password".into())
            }
            0 => Ok(Step::Done),
            3 if !self.private => Err(
                "it demands the password in clear over a connection that is not encrypted: nothing was sent; use \
                 sslmode=require, or scram-sha-256 in its pg_hba.conf"
                    .into(),
            ),
            3 => {
                let mut message = Zeroizing::new(self.password()?.as_bytes().to_vec());
                message.push(0);
                Ok(Step::Send(message))
            }
            5 => {
                let salt: [u8; 4] = rest.try_into().map_err(|_| "its demand has no salt".to_string())?;
                let inner = Md5::new()
                    .chain_update(self.password()?.as_bytes())
                    .chain_update(self.user.as_bytes())
                    .finalize();
                let outer = Md5::new()
                    .chain_update(hex::encode(inner))
                    .chain_update(salt)
                    .finalize();
                Ok(Step::Send(Zeroizing::new(
                    format!("md5{}\0", hex::encode(outer)).into_bytes(),
                )))
            }
            10 => {
                let offered: Vec<&[u8]> = rest.split(|&byte| byte == 0).collect();
                let offers = |name: &str| offered.contains(&name.as_bytes());
                let (mechanism, binding) = match self.end_point.take() {
                    Some(digest) if offers(BOUND_MECHANISM) => (BOUND_MECHANISM, Binding::EndPoint(digest)),
                    // If the server does offer it, somebody in between has taken that away, and it will notice.
                    Some(_) => (MECHANISM, Binding::NotOffered),
                    None => (MECHANISM, Binding::None),
                };
                if self.wanted == ChannelBinding::Require && mechanism != BOUND_MECHANISM {
                    return Err(format!(
                        "channel_binding=require, but {}: nothing was sent",
                        match binding {
                            Binding::NotOffered => "it does not offer it",
                            _ => "the connection has nothing that a log-in can be bound to (sslmode=require makes it TLS)",
                        }
                    ));
                }
                if !offers(mechanism) {
                    return Err(format!("it does not offer {mechanism}"));
                }
                let scram = Scram::new(self.password()?, binding)?;
                let first = scram.first();
                let mut message = mechanism.as_bytes().to_vec();
                message.push(0);
                message.extend((first.len() as u32).to_be_bytes());
                message.extend(first.as_bytes());
                self.scram = Some(scram);
                Ok(Step::Send(Zeroizing::new(message)))
            }
            11 => match &mut self.scram {
                Some(scram) => Ok(Step::Send(Zeroizing::new(scram.respond(rest)?.into_bytes()))),
                None => Err("it goes on with a log-in that was not begun".into()),
            },
            12 => match &mut self.scram {
                Some(scram) => scram.finish(rest).map(|()| Step::Wait),
                None => Err("it ends a log-in that was not begun".into()),
            },
            other => Err(format!(
                "it demands authentication of kind {other}, which is not supported: allow scram-sha-256 or a client \
                 certificate in its pg_hba.conf"
            )),
        }
    }

    fn password(&self) -> Result<&str, String> {
        self.password.as_ref().map(|password| password.as_str()).ok_or_else(|| {
            format!(
                "it demands a password for user {}: put one in ~/.pgpass, in a service file or in PGPASSWORD",
                self.user
            )
        })
    }
}

//! Sessions: the tickets that were given, so that they can be listed and ended. A ticket is known by a hash of it, which lets
//! nobody in.

use std::net::SocketAddr;

use aws_lc_rs::digest::{SHA256, digest};
use http::header::COOKIE;
use jiff::Timestamp;
use relight_pbs::access::UserId;
use relight_pbs::service::http::Call;

use super::{Gate, ticket_of};
use crate::state::Session;

/// How long a ticket is good, in seconds.
const LIFETIME: i64 = 7200;

/// By which a ticket is known.
pub(super) fn id_of(ticket: &str) -> String {
    hex::encode(&digest(&SHA256, ticket.as_bytes()).as_ref()[..16])
}

/// The session that a call belongs to, if it came with a ticket.
pub(crate) fn session_of_call(call: &Call) -> Option<String> {
    let cookies = call.headers().get_all(COOKIE).iter();
    let cookies: Vec<&str> = cookies.filter_map(|value| value.to_str().ok()).collect();
    let cookies = cookies.join("; ");
    let ticket = percent_encoding::percent_decode_str(ticket_of(&cookies)?).decode_utf8_lossy();
    Some(id_of(&ticket))
}

impl Gate {
    /// Notes that a ticket was given. `renewed`: for which older one.
    pub(super) fn opened(
        &self,
        user: &UserId,
        ticket: &str,
        renewed: Option<&str>,
        peer: Option<SocketAddr>,
    ) {
        let id = id_of(ticket);
        let root = renewed
            .map(id_of)
            .and_then(|old| self.state().session(&old).ok().flatten());
        let since = Timestamp::now();
        let session = Session {
            root: root.map_or_else(|| id.clone(), |old| old.root),
            id,
            user: user.clone(),
            since,
            until: Timestamp::from_second(since.as_second().saturating_add(LIFETIME)).unwrap_or(since),
            address: peer.map(|peer| peer.ip().to_canonical().to_string()),
            program: None,
        };
        if let Err(error) = self.state().open_session(&session) {
            tracing::error!("{error}: a session of {user} is not listed");
        }
    }
}

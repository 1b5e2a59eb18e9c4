//! Letters go out: by mail, or to a web address in the shape that its service takes.

mod mail;
mod web;

use relight_model::plan::Channel;

use super::letter::Letter;
use crate::config::MailConfig;

/// Why a letter could not be sent. Says nothing secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// There is no mail server.
    #[error("no mail server is known: name one in [mail] of the configuration")]
    NoMail,
    /// The mail server did not take it.
    #[error("mail: {0}")]
    Mail(String),
    /// The web address did not take it.
    #[error("web: {0}")]
    Web(String),
}

/// Sends a letter.
pub(super) fn send(channel: &Channel, letter: &Letter, mail: Option<&MailConfig>) -> Result<(), SendError> {
    match channel {
        Channel::Mail(addresses) => mail::send(mail.ok_or(SendError::NoMail)?, addresses, letter),
        Channel::Web(shape, url) => web::send(*shape, url, letter),
    }
}

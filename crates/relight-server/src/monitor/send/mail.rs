//! Sends letters by mail (SMTP).

use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Message, SmtpTransport, Transport};

use super::SendError;
use crate::config::{MailConfig, MailTls};
use crate::monitor::letter::Letter;

/// Each step takes no longer.
const TIMEOUT: Duration = Duration::from_secs(15);

fn failed(error: impl std::fmt::Display) -> SendError {
    SendError::Mail(error.to_string())
}

/// Sends a letter to all of the addresses.
pub(super) fn send(config: &MailConfig, addresses: &[String], letter: &Letter) -> Result<(), SendError> {
    let mut message = Message::builder()
        .from(config.from.parse::<Mailbox>().map_err(failed)?)
        .subject(format!("[{}] {}", letter.server, letter.summary))
        .header(ContentType::TEXT_PLAIN);
    for address in addresses {
        message = message.to(address.parse::<Mailbox>().map_err(failed)?);
    }
    let message = message.body(letter.text()).map_err(failed)?;
    let (host, port) = config.host_and_port();
    let parameters = || TlsParameters::new_rustls(host.to_owned()).map_err(failed);
    let tls = match config.tls {
        MailTls::None => Tls::None,
        MailTls::Starttls => Tls::Required(parameters()?),
        MailTls::Tls => Tls::Wrapper(parameters()?),
    };
    // "dangerous" is that it begins without TLS, which is set in the next line.
    let mut transport = SmtpTransport::builder_dangerous(host)
        .port(port)
        .tls(tls)
        .timeout(Some(TIMEOUT));
    if let (Some(user), Some(path)) = (&config.user, &config.password_file) {
        let text = std::fs::read_to_string(path)
            .map_err(|error| failed(format!("read {}: {error}", path.display())))?;
        let password = text.lines().next().unwrap_or_default().to_owned();
        transport = transport.credentials(Credentials::new(user.clone(), password));
    }
    transport.build().send(&message).map(drop).map_err(failed)
}

//! Where a server is, who asks, and which datastore is meant.

use std::fmt;
use std::str::FromStr;

use super::ClientError;
use crate::access::AuthId;

/// Port of the original.
const PORT: u16 = 8007;

/// `https://user@realm!token@host:8007/DATASTORE`. The port may be left out; it is 8007 then. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// Who asks: a user, or a token of one.
    pub auth_id: AuthId,
    /// Name or address of the host, without the brackets of IPv6.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The datastore.
    pub datastore: String,
}

impl ServerAddress {
    /// `host:port`, with brackets if they are needed.
    pub fn server(&self) -> String {
        authority(&self.host, self.port)
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            auth_id, datastore, ..
        } = self;
        write!(f, "https://{auth_id}@{}/{datastore}", self.server())
    }
}

impl FromStr for ServerAddress {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self, ClientError> {
        // The text is not shown: somebody may have put a secret into it.
        let refused = |why: &str| {
            ClientError::Address(format!(
                "{why}; write a server as https://user@realm!token@host:8007/DATASTORE"
            ))
        };
        let rest = text
            .strip_prefix("https://")
            .ok_or_else(|| refused("the address of a server begins with https://"))?;
        let (rest, datastore) = rest
            .split_once('/')
            .ok_or_else(|| refused("the address names no datastore"))?;
        let datastore = datastore.trim_end_matches('/');
        let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if datastore.is_empty() || !datastore.bytes().all(safe) || datastore.starts_with(['.', '-']) {
            return Err(refused("the name of the datastore is not one"));
        }
        let (auth_id, host, port) = place(rest, refused)?;
        Ok(Self {
            auth_id,
            host,
            port,
            datastore: datastore.to_string(),
        })
    }
}

/// Who asks, the host and its port, of `user@realm!token@host:port`.
fn place(rest: &str, refused: impl Fn(&str) -> ClientError) -> Result<(AuthId, String, u16), ClientError> {
    let (who, place) = rest
        .rsplit_once('@')
        .ok_or_else(|| refused("the address does not say who asks"))?;
    let token = who.rsplit_once('!').map_or(who, |(_, token)| token);
    if who.matches('@').count() > 1 || token.contains(':') {
        return Err(refused(
            "who asks is not a user or token; a secret does not belong in an address",
        ));
    }
    let auth_id = who
        .parse()
        .map_err(|_| refused("who asks is not a user or token"))?;
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest
                .split_once(']')
                .ok_or_else(|| refused("the host lacks a bracket"))?;
            (host, port.strip_prefix(':'))
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().map_err(|_| refused("the port is not a number"))?,
        None => PORT,
    };
    let in_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    if host.is_empty() || !host.bytes().all(in_name) {
        return Err(refused("the host is not a name or an address"));
    }
    Ok((auth_id, host.to_string(), port))
}

/// `host:port`, with brackets if they are needed.
pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// `https://user@realm!token@host:8007`: a server as a whole, for its API. The port may be left out; it is 8007 then. Never
/// holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiAddress {
    /// Who asks: a user, or a token of one.
    pub auth_id: AuthId,
    /// Name or address of the host, without the brackets of IPv6.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for ApiAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}@{}", self.auth_id, authority(&self.host, self.port))
    }
}

impl FromStr for ApiAddress {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self, ClientError> {
        // The text is not shown: somebody may have put a secret into it.
        let refused = |why: &str| {
            ClientError::Address(format!(
                "{why}; write a server as https://user@realm!token@host:8007"
            ))
        };
        let rest = text
            .strip_prefix("https://")
            .ok_or_else(|| refused("the address of a server begins with https://"))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('/') {
            return Err(refused(
                "this is asked of the whole server: leave out what is behind the host",
            ));
        }
        let (auth_id, host, port) = place(rest, refused)?;
        Ok(Self { auth_id, host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_who_and_where() {
        let address: ServerAddress = "https://bkup@pbs!tok1@backup.example.org/main".parse().unwrap();
        assert_eq!(address.auth_id.to_string(), "bkup@pbs!tok1");
        assert_eq!(
            (address.host.as_str(), address.port, address.datastore.as_str()),
            ("backup.example.org", 8007, "main")
        );
        let text = "https://root@pam@[fd00::1]:443/main";
        let address: ServerAddress = text.parse().unwrap();
        assert_eq!((address.host.as_str(), address.port), ("fd00::1", 443));
        assert_eq!(address.to_string(), text);
    }

    #[test]
    fn what_is_refused_is_not_repeated() {
        for text in [
            "http://a@pbs@h/main",
            "https://h/main",
            "https://a@pbs!t:geheim@h/main",
            "https://a@pbs:geheim@h/main",
            "https://a@pbs@h:99999/main",
            "https://a@pbs@h",
            "https://a@pbs@h/",
            "https://a@pbs@h/a/b",
            "https://a@pbs@h/..",
            "https://a@pbs@/main",
            "https://a@pbs@h h/main",
            "",
        ] {
            let error = text.parse::<ServerAddress>().unwrap_err().to_string();
            assert!(!error.contains("geheim"), "{error}");
        }
    }

    #[test]
    fn a_server_as_a_whole_has_no_datastore() {
        let address: ApiAddress = "https://jane@pbs!script@backup.example.org/".parse().unwrap();
        assert_eq!(
            address.to_string(),
            "https://jane@pbs!script@backup.example.org:8007"
        );
        for text in [
            "https://a@pbs@h/main",
            "http://a@pbs@h",
            "https://h",
            "https://a@pbs!t:geheim@h",
            "https://a@pbs@h:0x1",
        ] {
            let error = text.parse::<ApiAddress>().unwrap_err().to_string();
            assert!(
                error.contains("write a server as") && !error.contains("geheim"),
                "{error}"
            );
        }
    }
}

//! Secrets: those that are made for people, and those of the server itself.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use rusqlite::{OptionalExtension, params};
use zeroize::{Zeroize, Zeroizing};

use super::State;
use crate::error::{Result, ServerError};

/// Random bytes of the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| ServerError::System("the system gives no random numbers".into()))?;
    Ok(bytes)
}

/// A random identifier in the form of a UUID of version 4 (RFC 9562, section 5.4): 122 random bits.
fn uuid() -> Result<[u8; 16]> {
    let mut bytes: [u8; 16] = random()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(bytes)
}

/// A secret that was made just now, to be shown once.
pub struct NewSecret(Zeroizing<String>);

impl NewSecret {
    pub(super) fn generate() -> Result<Self> {
        let mut bytes = uuid()?;
        let hex = Zeroizing::new(hex::encode(bytes));
        bytes.zeroize();
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        Ok(Self(Zeroizing::new(parts.join("-"))))
    }

    /// The secret itself.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewSecret(not shown)")
    }
}

impl State {
    /// A secret of the server by its name, made when it is asked for first.
    pub(super) fn own_secret<const N: usize>(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<[u8; N]>,
    ) -> Result<[u8; N]> {
        let select = "SELECT value FROM secrets WHERE name = ?";
        let found =
            self.read(|connection| connection.query_row(select, [name], |row| row.get(0)).optional())?;
        if let Some(found) = found {
            return Ok(found);
        }
        let value = make()?;
        self.change(|connection| {
            // Whoever was first has made it.
            connection.execute(
                "INSERT OR IGNORE INTO secrets (name, value) VALUES (?, ?)",
                params![name, value],
            )?;
            Ok(())
        })?;
        self.read(|connection| connection.query_row(select, [name], |row| row.get(0)))
    }

    /// The key that tickets are signed with.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub fn ticket_key(&self) -> Result<Zeroizing<[u8; 32]>> {
        self.own_secret("ticket key", random).map(Zeroizing::new)
    }

    /// The identity of this server, 32 hexadecimal digits.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub fn instance_id(&self) -> Result<String> {
        self.instance().map(hex::encode)
    }

    /// The same in bytes.
    pub(super) fn instance(&self) -> Result<[u8; 16]> {
        self.own_secret("instance", uuid)
    }
}

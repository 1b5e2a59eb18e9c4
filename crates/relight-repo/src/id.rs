//! Names of the things in a repository.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::RepoError;

/// Defines an identifier of a fixed number of bytes that reads and prints as lower-case hexadecimal digits.
macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = hex::FromHexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; $len];
                hex::decode_to_slice(text, &mut bytes)?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

identifier!(
    /// Identity of a chunk: SHA-256 of its content, or what a client that encrypts itself says it is.
    ChunkId,
    32
);
identifier!(
    /// Identity of a pack: random.
    PackId,
    16
);
identifier!(
    /// Identity of a snapshot: random.
    SnapshotId,
    16
);
identifier!(
    /// Identity of an index segment: random.
    SegmentId,
    16
);
identifier!(
    /// Identity of a running writer: random.
    SessionId,
    16
);

impl ChunkId {
    /// The identity of content that is nothing but zeros of any length; nothing is stored for it.
    pub const ZEROS: Self = Self([0; 32]);

    /// Identity of `content`.
    pub fn of(content: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
        let mut id = [0; 32];
        id.copy_from_slice(digest.as_ref());
        Self(id)
    }
}

/// What the identity of a client-sealed chunk is made with.
const CLIENT_SEALED: &[u8] = b"relight client-sealed v1\0";

impl ChunkId {
    /// Identity of a chunk that its client encrypted, which is known by the digest that the client gave: SHA-512/256,
    /// so that no content of a plain chunk can be made to have the same identity.
    pub fn of_client_sealed(digest: &[u8; 32]) -> Self {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA512_256);
        context.update(CLIENT_SEALED);
        context.update(digest);
        let mut id = [0; 32];
        id.copy_from_slice(context.finish().as_ref());
        Self(id)
    }
}

/// Random bytes for a name, from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], RepoError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| RepoError::NoRandomness)?;
    Ok(bytes)
}

impl PackId {
    /// A new name.
    pub fn random() -> Result<Self, RepoError> {
        random().map(Self)
    }
}

impl SnapshotId {
    /// A new name.
    pub fn random() -> Result<Self, RepoError> {
        random().map(Self)
    }

    /// The eight digits that people see.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

impl SegmentId {
    /// A new name.
    pub fn random() -> Result<Self, RepoError> {
        random().map(Self)
    }
}

impl SessionId {
    /// A new name.
    pub fn random() -> Result<Self, RepoError> {
        random().map(Self)
    }
}

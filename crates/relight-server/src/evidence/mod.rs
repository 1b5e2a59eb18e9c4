//! Evidence: what happened and who did it, in a log that can only be added to.
//!
//! Each record holds the hash of the one before it, and is signed. Whoever changes, removes or inserts one breaks the chain
//! at exactly that place; whoever cuts the end off is found out by a head that was noted elsewhere (each backup of the
//! server's state notes one).
//!
//! ```text
//! hash      = SHA-256("relight evidence v1\0" || server (16 bytes) || hash of the record before (32 bytes) || body)
//! signature = Ed25519(hash), with the server's own key
//! ```
//!
//! The first record follows a hash of zeros. The body is one line of JSON ([`Body`]).

mod chain;
pub mod detail;
mod export;
mod record;
mod signer;

pub use chain::{Broken, Head, Verified, Verifier};
pub use export::{read, write};
pub use record::{Body, Kind, NewEvidence, Outcome, Sealed};
pub use signer::Signer;

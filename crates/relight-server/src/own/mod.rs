//! The server's own backup. Users, tokens, rules, evidence, certificate and configuration go into every repository it has,
//! so that one of these and what opens it are enough to have the server back: [`adopt`].

mod adopt;
mod keep;
mod save;

pub use adopt::{Adopted, adopt};
pub(crate) use keep::Keeper;

/// Kind of the workload that a server itself is; it is shown to no client.
pub(crate) const KIND: &str = relight_pbs::service::datastore::OWN_KIND;
/// The archive with the database of the state.
const STATE: &str = "state.db";
/// The archive with the configuration.
const CONFIGURATION: &str = "relight.toml";
/// The archives with the certificate that the server made for itself.
const CERTIFICATE: [&str; 2] = ["server.key", "server.pem"];
/// Attribute of the snapshot: the newest evidence when it was made.
const HEAD: &str = "evidence.head";
/// Attribute of the snapshot: the public key that evidence is signed with.
const KEY: &str = "evidence.key";

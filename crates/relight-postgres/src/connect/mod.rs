//! How a cluster is reached: settings as libpq takes them (documentation of PostgreSQL, "libpq: Database Connection
//! Control Functions"), from a URL or key-value string, the service file, the environment and `.pgpass`.

mod conninfo;
mod endpoint;
mod environment;
mod passfile;
mod service;
mod settings;
mod socket;
mod tls;
mod url;

pub use environment::Environment;
pub use settings::{ChannelBinding, Host, Settings, SslMode, TargetSession};
pub(crate) use socket::{Encryption, Socket, name, open};

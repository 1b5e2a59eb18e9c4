//! The client's side of the protocol: calls over HTTP/1.1, and sessions that write or read one snapshot.
//!
//! A [`Client`] knows a server and who asks. [`Client::backup`] and [`Client::reader`] open a connection each and change
//! it to HTTP/2, with the same settings as the original's client. What the server says of an error is what is shown.

mod address;
mod api;
mod backup;
mod connection;
mod credentials;
mod error;
mod limit;
mod raw;
mod reader;
mod rest;
mod source;
mod tls;
mod tree;
mod wire;

pub use address::{ApiAddress, ServerAddress};
pub use api::ApiAnswer;
pub use backup::{ArchiveWriter, BackupOptions, BackupSession, Finished, SavedArchive, UploadFigures};
pub use connection::{Client, ClientOptions};
pub use credentials::Credentials;
pub use error::ClientError;
pub use limit::{Limited, Rate};
pub use raw::{RawReader, RawWriter};
pub use reader::{Content, Piece, Pieces, ReaderArchive, ReaderSession};
pub use source::{RemoteArchive, RemoteStream, RemoteTree, client_error};
pub use tls::{TlsTransport, Trust};
pub use tree::{PreviousTree, TreeSink, saved_from};
pub use wire::{BoxIo, Connecting, Io, Transport};

/// What calls of the client give.
pub type Result<T, E = ClientError> = std::result::Result<T, E>;

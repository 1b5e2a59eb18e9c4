//! Disk images as network block devices: a server of the NBD protocol (fixed newstyle negotiation, structured replies,
//! `base:allocation`), read-only. Sections are those of `doc/proto.md` of the NBD project.

mod address;
mod export;
mod negotiate;
mod options;
mod peer;
mod server;
mod transmit;
mod wire;

pub use address::Address;
pub use server::Server;

//! The Proxmox Backup protocol and formats, as a server and as a client.

pub mod access;
pub mod client;
pub mod formats;
pub mod service;
pub mod sync;

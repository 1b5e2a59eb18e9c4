//! The formats of the Proxmox Backup protocol, read and written without any I/O of their own. Whatever is read may come
//! from a hostile client: lengths are limited before anything is allocated for them.

pub mod blob;
pub mod catalog;
pub mod chunker;
pub mod crypt;
pub mod ids;
pub mod index;
pub mod manifest;
pub mod upid;

//! Snapshots as a read-only file system ([`mount`](mod@mount)), and disk images as network block devices ([`nbd`]).
//! Knows repositories, the pxar format and workloads; nothing of HTTP.

mod attributes;
mod content;
mod error;
mod filesystem;
mod handles;
mod inode;
pub mod mount;
mod names;
pub mod nbd;
mod refresh;
mod source;
mod tree;
mod trouble;
mod xattrs;

pub use content::Image;
pub use error::{MountError, Result};
pub use mount::{MountOptions, Mounted};

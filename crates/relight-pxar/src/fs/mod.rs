//! Linux file trees to and from archives: reading metadata, capturing, restoring and comparing trees.

pub mod apply;
pub mod capture;
pub mod compare;
pub mod dir_chain;
pub mod extract;
pub mod inode_flags;
pub mod listing;
pub mod metadata;
pub mod posix_acl;
pub mod progress;
pub mod project;
pub mod pseudo;
pub mod sink;
pub mod stat;
pub mod stat_records;

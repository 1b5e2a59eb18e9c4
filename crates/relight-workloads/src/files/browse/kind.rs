//! What an entry is, as a word.

use std::fmt;

use relight_pxar::{EntryKind, format};
use serde::Serialize;

/// What something in a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A folder.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharacterDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A disk image.
    Image,
    /// Any other archive.
    Stream,
}

impl Kind {
    /// Of an entry of a tree; `mode` is that of the entry. A hard link counts as a regular file: what it points at may
    /// be another thing, see [`super::TreeView::resolved`].
    pub fn of(kind: &EntryKind<'_>, mode: u32) -> Self {
        match kind {
            EntryKind::Directory => Self::Directory,
            EntryKind::File { .. } | EntryKind::Hardlink { .. } => Self::File,
            EntryKind::Symlink { .. } => Self::Symlink,
            EntryKind::Device { .. } if mode & format::mode::TYPE == format::mode::BLOCK => Self::BlockDevice,
            EntryKind::Device { .. } => Self::CharacterDevice,
            EntryKind::Fifo => Self::Fifo,
            EntryKind::Socket => Self::Socket,
        }
    }

    /// The letter that `ls -l` begins a line with.
    pub fn letter(self) -> char {
        match self {
            Self::Directory => 'd',
            Self::File | Self::Image | Self::Stream => '-',
            Self::Symlink => 'l',
            Self::BlockDevice => 'b',
            Self::CharacterDevice => 'c',
            Self::Fifo => 'p',
            Self::Socket => 's',
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Directory => "directory",
            Self::File => "file",
            Self::Symlink => "symbolic link",
            Self::BlockDevice => "block device",
            Self::CharacterDevice => "character device",
            Self::Fifo => "named pipe",
            Self::Socket => "socket",
            Self::Image => "disk image",
            Self::Stream => "stream",
        })
    }
}

//! Entries of snapshots as commands show them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use relight_model::size::ByteSize;
use relight_pxar::{EntryKind, FileTime, Metadata, Node};
use relight_repo::snapshot::Archive;
use relight_workloads::files::browse::{Kind, TreeView, printable};
use relight_workloads::files::compare::kind_of;
use serde::Serialize;

use crate::failure::Result;

/// A path in JSON: as text, and where it is not UTF-8 also as it is.
#[derive(Debug, Clone, Serialize)]
pub struct PathText {
    /// The path; bytes that are no text are shown as U+FFFD.
    pub path: String,
    /// The bytes in hexadecimal digits, if the text is not exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_hex: Option<String>,
    #[serde(skip)]
    bytes: Vec<u8>,
}

impl PathText {
    /// Of these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        let path = String::from_utf8_lossy(&bytes).into_owned();
        let exact = path.as_bytes() == bytes;
        let path_hex = (!exact).then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect());
        Self {
            path,
            path_hex,
            bytes,
        }
    }

    /// For people.
    pub fn printable(&self) -> String {
        printable(&self.bytes)
    }
}

/// An entry of a snapshot.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// Its path in the snapshot.
    #[serde(flatten)]
    pub path: PathText,
    /// What it is.
    pub kind: Kind,
    /// Bytes of its content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Permission bits, in octal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Numeric owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Numeric group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// When it was modified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtime: Option<String>,
    /// What a symbolic link points at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Numbers of a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<[u64; 2]>,
    /// Whether it is a further name of a file.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hard_link: bool,
    /// Names of its extended attributes, with that of capabilities and ACLs among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<String>,
    #[serde(skip)]
    modified: Option<FileTime>,
}

impl Shown {
    /// An entry of a tree.
    pub fn entry(tree: &TreeView, node: &Node, path: Vec<u8>) -> Result<Self> {
        Self::of(node, &tree.resolved(node)?, path)
    }

    /// An entry of any tree; `found` is what it points at, of a hard link, or else the entry itself.
    pub fn of(node: &Node, found: &Node, path: Vec<u8>) -> Result<Self> {
        let metadata = found.metadata().map_err(relight_workloads::WorkloadError::from)?;
        let mut shown = Self {
            path: PathText::new(path),
            kind: Kind::of(&found.kind(), metadata.mode),
            size: None,
            mode: Some(format!("{:04o}", metadata.mode & 0o7777)),
            uid: Some(metadata.uid),
            gid: Some(metadata.gid),
            mtime: Some(time_text(metadata.mtime)),
            target: None,
            device: None,
            hard_link: matches!(node.kind(), EntryKind::Hardlink { .. }),
            attributes: attributes(&metadata),
            modified: Some(metadata.mtime),
        };
        match found.kind() {
            EntryKind::File { size, .. } => shown.size = Some(size),
            EntryKind::Symlink { target } => shown.target = Some(printable(target)),
            EntryKind::Device { major, minor } => shown.device = Some([major, minor]),
            _ => {}
        }
        Ok(shown)
    }

    /// An image or a stream.
    pub fn archive(archive: &Archive) -> Self {
        Self::whole(&archive.name, kind_of(archive), archive.root.size)
    }

    /// The same by its name, kind and size in bytes.
    pub fn whole(name: &str, kind: Kind, size: u64) -> Self {
        Self {
            path: PathText::new(name.as_bytes().to_vec()),
            kind,
            size: Some(size),
            mode: None,
            uid: None,
            gid: None,
            mtime: None,
            target: None,
            device: None,
            hard_link: false,
            attributes: Vec::new(),
            modified: None,
        }
    }

    /// As `ls -l` shows it.
    pub fn long_line(&self) -> String {
        let mode = self
            .mode
            .as_deref()
            .and_then(|mode| u32::from_str_radix(mode, 8).ok());
        let mode = mode.map_or_else(|| "---------".into(), permissions);
        let more = if self.attributes.is_empty() { ' ' } else { '+' };
        let id = |id: Option<u32>| id.map_or_else(|| "-".into(), |id| id.to_string());
        let size = match (self.size, self.device) {
            (Some(size), _) => ByteSize(size).to_string(),
            (None, Some([major, minor])) => format!("{major}, {minor}"),
            (None, None) => "-".into(),
        };
        let modified = self.modified.map_or_else(|| "-".into(), local_time);
        let target = self
            .target
            .as_ref()
            .map_or_else(String::new, |target| format!(" -> {target}"));
        format!(
            "{}{mode}{more} {:>6} {:>6} {size:>10} {modified:>19} {}{target}",
            self.kind.letter(),
            id(self.uid),
            id(self.gid),
            self.path.printable()
        )
    }
}

fn attributes(metadata: &Metadata) -> Vec<String> {
    let mut names: Vec<String> = metadata.xattrs.iter().map(|(name, _)| printable(name)).collect();
    if metadata.fcaps.is_some() {
        names.push("security.capability".into());
    }
    let acl = &metadata.acl;
    if !acl.users.is_empty() || !acl.groups.is_empty() || acl.group_obj.is_some() {
        names.push("system.posix_acl_access".into());
    }
    if acl.default.is_some() {
        names.push("system.posix_acl_default".into());
    }
    names
}

/// The nine letters, with set-id and sticky bits.
fn permissions(mode: u32) -> String {
    let mut out = String::with_capacity(9);
    let groups = [
        (6, 0o4000, 's', 'S'),
        (3, 0o2000, 's', 'S'),
        (0, 0o1000, 't', 'T'),
    ];
    for (shift, special, with, without) in groups {
        let bits = mode >> shift & 7;
        out.push(if bits & 4 != 0 { 'r' } else { '-' });
        out.push(if bits & 2 != 0 { 'w' } else { '-' });
        out.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => with,
            (true, false) => without,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    out
}

fn timestamp(time: FileTime) -> Option<Timestamp> {
    Timestamp::new(time.secs, i32::try_from(time.nanos).ok()?).ok()
}

/// A time for programs: RFC 3339 in UTC, to the nanosecond; beyond its range seconds since 1970.
pub fn time_text(time: FileTime) -> String {
    timestamp(time).map_or_else(
        || format!("@{}.{:09}", time.secs, time.nanos),
        |time| time.to_string(),
    )
}

/// A time for people, in their zone.
pub fn local_time(time: FileTime) -> String {
    timestamp(time).map_or_else(|| format!("@{}", time.secs), local)
}

/// A moment for people, in their zone.
pub fn local(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system())
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string()
}

/// The bytes of a path that was given as an argument.
pub fn bytes(path: &OsStr) -> &[u8] {
    path.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_read_like_those_of_ls() {
        assert_eq!(permissions(0o755), "rwxr-xr-x");
        assert_eq!(permissions(0o4755), "rwsr-xr-x");
        assert_eq!(permissions(0o2644), "rw-r-Sr--");
        assert_eq!(permissions(0o1777), "rwxrwxrwt");
        assert_eq!(permissions(0o1000), "--------T");
    }

    #[test]
    fn a_path_that_is_no_text_keeps_its_bytes() {
        assert_eq!(
            serde_json::to_string(&PathText::new(b"a".to_vec())).unwrap(),
            r#"{"path":"a"}"#
        );
        let json = serde_json::to_string(&PathText::new(b"a\xff".to_vec())).unwrap();
        assert_eq!(json, "{\"path\":\"a\u{fffd}\",\"path_hex\":\"61ff\"}");
    }

    #[test]
    fn times_of_any_year_are_shown() {
        assert_eq!(
            time_text(FileTime { secs: 0, nanos: 5 }),
            "1970-01-01T00:00:00.000000005Z"
        );
        assert_eq!(
            time_text(FileTime {
                secs: i64::MAX,
                nanos: 0
            }),
            "@9223372036854775807.000000000"
        );
    }
}

//! Differences of metadata.

use super::{CompareOptions, Comparison, DifferenceKind};
use crate::format::mode;
use crate::fs::metadata::Part;
use crate::metadata::{FileTime, Metadata};

/// Whether differences in a part do not count.
fn is_ignored(options: &CompareOptions, part: &Part) -> bool {
    options.ignore.iter().any(|ignored| match (ignored, part) {
        (Part::Xattr(ignored), Part::Xattr(name)) => ignored.is_empty() || ignored == name,
        (ignored, part) => ignored == part,
    })
}

struct Time(FileTime);

impl std::fmt::Display for Time {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} s + {} ns", self.0.secs, self.0.nanos)
    }
}

/// Reports every part in which the metadata of two entries of the same kind differ.
pub(super) fn compare(
    path: &[u8],
    first: &Metadata,
    second: &Metadata,
    options: &CompareOptions,
    found: &mut Comparison,
) {
    let mut report = |part: Part, detail: String| {
        if !is_ignored(options, &part) {
            found.push(path, DifferenceKind::Metadata(part), detail);
        }
    };
    if (first.uid, first.gid) != (second.uid, second.gid) {
        report(
            Part::Owner,
            format!("{}:{} and {}:{}", first.uid, first.gid, second.uid, second.gid),
        );
    }
    // Linux gives every symbolic link all permissions and lets nobody change them.
    let permissions = |mode: u32| mode & !mode::TYPE;
    if permissions(first.mode) != permissions(second.mode) && first.file_type() != mode::SYMLINK {
        report(
            Part::Mode,
            format!(
                "{:04o} and {:04o}",
                permissions(first.mode),
                permissions(second.mode)
            ),
        );
    }
    if first.mtime != second.mtime {
        report(
            Part::Time,
            format!("{} and {}", Time(first.mtime), Time(second.mtime)),
        );
    }
    xattrs(first, second, &mut report);
    if first.acl != second.acl {
        report(Part::Acl, format!("{:?} and {:?}", first.acl, second.acl));
    }
    if first.fcaps != second.fcaps {
        report(
            Part::Capabilities,
            format!("{:02x?} and {:02x?}", first.fcaps, second.fcaps),
        );
    }
    if first.flags != second.flags {
        report(Part::Flags, format!("{:#x} and {:#x}", first.flags, second.flags));
    }
    if first.project_id != second.project_id {
        report(
            Part::ProjectId,
            format!("{:?} and {:?}", first.project_id, second.project_id),
        );
    }
}

fn xattrs(first: &Metadata, second: &Metadata, report: &mut impl FnMut(Part, String)) {
    let value_in = |metadata: &Metadata, name: &[u8]| {
        metadata
            .xattrs
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.clone())
    };
    for (name, value) in &first.xattrs {
        match value_in(second, name) {
            Some(other) if other == *value => {}
            Some(_) => report(Part::Xattr(name.clone()), "the values differ".into()),
            None => report(Part::Xattr(name.clone()), "only the first has it".into()),
        }
    }
    for (name, _) in &second.xattrs {
        if value_in(first, name).is_none() {
            report(Part::Xattr(name.clone()), "only the second has it".into());
        }
    }
}

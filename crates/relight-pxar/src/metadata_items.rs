//! Metadata as items of an archive: the ENTRY item and the attribute items behind it.
//!
//! Their order: ENTRY, XATTR…, ACL_USER…, ACL_GROUP…, ACL_GROUP_OBJ, ACL_DEFAULT, ACL_DEFAULT_USER…,
//! ACL_DEFAULT_GROUP…, FCAPS, QUOTA_PROJID.

use crate::error::{DecodeError, EncodeError};
use crate::format::{self, HEADER_SIZE, ItemHeader, MAX_METADATA, MAX_XATTR, MAX_XATTR_NAME, u32_at, u64_at};
use crate::metadata::{Acl, DefaultAcl, FileTime, Metadata, Stat};

/// Metadata of an entry as its items stand in an archive, checked for structure but not decoded. Handing it to the
/// encoder copies it byte for byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawMetadata<'a> {
    items: &'a [u8],
    position: u64,
    stat: Stat,
}

/// Metadata given to the encoder: decoded, or as it stood in another archive.
#[derive(Debug, Clone, Copy)]
pub enum EntryMetadata<'a> {
    /// To be encoded.
    Decoded(&'a Metadata),
    /// To be copied.
    Raw(RawMetadata<'a>),
}

impl<'a> From<&'a Metadata> for EntryMetadata<'a> {
    fn from(metadata: &'a Metadata) -> Self {
        Self::Decoded(metadata)
    }
}

impl<'a> From<RawMetadata<'a>> for EntryMetadata<'a> {
    fn from(metadata: RawMetadata<'a>) -> Self {
        Self::Raw(metadata)
    }
}

impl EntryMetadata<'_> {
    /// File type bits of the mode.
    pub(crate) fn file_type(&self) -> u32 {
        match self {
            Self::Decoded(metadata) => metadata.file_type(),
            Self::Raw(raw) => raw.stat.file_type(),
        }
    }

    /// Appends the items to `out`. On an error `out` may hold a part of them.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Decoded(metadata) => encode_metadata(metadata, out),
            Self::Raw(raw) => {
                out.extend_from_slice(raw.items);
                Ok(())
            }
        }
    }
}

impl<'a> RawMetadata<'a> {
    /// Takes items kept from an earlier archive: an ENTRY item and attribute items behind it, nothing else.
    pub fn new(items: &'a [u8]) -> Result<Self, DecodeError> {
        let mut offset = 0;
        while offset < items.len() {
            let header = item_at(items, offset, offset as u64)?;
            let expected = if offset == 0 {
                is_entry(header.kind)
            } else {
                is_attribute(header.kind)
            };
            if !expected {
                return Err(DecodeError::damaged(
                    offset as u64,
                    "the kept metadata holds an item of another kind",
                ));
            }
            offset += header.size as usize;
        }
        Self::of_checked(items, 0)
    }

    /// Takes items whose headers were checked already; `position` is where they lie in the archive.
    pub(crate) fn of_checked(items: &'a [u8], position: u64) -> Result<Self, DecodeError> {
        let stat = decode_stat(items, position)?;
        Ok(Self {
            items,
            position,
            stat,
        })
    }

    /// The bytes, for keeping.
    pub fn items(&self) -> &'a [u8] {
        self.items
    }

    /// The part every entry has.
    pub fn stat(&self) -> Stat {
        self.stat
    }

    /// Whether there is more than [`RawMetadata::stat`]: extended attributes, ACLs, capabilities, a project id.
    pub fn has_attributes(&self) -> bool {
        self.items.len() as u64 > HEADER_SIZE + format::ENTRY_SIZE
    }

    /// Decodes everything.
    pub fn decode(&self) -> Result<Metadata, DecodeError> {
        decode_metadata(self.items, self.position, self.stat)
    }
}

/// Whether an item type begins an entry's metadata.
pub(crate) fn is_entry(kind: u64) -> bool {
    matches!(kind, format::ENTRY | format::ENTRY_V1)
}

/// Whether an item type is an attribute of an entry.
pub(crate) fn is_attribute(kind: u64) -> bool {
    matches!(
        kind,
        format::XATTR
            | format::ACL_USER
            | format::ACL_GROUP
            | format::ACL_GROUP_OBJ
            | format::ACL_DEFAULT
            | format::ACL_DEFAULT_USER
            | format::ACL_DEFAULT_GROUP
            | format::FCAPS
            | format::QUOTA_PROJID
    )
}

/// Appends `metadata` as items to `out`. On an error `out` may hold a part of them.
pub fn encode_metadata(metadata: &Metadata, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    if metadata.mtime.nanos >= 1_000_000_000 {
        return Err(EncodeError::Metadata(
            "the nanoseconds of a time are a second or more",
        ));
    }
    let mut entry = [0; (HEADER_SIZE + format::ENTRY_SIZE) as usize];
    entry[..16].copy_from_slice(&ItemHeader::new(format::ENTRY, format::ENTRY_SIZE).to_bytes());
    entry[16..24].copy_from_slice(&u64::from(metadata.mode).to_le_bytes());
    entry[24..32].copy_from_slice(&metadata.flags.to_le_bytes());
    entry[32..36].copy_from_slice(&metadata.uid.to_le_bytes());
    entry[36..40].copy_from_slice(&metadata.gid.to_le_bytes());
    entry[40..48].copy_from_slice(&metadata.mtime.secs.to_le_bytes());
    entry[48..52].copy_from_slice(&metadata.mtime.nanos.to_le_bytes());
    out.extend_from_slice(&entry);
    for (name, value) in &metadata.xattrs {
        if name.is_empty() || name.len() > MAX_XATTR_NAME || name.contains(&0) {
            return Err(EncodeError::Metadata(
                "the name of an extended attribute is empty, too long or holds a zero byte",
            ));
        }
        let size = name.len() + 1 + value.len();
        if size > MAX_XATTR {
            return Err(EncodeError::Metadata(
                "an extended attribute is larger than 64 KiB",
            ));
        }
        out.extend_from_slice(&ItemHeader::new(format::XATTR, size as u64).to_bytes());
        out.extend_from_slice(name);
        out.push(0);
        out.extend_from_slice(value);
    }
    encode_acl(&metadata.acl, out)?;
    if let Some(value) = &metadata.fcaps {
        if value.len() > MAX_XATTR {
            return Err(EncodeError::Metadata(
                "the file capabilities are larger than 64 KiB",
            ));
        }
        out.extend_from_slice(&ItemHeader::new(format::FCAPS, value.len() as u64).to_bytes());
        out.extend_from_slice(value);
    }
    if let Some(id) = metadata.project_id {
        push_numbers(out, format::QUOTA_PROJID, &[id]);
    }
    if out.len() - start > MAX_METADATA {
        return Err(EncodeError::Metadata(
            "the extended attributes take more than 64 MiB together",
        ));
    }
    Ok(())
}

fn encode_acl(acl: &Acl, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    encode_named(out, format::ACL_USER, &acl.users)?;
    encode_named(out, format::ACL_GROUP, &acl.groups)?;
    if let Some(permissions) = acl.group_obj {
        push_numbers(out, format::ACL_GROUP_OBJ, &[checked(permissions)?]);
    }
    if let Some(default) = &acl.default {
        let number = |permissions: Option<u8>| permissions.map_or(Ok(format::NO_PERMISSIONS), checked);
        let numbers = [
            number(default.user_obj)?,
            number(default.group_obj)?,
            number(default.other)?,
            number(default.mask)?,
        ];
        push_numbers(out, format::ACL_DEFAULT, &numbers);
        encode_named(out, format::ACL_DEFAULT_USER, &default.users)?;
        encode_named(out, format::ACL_DEFAULT_GROUP, &default.groups)?;
    }
    Ok(())
}

fn encode_named(out: &mut Vec<u8>, kind: u64, entries: &[(u32, u8)]) -> Result<(), EncodeError> {
    for &(id, permissions) in entries {
        push_numbers(out, kind, &[u64::from(id), checked(permissions)?]);
    }
    Ok(())
}

fn checked(permissions: u8) -> Result<u64, EncodeError> {
    if permissions > 7 {
        return Err(EncodeError::Metadata(
            "the permissions of an ACL entry are more than rwx",
        ));
    }
    Ok(u64::from(permissions))
}

fn push_numbers(out: &mut Vec<u8>, kind: u64, numbers: &[u64]) {
    out.extend_from_slice(&ItemHeader::new(kind, numbers.len() as u64 * 8).to_bytes());
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// The item header at `offset` of `items`, with the whole item known to be there.
fn item_at(items: &[u8], offset: usize, position: u64) -> Result<ItemHeader, DecodeError> {
    let rest = items.get(offset..).unwrap_or_default();
    let bytes = rest
        .first_chunk::<16>()
        .ok_or(DecodeError::Truncated { position })?;
    let header = ItemHeader::parse(bytes, position)?;
    if header.size > rest.len() as u64 {
        return Err(DecodeError::Truncated { position });
    }
    Ok(header)
}

/// Decodes the ENTRY item `items` begin with.
fn decode_stat(items: &[u8], position: u64) -> Result<Stat, DecodeError> {
    let header = item_at(items, 0, position)?;
    let content = &items[HEADER_SIZE as usize..];
    let damaged = |what| DecodeError::damaged(position, what);
    let mtime = match (header.kind, header.content()) {
        (format::ENTRY, format::ENTRY_SIZE) => FileTime {
            secs: u64_at(content, 24).cast_signed(),
            nanos: u32_at(content, 32),
        },
        (format::ENTRY_V1, format::ENTRY_V1_SIZE) => {
            let nanos = u64_at(content, 24);
            FileTime {
                secs: (nanos / 1_000_000_000).cast_signed(),
                nanos: (nanos % 1_000_000_000) as u32,
            }
        }
        _ => return Err(damaged("an entry does not begin with its metadata")),
    };
    if mtime.nanos >= 1_000_000_000 {
        return Err(damaged("the nanoseconds of a time are a second or more"));
    }
    let mode = u32::try_from(u64_at(content, 0)).map_err(|_| damaged("a mode has unknown bits"))?;
    Ok(Stat {
        mode,
        flags: u64_at(content, 8),
        uid: u32_at(content, 16),
        gid: u32_at(content, 20),
        mtime,
    })
}

fn decode_metadata(items: &[u8], position: u64, stat: Stat) -> Result<Metadata, DecodeError> {
    let Stat {
        mode,
        flags,
        uid,
        gid,
        mtime,
    } = stat;
    let mut metadata = Metadata {
        mode,
        flags,
        uid,
        gid,
        mtime,
        ..Metadata::default()
    };
    let mut offset = item_at(items, 0, position)?.size as usize;
    while offset < items.len() {
        let at = position.saturating_add(offset as u64);
        let header = item_at(items, offset, at)?;
        let end = offset + header.size as usize;
        let attribute = Attribute {
            kind: header.kind,
            content: &items[offset + HEADER_SIZE as usize..end],
            position: at,
        };
        attribute.apply(&mut metadata)?;
        offset = end;
    }
    Ok(metadata)
}

/// One attribute item.
struct Attribute<'a> {
    kind: u64,
    content: &'a [u8],
    position: u64,
}

impl Attribute<'_> {
    fn apply(&self, metadata: &mut Metadata) -> Result<(), DecodeError> {
        let acl = &mut metadata.acl;
        match self.kind {
            format::XATTR => metadata.xattrs.push(self.xattr()?),
            format::ACL_USER => acl.users.push(self.named()?),
            format::ACL_GROUP => acl.groups.push(self.named()?),
            format::ACL_GROUP_OBJ => {
                let permissions = self.permissions(self.numbers::<1>()?[0])?;
                self.once(acl.group_obj.replace(permissions).is_some())?;
            }
            format::ACL_DEFAULT => {
                self.once(acl.default.is_some())?;
                let [user_obj, group_obj, other, mask] = self.numbers::<4>()?;
                let optional = |number| match number {
                    format::NO_PERMISSIONS => Ok(None),
                    number => self.permissions(number).map(Some),
                };
                acl.default = Some(DefaultAcl {
                    user_obj: optional(user_obj)?,
                    group_obj: optional(group_obj)?,
                    other: optional(other)?,
                    mask: optional(mask)?,
                    ..DefaultAcl::default()
                });
            }
            format::ACL_DEFAULT_USER => acl.default.get_or_insert_default().users.push(self.named()?),
            format::ACL_DEFAULT_GROUP => acl.default.get_or_insert_default().groups.push(self.named()?),
            format::FCAPS => self.once(metadata.fcaps.replace(self.content.to_vec()).is_some())?,
            format::QUOTA_PROJID => {
                let [id] = self.numbers::<1>()?;
                self.once(metadata.project_id.replace(id).is_some())?;
            }
            _ => return Err(self.damaged("an item of another kind stands among the metadata")),
        }
        Ok(())
    }

    fn damaged(&self, what: &'static str) -> DecodeError {
        DecodeError::damaged(self.position, what)
    }

    fn once(&self, seen: bool) -> Result<(), DecodeError> {
        if seen {
            Err(self.damaged("an attribute that may stand once stands twice"))
        } else {
            Ok(())
        }
    }

    fn xattr(&self) -> Result<(Vec<u8>, Vec<u8>), DecodeError> {
        let end = self.content.iter().position(|&byte| byte == 0);
        match end {
            Some(end @ 1..=MAX_XATTR_NAME) => {
                Ok((self.content[..end].to_vec(), self.content[end + 1..].to_vec()))
            }
            _ => Err(self.damaged("an extended attribute has no proper name")),
        }
    }

    fn named(&self) -> Result<(u32, u8), DecodeError> {
        let [id, permissions] = self.numbers::<2>()?;
        let id = u32::try_from(id).map_err(|_| self.damaged("an ACL entry names an impossible id"))?;
        Ok((id, self.permissions(permissions)?))
    }

    fn permissions(&self, number: u64) -> Result<u8, DecodeError> {
        match number {
            0..=7 => Ok(number as u8),
            _ => Err(self.damaged("the permissions of an ACL entry are more than rwx")),
        }
    }

    fn numbers<const N: usize>(&self) -> Result<[u64; N], DecodeError> {
        if self.content.len() != N * 8 {
            return Err(self.damaged("an attribute has the wrong size"));
        }
        Ok(std::array::from_fn(|index| u64_at(self.content, index * 8)))
    }
}

//! POSIX ACLs as Linux hands them out in `system.posix_acl_access` and `system.posix_acl_default`
//! (`linux/posix_acl_xattr.h`): a version, then entries of tag, permissions and id, all little endian.

use crate::metadata::{Acl, DefaultAcl};

/// Name of the extended attribute with the access ACL.
pub const ACCESS: &std::ffi::CStr = c"system.posix_acl_access";
/// Name of the extended attribute with the default ACL of a directory.
pub const DEFAULT: &std::ffi::CStr = c"system.posix_acl_default";

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const NO_ID: u32 = u32::MAX;

/// Entries of one ACL, before it is known whether they say more than the mode.
#[derive(Default)]
struct Entries {
    user_obj: Option<u8>,
    group_obj: Option<u8>,
    other: Option<u8>,
    mask: Option<u8>,
    users: Vec<(u32, u8)>,
    groups: Vec<(u32, u8)>,
}

fn parse(value: &[u8]) -> Option<Entries> {
    let (version, rest) = value.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != VERSION || !rest.len().is_multiple_of(8) {
        return None;
    }
    let mut entries = Entries::default();
    for entry in rest.chunks_exact(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let permissions = (u16::from_le_bytes([entry[2], entry[3]]) & 7) as u8;
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        match tag {
            USER_OBJ => entries.user_obj = Some(permissions),
            GROUP_OBJ => entries.group_obj = Some(permissions),
            OTHER => entries.other = Some(permissions),
            MASK => entries.mask = Some(permissions),
            USER => entries.users.push((id, permissions)),
            GROUP => entries.groups.push((id, permissions)),
            _ => return None,
        }
    }
    entries.users.sort_unstable();
    entries.groups.sort_unstable();
    Some(entries)
}

/// Puts the value of [`ACCESS`] into `acl`. An ACL that says no more than the mode leaves nothing there. False where the
/// value is not an ACL this code knows.
pub fn read_access(value: &[u8], acl: &mut Acl) -> bool {
    let Some(entries) = parse(value) else { return false };
    // Where there is a mask it is the mode's group bits, and the group's own permissions are only in the ACL.
    acl.group_obj = entries.mask.and(entries.group_obj);
    acl.users = entries.users;
    acl.groups = entries.groups;
    true
}

/// Puts the value of [`DEFAULT`] into `acl`. False where the value is not an ACL this code knows.
pub fn read_default(value: &[u8], acl: &mut Acl) -> bool {
    let Some(entries) = parse(value) else { return false };
    let Entries {
        user_obj,
        group_obj,
        other,
        mask,
        users,
        groups,
    } = entries;
    acl.default = Some(DefaultAcl {
        user_obj,
        group_obj,
        other,
        mask,
        users,
        groups,
    });
    true
}

fn push(value: &mut Vec<u8>, tag: u16, permissions: u8, id: u32) {
    value.extend_from_slice(&tag.to_le_bytes());
    value.extend_from_slice(&u16::from(permissions & 7).to_le_bytes());
    value.extend_from_slice(&id.to_le_bytes());
}

/// Writes entries in the order the kernel demands: by tag, named ones by id.
fn build(entries: &Entries) -> Vec<u8> {
    let mut value = Vec::with_capacity(4 + 8 * (4 + entries.users.len() + entries.groups.len()));
    value.extend_from_slice(&VERSION.to_le_bytes());
    let single = |value: &mut Vec<u8>, tag, permissions: Option<u8>| {
        if let Some(permissions) = permissions {
            push(value, tag, permissions, NO_ID);
        }
    };
    single(&mut value, USER_OBJ, entries.user_obj);
    for &(uid, permissions) in &entries.users {
        push(&mut value, USER, permissions, uid);
    }
    single(&mut value, GROUP_OBJ, entries.group_obj);
    for &(gid, permissions) in &entries.groups {
        push(&mut value, GROUP, permissions, gid);
    }
    single(&mut value, MASK, entries.mask);
    single(&mut value, OTHER, entries.other);
    value
}

fn sorted(named: &[(u32, u8)]) -> Vec<(u32, u8)> {
    let mut named = named.to_vec();
    named.sort_unstable();
    named
}

/// The value of [`ACCESS`] for `acl` and the mode it belongs to; none where the mode says it all.
pub fn access_value(mode: u32, acl: &Acl) -> Option<Vec<u8>> {
    if acl.users.is_empty() && acl.groups.is_empty() && acl.group_obj.is_none() {
        return None;
    }
    let group_bits = (mode >> 3 & 7) as u8;
    Some(build(&Entries {
        user_obj: Some((mode >> 6 & 7) as u8),
        group_obj: Some(acl.group_obj.unwrap_or(group_bits)),
        other: Some((mode & 7) as u8),
        mask: Some(group_bits),
        users: sorted(&acl.users),
        groups: sorted(&acl.groups),
    }))
}

/// The value of [`DEFAULT`] for `acl`.
pub fn default_value(acl: &DefaultAcl) -> Vec<u8> {
    build(&Entries {
        user_obj: acl.user_obj,
        group_obj: acl.group_obj,
        other: acl.other,
        mask: acl.mask,
        users: sorted(&acl.users),
        groups: sorted(&acl.groups),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_acl_comes_back_from_mode_and_entries() {
        let acl = Acl {
            users: vec![(1000, 6), (7, 4)],
            groups: vec![(5, 5)],
            group_obj: Some(4),
            default: None,
        };
        let value = access_value(0o100_670, &acl).unwrap();
        let mut back = Acl::default();
        assert!(read_access(&value, &mut back));
        assert_eq!(back.users, [(7, 4), (1000, 6)]);
        assert_eq!((back.groups, back.group_obj), (vec![(5, 5)], Some(4)));
    }

    #[test]
    fn an_acl_without_mask_is_what_the_mode_says() {
        let entries = Entries {
            user_obj: Some(6),
            group_obj: Some(4),
            other: Some(0),
            ..Entries::default()
        };
        let mut acl = Acl::default();
        assert!(read_access(&build(&entries), &mut acl));
        assert_eq!(acl, Acl::default());
        assert_eq!(access_value(0o100_640, &acl), None);
    }

    #[test]
    fn a_default_acl_keeps_which_entries_there_were() {
        let default = DefaultAcl {
            user_obj: Some(7),
            group_obj: Some(5),
            other: Some(0),
            ..DefaultAcl::default()
        };
        let mut acl = Acl::default();
        assert!(read_default(&default_value(&default), &mut acl));
        assert_eq!(acl.default, Some(default));
    }

    #[test]
    fn other_versions_torn_entries_and_unknown_tags_are_refused() {
        let mut acl = Acl::default();
        for value in [
            &b""[..],
            b"\x02\0\0",
            b"\x03\0\0\0",
            b"\x02\0\0\0\x01\0\x07\0",
            b"\x02\0\0\0\x40\0\x07\0\xff\xff\xff\xff",
        ] {
            assert!(
                !read_access(value, &mut acl) && !read_default(value, &mut acl),
                "{value:?}"
            );
        }
        assert_eq!(acl, Acl::default());
    }
}

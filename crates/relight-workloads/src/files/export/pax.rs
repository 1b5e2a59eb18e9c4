//! Extended headers of tar archives (POSIX.1-2017, pax, "pax Extended Header").

use relight_pxar::metadata::{Acl, DefaultAcl, FileTime, Metadata};

/// Records of one extended header.
#[derive(Debug, Default)]
pub(super) struct Records(Vec<u8>);

impl Records {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Adds `key=value`. The length at the begin of a record counts its own digits.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + digits(length) {
            length = rest + digits(length);
        }
        self.0.extend_from_slice(length.to_string().as_bytes());
        self.0.push(b' ');
        self.0.extend_from_slice(key);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    /// Adds a text that pax wants to be UTF-8, and says so if it is not.
    pub fn add_name(&mut self, key: &str, value: &[u8]) {
        if std::str::from_utf8(value).is_err() {
            self.add(b"hdrcharset", b"BINARY");
        }
        self.add(key.as_bytes(), value);
    }

    /// Adds the time if the plain header cannot hold it.
    pub fn add_time(&mut self, time: FileTime) {
        if time.nanos == 0 && (0..=0o77_777_777_777).contains(&time.secs) {
            return;
        }
        let text = match (time.secs, time.nanos) {
            (secs, 0) => secs.to_string(),
            (secs, nanos) if secs >= 0 => format!("{secs}.{nanos:09}"),
            // Half a second after -2 is -1.5.
            (secs, nanos) => {
                let whole = secs.saturating_add(1);
                let sign = if whole == 0 { "-" } else { "" };
                format!("{sign}{whole}.{:09}", 1_000_000_000_u32.saturating_sub(nanos))
            }
        };
        self.add(b"mtime", text.as_bytes());
    }

    /// Adds extended attributes, capabilities and ACLs in the words that star, GNU tar and libarchive share.
    pub fn add_attributes(&mut self, metadata: &Metadata) {
        for (name, value) in &metadata.xattrs {
            self.add(&[b"SCHILY.xattr.".as_slice(), &escaped(name)].concat(), value);
        }
        if let Some(value) = &metadata.fcaps {
            self.add(b"SCHILY.xattr.security.capability", value);
        }
        if let Some(text) = access_acl(metadata.mode, &metadata.acl) {
            self.add(b"SCHILY.acl.access", text.as_bytes());
        }
        if let Some(default) = &metadata.acl.default {
            self.add(b"SCHILY.acl.default", default_acl(default).as_bytes());
        }
    }
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// A key ends at the first `=`, so GNU tar writes that and `%` as `%3D` and `%25`.
fn escaped(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for &byte in name {
        match byte {
            b'=' => out.extend_from_slice(b"%3D"),
            b'%' => out.extend_from_slice(b"%25"),
            byte => out.push(byte),
        }
    }
    out
}

fn permissions(bits: u8) -> String {
    let letter = |bit: u8, letter: char| if bits & bit != 0 { letter } else { '-' };
    [letter(4, 'r'), letter(2, 'w'), letter(1, 'x')].iter().collect()
}

/// The access ACL as text; none where the mode says it all.
fn access_acl(mode: u32, acl: &Acl) -> Option<String> {
    if acl.users.is_empty() && acl.groups.is_empty() && acl.group_obj.is_none() {
        return None;
    }
    let bits = |shift: u32| (mode >> shift & 7) as u8;
    // The mode's bits of the group are the mask where there is one.
    let full = DefaultAcl {
        user_obj: Some(bits(6)),
        group_obj: Some(acl.group_obj.unwrap_or(bits(3))),
        other: Some(bits(0)),
        mask: Some(bits(3)),
        users: acl.users.clone(),
        groups: acl.groups.clone(),
    };
    Some(default_acl(&full))
}

fn default_acl(acl: &DefaultAcl) -> String {
    let mut entries = Vec::new();
    let single = |entries: &mut Vec<String>, tag: &str, bits: Option<u8>| {
        entries.extend(bits.map(|bits| format!("{tag}::{}", permissions(bits))));
    };
    single(&mut entries, "user", acl.user_obj);
    entries.extend(
        acl.users
            .iter()
            .map(|(id, bits)| format!("user:{id}:{}", permissions(*bits))),
    );
    single(&mut entries, "group", acl.group_obj);
    entries.extend(
        acl.groups
            .iter()
            .map(|(id, bits)| format!("group:{id}:{}", permissions(*bits))),
    );
    single(&mut entries, "mask", acl.mask);
    single(&mut entries, "other", acl.other);
    entries.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, value: &[u8]) -> Vec<u8> {
        let mut records = Records::default();
        records.add(key.as_bytes(), value);
        records.0
    }

    #[test]
    fn the_length_of_a_record_counts_itself() {
        assert_eq!(one("path", b"x"), b"9 path=x\n");
        assert_eq!(one("k", b"1234"), b"9 k=1234\n");
        // One byte more in front makes the length two digits and the record one byte longer.
        assert_eq!(one("k", b"12345"), b"11 k=12345\n");
        for length in 0..2000 {
            let record = one("key", &vec![b'v'; length]);
            let said: usize = String::from_utf8_lossy(&record)
                .split(' ')
                .next()
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(said, record.len());
        }
    }

    #[test]
    fn times_before_1970_keep_their_fraction() {
        let text = |secs, nanos| {
            let mut records = Records::default();
            records.add_time(FileTime { secs, nanos });
            String::from_utf8(records.0).unwrap()
        };
        assert_eq!(text(5, 0), "");
        assert!(text(5, 10).ends_with("mtime=5.000000010\n"));
        assert!(text(-1, 0).ends_with("mtime=-1\n"));
        assert!(text(-2, 500_000_000).ends_with("mtime=-1.500000000\n"));
        assert!(text(-1, 750_000_000).ends_with("mtime=-0.250000000\n"));
        // Eleven octal digits fit into the plain header.
        assert!(text((1 << 33) - 1, 0).is_empty());
        assert!(text(1 << 33, 0).ends_with("mtime=8589934592\n"));
    }

    #[test]
    fn acls_are_written_as_text() {
        let acl = Acl {
            users: vec![(1000, 6)],
            groups: vec![(5, 4)],
            group_obj: Some(1),
            default: None,
        };
        assert_eq!(
            access_acl(0o100_750, &acl).unwrap(),
            "user::rwx,user:1000:rw-,group::--x,group:5:r--,mask::r-x,other::---"
        );
        assert_eq!(access_acl(0o100_750, &Acl::default()), None);
        let default = DefaultAcl {
            user_obj: Some(7),
            group_obj: Some(5),
            ..DefaultAcl::default()
        };
        assert_eq!(default_acl(&default), "user::rwx,group::r-x");
    }

    #[test]
    fn a_key_has_no_equals_sign() {
        assert_eq!(escaped(b"user.a=b%c"), b"user.a%3Db%25c");
    }
}

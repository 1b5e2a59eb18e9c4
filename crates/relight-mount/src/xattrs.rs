//! Extended attributes of an entry, with ACLs and capabilities under the names by which Linux knows them.

use relight_pxar::fs::metadata::CAPABILITY;
use relight_pxar::fs::posix_acl;
use relight_pxar::{DecodeError, Metadata, Node};

/// Names and values, each name once.
#[derive(Debug, Default)]
pub struct Xattrs(Vec<(Vec<u8>, Vec<u8>)>);

impl Xattrs {
    /// Those of an entry that is no hard link.
    pub fn of(node: &Node) -> Result<Self, DecodeError> {
        match node.raw_metadata()? {
            Some(raw) if raw.has_attributes() => Ok(Self::of_metadata(raw.decode()?)),
            _ => Ok(Self::default()),
        }
    }

    fn of_metadata(metadata: Metadata) -> Self {
        let mut all = Vec::with_capacity(metadata.xattrs.len() + 3);
        if let Some(value) = posix_acl::access_value(metadata.mode, &metadata.acl) {
            all.push((posix_acl::ACCESS.to_bytes().to_vec(), value));
        }
        if let Some(default) = &metadata.acl.default {
            all.push((
                posix_acl::DEFAULT.to_bytes().to_vec(),
                posix_acl::default_value(default),
            ));
        }
        if let Some(value) = metadata.fcaps {
            all.push((CAPABILITY.to_bytes().to_vec(), value));
        }
        for (name, value) in metadata.xattrs {
            let sound = !name.is_empty() && name.len() <= 255 && !name.contains(&0);
            if sound && all.iter().all(|(known, _)| *known != name) {
                all.push((name, value));
            }
        }
        Self(all)
    }

    /// The value of one.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_slice())
    }

    /// All names, each with a zero byte behind it, as `listxattr` gives them.
    pub fn names(&self) -> Vec<u8> {
        self.0
            .iter()
            .flat_map(|(name, _)| name.iter().copied().chain([0]))
            .collect()
    }
}

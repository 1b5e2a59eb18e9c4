//! Names of the files of a snapshot.

use std::fmt;
use std::str::FromStr;

use super::{MAX_ID, NameError, as_text, check_safe};

/// What a file of a snapshot is, by its ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// `.fidx`: the index of an image.
    FixedIndex,
    /// `.didx`: the index of a stream.
    DynamicIndex,
    /// `.blob`: a small thing.
    Blob,
}

/// Name of a file of a snapshot as the server knows it, with its ending: `drive-scsi0.img.fidx`, `root.pxar.didx`,
/// `index.json.blob`. At most [`MAX_ID`] bytes, letters, digits, `.`, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(String);

impl FileName {
    /// Name of the manifest.
    pub const MANIFEST: &'static str = "index.json.blob";
    /// Name of the client's log.
    pub const CLIENT_LOG: &'static str = "client.log.blob";

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it is.
    pub fn kind(&self) -> FileKind {
        if self.0.ends_with(".fidx") {
            FileKind::FixedIndex
        } else if self.0.ends_with(".didx") {
            FileKind::DynamicIndex
        } else {
            FileKind::Blob
        }
    }

    /// Whether it is the manifest.
    pub fn is_manifest(&self) -> bool {
        self.0 == Self::MANIFEST
    }

    /// Without the ending: the name of what an index lists.
    pub fn stem(&self) -> &str {
        // Each of the endings has five bytes.
        &self.0[..self.0.len() - 5]
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for FileName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_safe("file name", text, MAX_ID)?;
        let known = [".fidx", ".didx", ".blob"]
            .iter()
            .any(|ending| text.ends_with(ending));
        if !known || text.len() == 5 {
            return Err(NameError::new(
                "file name",
                text,
                "does not end in .fidx, .didx or .blob",
            ));
        }
        Ok(Self(text.to_string()))
    }
}

as_text!(FileName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_tells_what_it_is() {
        let image: FileName = "drive-scsi0.img.fidx".parse().unwrap();
        assert_eq!(
            (image.kind(), image.stem()),
            (FileKind::FixedIndex, "drive-scsi0.img")
        );
        let stream: FileName = "root.pxar.didx".parse().unwrap();
        assert_eq!(
            (stream.kind(), stream.stem()),
            (FileKind::DynamicIndex, "root.pxar")
        );
        let manifest: FileName = FileName::MANIFEST.parse().unwrap();
        assert_eq!((manifest.kind(), manifest.is_manifest()), (FileKind::Blob, true));
        for text in [
            "owner",
            ".blob",
            "a.fidx.tmp",
            "../a.blob",
            "a/b.blob",
            "a\0.blob",
            "äh.blob",
            "",
        ] {
            assert!(text.parse::<FileName>().is_err(), "{text}");
        }
    }
}

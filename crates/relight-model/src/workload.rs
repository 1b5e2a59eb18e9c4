//! Names of workloads.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::size::shortened;

/// The name of one thing that is protected: `host/web01`, `vm/100`, `lab/berlin/pg/pg01`.
///
/// `[NAMESPACE/…]KIND/NAME`: between two and nine parts joined by `/`. A part has 1 to 128 ASCII letters, digits,
/// `.`, `_` or `-`, and begins with a letter, a digit or `_`, so that it is always safe as a file name, in an object
/// key and as the group and namespace parts of the Proxmox Backup protocol (whose depth limit, seven namespaces and
/// a type and an id, gives the nine). At most 512 bytes in all. Names are compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Workload(String);

/// The largest number of bytes in a workload name.
pub const MAX_LEN: usize = 512;
/// The largest number of bytes in one part.
pub const MAX_PART_LEN: usize = 128;
/// The largest number of parts: seven namespaces, kind and name.
pub const MAX_PARTS: usize = 9;

/// Why a text is not the name of a workload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkloadError {
    /// Longer than [`MAX_LEN`].
    #[error("the workload name {text:?} is too long: at most {MAX_LEN} bytes")]
    TooLong {
        /// The beginning of what was given.
        text: String,
    },
    /// There is no `/` between kind and name.
    #[error("{text:?} is not a workload: write KIND/NAME, such as host/web01 or vm/100")]
    NoKind {
        /// What was given, shortened.
        text: String,
    },
    /// More parts than [`MAX_PARTS`].
    #[error("the workload name {text:?} has too many parts: at most {MAX_PARTS}, kind and name included")]
    TooDeep {
        /// What was given, shortened.
        text: String,
    },
    /// Two slashes in a row, or one at the beginning or the end.
    #[error("the workload name {text:?} has an empty part: remove the superfluous slash")]
    EmptyPart {
        /// What was given, shortened.
        text: String,
    },
    /// A part is longer than [`MAX_PART_LEN`].
    #[error("the part {part:?} of a workload name is too long: at most {MAX_PART_LEN} bytes")]
    PartTooLong {
        /// The beginning of the part.
        part: String,
    },
    /// A character that may not be there.
    #[error(
        "the character {found:?} may not be in the workload name {text:?}: use letters, digits, '.', '_' and '-', and begin each part with a letter, a digit or '_'"
    )]
    BadCharacter {
        /// What was given, shortened.
        text: String,
        /// The first offending character.
        found: char,
    },
}

impl Workload {
    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The kind: `vm` in `lab/vm/100`.
    pub fn kind(&self) -> &str {
        self.split_name().0.rsplit('/').next().unwrap_or_default()
    }

    /// The last part: `100` in `lab/vm/100`.
    pub fn name(&self) -> &str {
        self.split_name().1
    }

    /// Everything before the kind, without a slash at the end: `lab` in `lab/vm/100`, and empty in `vm/100`.
    pub fn namespace(&self) -> &str {
        self.split_name()
            .0
            .rsplit_once('/')
            .map_or("", |(namespace, _)| namespace)
    }

    /// Everything before the name, and the name.
    fn split_name(&self) -> (&str, &str) {
        self.0.rsplit_once('/').unwrap_or(("", &self.0))
    }
}

impl FromStr for Workload {
    type Err = WorkloadError;

    fn from_str(text: &str) -> Result<Self, WorkloadError> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for Workload {
    type Error = WorkloadError;

    fn try_from(text: String) -> Result<Self, WorkloadError> {
        if text.len() > MAX_LEN {
            return Err(WorkloadError::TooLong {
                text: shortened(&text),
            });
        }
        let mut parts = 0;
        for part in text.split('/') {
            parts += 1;
            check_part(part, &text)?;
        }
        match parts {
            0 | 1 => Err(WorkloadError::NoKind {
                text: shortened(&text),
            }),
            2..=MAX_PARTS => Ok(Self(text)),
            _ => Err(WorkloadError::TooDeep {
                text: shortened(&text),
            }),
        }
    }
}

fn check_part(part: &str, text: &str) -> Result<(), WorkloadError> {
    let allowed =
        |(at, c): (usize, char)| c.is_ascii_alphanumeric() || c == '_' || (at > 0 && (c == '.' || c == '-'));
    if let Some((_, found)) = part.char_indices().find(|&indexed| !allowed(indexed)) {
        return Err(WorkloadError::BadCharacter {
            text: shortened(text),
            found,
        });
    }
    if part.is_empty() {
        // A name without any slash is better told that it lacks its kind.
        return Err(if text.is_empty() {
            WorkloadError::NoKind { text: String::new() }
        } else {
            WorkloadError::EmptyPart {
                text: shortened(text),
            }
        });
    }
    if part.len() > MAX_PART_LEN {
        return Err(WorkloadError::PartTooLong {
            part: shortened(part),
        });
    }
    Ok(())
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for Workload {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<Workload> for String {
    fn from(workload: Workload) -> Self {
        workload.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_has_namespace_kind_and_name() {
        let vm: Workload = "lab/berlin/vm/100".parse().unwrap();
        assert_eq!(
            (vm.namespace(), vm.kind(), vm.name()),
            ("lab/berlin", "vm", "100")
        );
        let host: Workload = "host/web01.example.org".parse().unwrap();
        assert_eq!(
            (host.namespace(), host.kind(), host.name()),
            ("", "host", "web01.example.org")
        );
    }

    #[test]
    fn what_could_hurt_as_a_path_is_refused() {
        for text in [
            "host/..",
            "../host/a",
            "host/.hidden",
            "host/-rf",
            "host/a b",
            "host/ä",
            "host/a\0",
            "host/a@b",
        ] {
            assert!(
                matches!(text.parse::<Workload>(), Err(WorkloadError::BadCharacter { .. })),
                "{text:?} {:?}",
                text.parse::<Workload>()
            );
        }
        for text in ["/host/a", "host//a", "host/a/"] {
            assert!(
                matches!(text.parse::<Workload>(), Err(WorkloadError::EmptyPart { .. })),
                "{text:?}"
            );
        }
        for text in ["", "web01"] {
            assert!(
                matches!(text.parse::<Workload>(), Err(WorkloadError::NoKind { .. })),
                "{text:?}"
            );
        }
    }

    #[test]
    fn lengths_are_limited() {
        assert!(format!("host/{}", "a".repeat(128)).parse::<Workload>().is_ok());
        assert!(matches!(
            format!("host/{}", "a".repeat(129)).parse::<Workload>(),
            Err(WorkloadError::PartTooLong { .. })
        ));
        assert!(["a"; 9].join("/").parse::<Workload>().is_ok());
        assert!(matches!(
            ["a"; 10].join("/").parse::<Workload>(),
            Err(WorkloadError::TooDeep { .. })
        ));
        assert!(matches!(
            "a/".repeat(300).parse::<Workload>(),
            Err(WorkloadError::TooLong { .. })
        ));
    }

    #[test]
    fn configuration_is_checked_too() {
        assert!(serde_json::from_str::<Workload>("\"vm/100\"").is_ok());
        assert!(serde_json::from_str::<Workload>("\"vm\"").is_err());
    }

    proptest! {
        #[test]
        fn any_text_gives_a_name_that_reads_back_or_an_error(text in ".*") {
            if let Ok(workload) = text.parse::<Workload>() {
                prop_assert_eq!(workload.to_string(), text);
            }
        }
    }
}

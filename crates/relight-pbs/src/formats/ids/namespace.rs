//! Where in a datastore a group lies.

use std::fmt;
use std::str::FromStr;

use super::{NameError, as_text, check_safe};

/// A namespace: no, or up to seven parts. Written `a/b`; the root is the empty text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Namespace(String);

impl Namespace {
    /// The root of a datastore.
    pub const ROOT: Self = Self(String::new());
    /// Most parts.
    pub const MAX_DEPTH: usize = 7;
    /// Most bytes, slashes included.
    pub const MAX_LEN: usize = 256;
    /// Most bytes of one part: that of a workload's.
    const MAX_PART: usize = relight_model::workload::MAX_PART_LEN;

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// How many parts it has.
    pub fn depth(&self) -> usize {
        self.parts().count()
    }

    /// Its parts from the root on.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|part| !part.is_empty())
    }

    /// The one above; none of the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        Some(Self(
            self.0.rsplit_once('/').map_or("", |(above, _)| above).to_string(),
        ))
    }

    /// The one with this name in it.
    pub fn child(&self, name: &str) -> Result<Self, NameError> {
        check_safe("namespace", name, Self::MAX_PART)?;
        if self.is_root() {
            name.parse()
        } else {
            format!("{self}/{name}").parse()
        }
    }

    /// Whether this is `other` or one above it.
    pub fn contains(&self, other: &Self) -> bool {
        self.is_root()
            || other
                .0
                .strip_prefix(&self.0)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Namespace {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Ok(Self::ROOT);
        }
        if text.len() > Self::MAX_LEN {
            return Err(NameError::new("namespace", text, "is longer than 256 bytes"));
        }
        for part in text.split('/') {
            check_safe("namespace", part, Self::MAX_PART)?;
        }
        if text.split('/').count() > Self::MAX_DEPTH {
            return Err(NameError::new("namespace", text, "has more than seven parts"));
        }
        Ok(Self(text.to_string()))
    }
}

as_text!(Namespace);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_nest() {
        let deep: Namespace = "ns1/sub".parse().unwrap();
        assert_eq!(deep.depth(), 2);
        assert_eq!(deep.parent().unwrap().as_str(), "ns1");
        assert_eq!(deep.parent().unwrap().parent().unwrap(), Namespace::ROOT);
        assert_eq!(Namespace::ROOT.parent(), None);
        assert_eq!(Namespace::ROOT.child("ns1").unwrap().child("sub").unwrap(), deep);
        let other: Namespace = "ns1/subway".parse().unwrap();
        assert!(Namespace::ROOT.contains(&deep) && deep.contains(&deep) && !deep.contains(&other));
        assert!(!deep.contains(&Namespace::ROOT));
    }

    #[test]
    fn limits_hold() {
        assert!(["a"; 7].join("/").parse::<Namespace>().is_ok());
        assert!(["a"; 8].join("/").parse::<Namespace>().is_err());
        assert!(
            ["a".repeat(128), "b".repeat(127)]
                .join("/")
                .parse::<Namespace>()
                .is_ok()
        );
        assert!(
            ["a".repeat(128), "b".repeat(128)]
                .join("/")
                .parse::<Namespace>()
                .is_err()
        );
        for text in ["/", "/a", "a/", "a//b", "..", "a/../b", "a/.b", "ä"] {
            assert!(text.parse::<Namespace>().is_err(), "{text}");
        }
        let full: Namespace = ["a"; 7].join("/").parse().unwrap();
        assert!(full.child("b").is_err() && full.child("b/c").is_err());
    }
}

//! Which groups are copied: `type:vm`, `group:vm/100`, `regex:^vm/1`, each also with `exclude:` before it.

use std::fmt;
use std::str::FromStr;

use regex_lite::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::formats::ids::{BackupType, Group};

/// A filter is not written as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FilterError(String);

#[derive(Debug, Clone)]
enum What {
    Type(BackupType),
    Group(Group),
    Regex(Regex),
}

/// One filter.
#[derive(Debug, Clone)]
pub struct GroupFilter {
    exclude: bool,
    what: What,
}

impl GroupFilter {
    fn fits(&self, group: &Group) -> bool {
        match &self.what {
            What::Type(backup_type) => group.backup_type == *backup_type,
            What::Group(one) => group == one,
            What::Regex(regex) => regex.is_match(&group.to_string()),
        }
    }
}

impl FromStr for GroupFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let refused = |why: &dyn fmt::Display| {
            let text: String = text.chars().take(128).collect();
            FilterError(format!(
                "{text:?} is no filter of groups ({why}): write type:vm, group:vm/100 or regex:EXPRESSION, with exclude: before it \
                 to leave such groups out"
            ))
        };
        let (exclude, rest) = match text.split_once(':') {
            Some(("include", rest)) => (false, rest),
            Some(("exclude", rest)) => (true, rest),
            _ => (false, text),
        };
        let what = match rest.split_once(':') {
            Some(("type", value)) => What::Type(value.parse().map_err(|error| refused(&error))?),
            Some(("group", value)) => What::Group(value.parse().map_err(|error| refused(&error))?),
            Some(("regex", value)) => What::Regex(Regex::new(value).map_err(|error| refused(&error))?),
            _ => return Err(refused(&"it begins with none of type:, group: and regex:")),
        };
        Ok(Self { exclude, what })
    }
}

impl fmt::Display for GroupFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.exclude {
            f.write_str("exclude:")?;
        }
        match &self.what {
            What::Type(backup_type) => write!(f, "type:{backup_type}"),
            What::Group(group) => write!(f, "group:{group}"),
            What::Regex(regex) => write!(f, "regex:{}", regex.as_str()),
        }
    }
}

impl PartialEq for GroupFilter {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Serialize for GroupFilter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GroupFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// Filters together: a group is copied if one that is no `exclude:` fits it, or there is none of these, and no `exclude:`
/// fits it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupFilters(pub Vec<GroupFilter>);

impl GroupFilters {
    /// Whether a group is copied.
    pub fn fit(&self, group: &Group) -> bool {
        let mut includes = self.0.iter().filter(|filter| !filter.exclude).peekable();
        let included = includes.peek().is_none() || includes.any(|filter| filter.fits(group));
        let excluded = self.0.iter().any(|filter| filter.exclude && filter.fits(group));
        included && !excluded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(filters: &[&str]) -> Vec<&'static str> {
        let filters = GroupFilters(filters.iter().map(|text| text.parse().unwrap()).collect());
        ["vm/100", "vm/101", "ct/100", "host/web-100"]
            .into_iter()
            .filter(|group| filters.fit(&group.parse().unwrap()))
            .collect()
    }

    #[test]
    fn filters_are_those_of_the_original() {
        assert_eq!(fit(&[]).len(), 4);
        assert_eq!(fit(&["type:vm"]), ["vm/100", "vm/101"]);
        assert_eq!(
            fit(&["group:ct/100", "include:type:vm"]),
            ["vm/100", "vm/101", "ct/100"]
        );
        assert_eq!(fit(&["exclude:type:vm"]), ["ct/100", "host/web-100"]);
        assert_eq!(fit(&["type:vm", "exclude:group:vm/100"]), ["vm/101"]);
        assert_eq!(fit(&["regex:100$"]), ["vm/100", "ct/100", "host/web-100"]);
        assert_eq!(
            fit(&["regex:^(vm|ct)/1", "exclude:regex:1$"]),
            ["vm/100", "ct/100"]
        );
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for text in [
            "",
            "vm",
            "vm/100",
            "type:qemu",
            "group:vm",
            "group:vm/../x",
            "regex:(",
            "exclude:",
            "not:type:vm",
        ] {
            assert!(text.parse::<GroupFilter>().is_err(), "{text}");
        }
        for text in ["type:ct", "exclude:group:vm/100", "regex:a:b"] {
            assert_eq!(text.parse::<GroupFilter>().unwrap().to_string(), text);
        }
    }
}

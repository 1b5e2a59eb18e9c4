//! How clusters are named on the command line.

use std::str::FromStr;

use relight_model::workload::{Workload, WorkloadError};

/// A cluster: `main` is the workload `pg/main`; a name with a slash is that of a workload as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterName(pub Workload);

impl FromStr for ClusterName {
    type Err = WorkloadError;

    fn from_str(text: &str) -> Result<Self, WorkloadError> {
        if text.contains('/') {
            text.parse().map(Self)
        } else {
            format!("pg/{text}").parse().map(Self)
        }
    }
}

/// Logical dumps: `main` is the workload `pg-dump/main`; a name with a slash is that of a workload as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpName(pub Workload);

impl FromStr for DumpName {
    type Err = WorkloadError;

    fn from_str(text: &str) -> Result<Self, WorkloadError> {
        if text.contains('/') {
            text.parse().map(Self)
        } else {
            format!("pg-dump/{text}").parse().map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ClusterName;

    #[test]
    fn a_bare_name_is_that_of_a_cluster() {
        let name = |text: &str| text.parse::<ClusterName>().map(|name| name.0.to_string());
        assert_eq!(name("main").unwrap(), "pg/main");
        assert_eq!(name("lab/pg/main").unwrap(), "lab/pg/main");
        assert!(name("").is_err());
    }
}

//! Which group of which namespace a workload of the repository is.
//!
//! `[NAMESPACE/…]vm/100` is what it says. Workloads of other kinds, which clients of the protocol do not know, are shown
//! as hosts: `pg/main` as `host/pg-main`.

use aws_lc_rs::digest;
use relight_model::Workload;

use crate::formats::ids::{BackupId, BackupType, Group, MAX_ID, Namespace};

/// Kind of the workloads that are servers themselves. What is in them, their secrets included, is no client's business.
pub const OWN_KIND: &str = "relight";

/// The namespace and group that a workload is shown as. What does not fit is made to; no name leaves none. A server itself
/// is not shown.
pub fn group_of(workload: &str) -> Option<(Namespace, Group)> {
    if workload.split_once('/').is_some_and(|(kind, _)| kind == OWN_KIND) {
        return None;
    }
    if let Ok(name) = workload.parse::<Workload>()
        && let Ok(namespace) = name.namespace().parse()
    {
        let group = match name.kind().parse() {
            Ok(backup_type) => group(backup_type, name.name()),
            Err(_) => group(BackupType::Host, &format!("{}-{}", name.kind(), name.name())),
        };
        return Some((namespace, group?));
    }
    Some((Namespace::ROOT, group(BackupType::Host, workload)?))
}

fn group(backup_type: BackupType, id: &str) -> Option<Group> {
    Some(Group {
        backup_type,
        backup_id: fit(id)?,
    })
}

/// An id that is this text if it can be, and else one that is made of it and, by a hash, of no other.
fn fit(text: &str) -> Option<BackupId> {
    if let Ok(id) = text.parse() {
        return Some(id);
    }
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    let hash = hex::encode(&hash.as_ref()[..6]);
    let safe = |(at, c): (usize, char)| match c {
        '.' | '-' if at > 0 => c,
        _ if c.is_ascii_alphanumeric() => c,
        _ => '_',
    };
    let kept = text.chars().enumerate().map(safe).take(MAX_ID - hash.len() - 1);
    let kept: String = kept.collect();
    let separator = if kept.is_empty() { "" } else { "-" };
    format!("{kept}{separator}{hash}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(workload: &str) -> String {
        let (namespace, group) = group_of(workload).unwrap();
        format!("{namespace}:{group}")
    }

    #[test]
    fn kinds_of_the_protocol_are_what_they_are() {
        assert_eq!(shown("vm/100"), ":vm/100");
        assert_eq!(shown("lab/berlin/ct/200"), "lab/berlin:ct/200");
        assert_eq!(shown("host/web01.example.org"), ":host/web01.example.org");
    }

    #[test]
    fn other_kinds_are_hosts() {
        assert_eq!(shown("pg/main"), ":host/pg-main");
        assert_eq!(shown("a/b/m365/tenant"), "a/b:host/m365-tenant");
    }

    #[test]
    fn every_name_has_a_place_of_its_own() {
        let long = format!("postgres/{}", "a".repeat(128));
        let deep = format!("{}/vm/1", vec!["a".repeat(60); 5].join("/"));
        let mut seen = std::collections::HashSet::new();
        for name in [
            long.as_str(),
            &deep,
            "no kind",
            "no-kind",
            "ä/ö",
            "",
            "../../etc",
            "a//b",
            "host/a:b",
            "host/a b",
        ] {
            let place = group_of(name).unwrap();
            assert!(seen.insert(place.clone()), "{name}: {place:?}");
            assert!(place.1.to_string().parse::<Group>().is_ok());
        }
    }
}

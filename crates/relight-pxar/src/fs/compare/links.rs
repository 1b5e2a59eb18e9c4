//! Which names are of one file, on both sides.

use std::collections::HashMap;

/// A file that has, or may have, several names on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Group {
    /// Names the file on its side.
    pub id: (u64, u64),
    /// It surely has several. An archive does not say of the first name whether others follow.
    pub several: bool,
}

/// Files with several names seen so far, and their counterparts; none for one that has a single name there.
#[derive(Debug, Default)]
pub(super) struct Groups {
    first: HashMap<(u64, u64), Option<(u64, u64)>>,
    second: HashMap<(u64, u64), Option<(u64, u64)>>,
}

/// How the names of one path stand to names before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Linked {
    /// On neither side it is a further name of a file seen before.
    New,
    /// On both sides it is, and of the same.
    Again,
    /// The sides disagree.
    Differently,
}

impl Groups {
    /// Notes an entry that both sides have.
    pub fn see(&mut self, first: Option<Group>, second: Option<Group>) -> Linked {
        let ids = (first.map(|group| group.id), second.map(|group| group.id));
        let seen_first = ids.0.and_then(|id| self.first.get(&id));
        let seen_second = ids.1.and_then(|id| self.second.get(&id));
        match (seen_first, seen_second) {
            (None, None) => {}
            (Some(second), Some(first)) if *second == ids.1 && *first == ids.0 => return Linked::Again,
            _ => return Linked::Differently,
        }
        // A file of one name on both sides, as far as is known, need not be remembered.
        let several = |group: Option<Group>| group.is_some_and(|group| group.several);
        if several(first) || several(second) {
            if let Some(id) = ids.0 {
                self.first.insert(id, ids.1);
            }
            if let Some(id) = ids.1 {
                self.second.insert(id, ids.0);
            }
        }
        Linked::New
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(id: u64) -> Option<Group> {
        Some(Group {
            id: (0, id),
            several: true,
        })
    }

    #[test]
    fn names_must_be_shared_alike() {
        let mut groups = Groups::default();
        assert_eq!(groups.see(group(1), group(10)), Linked::New);
        assert_eq!(groups.see(group(1), group(10)), Linked::Again);
        assert_eq!(groups.see(group(1), group(11)), Linked::Differently);
        assert_eq!(groups.see(group(2), group(10)), Linked::Differently);
        assert_eq!(groups.see(None, group(10)), Linked::Differently);
        assert_eq!(groups.see(group(3), None), Linked::New);
        assert_eq!(groups.see(group(3), None), Linked::Differently);
        assert_eq!(groups.see(None, None), Linked::New);
    }

    #[test]
    fn the_first_name_in_an_archive_is_remembered_where_the_tree_has_several() {
        let mut groups = Groups::default();
        let maybe = Some(Group {
            id: (0, 1),
            several: false,
        });
        assert_eq!(groups.see(maybe, group(10)), Linked::New);
        assert_eq!(groups.see(group(1), group(10)), Linked::Again);
        // The tree has a single name here, the archive a further one.
        let mut groups = Groups::default();
        assert_eq!(groups.see(maybe, None), Linked::New);
        assert_eq!(groups.first.len(), 0);
    }
}

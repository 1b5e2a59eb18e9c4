//! Where snapshots are shown: `by-workload/WORKLOAD/TIME`, `by-id/ID`, and links to the latest.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use relight_repo::SnapshotId;

use super::{BY_ID, BY_WORKLOAD, Child, Kind, LATEST, Names};
use crate::inode::Inode;
use crate::source::{Source, file_name};

/// Where a snapshot is shown.
#[derive(Debug)]
pub struct Shown {
    time: Timestamp,
    /// The folders of the parts of its workload's name.
    workload: Vec<String>,
    /// Its name in the folder of its workload.
    by_time: String,
    /// Its name in the folder of ids.
    by_id: String,
}

impl Names {
    /// Which snapshots are shown.
    pub fn shown(&self) -> impl Iterator<Item = SnapshotId> + '_ {
        self.shown.keys().copied()
    }

    /// Whether a snapshot is shown.
    pub fn shows(&self, id: SnapshotId) -> bool {
        self.shown.contains_key(&id)
    }

    /// Makes the two folders in which snapshots are shown.
    pub fn prepare(&mut self) {
        for name in [BY_WORKLOAD, BY_ID] {
            self.folder(Inode::ROOT, name);
        }
    }

    /// Shows a snapshot.
    pub fn add(&mut self, source: &Source) {
        if self.shows(source.id) {
            return;
        }
        let workload = parts(&source.workload);
        let mut folder = self.folder(Inode::ROOT, BY_WORKLOAD);
        for part in &workload {
            folder = self.folder(folder, part);
        }
        let time = source
            .time
            .to_zoned(TimeZone::UTC)
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string();
        let by_time = self.free(
            folder,
            [time.clone(), format!("{time}-{}", source.id.short())],
            source.id,
        );
        self.fill(folder, &by_time, source);
        let ids = self.folder(Inode::ROOT, BY_ID);
        let by_id = self.free(ids, [source.id.short(), source.id.to_string()], source.id);
        self.fill(ids, &by_id, source);
        let shown = Shown {
            time: source.time,
            workload,
            by_time,
            by_id,
        };
        self.shown.insert(source.id, shown);
    }

    /// Does not show a snapshot any more.
    pub fn drop_snapshot(&mut self, id: SnapshotId) {
        let Some(shown) = self.shown.remove(&id) else {
            return;
        };
        let ids = self.folder(Inode::ROOT, BY_ID);
        self.remove(ids, &shown.by_id);
        // Folders on the way to it, the innermost last, that are removed if nothing is left in them.
        let mut way = vec![(Inode::ROOT, BY_WORKLOAD.to_string())];
        let mut folder = self.folder(Inode::ROOT, BY_WORKLOAD);
        for part in &shown.workload {
            way.push((folder, part.clone()));
            folder = self.folder(folder, part);
        }
        self.remove(folder, &shown.by_time);
        for (parent, name) in way.iter().skip(1).rev() {
            let Some(Child::Made(number)) = self.child(*parent, name) else {
                break;
            };
            if self
                .children(number)
                .is_some_and(|children| children.keys().any(|child| child != LATEST))
            {
                break;
            }
            self.remove(*parent, name);
        }
    }

    /// Points the links to the latest snapshots, of each workload and of all, at them.
    pub fn point_at_latest(&mut self) {
        let mut newest: BTreeMap<&[String], (&Shown, SnapshotId)> = BTreeMap::new();
        let mut of_all: Option<(&Shown, SnapshotId)> = None;
        for (&id, shown) in &self.shown {
            let newer = |than: &(&Shown, SnapshotId)| (shown.time, id) > (than.0.time, than.1);
            let best = newest.entry(&shown.workload).or_insert((shown, id));
            if newer(best) {
                *best = (shown, id);
            }
            if of_all.as_ref().is_none_or(newer) {
                of_all = Some((shown, id));
            }
        }
        let all = of_all.map(|(shown, _)| {
            let target = format!("{BY_WORKLOAD}/{}/{}", shown.workload.join("/"), shown.by_time);
            (Vec::new(), target, shown.time)
        });
        let each = newest
            .values()
            .map(|(shown, _)| (shown.workload.clone(), shown.by_time.clone(), shown.time));
        let wanted: Vec<_> = all.into_iter().chain(each).collect();
        if wanted.is_empty() {
            self.remove(Inode::ROOT, LATEST);
        }
        for (workload, target, time) in wanted {
            let mut folder = Inode::ROOT;
            if !workload.is_empty() {
                folder = self.folder(folder, BY_WORKLOAD);
            }
            for part in &workload {
                folder = self.folder(folder, part);
            }
            match self.child(folder, LATEST) {
                Some(Child::Made(number)) => {
                    // A workload may have that name; then there is no link.
                    if let Some(made) = self.made.get_mut(&number)
                        && let Kind::Link(old) = &mut made.kind
                    {
                        *old = target;
                        made.time = time;
                    }
                }
                Some(Child::Tree(_)) => {}
                None => {
                    self.make(folder, LATEST, Kind::Link(target), time);
                }
            }
        }
    }

    fn child(&self, folder: u64, name: &str) -> Option<Child> {
        self.children(folder)?.get(name).copied()
    }

    /// The folder of that name in another, which is made if need be. A link to the latest makes way for it.
    fn folder(&mut self, parent: u64, name: &str) -> u64 {
        if let Some(Child::Made(number)) = self.child(parent, name) {
            if self.children(number).is_some() {
                return number;
            }
            self.remove(parent, name);
        }
        self.make(parent, name, Kind::Folder(BTreeMap::new()), self.began)
    }

    /// The first of these names that is free, else one with the whole id.
    fn free(&self, folder: u64, names: [String; 2], id: SnapshotId) -> String {
        let taken = |name: &String| self.child(folder, name).is_some();
        let free = names.into_iter().find(|name| !taken(name));
        free.unwrap_or_else(|| format!("snapshot-{id}"))
    }

    fn fill(&mut self, parent: u64, name: &str, source: &Source) {
        let folder = self.make(parent, name, Kind::Folder(BTreeMap::new()), source.time);
        for (number, tree) in source.trees.iter().enumerate() {
            self.plant(folder, tree, (source.id, number));
        }
        for whole in &source.wholes {
            self.make(folder, &whole.name, Kind::Whole(whole.clone()), source.time);
        }
    }
}

/// The folders of a workload.
fn parts(workload: &str) -> Vec<String> {
    let parts: Vec<String> = workload.split('/').map(file_name).collect();
    if parts.is_empty() { vec!["_".into()] } else { parts }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(id: u8, workload: &str, second: i64) -> Source {
        let (mut bytes, time) = ([id; 16], Timestamp::from_second(1_800_000_000 + second).unwrap());
        bytes[4] = 0;
        Source {
            id: SnapshotId(bytes),
            workload: workload.into(),
            time,
            trees: Vec::new(),
            wholes: Vec::new(),
        }
    }

    /// All paths, links with their targets.
    fn paths(names: &Names) -> Vec<String> {
        fn walk(names: &Names, folder: u64, path: &str, out: &mut Vec<String>) {
            for (name, child) in names.children(folder).unwrap() {
                let path = format!("{path}/{name}");
                match child {
                    Child::Made(number) => match &names.made(*number).unwrap().kind {
                        Kind::Folder(_) => {
                            out.push(path.clone());
                            walk(names, *number, &path, out);
                        }
                        Kind::Link(target) => out.push(format!("{path} -> {target}")),
                        Kind::Whole(_) => out.push(path),
                    },
                    Child::Tree(_) => out.push(path),
                }
            }
        }
        let mut out = Vec::new();
        walk(names, Inode::ROOT, "", &mut out);
        out
    }

    #[test]
    fn snapshots_come_and_go() {
        let mut names = Names::new(Timestamp::UNIX_EPOCH);
        names.prepare();
        let empty = paths(&names);
        assert_eq!(empty, ["/by-id", "/by-workload"]);
        for source in [
            source(0xaa, "lab/host/a", 0),
            source(0xbb, "lab/host/a", 5),
            source(0xcc, "vm/1", 3),
        ] {
            names.add(&source);
        }
        names.point_at_latest();
        assert_eq!(
            paths(&names),
            [
                "/by-id",
                "/by-id/aaaaaaaa",
                "/by-id/bbbbbbbb",
                "/by-id/cccccccc",
                "/by-workload",
                "/by-workload/lab",
                "/by-workload/lab/host",
                "/by-workload/lab/host/a",
                "/by-workload/lab/host/a/2027-01-15T08:00:00Z",
                "/by-workload/lab/host/a/2027-01-15T08:00:05Z",
                "/by-workload/lab/host/a/latest -> 2027-01-15T08:00:05Z",
                "/by-workload/vm",
                "/by-workload/vm/1",
                "/by-workload/vm/1/2027-01-15T08:00:03Z",
                "/by-workload/vm/1/latest -> 2027-01-15T08:00:03Z",
                "/latest -> by-workload/lab/host/a/2027-01-15T08:00:05Z",
            ]
        );
        names.drop_snapshot(source(0xbb, "", 0).id);
        names.drop_snapshot(source(0xcc, "", 0).id);
        names.point_at_latest();
        assert_eq!(
            paths(&names),
            [
                "/by-id",
                "/by-id/aaaaaaaa",
                "/by-workload",
                "/by-workload/lab",
                "/by-workload/lab/host",
                "/by-workload/lab/host/a",
                "/by-workload/lab/host/a/2027-01-15T08:00:00Z",
                "/by-workload/lab/host/a/latest -> 2027-01-15T08:00:00Z",
                "/latest -> by-workload/lab/host/a/2027-01-15T08:00:00Z",
            ]
        );
        names.drop_snapshot(source(0xaa, "", 0).id);
        names.point_at_latest();
        assert_eq!(paths(&names), empty);
        assert_eq!(names.made.len(), 3);
    }

    #[test]
    fn names_that_meet_do_not_hide_each_other() {
        let mut names = Names::new(Timestamp::UNIX_EPOCH);
        names.prepare();
        let mut twin = source(0xaa, "host/a", 0);
        twin.id.0[15] = 1;
        // The same second, and the same short id.
        for source in [
            source(0xaa, "host/a", 0),
            twin,
            source(0xbb, "host/a/latest", 1),
            source(0xcc, "../x", 2),
        ] {
            names.add(&source);
            names.point_at_latest();
        }
        let paths = paths(&names);
        for wanted in [
            "/by-workload/host/a/2027-01-15T08:00:00Z",
            "/by-workload/host/a/2027-01-15T08:00:00Z-aaaaaaaa",
            "/by-workload/host/a/latest/2027-01-15T08:00:01Z",
            "/by-workload/host/a/latest/latest -> 2027-01-15T08:00:01Z",
            "/by-workload/_/x/2027-01-15T08:00:02Z",
            "/by-id/aaaaaaaa",
            "/by-id/aaaaaaaa00aaaaaaaaaaaaaaaaaaaa01",
        ] {
            assert!(
                paths.iter().any(|path| path == wanted),
                "{wanted} is not in {paths:#?}"
            );
        }
    }
}

//! To another server.

use relight_pbs::formats::ids::Namespace;
use relight_pbs::service::tasks::End;
use relight_pbs::sync::{GroupFilters, Selection};

use crate::sides::{OWNER, Side};
use crate::source::{CT, HOST, SEALED, VM1, VM2, fill, upload};
use crate::support::{content, relight_backup};

/// Asserts that a snapshot has the same content on both sides. Of indexes the header is another: the server makes it.
fn assert_pushed(from: (&Side, &str), to: (&Side, &str), name: &str) {
    let entries = [from, to].map(|(side, namespace)| side.entry(namespace, name));
    let manifests =
        [(from.0, &entries[0]), (to.0, &entries[1])].map(|(side, entry)| side.store.manifest(entry).unwrap());
    assert_eq!(
        manifests[0].canonical().unwrap(),
        manifests[1].canonical().unwrap()
    );
    assert_eq!(manifests[0].signature, manifests[1].signature);
    for file in &manifests[0].files {
        let read = |side: &Side, at: usize| side.store.read_file(&entries[at], &file.filename).unwrap();
        let (one, other) = (read(from.0, 0), read(to.0, 1));
        let skip = if file.filename.as_str().ends_with(".blob") {
            0
        } else {
            32
        };
        assert!(one[skip..] == other[skip..], "{name} {}", file.filename);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_here_comes_to_be_there_and_is_sent_once() {
    let (from, to) = (Side::new().await, Side::new().await);
    fill(&from);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), content(5, 100_000)).unwrap();
    let image = tempfile::NamedTempFile::new().unwrap();
    let mut disk = content(6, 9_000_000);
    disk[1 << 20..8 << 20].fill(0);
    std::fs::write(image.path(), &disk).unwrap();
    relight_backup(
        &from.store.repository(),
        "lab/pg/main",
        Some(folder.path()),
        Some(image.path()),
    );
    let name = VM1.parse().unwrap();
    from.store
        .set_notes(&Namespace::ROOT, &name, "before the upgrade")
        .unwrap();
    from.store.set_protected(&Namespace::ROOT, &name, true).unwrap();
    let log = relight_pbs::formats::blob::encode(b"all is well", true).unwrap();
    from.store.add_log(&Namespace::ROOT, &name, &log).unwrap();

    let (figures, end, log) = from.push(&to, Selection::default()).await;
    assert_eq!((figures.snapshots, figures.failed, end), (6, 0, End::Ok), "{log}");
    assert_eq!(to.seen(), from.seen());
    for name in [VM1, VM2, HOST, SEALED] {
        assert_pushed((&from, ""), (&to, ""), name);
    }
    assert_pushed((&from, "lab/berlin"), (&to, "lab/berlin"), CT);
    let seen = from.seen();
    let made = seen.iter().find_map(|name| name.strip_prefix("lab:")).unwrap();
    assert_pushed((&from, "lab"), (&to, "lab"), made);
    let entry = to.entry("", VM1);
    assert_eq!(to.store.notes(&entry).unwrap(), "before the upgrade");
    assert!(entry.is_protected() && entry.has_log);
    let owner = to.store.owner(&Namespace::ROOT, &name.group).unwrap();
    assert_eq!(owner, Some(OWNER.parse().unwrap()));
    assert_eq!(to.verify(), Vec::<String>::new());

    let (figures, _, log) = from.push(&to, Selection::default()).await;
    assert_eq!((figures.snapshots, figures.chunks), (0, 0), "{log}");
    // What the snapshot before has is not sent.
    upload(&from, "", "vm/100/2023-11-16T22:13:21Z", 2);
    let (figures, _, log) = from.push(&to, Selection::default()).await;
    assert_eq!((figures.snapshots, figures.chunks), (1, 0), "{log}");
    assert_pushed((&from, ""), (&to, ""), "vm/100/2023-11-16T22:13:21Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_chosen_and_what_vanished_goes() {
    let (from, to) = (Side::new().await, Side::new().await);
    fill(&from);
    let chosen = Selection {
        filters: GroupFilters(vec!["type:vm".parse().unwrap()]),
        remove_vanished: true,
        ..Selection::default()
    };
    let (_, end, log) = from.push(&to, chosen.clone()).await;
    assert_eq!(end, End::Ok, "{log}");
    let mut seen = to.seen();
    assert_eq!(seen, [format!(":{VM1}"), format!(":{VM2}"), format!(":{SEALED}")]);
    // Not of this one; nor of its kind.
    upload(&to, "", "vm/999/2023-11-14T22:13:21Z", 9);
    upload(&to, "", HOST, 1);
    let root = Namespace::ROOT;
    to.store
        .set_protected(&root, &VM1.parse().unwrap(), true)
        .unwrap();
    from.store.forget(&root, &VM1.parse().unwrap()).unwrap();
    from.store.forget(&root, &SEALED.parse().unwrap()).unwrap();
    let (figures, _, log) = from.push(&to, chosen).await;
    assert_eq!(
        (figures.removed_snapshots, figures.removed_groups),
        (1, 1),
        "{log}"
    );
    assert!(
        log.contains(&format!("don't delete vanished snapshot {VM1} (protected)")),
        "{log}"
    );
    seen = to.seen();
    assert!(
        seen.contains(&format!(":{VM1}")) && !seen.contains(&format!(":{SEALED}")),
        "{seen:?}"
    );
    assert_eq!(seen.len(), 4, "{seen:?}");
    // Somebody without rights there copies nothing.
    let (result, end, log) = from
        .push_with(to.client(), Selection::default(), |job| {
            job.local.owner = "limited@pbs".parse().unwrap();
        })
        .await;
    assert_eq!(result.unwrap().snapshots, 0, "{log}");
    assert_eq!(end, End::Warnings(3), "{log}");
}

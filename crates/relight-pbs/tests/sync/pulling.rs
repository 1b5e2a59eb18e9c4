//! From another server.

use std::num::NonZeroUsize;

use relight_pbs::formats::ids::Namespace;
use relight_pbs::service::tasks::End;
use relight_pbs::sync::{GroupFilters, PullJob, Selection};

use crate::sides::{OWNER, Side, assert_same};
use crate::source::{CT, HOST, SEALED, VM1, VM2, fill, upload};
use crate::support::{content, relight_backup};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_comes_over_bit_for_bit_and_once() {
    let (from, to) = (Side::new().await, Side::new().await);
    fill(&from);
    let name = VM1.parse().unwrap();
    from.store
        .set_notes(&Namespace::ROOT, &name, "before the upgrade")
        .unwrap();
    from.store.set_protected(&Namespace::ROOT, &name, true).unwrap();
    let log = relight_pbs::formats::blob::encode(b"all is well", true).unwrap();
    from.store.add_log(&Namespace::ROOT, &name, &log).unwrap();
    assert_eq!(from.verify(), Vec::<String>::new());

    let (figures, end, log) = to.pull(&from, Selection::default()).await;
    assert_eq!(end, End::Ok, "{log}");
    assert_eq!(to.seen(), from.seen());
    for name in [VM1, VM2, HOST, SEALED] {
        assert_same((&from, ""), (&to, ""), name);
    }
    assert_same((&from, "lab/berlin"), (&to, "lab/berlin"), CT);
    assert_eq!(
        (figures.snapshots, figures.groups, figures.failed),
        (5, 4, 0),
        "{log}"
    );
    assert!(log.contains(&format!("sync snapshot {VM1} done")), "{log}");

    let entry = to.entry("", VM1);
    assert_eq!(to.store.notes(&entry).unwrap(), "before the upgrade");
    assert!(entry.is_protected() && entry.has_log);
    assert!(entry.verification().is_none(), "not verified here yet");
    let owner = to.store.owner(&Namespace::ROOT, &name.group).unwrap();
    assert_eq!(owner, Some(OWNER.parse().unwrap()));
    assert_eq!(to.verify(), Vec::<String>::new());
    // Not again.
    let (figures, end, log) = to.pull(&from, Selection::default()).await;
    assert_eq!((figures.snapshots, figures.chunks, end), (0, 0, End::Ok), "{log}");

    // What is newer shares what is there.
    upload(&from, "", "vm/100/2023-11-16T22:13:21Z", 3);
    let (figures, _, log) = to.pull(&from, Selection::default()).await;
    // One chunk of the disk differs; the stream is that of the container.
    assert_eq!((figures.snapshots, figures.chunks), (1, 0), "{log}");
    assert_same((&from, ""), (&to, ""), "vm/100/2023-11-16T22:13:21Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_relight_backup_made_comes_over() {
    let (from, to) = (Side::new().await, Side::new().await);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), content(5, 100_000)).unwrap();
    let image = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(image.path(), content(6, 5_000_000)).unwrap();
    relight_backup(
        &from.store.repository(),
        "host/web01",
        Some(folder.path()),
        Some(image.path()),
    );
    let (figures, end, log) = to.pull(&from, Selection::default()).await;
    assert_eq!((figures.snapshots, end), (1, End::Ok), "{log}");
    let seen = to.seen();
    assert_eq!(seen, from.seen());
    assert_same((&from, ""), (&to, ""), seen[0].trim_start_matches(':'));
    assert_eq!(to.verify(), Vec::<String>::new());
}

fn filters(texts: &[&str]) -> Selection {
    Selection {
        filters: GroupFilters(texts.iter().map(|text| text.parse().unwrap()).collect()),
        ..Selection::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_chosen_comes_over() {
    let from = Side::new().await;
    fill(&from);
    let pulled = async |selection: Selection, change: fn(&mut PullJob)| {
        let to = Side::new().await;
        let (result, _, log) = to.pull_with(from.client(), selection, change).await;
        result.unwrap_or_else(|error| panic!("{error}\n{log}"));
        to.seen().join(" ")
    };
    let all = |_: &mut PullJob| ();
    assert_eq!(
        pulled(filters(&["type:ct"]), all).await,
        format!("lab/berlin:{CT}")
    );
    let chosen = filters(&["regex:^vm/", "exclude:group:vm/300"]);
    assert_eq!(pulled(chosen, all).await, format!(":{VM1} :{VM2}"));
    let top = Selection {
        max_depth: Some(0),
        transfer_last: NonZeroUsize::new(1),
        ..filters(&["exclude:type:host"])
    };
    assert_eq!(pulled(top, all).await, format!(":{VM2} :{SEALED}"));
    let sealed = Selection {
        encrypted_only: true,
        ..Selection::default()
    };
    assert_eq!(pulled(sealed, all).await, format!(":{SEALED}"));
    let below = |job: &mut PullJob| {
        job.remote_namespace = "lab".parse().unwrap();
        job.local.namespace = "copies".parse().unwrap();
    };
    assert_eq!(
        pulled(Selection::default(), below).await,
        format!("copies/berlin:{CT}")
    );
    // What nobody verified does not count as verified.
    let verified = Selection {
        verified_only: true,
        ..Selection::default()
    };
    assert_eq!(pulled(verified.clone(), all).await, "");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let one = relight_pbs::service::datastore::Selection::Snapshot(Namespace::ROOT, HOST.parse().unwrap());
    from.store
        .verify(&one, false, None, "UPID:x", &|_| {}, &stop)
        .unwrap();
    assert_eq!(pulled(verified, all).await, format!(":{HOST}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_vanished_there_vanishes_here_but_not_more() {
    let (from, to) = (Side::new().await, Side::new().await);
    fill(&from);
    let gone = Selection {
        remove_vanished: true,
        ..Selection::default()
    };
    let (figures, _, log) = to.pull(&from, gone.clone()).await;
    assert_eq!(figures.removed_snapshots, 0, "{log}");
    // Groups of others, and what is protected here.
    upload(&to, "", "vm/999/2023-11-14T22:13:21Z", 9);
    let root = Namespace::ROOT;
    to.store
        .set_protected(&root, &HOST.parse().unwrap(), true)
        .unwrap();
    from.store.forget(&root, &HOST.parse().unwrap()).unwrap();
    from.store.forget(&root, &VM1.parse().unwrap()).unwrap();
    from.store.forget(&root, &SEALED.parse().unwrap()).unwrap();
    let lab = "lab".parse().unwrap();
    from.store.remove_namespace(&lab, true).unwrap();
    // Only guests first.
    let guests = Selection {
        remove_vanished: true,
        max_depth: Some(0),
        ..filters(&["type:vm", "exclude:group:vm/300"])
    };
    let (figures, end, log) = to.pull(&from, guests).await;
    assert_eq!(
        (figures.removed_snapshots, figures.removed_groups),
        (1, 0),
        "{log}"
    );
    assert_eq!(end, End::Ok);
    let (figures, _, log) = to.pull(&from, gone.clone()).await;
    assert_eq!(
        (figures.removed_groups, figures.removed_namespaces),
        (2, 2),
        "{log}"
    );
    assert!(log.contains("kept 1 protected snapshot"), "{log}");
    let mut seen = to.seen();
    seen.sort();
    assert_eq!(
        seen,
        [
            format!(":{HOST}"),
            format!(":{VM2}"),
            ":vm/999/2023-11-14T22:13:21Z".into()
        ]
    );
    // A server that shows nothing any more is not believed.
    from.store.forget(&root, &VM2.parse().unwrap()).unwrap();
    let (figures, end, log) = to.pull(&from, gone).await;
    assert_eq!((figures.removed_snapshots, end), (0, End::Warnings(1)), "{log}");
    assert_eq!(to.seen().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_others_and_namespaces_without_rights_are_left_alone() {
    let (from, to) = (Side::new().await, Side::new().await);
    fill(&from);
    upload(&to, "", "vm/100/2020-01-01T00:00:00Z", 8);
    let (result, end, log) = to
        .pull_with(from.client(), Selection::default(), |job| {
            job.local.owner = "limited@pbs".parse().unwrap();
        })
        .await;
    let figures = result.unwrap();
    // The group, and the two namespaces that may not be made.
    assert_eq!((figures.failed, end), (3, End::Warnings(3)), "{log}");
    assert!(
        log.contains("owner check failed (limited@pbs != root@pam)"),
        "{log}"
    );
    assert!(log.contains("may not make namespaces"), "{log}");
    assert_eq!(to.seen().len(), 3, "{log}");
}

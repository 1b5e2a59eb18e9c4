//! What comes of copies that break off, and of what is damaged.

use std::sync::Arc;

use relight_pbs::client::{Limited, Rate};
use relight_pbs::formats::ids::Namespace;
use relight_pbs::service::tasks::End;
use relight_pbs::sync::Selection;

use crate::sides::{Side, assert_same};
use crate::source::{CT, HOST, SEALED, VM1, VM2, fill};

/// Every snapshot that is seen is whole.
fn assert_whole(from: &Side, to: &Side) {
    for seen in to.seen() {
        let (namespace, name) = seen.split_once(':').unwrap();
        assert_same((from, namespace), (to, namespace), name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_breaks_off_anywhere_leaves_nothing_partial_and_goes_on() {
    let from = Side::new().await;
    fill(&from);
    let mut step = 3;
    let (mut writes, mut broken) = (1, 0);
    loop {
        let to = Side::new().await;
        let (result, _, log) = to
            .pull_with(from.fragile(writes), Selection::default(), |_| ())
            .await;
        assert_whole(&from, &to);
        let whole = result.is_ok_and(|figures| figures.failed == 0);
        if !whole {
            broken += 1;
            assert!(to.seen().len() < 5, "{log}");
            let (figures, end, log) = to.pull(&from, Selection::default()).await;
            assert_eq!((figures.failed, end), (0, End::Ok), "{log}");
        }
        assert_eq!(to.seen(), from.seen(), "{writes}");
        assert_whole(&from, &to);
        assert_eq!(to.store.locks().active(), (0, 0));
        if whole {
            break;
        }
        writes += step;
        step += 2;
    }
    assert!(broken >= 5, "{broken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_breaks_off_anywhere_leaves_nothing_partial_and_goes_on() {
    let from = Side::new().await;
    fill(&from);
    let (mut writes, mut step, mut broken) = (1, 7, 0);
    loop {
        let to = Side::new().await;
        let (result, ..) = from
            .push_with(to.fragile(writes), Selection::default(), |_| ())
            .await;
        let whole = result.is_ok_and(|figures| figures.failed == 0);
        assert_eq!(to.verify(), Vec::<String>::new());
        if !whole {
            broken += 1;
            // The other server notes that the client is gone.
            for _ in 0..500 {
                if to.store.locks().active() == (0, 0) {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            let (figures, end, log) = from.push(&to, Selection::default()).await;
            assert_eq!((figures.failed, end), (0, End::Ok), "{log}");
        }
        assert_eq!(to.seen(), from.seen(), "{writes}");
        assert_eq!(to.verify(), Vec::<String>::new());
        if whole {
            break;
        }
        writes += step;
        step += 7;
    }
    assert!(broken >= 4, "{broken}");
}

/// Flips a byte in the largest pack of a repository.
fn damage(side: &Side) {
    let mut largest = (0, None);
    let mut folders = vec![side.place.path()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let length = entry.metadata().unwrap().len();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if length > largest.0 {
                largest = (length, Some(entry.path()));
            }
        }
    }
    let path = largest.1.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    #[allow(clippy::permissions_set_readonly_false)]
    permissions.set_readonly(false);
    std::fs::set_permissions(&path, permissions).unwrap();
    std::fs::write(&path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_there_is_refused_and_the_rest_comes() {
    let (from, to) = (Side::new().await, Side::new().await);
    crate::source::upload(&from, "", HOST, 1);
    damage(&from);
    crate::source::upload_sealed(&from, SEALED);
    let (figures, end, log) = to.pull(&from, Selection::default()).await;
    assert_eq!(
        (figures.snapshots, figures.failed, end),
        (1, 1, End::Warnings(1)),
        "{log}"
    );
    assert!(log.contains(&format!("sync of snapshot {HOST} failed")), "{log}");
    assert_eq!(to.seen(), [format!(":{SEALED}")]);
    assert_same((&from, ""), (&to, ""), SEALED);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_damaged_here_is_fetched_again_if_that_is_wanted() {
    let (from, to) = (Side::new().await, Side::new().await);
    crate::source::upload(&from, "", HOST, 1);
    to.pull(&from, Selection::default()).await;
    let name = HOST.parse().unwrap();
    to.store.set_notes(&Namespace::ROOT, &name, "mine").unwrap();
    to.store.set_protected(&Namespace::ROOT, &name, true).unwrap();
    damage(&to);
    assert_eq!(to.verify().len(), 1);
    let (figures, _, log) = to.pull(&from, Selection::default()).await;
    assert_eq!(figures.snapshots, 0, "{log}");
    let again = Selection {
        resync_corrupt: true,
        ..Selection::default()
    };
    let (figures, end, log) = to.pull(&from, again).await;
    assert_eq!((figures.snapshots, end), (1, End::Ok), "{log}");
    let entry = to.entry("", HOST);
    assert!(entry.hidden.is_empty() && entry.is_protected() && entry.verification().is_none());
    assert_eq!(to.store.notes(&entry).unwrap(), "mine");
    assert_eq!(to.verify(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_takes_no_more_than_it_may_and_stops_when_it_is_told() {
    let (from, to) = (Side::new().await, Side::new().await);
    fill(&from);
    let slow = from.client_over(Arc::new(Limited::new(
        from.transport(),
        Some(Rate::new(2 << 20, Some(64 << 10))),
        None,
    )));
    let mut job = relight_pbs::sync::PullJob {
        client: slow,
        remote_namespace: Namespace::ROOT,
        local: to.local(),
        selection: Selection::default(),
    };
    job.selection.filters.0 = vec!["type:vm".parse().unwrap()];
    let (result, ..) = to
        .task(async move |task| {
            let stop = task.stopped();
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_secs(2)).await;
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
            });
            relight_pbs::sync::pull(&job, task).await
        })
        .await;
    assert!(matches!(result, Err(relight_pbs::sync::SyncError::Stopped)));
    // A disk of 9 MiB does not come in two seconds.
    assert!(!to.seen().contains(&format!(":{VM2}")), "{:?}", to.seen());
    assert_whole(&from, &to);
    for _ in 0..500 {
        if to.store.locks().active() == (0, 0) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let (figures, end, log) = to.pull(&from, Selection::default()).await;
    assert_eq!((figures.failed, end), (0, End::Ok), "{log}");
    for name in [VM1, VM2] {
        assert_same((&from, ""), (&to, ""), name);
    }
    assert_same((&from, "lab/berlin"), (&to, "lab/berlin"), CT);
}

//! Snapshots that somebody names go whatever the rules say; what must not go unnoticed is told before.

/// Whether the last good snapshot goes: there are good ones, and none of them stays. Of each snapshot of a workload it is said
/// whether it is good, and whether it goes.
pub fn takes_last_good(snapshots: impl IntoIterator<Item = (bool, bool)>) -> bool {
    let (mut some, mut stays) = (false, false);
    for (good, goes) in snapshots {
        some |= good;
        stays |= good && !goes;
    }
    some && !stays
}

#[cfg(test)]
mod tests {
    use super::takes_last_good;

    #[test]
    fn the_last_good_one_is_noticed() {
        let (good, bad, goes, stays) = (true, false, true, false);
        for (snapshots, last) in [
            (vec![], false),
            (vec![(good, goes)], true),
            (vec![(good, goes), (good, stays)], false),
            (vec![(good, goes), (bad, stays)], true),
            (vec![(good, goes), (good, goes)], true),
            // There was none before.
            (vec![(bad, goes), (bad, stays)], false),
        ] {
            assert_eq!(takes_last_good(snapshots.iter().copied()), last, "{snapshots:?}");
        }
    }
}

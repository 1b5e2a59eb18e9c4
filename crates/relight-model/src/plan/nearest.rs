//! Which known word somebody meant.

/// The known word that is fewest changes of a letter away, if that is near enough to be a slip.
pub(super) fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let word: Vec<char> = word.chars().take(64).collect();
    let permitted = (word.len() / 3).clamp(1, 3);
    let near = known
        .map(|candidate| (distance(&word, candidate), candidate))
        .min_by_key(|&(distance, _)| distance);
    near.filter(|&(distance, _)| distance <= permitted)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, leave out or change, or neighbours to swap (restricted Damerau-Levenshtein distance).
fn distance(word: &[char], other: &str) -> usize {
    let other: Vec<char> = other.chars().take(64).collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (i, &a) in word.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &b) in other.iter().enumerate() {
            let mut best = (last[j] + usize::from(a != b))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && a == other[j - 1] && word[i - 1] == b {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let known = ["schedule", "retention", "rpo", "rto", "window"];
        let near = |word| nearest(word, known.into_iter());
        assert_eq!(near("shedule"), Some("schedule"));
        assert_eq!(near("scheduel"), Some("schedule"));
        assert_eq!(near("rpoo"), Some("rpo"));
        assert_eq!(near("retain"), None);
        assert_eq!(near("colour"), None);
        assert_eq!(near(""), None);
    }
}

//! How repositories grow, and when they will be full.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// So many of the last days count.
pub(super) const DAYS: i64 = 28;
/// From fewer measurements, or a shorter time, nothing is foreseen.
const ENOUGH: usize = 3;
const LONG_ENOUGH: SignedDuration = SignedDuration::from_hours(48);
/// What is further away is not foreseen.
const FARTHEST: f64 = 10.0 * 366.0 * 86_400.0;

/// How large a repository's storage was at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Size {
    /// When.
    pub time: Timestamp,
    /// Bytes that are used.
    pub used: u64,
    /// Bytes that are free.
    pub available: u64,
}

/// How a repository's storage grows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Growth {
    /// The newest measurement.
    pub now: Size,
    /// Bytes a second by which it has grown over the last weeks; negative if it has shrunk. None: too little is known.
    pub rate: Option<f64>,
    /// When it is full if it goes on so. None: it does not grow, or it is years until then.
    pub full: Option<Timestamp>,
}

/// Measurements of repositories by name, each in the order of time.
#[derive(Debug, Default)]
pub(super) struct Sizes(BTreeMap<String, Vec<Size>>);

impl Sizes {
    pub fn new(sizes: BTreeMap<String, Vec<Size>>) -> Self {
        Self(sizes)
    }

    /// How each grows.
    pub fn growth(&self) -> BTreeMap<String, Growth> {
        let growth = self.0.iter();
        growth
            .filter_map(|(name, sizes)| Some((name.clone(), grows(sizes)?)))
            .collect()
    }
}

/// How much is looked at.
pub(crate) fn since(now: Timestamp) -> Timestamp {
    now.checked_sub(SignedDuration::from_hours(24 * DAYS))
        .unwrap_or(now)
}

/// How a repository of these measurements, in the order of time, grows.
pub(crate) fn grows(sizes: &[Size]) -> Option<Growth> {
    let (first, now) = (sizes.first()?, *sizes.last()?);
    let known = sizes.len() >= ENOUGH && now.time.duration_since(first.time) >= LONG_ENOUGH;
    let rate = known.then(|| slope(sizes)).flatten();
    let full = rate.filter(|rate| *rate > 0.0).and_then(|rate| {
        #[allow(clippy::cast_precision_loss, reason = "a forecast")]
        let seconds = now.available as f64 / rate;
        let ahead = (seconds <= FARTHEST).then(|| SignedDuration::from_secs_f64(seconds));
        now.time.checked_add(ahead?).ok()
    });
    Some(Growth { now, rate, full })
}

/// The median of the slopes between all pairs (Theil and Sen): a collection that frees much at once, or something else
/// that lies on the same disk for a day, does not turn it.
fn slope(sizes: &[Size]) -> Option<f64> {
    let mut slopes = Vec::new();
    for (n, later) in sizes.iter().enumerate() {
        for earlier in sizes.iter().take(n) {
            let seconds = later.time.duration_since(earlier.time).as_secs_f64();
            if seconds > 0.0 {
                #[allow(clippy::cast_precision_loss, reason = "a forecast")]
                let grown = later.used as f64 - earlier.used as f64;
                slopes.push(grown / seconds);
            }
        }
    }
    slopes.sort_unstable_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn day(n: i64, used: u64, available: u64) -> Size {
        Size {
            time: Timestamp::from_second(n * 86_400).unwrap(),
            used: used * GIB,
            available: available * GIB,
        }
    }

    #[test]
    fn a_repository_that_grows_is_foreseen_to_be_full() {
        let sizes: Vec<Size> = (0..14)
            .map(|n| day(n, 100 + 10 * n as u64, 300 - 10 * n as u64))
            .collect();
        let growth = grows(&sizes).unwrap();
        assert_eq!(
            growth.rate.map(|rate| (rate * 86_400.0).round()),
            Some((10 * GIB) as f64)
        );
        assert_eq!(growth.full, Some(day(13 + 17, 0, 0).time));
        // A film that lay there for a day changes nothing.
        let mut film = sizes.clone();
        film[7].used += 500 * GIB;
        assert_eq!(grows(&film).unwrap().full, growth.full);
    }

    #[test]
    fn little_knowledge_and_shrinking_foresee_nothing() {
        assert_eq!(grows(&[]), None);
        assert_eq!(grows(&[day(0, 1, 1), day(9, 5, 1)]).unwrap().full, None);
        let shrinks: Vec<Size> = (0..9).map(|n| day(n, 100 - n as u64, 50)).collect();
        let growth = grows(&shrinks).unwrap();
        assert!(growth.rate.unwrap() < 0.0 && growth.full.is_none());
        let slowly: Vec<Size> = (0..9).map(|n| day(n, 100 + n as u64, 1 << 20)).collect();
        assert_eq!(grows(&slowly).unwrap().full, None);
    }
}

//! A large file as a sequence of extents of different content, as a file system leaves it on a disk.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::content::{Kind, fill};
use super::random::Random;
use crate::failure::{Doing, Result};

/// How much of each kind of content there is; the shares add up to 1.
pub type Mix = &'static [(Kind, f64)];

/// A system disk: half of it incompressible. Zero runs are written, not left as holes, because not every tool
/// that is measured treats holes alike.
pub const DISK: Mix = &[
    (Kind::Noise, 0.50),
    (Kind::Records, 0.16),
    (Kind::Log, 0.14),
    (Kind::Prose, 0.08),
    (Kind::Zero, 0.12),
];

const SMALLEST_EXTENT: f64 = 64.0 * 1024.0;
const LARGEST_EXTENT: f64 = 16.0 * 1024.0 * 1024.0;

/// Writes `length` bytes of `mix` to a new file.
pub fn write_file(path: &Path, length: u64, mix: Mix, seed: u64) -> Result<()> {
    let doing = || format!("write {}", path.display());
    let mut file = File::create(path).doing(doing)?;
    let mut random = Random::new(seed);
    let mut buffer = Vec::new();
    let mut written = vec![0_f64; mix.len()];
    let mut at = 0;
    while at < length {
        let wanted = SMALLEST_EXTENT * (LARGEST_EXTENT / SMALLEST_EXTENT).powf(random.unit());
        // Sectors of 4 KiB, except at the end of the file.
        let extent = ((wanted as u64).next_multiple_of(4096)).min(length - at);
        let kind = next_kind(mix, &mut written, at, extent, &mut random);
        write_extent(&mut file, kind, extent, &mut random, &mut buffer).doing(doing)?;
        at += extent;
    }
    Ok(())
}

/// The kind that lags its share most, with some chance in it, so that the shares come out right at any length.
fn next_kind(mix: Mix, written: &mut [f64], at: u64, extent: u64, random: &mut Random) -> Kind {
    let total = (at + extent) as f64;
    let mut best = 0;
    let mut best_lag = f64::MIN;
    for (index, (_, share)) in mix.iter().enumerate() {
        let lag = total * share - written[index] + random.unit() * LARGEST_EXTENT * share;
        if lag > best_lag {
            (best, best_lag) = (index, lag);
        }
    }
    written[best] += extent as f64;
    mix[best].0
}

const PIECE: usize = 1 << 20;

fn write_extent(
    file: &mut impl Write,
    kind: Kind,
    mut left: u64,
    random: &mut Random,
    buffer: &mut Vec<u8>,
) -> std::io::Result<()> {
    while left > 0 {
        let piece = left.min(PIECE as u64) as usize;
        buffer.resize(piece, 0);
        fill(kind, random, buffer);
        file.write_all(buffer)?;
        left -= piece as u64;
    }
    Ok(())
}

/// Overwrites `share` of the file in bursts of `burst` bytes at scattered places, and says how many bytes that was.
///
/// Bursts are aligned to 4 KiB like a guest's writes, and not to anything that a backup tool would prefer. They hold
/// the mix of the file itself.
pub fn overwrite_bursts(path: &Path, share: f64, burst: u64, mix: Mix, seed: u64) -> Result<u64> {
    let doing = || format!("overwrite parts of {}", path.display());
    let file = File::options().write(true).open(path).doing(doing)?;
    let length = file.metadata().doing(doing)?.len();
    let mut random = Random::new(seed);
    let mut left = (length as f64 * share) as u64;
    let mut changed = 0;
    let mut buffer = Vec::new();
    while left >= 4096 && length > 4096 {
        let wanted = burst.min(left) / 4096 * 4096;
        let start = random.below(length / 4096) * 4096;
        let end = (start + wanted).min(length);
        let mut at = start;
        while at < end {
            // A burst is several files' worth of new content.
            let piece = ((64 << 10) + random.below(448 << 10)).min(end - at);
            buffer.resize(piece as usize, 0);
            fill(pick(mix, &mut random), &mut random, &mut buffer);
            file.write_all_at(&buffer, at).doing(doing)?;
            at += piece;
        }
        changed += end - start;
        left = left.saturating_sub(end - start);
    }
    Ok(changed)
}

/// Rewrites the file with new content put in at `places` points, each `each` bytes long, so that what follows is
/// shifted. Returns the bytes put in.
pub fn insert(path: &Path, places: u64, each: u64, mix: Mix, seed: u64) -> Result<u64> {
    let doing = || format!("insert into {}", path.display());
    let mut source = File::open(path).doing(doing)?;
    let length = source.metadata().doing(doing)?.len();
    let beside = path.with_extension("new");
    let mut target = File::create(&beside).doing(doing)?;
    let mut random = Random::new(seed);
    let mut points: Vec<u64> = (0..places).map(|_| random.below(length)).collect();
    points.sort_unstable();
    let mut buffer = Vec::new();
    let mut at = 0;
    for point in points {
        copy(&mut source, &mut target, point - at).doing(doing)?;
        write_extent(
            &mut target,
            pick(mix, &mut random),
            each,
            &mut random,
            &mut buffer,
        )
        .doing(doing)?;
        at = point;
    }
    copy(&mut source, &mut target, length - at).doing(doing)?;
    drop(target);
    fs::rename(&beside, path).doing(doing)?;
    Ok(places * each)
}

/// Adds `length` bytes at the end of the file.
pub fn append(path: &Path, length: u64, mix: Mix, seed: u64) -> Result<u64> {
    let doing = || format!("append to {}", path.display());
    let mut file = File::options().append(true).open(path).doing(doing)?;
    let mut random = Random::new(seed);
    let kind = pick(mix, &mut random);
    write_extent(&mut file, kind, length, &mut random, &mut Vec::new()).doing(doing)?;
    Ok(length)
}

fn copy(source: &mut File, target: &mut File, length: u64) -> std::io::Result<()> {
    use std::io::Read;
    std::io::copy(&mut source.take(length), target).map(|_| ())
}

/// A kind by its share.
fn pick(mix: Mix, random: &mut Random) -> Kind {
    let mut point = random.unit();
    for &(kind, share) in mix {
        if point < share {
            return kind;
        }
        point -= share;
    }
    mix[0].0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_its_shares_and_a_change_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.raw");
        let length = 64 << 20;
        write_file(&path, length + 7, DISK, 1).unwrap();
        let before = fs::read(&path).unwrap();
        assert_eq!(before.len() as u64, length + 7);
        let zero = before
            .chunks(4096)
            .filter(|block| block.iter().all(|&byte| byte == 0))
            .count();
        let share = zero as f64 * 4096.0 / length as f64;
        assert!((0.05..0.25).contains(&share), "{share}");

        let changed = overwrite_bursts(&path, 0.05, 1 << 20, DISK, 2).unwrap();
        let after = fs::read(&path).unwrap();
        assert_eq!(after.len(), before.len());
        let differing = before
            .chunks(4096)
            .zip(after.chunks(4096))
            .filter(|(a, b)| a != b)
            .count() as u64
            * 4096;
        assert!(
            differing <= changed && differing * 2 > changed,
            "{differing} of {changed}"
        );
        assert!((0.03..0.06).contains(&(changed as f64 / length as f64)));

        assert_eq!(insert(&path, 3, 1000, DISK, 3).unwrap(), 3000);
        assert_eq!(append(&path, 5000, DISK, 4).unwrap(), 5000);
        assert_eq!(fs::metadata(&path).unwrap().len(), length + 7 + 8000);
    }
}

//! Chunks that are taken over whole leave padding behind. It stays within bounds.

use std::fs;

use crate::lab::{Dice, Lab, settle, write_noise};

const FILES: u64 = 3000;
const GENERATIONS: u64 = 9;
/// Of the files, in a generation.
const CHANGED: u64 = FILES / 20;

#[test]
fn padding_is_bounded() {
    let lab = Lab::new();
    let mut dice = Dice(0x5eed_0020);
    let root = lab.path("root");
    for number in 0..FILES {
        let directory = root.join(format!("{:02}", number % 40));
        fs::create_dir_all(&directory).unwrap();
        let length = 5_000 + dice.below(40_000);
        write_noise(&directory.join(number.to_string()), &mut dice, length);
    }
    settle();
    let (mut last, report) = lab.save_tree(&root, None);
    let live = report.bytes;
    let (mut largest, mut read, mut added, mut read_whole) = (0, 0, 0, 0);
    for _ in 0..GENERATIONS {
        for _ in 0..CHANGED {
            let number = dice.below(FILES);
            let path = root.join(format!("{:02}/{number}", number % 40));
            let length = 5_000 + dice.below(40_000);
            write_noise(&path, &mut dice, length);
        }
        // What was written only just now is read once more by the next backup, which is not what this is about.
        settle();
        let (snapshot, report) = lab.save_tree(&root, Some(&last));
        largest = largest.max(snapshot.archive("tree.ppxar").unwrap().root.size);
        read += report.bytes_read;
        added += snapshot.figures.added;
        read_whole += u32::from(report.bytes_read == report.bytes);
        last = snapshot;
    }
    println!(
        "{live} bytes of files; payload at most {largest}; {read} read, {added} added in {GENERATIONS} \
         generations, {read_whole} of them read as a whole"
    );
    assert!(live > 60 << 20);
    // Eight times, and what one generation adds: how much depends on where the secret of the repository cuts.
    assert!(largest < live * 12, "{largest} bytes for {live}");
    assert!(added < live * 3, "{added}");
    assert!(read_whole >= 1, "the rule was put to the test");
    assert!(u64::from(read_whole) <= GENERATIONS / 3, "{read_whole}");
    lab.assert_tree(&last, "tree", &root);
}

//! Which chunks a client will ask for next.
//!
//! A client that restores an image or a stream asks for its chunks in the order of the index, but not for those that it has
//! kept: the chunk of zeros, say. Several places may be read in order at once, as when a tree is read with its content.

use crate::formats::index::Digest;

/// Most bytes of content that are asked for ahead of one place.
const MOST: u64 = 24 << 20;
/// Bytes that are asked for when a place turns out to be read in order.
const FIRST: u64 = 8 << 20;
/// How far a client may jump and still count as reading in order.
const SKIP: usize = 64;
/// Places that are remembered.
const RUNS: usize = 4;
/// Most chunks that are asked for at once.
const CHUNKS: usize = 1024;

/// What is known of the chunks of an index.
pub(super) trait List {
    /// How many there are.
    fn len(&self) -> usize;
    /// Digest of one, and how many bytes have to be read for it.
    fn at(&self, position: usize) -> Option<(&Digest, u64)>;
}

/// A place from which chunks are read in order.
struct Run {
    list: usize,
    /// The chunk that would be next.
    next: usize,
    /// Chunks before this were asked for.
    asked: usize,
    /// How far ahead it reads, in bytes.
    window: u64,
}

/// What follows from a chunk being asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Whether it was asked for ahead.
    pub foreseen: bool,
    /// The list and the chunks of it that should be read now.
    pub ahead: Option<(usize, std::ops::Range<usize>)>,
}

/// The places at which a client reads.
#[derive(Default)]
pub(super) struct Ahead {
    /// The one used last at the end.
    runs: Vec<Run>,
}

impl Ahead {
    /// Takes note that a chunk is asked for, which is first at `first`: list and position.
    pub fn asked_for(&mut self, lists: &[impl List], digest: &Digest, first: (usize, usize)) -> Step {
        let follows = |run: &Run| {
            let list = lists.get(run.list)?;
            let end = run.next.saturating_add(SKIP).min(list.len());
            (run.next..end).find(|&position| list.at(position).is_some_and(|(other, _)| other == digest))
        };
        // It may be any of several equal chunks; the one that fits a place is meant.
        let found = self.runs.iter().rposition(|run| follows(run).is_some());
        let mut run = match found {
            Some(number) => {
                let mut run = self.runs.remove(number);
                let position = follows(&run).unwrap_or(run.next);
                run.next = position + 1;
                run.window = (run.window * 2).clamp(FIRST, MOST);
                run
            }
            None => {
                if self.runs.len() >= RUNS {
                    self.runs.remove(0);
                }
                let (list, position) = first;
                Run {
                    list,
                    next: position + 1,
                    asked: position + 1,
                    // Whoever begins at the beginning goes on, most likely.
                    window: if position == 0 { FIRST } else { 0 },
                }
            }
        };
        let foreseen = found.is_some() && run.next <= run.asked;
        run.asked = run.asked.max(run.next);
        let ahead = lists.get(run.list).and_then(|list| run.extend(list));
        let step = Step {
            foreseen,
            ahead: ahead.map(|range| (run.list, range)),
        };
        self.runs.push(run);
        step
    }
}

impl Run {
    /// What should be asked for now.
    fn extend(&mut self, list: &impl List) -> Option<std::ops::Range<usize>> {
        let bytes = |position| list.at(position).map_or(0, |(_, bytes)| bytes);
        let mut ahead: u64 = (self.next..self.asked).map(bytes).sum();
        if self.window == 0 || ahead > self.window / 2 {
            return None;
        }
        let from = self.asked;
        while self.asked < list.len() && self.asked - from < CHUNKS {
            let more = bytes(self.asked);
            if ahead > 0 && ahead + more > self.window {
                break;
            }
            ahead += more;
            self.asked += 1;
        }
        (self.asked > from).then_some(from..self.asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chunks of 4 MiB; every `zeros`th has the digest of zeros and costs nothing.
    struct Image {
        digests: Vec<Digest>,
    }

    impl List for Image {
        fn len(&self) -> usize {
            self.digests.len()
        }

        fn at(&self, position: usize) -> Option<(&Digest, u64)> {
            let digest = self.digests.get(position)?;
            Some((digest, if *digest == [0; 32] { 0 } else { 4 << 20 }))
        }
    }

    fn image(count: usize, zeros: usize) -> Image {
        let digest = |number: usize| {
            let mut digest = [0; 32];
            if number % zeros != 1 {
                digest[..8].copy_from_slice(&(number as u64 + 1).to_le_bytes());
            }
            digest
        };
        Image {
            digests: (0..count).map(digest).collect(),
        }
    }

    fn first(image: &Image, digest: &Digest) -> (usize, usize) {
        (0, image.digests.iter().position(|other| other == digest).unwrap())
    }

    #[test]
    fn a_restore_in_order_is_foreseen() {
        let lists = [image(1000, 7)];
        let mut ahead = Ahead::default();
        let (mut foreseen, mut asked, mut all) = (0, vec![false; 1000], 0);
        for digest in lists[0].digests.iter().filter(|digest| **digest != [0; 32]) {
            let step = ahead.asked_for(&lists, digest, first(&lists[0], digest));
            foreseen += usize::from(step.foreseen);
            all += 1;
            if let Some((_, range)) = step.ahead {
                range.for_each(|position| assert!(!std::mem::replace(&mut asked[position], true)));
            }
        }
        assert_eq!(foreseen, all - 1, "all but the first");
    }

    #[test]
    fn a_repeated_chunk_does_not_confuse() {
        // The same chunk is asked for again and again; it is first at 3.
        let mut one = image(400, 1000);
        (3..400)
            .step_by(5)
            .for_each(|position| one.digests[position] = [9; 32]);
        let lists = [one];
        let mut ahead = Ahead::default();
        let foreseen = lists[0].digests.iter().filter(|digest| {
            let step = ahead.asked_for(&lists, digest, first(&lists[0], digest));
            step.foreseen
        });
        assert_eq!(foreseen.count(), 399);
    }

    #[test]
    fn random_reads_ask_for_nothing() {
        let lists = [image(100_000, 1_000_000)];
        let mut ahead = Ahead::default();
        for number in 1..500usize {
            let position = number * 7919 % 100_000;
            let step = ahead.asked_for(&lists, &lists[0].digests[position], (0, position));
            assert_eq!(step, Step::default(), "{number}");
        }
    }

    #[test]
    fn several_places_are_read_in_order_at_once() {
        let lists = [image(300, 1000), image(300, 1000)];
        let mut ahead = Ahead::default();
        let mut foreseen = 0;
        for number in 0..100 {
            for place in [0, 150] {
                let digest = lists[0].digests[place + number];
                foreseen += usize::from(ahead.asked_for(&lists, &digest, (0, place + number)).foreseen);
            }
        }
        assert!(foreseen > 190, "{foreseen}");
    }

    #[test]
    fn the_window_is_bounded() {
        let lists = [image(10_000, 1_000_000)];
        let mut ahead = Ahead::default();
        for position in 0..1000 {
            ahead.asked_for(&lists, &lists[0].digests[position], (0, position));
            let run = ahead.runs.last().unwrap();
            assert!((run.asked - run.next) as u64 * (4 << 20) <= MOST);
        }
        // Zeros cost nothing, but are not gone through without end.
        let zeros = [Image {
            digests: vec![[0; 32]; 1 << 20],
        }];
        let step = Ahead::default().asked_for(&zeros, &[0; 32], (0, 0));
        assert_eq!(step.ahead, Some((0, 1..1 + CHUNKS)));
    }
}

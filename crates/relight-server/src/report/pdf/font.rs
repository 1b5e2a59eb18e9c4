//! Text in the fonts that every PDF reader has (ISO 32000-1, 9.6.2.2 and annex D): encoding and widths.
//!
//! These fonts know the characters of WinAnsiEncoding only. What else there is in a text is written as `\u{4e2d}`, so that
//! nothing is lost or mistaken for something else; the JSON that is attached to the file has it as it is.

/// Which of the fonts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Font {
    /// Helvetica.
    Regular,
    /// Helvetica-Bold.
    Bold,
}

/// Widths of the characters from 32 to 126 in thousandths of the size (Adobe, "Core 14 AFM files").
const REGULAR: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556,
    556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278,
    500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469,
    556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500,
    278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];
const BOLD: [u16; 95] = [
    278, 333, 474, 556, 556, 889, 722, 238, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556,
    556, 556, 556, 556, 556, 333, 333, 584, 584, 584, 611, 975, 722, 722, 722, 722, 667, 611, 778, 722, 278,
    556, 722, 611, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 333, 278, 333, 584,
    556, 333, 556, 611, 556, 611, 556, 333, 611, 611, 278, 278, 556, 278, 889, 611, 611, 611, 611, 389, 556,
    333, 611, 556, 778, 556, 556, 500, 389, 280, 389, 584,
];

/// Characters at 0x80 to 0x9f; `\0` where there is none.
const UPPER: [char; 32] = [
    '€', '\0', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\0', 'Ž', '\0', '\0', '‘', '’', '“',
    '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\0', 'ž', 'Ÿ',
];

/// The wide ones among the characters from 0x80 on; the others are at most as wide as `WIDE`.
const WIDEST: [(u8, u16); 8] = [
    (0x85, 1000),
    (0x89, 1000),
    (0x8c, 1000),
    (0x97, 1000),
    (0x99, 1000),
    (0x9c, 944),
    (0xc6, 1000),
    (0xe6, 889),
];
const WIDE: u16 = 778;
const NARROW: u16 = 611;

fn encoded(character: char) -> Option<u8> {
    match character {
        ' '..='~' | '\u{a0}'..='\u{ac}' | '\u{ae}'..='\u{ff}' => u8::try_from(u32::from(character)).ok(),
        other => {
            let at = UPPER.iter().position(|upper| *upper == other && other != '\0')?;
            u8::try_from(0x80 + at).ok()
        }
    }
}

/// A text in WinAnsiEncoding.
pub(super) fn encode(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for character in text.chars() {
        match encoded(character) {
            Some(byte) => out.push(byte),
            None if character == '\n' || character == '\t' => out.push(b' '),
            None => out.extend(character.escape_unicode().map(|escaped| escaped as u8)),
        }
    }
    out
}

impl Font {
    /// How wide encoded text is, at a size of 1000. Exact for ASCII, at least as much for what is beyond it.
    pub fn width(self, text: &[u8]) -> u32 {
        let table = match self {
            Self::Regular => &REGULAR,
            Self::Bold => &BOLD,
        };
        let one = |byte: &u8| match byte {
            32..=126 => table[usize::from(byte - 32)],
            0xe0..=0xff if *byte != 0xe6 => NARROW,
            other => {
                let widest = WIDEST.iter().find(|(wide, _)| wide == other);
                widest.map_or(WIDE, |(_, width)| *width)
            }
        };
        text.iter().map(|byte| u32::from(one(byte))).sum()
    }

    /// Cuts text into lines that are not wider. Words that are too long are broken.
    pub fn lines(self, text: &str, size: f32, width: f32) -> Vec<Vec<u8>> {
        let most = (width.max(1.0) * 1000.0 / size) as u32;
        let mut lines = Vec::new();
        let mut line: Vec<u8> = Vec::new();
        let mut used = 0;
        for word in encode(text).split(|byte| *byte == b' ') {
            let wide = self.width(word);
            let space = if line.is_empty() { 0 } else { self.width(b" ") };
            if !line.is_empty() && used + space + wide > most {
                lines.push(std::mem::take(&mut line));
                used = 0;
            } else if !line.is_empty() {
                line.push(b' ');
                used += space;
            }
            for byte in word {
                let one = self.width(&[*byte]);
                if used + one > most && !line.is_empty() {
                    lines.push(std::mem::take(&mut line));
                    used = 0;
                }
                line.push(*byte);
                used += one;
            }
        }
        lines.push(line);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_the_fonts_lack_are_written_out() {
        assert_eq!(encode("Grüße – 5 €…"), b"Gr\xfc\xdfe \x96 5 \x80\x85");
        assert_eq!(encode("vm/中\u{202e}"), b"vm/\\u{4e2d}\\u{202e}");
        assert_eq!(encode("a\u{0}\u{ad}b"), b"a\\u{0}\\u{ad}b");
    }

    #[test]
    fn no_line_is_wider_than_it_may_be_and_nothing_is_lost() {
        for font in [Font::Regular, Font::Bold] {
            for text in [
                "",
                "one",
                "a few words that go over the line",
                &"x".repeat(300),
                "ÄÖÜ WWW æææ — …",
            ] {
                let lines = font.lines(text, 8.0, 60.0);
                for line in &lines {
                    assert!(font.width(line) <= 7500, "{line:?}");
                }
                let all: Vec<u8> = lines.concat().into_iter().filter(|byte| *byte != b' ').collect();
                let expected: Vec<u8> = encode(text).into_iter().filter(|byte| *byte != b' ').collect();
                assert_eq!(all, expected);
            }
        }
    }
}

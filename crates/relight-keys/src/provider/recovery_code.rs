//! The spelling of a recovery key on paper.
//!
//! 180 bits: one byte version (1), 18 bytes key, and the first 28 bits of
//! SHA-256("relight recovery key v1" + version + key). In digits of 5 bits, most significant first, in Crockford's
//! base 32 alphabet (no I, L, O, U), these are 9 groups of 4 digits. Each group is followed by a check digit,
//! so that a typing error is found in its group, and the 28 bits confirm the whole:
//!
//! `05JPK-JSV8T-EHJPQ-AVH0F-C9WQN-8S90Z-DDJQT-J8A4W-84E2K` (that of the ASCII text `eighteen byte key!`)
//!
//! The check digit of group g (0 to 8) with digits d0 to d3 is, in GF(32) with x^5 = x^2 + 1 and a = x,
//! (g + 1) + a·d0 + a²·d1 + a³·d2 + a⁴·d3. It finds every single wrong digit, every two digits that changed places
//! within a group, and every two groups that changed places.

use zeroize::Zeroizing;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const GROUPS: usize = 9;
const GROUP_LENGTH: usize = 5;
const LENGTH: usize = GROUPS * GROUP_LENGTH;
const VERSION: u8 = 1;

/// Bytes of the key: 144 bits.
pub(super) const KEY_LENGTH: usize = 18;

/// What is wrong with a recovery key as typed, and where. Groups and characters are counted from 1. Nothing of what
/// was typed is repeated, as most of it will be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryCodeError {
    /// Too few or too many characters, and nothing tells where.
    #[error("{found} characters where {LENGTH} were expected ({GROUPS} groups of {GROUP_LENGTH})")]
    Length {
        /// Characters found, not counting blanks and dashes.
        found: usize,
    },
    /// A group is too short or too long.
    #[error("group {group} of {GROUPS} has {found} characters where {GROUP_LENGTH} were expected")]
    GroupLength {
        /// The group.
        group: usize,
        /// Characters found in it.
        found: usize,
    },
    /// A character that never occurs.
    #[error(
        "character {character} of group {group} is none that a recovery key has (digits, and letters but U)"
    )]
    Character {
        /// The group.
        group: usize,
        /// The character within the group.
        character: usize,
    },
    /// Groups whose check digit does not fit.
    #[error("typing error in group {}; compare with the print", list(groups))]
    Groups {
        /// The groups.
        groups: Vec<usize>,
    },
    /// Each group fits but the whole does not: several errors that cancel out within a group.
    #[error("the groups fit but the whole does not; compare every group with the print")]
    Checksum,
    /// A recovery key of a later version.
    #[error("made by a later version of the format ({0}); use a newer program")]
    Version(u8),
}

fn list(groups: &[usize]) -> String {
    groups.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

/// Spells a key: 9 groups joined by dashes.
pub(super) fn spell(key: &[u8; KEY_LENGTH]) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0u8; 23]);
    bytes[0] = VERSION;
    bytes[1..19].copy_from_slice(key);
    bytes[19..].copy_from_slice(&checksum(VERSION, key));
    let digits = Zeroizing::new(std::array::from_fn::<u8, { GROUPS * 4 }, _>(|index| {
        (0..5).fold(0, |digit, bit| {
            let at = index * 5 + bit;
            digit << 1 | bytes[at / 8] >> (7 - at % 8) & 1
        })
    }));
    let mut text = Zeroizing::new(String::with_capacity(LENGTH + GROUPS));
    for (group, four) in digits.chunks_exact(4).enumerate() {
        if group > 0 {
            text.push('-');
        }
        for digit in four.iter().copied().chain([check_digit(group, four)]) {
            text.push(ALPHABET[usize::from(digit)] as char);
        }
    }
    text
}

/// Reads a key as typed: any case, O for 0, I and L for 1, blanks and dashes anywhere.
pub(super) fn read(text: &str) -> Result<Zeroizing<[u8; KEY_LENGTH]>, RecoveryCodeError> {
    let separator = |c: char| c.is_whitespace() || matches!(c, '-' | '\u{2010}'..='\u{2015}' | '_' | '.');
    let found = text.chars().filter(|c| !separator(*c)).count();
    if found != LENGTH {
        // Groups as typed tell where a character is missing, if they are about as many as they should be.
        let lengths: Vec<usize> = text
            .split(separator)
            .map(|group| group.chars().count())
            .filter(|length| *length > 0)
            .collect();
        let wrong = lengths.iter().position(|length| *length != GROUP_LENGTH);
        return Err(match wrong {
            Some(at) if lengths.len() == GROUPS => RecoveryCodeError::GroupLength {
                group: at + 1,
                found: lengths[at],
            },
            _ => RecoveryCodeError::Length { found },
        });
    }

    let mut digits = Zeroizing::new([0u8; LENGTH]);
    for (at, c) in text.chars().filter(|c| !separator(*c)).enumerate() {
        digits[at] = value(c).ok_or(RecoveryCodeError::Character {
            group: at / GROUP_LENGTH + 1,
            character: at % GROUP_LENGTH + 1,
        })?;
    }
    let groups: Vec<usize> = digits
        .chunks_exact(GROUP_LENGTH)
        .enumerate()
        .filter(|(group, five)| check_digit(*group, &five[..4]) != five[4])
        .map(|(group, _)| group + 1)
        .collect();
    if !groups.is_empty() {
        return Err(RecoveryCodeError::Groups { groups });
    }

    let mut bytes = Zeroizing::new([0u8; 23]);
    for (index, digit) in digits
        .chunks_exact(GROUP_LENGTH)
        .flat_map(|five| &five[..4])
        .enumerate()
    {
        for bit in 0..5 {
            let at = index * 5 + bit;
            bytes[at / 8] |= (digit >> (4 - bit) & 1) << (7 - at % 8);
        }
    }
    let mut key = Zeroizing::new([0u8; KEY_LENGTH]);
    key.copy_from_slice(&bytes[1..19]);
    if bytes[19..] != checksum(bytes[0], &key) {
        return Err(RecoveryCodeError::Checksum);
    }
    match bytes[0] {
        VERSION => Ok(key),
        other => Err(RecoveryCodeError::Version(other)),
    }
}

fn value(c: char) -> Option<u8> {
    let c = match c.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    ALPHABET
        .iter()
        .position(|letter| char::from(*letter) == c)
        .map(|at| at as u8)
}

/// 28 bits in 4 bytes, the last 4 bits zero.
fn checksum(version: u8, key: &[u8; KEY_LENGTH]) -> [u8; 4] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(b"relight recovery key v1");
    context.update(&[version]);
    context.update(key);
    let digest = context.finish();
    let digest = digest.as_ref();
    [digest[0], digest[1], digest[2], digest[3] & 0xf0]
}

/// Horner's scheme for the check digit; group is below 9, so group + 1 is an element of the field.
fn check_digit(group: usize, four: &[u8]) -> u8 {
    let sum = four.iter().rev().fold(0, |sum, digit| times_a(sum ^ digit));
    sum ^ (group as u8 + 1)
}

/// Multiplication by x in GF(32).
fn times_a(element: u8) -> u8 {
    let doubled = element << 1;
    if doubled & 0b10_0000 != 0 {
        doubled ^ 0b10_0101
    } else {
        doubled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; KEY_LENGTH] = *b"eighteen byte key!";

    #[test]
    fn spelling_is_fixed_for_ever() {
        assert_eq!(
            spell(&KEY).as_str(),
            "05JPK-JSV8T-EHJPQ-AVH0F-C9WQN-8S90Z-DDJQT-J8A4W-84E2K"
        );
        assert_eq!(*read(&spell(&KEY)).unwrap(), KEY);
    }

    #[test]
    fn reading_forgives_what_people_do() {
        let text = spell(&KEY);
        assert_eq!(*read(&text.to_lowercase()).unwrap(), KEY);
        assert_eq!(*read(&text.replace('-', "")).unwrap(), KEY);
        assert_eq!(*read(&format!("  {}\n", text.replace('-', " – "))).unwrap(), KEY);
        assert_eq!(*read(&text.replace('0', "o").replace('1', "l")).unwrap(), KEY);
        assert_eq!(*read(&text.replace('0', "O").replace('1', "I")).unwrap(), KEY);
    }

    #[test]
    fn every_single_wrong_digit_is_found_in_its_group() {
        let text = spell(&KEY);
        for at in (0..text.len()).filter(|at| text.as_bytes()[*at] != b'-') {
            for letter in ALPHABET {
                let mut typed = text.as_bytes().to_vec();
                if typed[at] == *letter {
                    continue;
                }
                typed[at] = *letter;
                let error = read(std::str::from_utf8(&typed).unwrap()).unwrap_err();
                assert_eq!(
                    error,
                    RecoveryCodeError::Groups {
                        groups: vec![at / 6 + 1]
                    }
                );
            }
        }
    }

    #[test]
    fn digits_and_groups_that_changed_places_are_found() {
        let text = spell(&KEY);
        let groups: Vec<&str> = text.split('-').collect();
        for a in 0..GROUPS {
            for b in 0..a {
                let mut swapped = groups.clone();
                swapped.swap(a, b);
                let error = read(&swapped.join("-")).unwrap_err();
                assert_eq!(
                    error,
                    RecoveryCodeError::Groups {
                        groups: vec![b + 1, a + 1]
                    }
                );
            }
        }
        for at in (0..text.len() - 1).filter(|at| at % 6 < 4) {
            let mut typed = text.as_bytes().to_vec();
            typed.swap(at, at + 1);
            if typed != text.as_bytes() {
                assert!(read(std::str::from_utf8(&typed).unwrap()).is_err(), "{at}");
            }
        }
    }

    #[test]
    fn missing_and_foreign_characters_are_located_without_repeating_them() {
        let text = spell(&KEY);
        let mut groups: Vec<String> = text.split('-').map(str::to_owned).collect();
        groups[3].pop();
        assert_eq!(
            read(&groups.join("-")).unwrap_err().to_string(),
            "group 4 of 9 has 4 characters where 5 were expected"
        );
        assert_eq!(
            read(&groups.join("")),
            Err(RecoveryCodeError::Length { found: 44 })
        );
        groups[3].push('U');
        assert_eq!(
            read(&groups.join("-")),
            Err(RecoveryCodeError::Character {
                group: 4,
                character: 5
            })
        );
        assert_eq!(read(""), Err(RecoveryCodeError::Length { found: 0 }));
    }
}

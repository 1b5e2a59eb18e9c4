//! Partition tables: MBR with logical partitions, and GPT (UEFI Specification 2.10, chapter 5).

use std::io;

use super::{Disk, bytes, u32_le, u64_le};

/// Bytes of a sector, in which partition tables count. Disks with larger ones say 512 to the outside, but for a few: those are
/// tried after that.
const SECTORS: [u64; 2] = [512, 4096];
/// The type of an MBR entry behind which a GPT lies.
const PROTECTIVE: u8 = 0xee;
/// Types of MBR entries that hold logical partitions.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// No table has more entries.
const MAX_ENTRIES: usize = 1024;
/// Nobody writes longer entries.
const MAX_ENTRY: u32 = 4096;

/// A part of a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// Its number, as Linux counts them.
    pub number: u32,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub size: u64,
}

/// What is said about the parts of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Table {
    /// Nothing: it is empty, or one file system as a whole.
    None,
    /// By a Master Boot Record.
    Mbr(Vec<Partition>),
    /// By a GUID Partition Table, of which both copies are good.
    Gpt(Vec<Partition>),
    /// By one that is damaged; why.
    Damaged(String),
}

impl Table {
    /// The parts.
    pub fn partitions(&self) -> &[Partition] {
        match self {
            Self::Mbr(partitions) | Self::Gpt(partitions) => partitions,
            Self::None | Self::Damaged(_) => &[],
        }
    }
}

/// Reads the partition table.
///
/// # Errors
/// The disk cannot be read.
pub fn table(disk: &(impl Disk + ?Sized)) -> io::Result<Table> {
    let Some(first) = bytes::<512>(disk, 0)? else {
        return Ok(Table::None);
    };
    for sector in SECTORS {
        let Some(header) = bytes::<512>(disk, sector)? else {
            continue;
        };
        let is_protected = entries(&first).any(|entry| entry.kind == PROTECTIVE);
        if header.starts_with(b"EFI PART") {
            return gpt(disk, sector, is_protected);
        }
    }
    if entries(&first).any(|entry| entry.kind == PROTECTIVE) {
        return Ok(Table::Damaged(
            "it is said to have a GPT, but the header of that is gone".into(),
        ));
    }
    mbr(disk, &first)
}

/// An entry of an MBR.
struct Entry {
    state: u8,
    kind: u8,
    first: u64,
    count: u64,
}

fn entries(sector: &[u8; 512]) -> impl Iterator<Item = Entry> {
    let is_signed = sector.ends_with(&[0x55, 0xaa]);
    let table = sector.get(446..510).filter(|_| is_signed).unwrap_or_default();
    table.chunks_exact(16).map(|entry| Entry {
        state: entry.first().copied().unwrap_or(0),
        kind: entry.get(4).copied().unwrap_or(0),
        first: u64::from(u32_le(entry, 8)),
        count: u64::from(u32_le(entry, 12)),
    })
}

fn mbr(disk: &(impl Disk + ?Sized), first: &[u8; 512]) -> io::Result<Table> {
    let sector = SECTORS[0];
    let used: Vec<(u32, Entry)> = (1..)
        .zip(entries(first))
        .filter(|(_, entry)| entry.kind != 0)
        .collect();
    // The boot sector of a file system is signed alike, and has code where a table would have entries.
    let is_table =
        |(_, entry): &(u32, Entry)| matches!(entry.state, 0 | 0x80) && entry.count > 0 && entry.first > 0;
    if used.is_empty() || !used.iter().all(is_table) {
        return Ok(Table::None);
    }
    let mut partitions = Vec::new();
    for (number, entry) in &used {
        let part = Partition {
            number: *number,
            offset: entry.first * sector,
            size: entry.count * sector,
        };
        if let Some(why) = misplaced(disk, &part) {
            return Ok(Table::Damaged(why));
        }
        if EXTENDED.contains(&entry.kind) {
            match logical(disk, part.offset)? {
                Ok(found) => partitions.extend(found),
                Err(why) => return Ok(Table::Damaged(why)),
            }
        } else {
            partitions.push(part);
        }
    }
    Ok(Table::Mbr(partitions))
}

/// The chain of logical partitions in the extended one that begins at `extended`.
fn logical(disk: &(impl Disk + ?Sized), extended: u64) -> io::Result<Result<Vec<Partition>, String>> {
    let sector = SECTORS[0];
    let mut partitions: Vec<Partition> = Vec::new();
    let mut at = extended;
    for number in 5.. {
        let Some(block) = bytes::<512>(disk, at)? else {
            return Ok(Err("its logical partitions lead outside the disk".into()));
        };
        let mut both = entries(&block);
        let (Some(own), Some(next)) = (both.next(), both.next()) else {
            return Ok(Err(format!("logical partition {number} has no record")));
        };
        if own.kind != 0 {
            let part = Partition {
                number,
                offset: at.saturating_add(own.first * sector),
                size: own.count * sector,
            };
            if let Some(why) = misplaced(disk, &part) {
                return Ok(Err(why));
            }
            partitions.push(part);
        }
        if next.kind == 0 || next.first == 0 {
            break;
        }
        let following = extended.saturating_add(next.first * sector);
        // A chain only ever goes forward: this one would never end.
        if following <= at || partitions.len() >= MAX_ENTRIES {
            return Ok(Err("its logical partitions form no chain".into()));
        }
        at = following;
    }
    Ok(Ok(partitions))
}

fn misplaced(disk: &(impl Disk + ?Sized), part: &Partition) -> Option<String> {
    let end = part.offset.checked_add(part.size);
    let number = part.number;
    match end {
        Some(end) if end <= disk.size() && part.size > 0 => None,
        _ => Some(format!("partition {number} reaches beyond the end of the disk")),
    }
}

fn gpt(disk: &(impl Disk + ?Sized), sector: u64, is_protected: bool) -> io::Result<Table> {
    if !is_protected {
        return Ok(Table::Damaged(
            "there is a GPT, but no protective MBR before it".into(),
        ));
    }
    let primary = match copy(disk, sector, sector)? {
        Ok(partitions) => partitions,
        Err(why) => return Ok(Table::Damaged(format!("GPT: {why}"))),
    };
    let last = disk.size() / sector * sector;
    match copy(disk, last.saturating_sub(sector), sector)? {
        Ok(backup) if backup == primary => {}
        // A disk that was enlarged has it elsewhere: the first copy says where.
        other => {
            let header = bytes::<512>(disk, sector)?.unwrap_or([0; 512]);
            let at = u64_le(&header, 32).checked_mul(sector);
            let backup = match at {
                Some(at) => copy(disk, at, sector)?,
                None => Err("it says that its copy lies nowhere".into()),
            };
            match (backup, other) {
                (Ok(backup), _) if backup == primary => {}
                (Ok(_), _) | (_, Ok(_)) => {
                    return Ok(Table::Damaged("the two copies of the GPT differ".into()));
                }
                (Err(why), _) => return Ok(Table::Damaged(format!("second copy of the GPT: {why}"))),
            }
        }
    }
    if let Some(why) = primary.iter().find_map(|part| misplaced(disk, part)) {
        return Ok(Table::Damaged(why));
    }
    Ok(Table::Gpt(primary))
}

/// One of the two copies, whose header lies at byte `at`.
fn copy(disk: &(impl Disk + ?Sized), at: u64, sector: u64) -> io::Result<Result<Vec<Partition>, String>> {
    let Some(header) = bytes::<512>(disk, at)? else {
        return Ok(Err("its header lies outside the disk".into()));
    };
    if !header.starts_with(b"EFI PART") {
        return Ok(Err("its header is not there".into()));
    }
    let length = u32_le(&header, 12) as usize;
    let Some(summed) = header.get(..length).filter(|_| length >= 92) else {
        return Ok(Err(format!("its header says that it has {length} bytes")));
    };
    let mut summed = summed.to_vec();
    if let Some(sum) = summed.get_mut(16..20) {
        sum.fill(0);
    }
    if crc32fast::hash(&summed) != u32_le(&header, 16) {
        return Ok(Err("the checksum of its header is wrong".into()));
    }
    let (count, size) = (u32_le(&header, 80), u32_le(&header, 84));
    if count as usize > MAX_ENTRIES || !(128..=MAX_ENTRY).contains(&size) {
        return Ok(Err(format!(
            "it says that it has {count} entries of {size} bytes"
        )));
    }
    let mut table = vec![0; count as usize * size as usize];
    let place = u64_le(&header, 72).checked_mul(sector);
    let end = place.and_then(|place| place.checked_add(table.len() as u64));
    let (Some(place), Some(_)) = (place, end.filter(|end| *end <= disk.size())) else {
        return Ok(Err("its entries lie outside the disk".into()));
    };
    disk.read(place, &mut table)?;
    if crc32fast::hash(&table) != u32_le(&header, 88) {
        return Ok(Err("the checksum of its entries is wrong".into()));
    }
    let mut partitions = Vec::new();
    for (number, entry) in (1..).zip(table.chunks_exact(size as usize)) {
        if entry.iter().take(16).all(|&byte| byte == 0) {
            continue;
        }
        let (first, last) = (u64_le(entry, 32), u64_le(entry, 40));
        let count = last.checked_sub(first).and_then(|count| count.checked_add(1));
        let place = first.checked_mul(sector);
        let (Some(offset), Some(size)) = (place, count.and_then(|count| count.checked_mul(sector))) else {
            return Ok(Err(format!("partition {number} ends before it begins")));
        };
        partitions.push(Partition { number, offset, size });
    }
    Ok(Ok(partitions))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// An MBR with entries of type, first sector and count.
    fn put_mbr(disk: &mut [u8], at: usize, entries: &[(u8, u32, u32)]) {
        for (number, (kind, first, count)) in entries.iter().enumerate() {
            let entry = at + 446 + 16 * number;
            disk[entry + 4] = *kind;
            disk[entry + 8..entry + 12].copy_from_slice(&first.to_le_bytes());
            disk[entry + 12..entry + 16].copy_from_slice(&count.to_le_bytes());
        }
        disk[at + 510..at + 512].copy_from_slice(&[0x55, 0xaa]);
    }

    /// Both copies of a GPT with one partition.
    fn put_gpt(disk: &mut [u8]) {
        let sectors = (disk.len() / 512) as u64;
        put_mbr(disk, 0, &[(PROTECTIVE, 1, (sectors - 1) as u32)]);
        let mut table = vec![0u8; 128 * 128];
        table[..16].fill(7);
        table[32..40].copy_from_slice(&2048u64.to_le_bytes());
        table[40..48].copy_from_slice(&4095u64.to_le_bytes());
        for (own, other, entries) in [(1, sectors - 1, 2), (sectors - 1, 1, sectors - 33)] {
            disk[entries as usize * 512..][..table.len()].copy_from_slice(&table);
            let mut header = [0u8; 92];
            header[..8].copy_from_slice(b"EFI PART");
            header[12..16].copy_from_slice(&92u32.to_le_bytes());
            header[24..32].copy_from_slice(&own.to_le_bytes());
            header[32..40].copy_from_slice(&other.to_le_bytes());
            header[72..80].copy_from_slice(&entries.to_le_bytes());
            header[80..84].copy_from_slice(&128u32.to_le_bytes());
            header[84..88].copy_from_slice(&128u32.to_le_bytes());
            header[88..92].copy_from_slice(&crc32fast::hash(&table).to_le_bytes());
            let sum = crc32fast::hash(&header);
            header[16..20].copy_from_slice(&sum.to_le_bytes());
            disk[own as usize * 512..][..92].copy_from_slice(&header);
        }
    }

    fn damage(disk: &[u8]) -> String {
        match table(disk).unwrap() {
            Table::Damaged(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn primary_and_logical_partitions_are_found() {
        let mut disk = vec![0; 8 * MIB];
        assert_eq!(table(&*disk).unwrap(), Table::None);
        put_mbr(&mut disk, 0, &[(0x83, 2048, 2048), (0x05, 4096, 8192)]);
        put_mbr(&mut disk, 2 * MIB, &[(0x83, 1, 100), (0x05, 2048, 2048)]);
        put_mbr(&mut disk, 3 * MIB, &[(0x82, 1, 200)]);
        let places: Vec<_> = table(&*disk)
            .unwrap()
            .partitions()
            .iter()
            .map(|part| (part.number, part.offset, part.size))
            .collect();
        let (two, three) = (2 << 20, 3 << 20);
        assert_eq!(
            places,
            [
                (1, 1 << 20, 1 << 20),
                (5, two + 512, 51200),
                (6, three + 512, 102400)
            ]
        );
        // A chain that leads back never ends.
        put_mbr(&mut disk, 3 * MIB, &[(0x82, 1, 200), (0x05, 2048, 2048)]);
        assert!(damage(&disk).contains("no chain"));
        put_mbr(&mut disk, 0, &[(0x83, 2048, 1 << 20)]);
        assert!(damage(&disk).contains("partition 1 reaches beyond"));
        // A boot sector of a file system has code there.
        disk[446] = 0x33;
        assert_eq!(table(&*disk).unwrap(), Table::None);
    }

    #[test]
    fn both_copies_of_a_gpt_must_be_good() {
        let mut disk = vec![0; 8 * MIB];
        put_gpt(&mut disk);
        let found = table(&*disk).unwrap();
        let expected = [Partition {
            number: 1,
            offset: 1 << 20,
            size: 1 << 20,
        }];
        assert_eq!(found, Table::Gpt(expected.to_vec()));
        for (at, says) in [
            (512 + 40, "GPT: the checksum of its header"),
            (1024 + 33, "GPT: the checksum of its entries"),
            (8 * MIB - 512, "second copy of the GPT: its header is not there"),
            (
                8 * MIB - 33 * 512 + 33,
                "second copy of the GPT: the checksum of its entries",
            ),
            (512, "the header of that is gone"),
            (511, "no protective MBR"),
        ] {
            let mut damaged = disk.clone();
            damaged[at] ^= 1;
            assert!(damage(&damaged).contains(says), "{at}: {}", damage(&damaged));
        }
        // Enlarged: the second copy is where the first says.
        disk.resize(9 * MIB, 0);
        assert_eq!(table(&*disk).unwrap(), found);
        disk.truncate(4 * MIB);
        assert!(damage(&disk).contains("outside the disk"));
    }
}

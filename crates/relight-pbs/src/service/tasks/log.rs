//! Logs of tasks as files: the name in the first line, then lines with their time, the last one saying how it ended.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use jiff::Timestamp;

use super::{End, TaskInfo};

/// Bytes at the end of a log in which its last line is looked for.
const TAIL: u64 = 8 * 1024;
/// Longest line that is read.
const MAX_LINE: u64 = 16 * 1024;

/// Some lines of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogPage {
    /// Number and text of each line; the first line of a log is 1.
    pub lines: Vec<(u64, String)>,
    /// How many lines there are.
    pub total: u64,
    /// Whether the task runs.
    pub active: bool,
}

/// Name and end of a task of which there is a log; none if the file is no such log.
pub(super) fn read_info(path: &Path) -> io::Result<Option<TaskInfo>> {
    let mut file = File::open(path)?;
    let mut first = String::new();
    if BufReader::new((&file).take(MAX_LINE))
        .read_line(&mut first)
        .is_err()
    {
        return Ok(None);
    }
    let Ok(upid) = first.trim_end().parse() else {
        return Ok(None);
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    let tail = String::from_utf8_lossy(&tail);
    let end = tail.lines().next_back().and_then(parse_end);
    // A server that was killed left no last line; when it last wrote is as good as any time.
    let end = match end {
        Some(end) => end,
        None => (
            Timestamp::try_from(path.metadata()?.modified()?).unwrap_or(Timestamp::UNIX_EPOCH),
            End::Unknown,
        ),
    };
    Ok(Some(TaskInfo { upid, end: Some(end) }))
}

fn parse_end(line: &str) -> Option<(Timestamp, End)> {
    let (time, text) = line.split_once(": ")?;
    let text = text.strip_prefix("TASK ")?;
    let end = if text == "OK" {
        End::Ok
    } else if let Some(count) = text.strip_prefix("WARNINGS: ") {
        End::Warnings(count.parse().ok()?)
    } else {
        End::Error(text.strip_prefix("ERROR: ")?.to_string())
    };
    Some((time.parse().ok()?, end))
}

/// Lines from `start`, `limit` at most (0: all).
pub(super) fn read_page(path: &Path, start: u64, limit: u64, active: bool) -> io::Result<LogPage> {
    let mut page = LogPage {
        active,
        ..LogPage::default()
    };
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    // The name.
    reader.read_until(b'\n', &mut line)?;
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.pop_if(|last| *last == b'\n').is_none() && active {
            // It is being written.
            break;
        }
        page.total += 1;
        let wanted = page.total >= start.max(1) && (limit == 0 || (page.lines.len() as u64) < limit);
        if wanted {
            page.lines
                .push((page.total, String::from_utf8_lossy(&line).into_owned()));
        }
    }
    Ok(page)
}

//! What a restored server is told: how to recover, and what it must not do.

use std::fs;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::tz::TimeZone;
use relight_repo::read::{ArchiveReader, ChunkReader};
use relight_repo::snapshot::Snapshot;

use super::Options;
use super::layout::{OWN, new_file};
use super::target::{Action, Goal, Recovery, Timeline};
use crate::base::{CONFIGURATION, OutsideFile};
use crate::error::{PostgresError, Result};

/// Settings that the server reads after all others; `ALTER SYSTEM` writes them.
const AUTO: &str = "postgresql.auto.conf";
/// Where configuration goes that was not in the data directory, beside it.
const OUTSIDE: &str = "configuration-of-the-backup";
/// No such file is longer.
const OUTSIDE_MOST: u64 = 64 << 20;
/// Settings of an earlier recovery, which must not decide about this one.
const STALE: &[&str] = &[
    "restore_command",
    "recovery_end_command",
    "archive_cleanup_command",
    "primary_conninfo",
    "primary_slot_name",
    "recovery_target",
    "recovery_target_action",
    "recovery_target_inclusive",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_timeline",
    "recovery_target_xid",
];

/// Writes settings and the signal that makes the server recover from the log.
pub(super) fn write(directory: &Path, options: &Options) -> Result<()> {
    for name in OWN {
        super::remove_if_there(&directory.join(name))?;
    }
    let path = directory.join(AUTO);
    let before = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(PostgresError::io("read", &path)(error)),
    };
    let text = settings(&before, &options.recovery);
    let signal = directory.join(if options.recovery.standby {
        "standby.signal"
    } else {
        "recovery.signal"
    });
    let put = |path: &Path, text: &str| {
        new_file(path, 0o600, options.owner)?;
        fs::OpenOptions::new()
            .write(true)
            .open(path)?
            .write_all(text.as_bytes())
    };
    put(&path, &text).map_err(PostgresError::io("write", &path))?;
    put(&signal, "").map_err(PostgresError::io("write", &signal))
}

/// The settings that were there, without those of an earlier recovery, and those of this one.
fn settings(before: &str, recovery: &Recovery) -> String {
    let is_stale = |line: &str| {
        let key = line
            .trim_start()
            .split(['=', ' ', '\t'])
            .next()
            .unwrap_or_default();
        STALE.iter().any(|stale| key.eq_ignore_ascii_case(stale))
    };
    let mut text: String = before
        .lines()
        .filter(|line| !is_stale(line) && !line.starts_with(MARK))
        .flat_map(|line| [line, "\n"])
        .collect();
    text.push_str(MARK);
    text.push('\n');
    let mut set = |key: &str, value: &str| text.push_str(&format!("{key} = {}\n", quoted(value)));
    set(
        "restore_command",
        // Without a log there is what lies in pg_wal: this says that nothing more will come.
        recovery.restore_command.as_deref().unwrap_or("false"),
    );
    match &recovery.goal {
        Goal::Latest => {}
        Goal::Immediate => set("recovery_target", "immediate"),
        Goal::Time(time) => {
            let time = time
                .to_zoned(TimeZone::UTC)
                .strftime("%Y-%m-%d %H:%M:%S%.f+00")
                .to_string();
            set("recovery_target_time", &time);
        }
        Goal::Lsn(lsn) => set("recovery_target_lsn", &lsn.to_string()),
        Goal::Transaction(xid) => set("recovery_target_xid", &xid.to_string()),
        Goal::Name(name) => set("recovery_target_name", name),
    }
    if matches!(recovery.goal, Goal::Time(_) | Goal::Lsn(_) | Goal::Transaction(_)) && !recovery.inclusive {
        set("recovery_target_inclusive", "off");
    }
    let timeline = match recovery.timeline {
        Timeline::Latest => "latest".to_string(),
        Timeline::Current => "current".to_string(),
        Timeline::Number(number) => number.to_string(),
    };
    set("recovery_target_timeline", &timeline);
    let action = match recovery.action {
        Action::Promote => "promote",
        Action::Pause => "pause",
        Action::Shutdown => "shutdown",
    };
    if recovery.goal != Goal::Latest {
        set("recovery_target_action", action);
    }
    if !recovery.keep_archiving {
        // Two clusters must not write one log.
        set("archive_mode", "off");
    }
    text
}

/// Says where the settings of a restore begin.
const MARK: &str = "# Written by a restore with relight:";

/// A value of the configuration file.
fn quoted(value: &str) -> String {
    let safe: String = value
        .chars()
        .filter(|char| !matches!(char, '\n' | '\r' | '\0'))
        .collect();
    format!("'{}'", safe.replace('\\', "\\\\").replace('\'', "''"))
}

/// Puts configuration that was outside the data directory into a folder in it, and says where.
pub(super) fn outside(
    reader: &Arc<ChunkReader>,
    snapshot: &Snapshot,
    options: &Options,
) -> Result<Vec<PathBuf>> {
    let Ok(archive) = snapshot.archive(CONFIGURATION) else {
        return Ok(Vec::new());
    };
    let archive = ArchiveReader::new(reader.clone(), archive.root);
    let damaged = |why: String| PostgresError::damaged("the configuration in the backup", why);
    if archive.size() > OUTSIDE_MOST {
        return Err(damaged(format!("it has {} bytes", archive.size())));
    }
    let mut bytes = vec![0; archive.size() as usize];
    archive.read_exact_at(&mut bytes, 0)?;
    let files: Vec<OutsideFile> =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let folder = options.directory.join(OUTSIDE);
    let mut written = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let name = Path::new(&file.path)
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        // Files of the same name lay in different folders.
        let path = folder.join(format!("{number}-{}", name.unwrap_or_default()));
        let put = || {
            if !folder.exists() {
                fs::DirBuilder::new().mode(0o700).create(&folder)?;
                if let Some((user, group)) = options.owner {
                    std::os::unix::fs::chown(&folder, Some(user), Some(group))?;
                }
            }
            new_file(&path, 0o600, options.owner)?;
            fs::write(&path, format!("# It was at {}\n{}", file.path, file.content))
        };
        put().map_err(PostgresError::io("write", &path))?;
        written.push(path);
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_an_earlier_recovery_is_left() {
        let before = "work_mem = '4MB'\nrecovery_target_time = '2020-01-01'\nRestore_Command='x'\n\
                      primary_conninfo = 'host=a'\nmax_connections = 5\n";
        let mut recovery = Recovery::to(Goal::Lsn("0/5".parse().unwrap()), "cp it's %f \"%p\"".into());
        recovery.inclusive = false;
        let text = settings(before, &recovery);
        assert_eq!(
            text,
            "work_mem = '4MB'\nmax_connections = 5\n# Written by a restore with relight:\n\
             restore_command = 'cp it''s %f \"%p\"'\nrecovery_target_lsn = '0/5'\nrecovery_target_inclusive = 'off'\n\
             recovery_target_timeline = 'latest'\nrecovery_target_action = 'promote'\narchive_mode = 'off'\n"
        );
        assert_eq!(
            settings(&text, &recovery).matches("recovery_target_lsn").count(),
            1
        );
    }

    #[test]
    fn a_value_cannot_become_a_setting_of_its_own() {
        assert_eq!(quoted("a'\nfsync = off\\"), "'a''fsync = off\\\\'");
    }
}

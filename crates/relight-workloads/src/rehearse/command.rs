//! `probe = { command = ["…"], timeout = "5 m" }`: a command of the operator that looks at what was restored.

use std::time::Duration;

use relight_model::TimeSpan;
use serde::Deserialize;

use super::Probed;
use super::Rehearsal;
use super::isolated::Isolated;
use crate::error::{Result, WorkloadError};
use crate::kind::Work;

/// So long may a command run, if nothing is said.
const TIMEOUT: TimeSpan = TimeSpan(Duration::from_secs(300));
/// So many characters of its output are kept as evidence.
const SHOWN: usize = 500;

/// The words by which a command is described. To be flattened into the words of a kind.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct CommandWords {
    /// The program and its arguments. Empty: none.
    pub command: Vec<String>,
    /// How long it may run.
    pub timeout: Option<TimeSpan>,
}

impl CommandWords {
    /// Whether they make sense.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self) -> Result<(), String> {
        if self.command.first().is_some_and(String::is_empty) {
            return Err("the first word of command is the program, and is empty here".into());
        }
        match self.timeout {
            Some(timeout) if timeout.0.is_zero() => Err("timeout must be longer than nothing".into()),
            _ => Ok(()),
        }
    }

    /// Runs it, isolated, in the sandbox; none if there is no command. It passes if it ends with exit code 0 in time.
    ///
    /// # Errors
    /// It cannot be isolated, or was cancelled.
    pub fn run(&self, rehearsal: &Rehearsal<'_>, work: &Work) -> Result<Option<Probed>> {
        let Some((program, arguments)) = self.command.split_first() else {
            return Ok(None);
        };
        work.note(&format!("probe: running {program}"));
        let timeout = self.timeout.unwrap_or(TIMEOUT);
        let mut running = Isolated::new(program, rehearsal.sandbox)
            .args(arguments)
            .env("RELIGHT_WORKLOAD", rehearsal.subject.workload.to_string())
            .env("RELIGHT_SNAPSHOT", rehearsal.snapshot.id.to_string())
            .env("RELIGHT_POINT", rehearsal.point.time.to_string())
            .start()?;
        let ended = running.wait(timeout.0, &work.cancelled)?;
        let said = shown(&running.output());
        let said = if said.is_empty() {
            said
        } else {
            format!(": {said}")
        };
        Ok(Some(Probed {
            name: "command".into(),
            passed: ended.is_success(),
            seen: format!("{program}: {ended}{said}"),
        }))
    }
}

/// The end of an output, for people.
pub(crate) fn shown(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines = text
        .split(['\n', '\r'])
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let text = lines.collect::<Vec<_>>().join(" / ");
    let plain: Vec<char> = text.chars().filter(|char| !char.is_control()).collect();
    let surplus = plain.len().saturating_sub(SHOWN);
    let cut = if surplus > 0 { "…" } else { "" };
    let end: String = plain.into_iter().skip(surplus).collect();
    format!("{cut}{end}")
}

/// Where a program is, among the usual folders.
///
/// # Errors
/// It is not installed.
pub fn find_program(program: &str, package: &'static str) -> Result<std::path::PathBuf> {
    let folders = [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ];
    let found = folders
        .into_iter()
        .map(|folder| std::path::Path::new(folder).join(program))
        .find(|path| path.is_file());
    found.ok_or_else(|| WorkloadError::NoProgram {
        program: program.to_owned(),
        package,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_is_named_with_its_package() {
        assert!(find_program("sh", "dash").is_ok());
        let error = find_program("no-such-program", "no-such-package").unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("install the Debian package no-such-package"),
            "{error}"
        );
    }

    #[test]
    fn only_the_end_of_an_output_is_shown_and_nothing_that_moves_the_cursor() {
        assert_eq!(shown(b"one\r\n\n  two\x1b[2J\n"), "one / two[2J");
        let long = shown(&[b'x'; 9999]);
        assert_eq!((long.chars().count(), long.starts_with('…')), (SHOWN + 1, true));
    }
}

//! `relight quickstart`: from nothing to a proven backup, in one command.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use relight_keys::{Passphrase, RecoveryKey, SystemEntropy};
use relight_model::duration::TimeSpan;
use relight_model::objective::{Objective, ObjectiveKind, exposure};
use relight_model::size::{ByteSize, Rate};
use relight_pxar::exclude::Pattern;
use relight_repo::control::Control;
use relight_repo::read::ChunkReader;
use relight_repo::settings::Settings;
use relight_repo::storage::local::LocalStorage;
use relight_repo::verify::{self, Scope};
use relight_repo::{Repository, keyring};
use relight_workloads::files;
use serde::Serialize;

use super::backup;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::{cancel, output};

/// What the lab promises for Linux hosts.
const RPO: Duration = Duration::from_secs(24 * 3600);
const RTO: Duration = Duration::from_secs(4 * 3600);

/// Options of `quickstart`.
#[derive(Debug, Args)]
pub struct Options {
    /// What to protect [default: /etc and the current folder]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Folder for the repository and its keys; must not exist
    #[arg(long, value_name = "DIR", default_value = "relight-lab")]
    dir: PathBuf,
}

#[derive(Serialize)]
struct Report {
    repository: String,
    passphrase_file: String,
    recovery_key_file: String,
    snapshots: Vec<backup::Report>,
    stored_bytes: u64,
    verified_bytes: u64,
    verified_seconds: f64,
    verification_clean: bool,
    drills: Vec<Drill>,
    rpo: Measured,
    rto: Measured,
    passed: bool,
}

#[derive(Serialize)]
struct Drill {
    tree: String,
    source: String,
    files: u64,
    bytes: u64,
    restored_in_seconds: f64,
    entries_compared: u64,
    changed_since: u64,
    differences: Vec<String>,
    passed: bool,
}

#[derive(Serialize)]
struct Measured {
    promised_seconds: u64,
    measured_seconds: f64,
    verdict: String,
    met: bool,
}

impl Measured {
    fn new(kind: ObjectiveKind, promised: Duration, measured: Option<Duration>) -> Self {
        let objective = Objective {
            kind,
            promised: Some(TimeSpan(promised)),
            measured: measured.map(TimeSpan),
        };
        let verdict = objective.verdict();
        Self {
            promised_seconds: promised.as_secs(),
            measured_seconds: measured.unwrap_or_default().as_secs_f64(),
            verdict: verdict.to_string(),
            met: verdict.is_met(),
        }
    }
}

/// Does all of it.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let paths = if options.paths.is_empty() {
        vec![PathBuf::from("/etc"), PathBuf::from(".")]
    } else {
        options.paths.clone()
    };
    for path in &paths {
        // Before anything is made.
        fs::metadata(path).map_err(Failure::io(format!("find {}", path.display())))?;
    }
    let lab = Lab::make(&options.dir)?;
    let step = |text: &str| output::remark(global, text);

    step(&format!(
        "making an encrypted repository in {}",
        lab.repository.display()
    ));
    let repository = lab.initialise(global)?;

    let mut protected = paths;
    protected.push(lab.sample.clone());
    let mut plan = backup::Plan::of_trees(&protected, None)?;
    plan.exclude(lab.left_out(&plan)?);
    step("first backup: everything is read");
    let first = backup::save(global, &repository, &plan)?;
    lab.change_sample()?;
    step("second backup: only what changed is read");
    let second = backup::save(global, &repository, &plan)?;

    step("verification: every stored byte is read, opened and checked");
    let looked = Instant::now();
    let verified = verify::verify(
        &repository,
        &verify::Options::new(Scope::Everything),
        Control::quiet(&cancel::flag()),
    )?;
    let verified_seconds = looked.elapsed().as_secs_f64();
    step("recovery drill: everything is restored and compared with its source, byte for byte");
    let drills = drill(&repository, &lab, &plan)?;

    let (snapshots, _) = repository.snapshots()?;
    let times = snapshots.iter().map(|snapshot| snapshot.time);
    let lost = exposure(times, Timestamp::now()).map(|span| span.0);
    let restored: f64 = drills.iter().map(|drill| drill.restored_in_seconds).sum();
    let stored = repository
        .storage()
        .list("")?
        .iter()
        .map(|object| object.size)
        .sum();
    let report = Report {
        repository: lab.repository.display().to_string(),
        passphrase_file: lab.passphrase.display().to_string(),
        recovery_key_file: lab.recovery_key.display().to_string(),
        snapshots: vec![first, second],
        stored_bytes: stored,
        verified_bytes: verified.figures.bytes,
        verified_seconds,
        verification_clean: verified.is_clean(),
        rpo: Measured::new(ObjectiveKind::Rpo, RPO, lost),
        rto: Measured::new(ObjectiveKind::Rto, RTO, Some(Duration::from_secs_f64(restored))),
        passed: verified.is_clean() && drills.iter().all(|drill| drill.passed),
        drills,
    };
    output::result(global, &report, words);
    let complete = report
        .snapshots
        .iter()
        .all(|snapshot| snapshot.problem_count == 0);
    Ok(match (report.passed, complete) {
        (false, _) => Exit::Damage,
        (true, false) => Exit::Incomplete,
        (true, true) => Exit::Done,
    })
}

/// The folder in which everything happens.
struct Lab {
    directory: PathBuf,
    repository: PathBuf,
    passphrase: PathBuf,
    recovery_key: PathBuf,
    sample: PathBuf,
    sandbox: PathBuf,
}

impl Lab {
    fn make(directory: &Path) -> Result<Self> {
        if directory.symlink_metadata().is_ok() {
            return Err(Failure::Usage(format!(
                "{} exists already: remove it, or choose another folder with --dir",
                directory.display()
            )));
        }
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory);
        made.map_err(Failure::io(format!("make {}", directory.display())))?;
        let directory =
            fs::canonicalize(directory).map_err(Failure::io(format!("find {}", directory.display())))?;
        let lab = Self {
            repository: directory.join("repository"),
            passphrase: directory.join("passphrase"),
            recovery_key: directory.join("recovery-key.txt"),
            sample: directory.join("sample"),
            sandbox: directory.join("drill"),
            directory,
        };
        fs::create_dir(&lab.sample).map_err(Failure::io("make the sample folder"))?;
        write_new(
            &lab.sample.join("notes.txt"),
            "This file changes between the two snapshots.\n",
            0o644,
        )?;
        Ok(lab)
    }

    fn change_sample(&self) -> Result<()> {
        let path = self.sample.join("notes.txt");
        let failed = || Failure::io(format!("change {}", path.display()));
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(failed())?;
        writeln!(file, "It changed at {}.", Timestamp::now()).map_err(failed())
    }

    /// Makes the repository with a random passphrase and a recovery key, both in files that only the owner can read.
    fn initialise(&self, global: &Global) -> Result<Arc<Repository>> {
        let keys = |error: &dyn std::fmt::Display| Failure::Usage(error.to_string());
        let generate = || RecoveryKey::generate(&mut SystemEntropy);
        // The text of a random recovery key is a passphrase that nobody guesses.
        let text = generate().map_err(|error| keys(&error))?.to_text();
        write_new(&self.passphrase, &format!("{}\n", &*text), 0o600)?;
        let passphrase = Passphrase::read_file(&self.passphrase).map_err(|error| keys(&error))?;
        let recovery = generate().map_err(|error| keys(&error))?;
        write_new(&self.recovery_key, &format!("{}\n", &*recovery.to_text()), 0o600)?;

        let storage = LocalStorage::create(&self.repository)?;
        let now = Timestamp::now();
        keyring::initialise(
            &storage,
            &passphrase,
            "quickstart passphrase",
            now,
            Settings::default(),
        )?;
        let opened = keyring::unlock(&storage, &passphrase)?;
        let changed = keyring::change(&storage, &opened, now, |change| {
            change
                .add_wrap(&recovery, "recovery key", now.as_second(), &mut SystemEntropy)
                .map(drop)
        })?;
        global.open_with(Arc::new(storage), changed.into_keys())
    }

    /// What of the protected paths is the lab itself (but for its sample).
    fn left_out(&self, plan: &backup::Plan) -> Result<Vec<Pattern>> {
        let mut patterns = Vec::new();
        for source in plan.trees() {
            let Ok(inside) = self.directory.strip_prefix(&source.path) else {
                continue;
            };
            let mut text = b"/".to_vec();
            for &byte in inside.as_os_str().as_bytes() {
                if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\' | b'!') {
                    text.push(b'\\');
                }
                text.push(byte);
            }
            if text != b"/" {
                patterns.push(Pattern::parse(&text).map_err(|error| Failure::Usage(error.to_string()))?);
            }
        }
        Ok(patterns)
    }
}

/// Writes a file that must not exist.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<()> {
    let failed = || Failure::io(format!("write {}", path.display()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(failed())?;
    file.write_all(text.as_bytes()).map_err(failed())?;
    file.sync_all().map_err(failed())
}

/// Restores every tree of the newest snapshot into a sandbox, compares, and throws the sandbox away.
fn drill(repository: &Arc<Repository>, lab: &Lab, plan: &backup::Plan) -> Result<Vec<Drill>> {
    let (snapshots, _) = repository.snapshots()?;
    let Some(snapshot) = snapshots.last() else {
        return Err(Failure::Usage(
            "the snapshot that was just made is not there".into(),
        ));
    };
    let reader = Arc::new(ChunkReader::new(repository.clone())?);
    let mut drills = Vec::new();
    for tree in files::trees(snapshot) {
        let Some(source) = tree.path.map(Path::new) else {
            continue;
        };
        let sandbox = lab.sandbox.join(tree.name);
        fs::create_dir_all(&sandbox).map_err(Failure::io(format!("make {}", sandbox.display())))?;
        let began = Instant::now();
        let done = files::drill(
            &reader,
            &tree,
            source,
            &sandbox,
            snapshot.time,
            plan.excluded(),
            &cancel::flag(),
        );
        // Torn down whatever happened.
        let removed = fs::remove_dir_all(&lab.sandbox);
        let done = done?;
        removed.map_err(Failure::io(format!("remove {}", lab.sandbox.display())))?;
        tracing::debug!(
            tree = tree.name,
            seconds = began.elapsed().as_secs_f64(),
            "drilled"
        );
        let losses = done.restore.losses.iter();
        let lost = losses.map(|loss| format!("{}: {}", String::from_utf8_lossy(&loss.path), loss.kind));
        drills.push(Drill {
            tree: tree.name.to_string(),
            source: source.display().to_string(),
            files: done.restore.files,
            bytes: done.restore.bytes,
            restored_in_seconds: done.restored_in.as_secs_f64(),
            entries_compared: done.compared,
            changed_since: done.changed_since,
            differences: done
                .differences
                .iter()
                .map(ToString::to_string)
                .chain(lost)
                .take(100)
                .collect(),
            passed: done.passed(),
        });
    }
    Ok(drills)
}

fn span(seconds: f64) -> String {
    TimeSpan(Duration::from_millis((seconds * 1000.0) as u64)).to_string()
}

fn rate(bytes: u64, seconds: f64) -> String {
    Rate::of(bytes, Duration::from_secs_f64(seconds)).map_or("-".into(), |rate| rate.to_string())
}

fn words(report: &Report, out: &mut String) {
    let heading = ["WHAT", "FILES", "SIZE", "TIME", "SPEED", "RESULT"]
        .map(String::from)
        .to_vec();
    let mut rows = vec![heading];
    for (at, snapshot) in report.snapshots.iter().enumerate() {
        let result = match snapshot.problem_count {
            0 => format!("{} new", ByteSize(snapshot.added_bytes)),
            count => format!("{count} files not saved as they are"),
        };
        rows.push(vec![
            format!("{} backup", ["first", "second"].get(at).unwrap_or(&"next")),
            snapshot.files.to_string(),
            ByteSize(snapshot.logical_bytes).to_string(),
            span(snapshot.seconds),
            rate(snapshot.logical_bytes, snapshot.seconds),
            result,
        ]);
    }
    rows.push(vec![
        "verification".into(),
        String::new(),
        ByteSize(report.verified_bytes).to_string(),
        span(report.verified_seconds),
        rate(report.verified_bytes, report.verified_seconds),
        if report.verification_clean {
            "clean"
        } else {
            "DAMAGE FOUND"
        }
        .into(),
    ]);
    for drill in &report.drills {
        let mut result = match drill.passed {
            true => "identical".to_string(),
            false => format!("{} DIFFERENCES", drill.differences.len()),
        };
        if drill.changed_since > 0 {
            result += &format!(" ({} changed since)", drill.changed_since);
        }
        rows.push(vec![
            format!("drill of {}", drill.source),
            drill.files.to_string(),
            ByteSize(drill.bytes).to_string(),
            span(drill.restored_in_seconds),
            rate(drill.bytes, drill.restored_in_seconds),
            result,
        ]);
    }
    out.push('\n');
    output::table(&rows, &[1, 2, 3, 4], out);
    let logical: u64 = report
        .snapshots
        .iter()
        .map(|snapshot| snapshot.logical_bytes)
        .sum();
    out.push_str(&format!(
        "\n{} in {} snapshots take {} in the repository.\n",
        ByteSize(logical),
        report.snapshots.len(),
        ByteSize(report.stored_bytes)
    ));
    out.push('\n');
    let objective = |name: &str, what: &str, measured: &Measured| {
        vec![
            name.to_string(),
            span(measured.promised_seconds as f64),
            span(measured.measured_seconds),
            measured.verdict.clone(),
            what.to_string(),
        ]
    };
    let rows = vec![
        ["", "PROMISED", "MEASURED", "VERDICT", ""]
            .map(String::from)
            .to_vec(),
        objective("RPO", "what would be lost if it all burned now", &report.rpo),
        objective(
            "RTO",
            "what bringing everything back took in the drill",
            &report.rto,
        ),
    ];
    output::table(&rows, &[1, 2], out);
    for drill in report.drills.iter().filter(|drill| !drill.passed) {
        for difference in drill.differences.iter().take(20) {
            out.push_str(&format!("  {}: {difference}\n", drill.source));
        }
    }
    for problem in report
        .snapshots
        .iter()
        .take(1)
        .flat_map(|snapshot| snapshot.problems.iter().take(20))
    {
        out.push_str(&format!("  not saved as it is: {problem}\n"));
    }
    out.push_str(&format!(
        "\nNext:\n  export RELIGHT_REPOSITORY={}\n  export RELIGHT_PASSWORD_FILE={}\n",
        report.repository, report.passphrase_file
    ));
    out.push_str("  relight snapshots                     what can be brought back\n");
    out.push_str("  relight backup /home                  protect more\n");
    out.push_str("  relight restore latest --to DIR       bring it back\n");
    out.push_str("  relight mount DIR                     look into all snapshots\n");
    out.push_str(&format!(
        "\nPrint {} and keep it elsewhere: without a key nothing in the repository\ncan ever be read.\n",
        report.recovery_key_file
    ));
}

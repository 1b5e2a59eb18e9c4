//! The order of things: every tool takes a step before any takes the next, and who goes first changes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::data::{self, DataSet, Prepared};
use crate::failure::{Doing, Failure, Result};
use crate::measure::{self, Cost};
use crate::record::{Failed, Sample, Step};
use crate::tools::{Source, Task, Tool, ToolName};

/// So long after files were deleted ext4 does not take their inodes for new ones (see [`Round::set_aside`]).
const SETTLE: Duration = Duration::from_secs(36);

/// So long the data lies still before it is saved: what was written within the last seconds is read once more by tools
/// that go by times.
const STILL: Duration = Duration::from_secs(3);

/// What is to be measured.
pub struct Schedule {
    /// Sets of data.
    pub data: Vec<DataSet>,
    /// Tools with their programs.
    pub tools: Vec<(ToolName, PathBuf)>,
    /// Of the full size.
    pub scale: f64,
    /// How often.
    pub repetitions: u32,
    /// An existing directory for everything that is generated. Emptied of it at the end.
    pub work: PathBuf,
}

/// What came of it.
#[derive(Default)]
pub struct Outcome {
    /// What was generated.
    pub data: BTreeMap<DataSet, Prepared>,
    /// Every measurement.
    pub samples: Vec<Sample>,
    /// Every failure.
    pub failures: Vec<Failed>,
}

/// One set of data in one repetition.
struct Round<'a> {
    schedule: &'a Schedule,
    data: DataSet,
    repetition: u32,
    source: PathBuf,
    tools: Vec<Tool>,
    /// Tools that have failed a step are left out of those that follow.
    out: BTreeSet<ToolName>,
    outcome: &'a mut Outcome,
    /// How many restored trees were set aside.
    aside: u32,
}

impl Schedule {
    /// Takes all measurements.
    ///
    /// # Errors
    ///
    /// When data cannot be generated or the working directory not written. A tool that fails is no error: it is
    /// recorded and left out from there on.
    pub fn run(&self) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        for repetition in 0..self.repetitions {
            for &data in &self.data {
                let place = self.work.join(format!("{}-{repetition}", data.name()));
                remove(&place)?;
                Round::prepare(self, data, repetition, &place, &mut outcome)?.run()?;
                remove(&place)?;
                rustix::fs::sync();
                std::thread::sleep(SETTLE);
            }
        }
        Ok(outcome)
    }
}

impl<'a> Round<'a> {
    fn prepare(
        schedule: &'a Schedule,
        data: DataSet,
        repetition: u32,
        place: &Path,
        outcome: &'a mut Outcome,
    ) -> Result<Self> {
        // The path of the source has no part of the tool's name, so that all store the same names.
        let source = place.join("source").join(data.name());
        let prepared = in_child(
            "generate",
            &[data.name().as_ref(), source.as_os_str()],
            Some(schedule.scale),
        )?;
        let prepared: Prepared =
            serde_json::from_str(&prepared).doing(|| "read the generator's result".to_owned())?;
        eprintln!(
            "# {}: {} bytes in {} files",
            data.name(),
            prepared.bytes,
            prepared.files
        );
        outcome.data.insert(data, prepared);
        let new_tool =
            |(name, program): &(ToolName, PathBuf)| Tool::new(*name, program, &place.join(name.name()));
        let tools = schedule
            .tools
            .iter()
            .map(new_tool)
            .collect::<Result<Vec<Tool>>>()?;
        fs::create_dir_all(schedule.work.join("logs")).doing(|| "create the folder for logs".to_owned())?;
        Ok(Self {
            schedule,
            data,
            repetition,
            source,
            tools,
            out: BTreeSet::new(),
            outcome,
            aside: 0,
        })
    }

    fn run(mut self) -> Result<()> {
        for index in 0..self.tools.len() {
            if let Err(failure) = self.perform(index, &Task::Init, "init") {
                self.fail(index, None, failure.to_string());
            }
        }
        let source = self.source.clone();
        data::read_all(&source)?;
        std::thread::sleep(STILL);
        let image = self.data.image(&source);
        let source = Source {
            root: &source,
            image: image.as_deref(),
        };
        for step in Step::ALL {
            match step {
                Step::ChangedBackup => {
                    let made = in_child(
                        "change",
                        &[self.data.name().as_ref(), source.root.as_os_str()],
                        Some(self.schedule.scale),
                    )?;
                    let made: Prepared =
                        serde_json::from_str(&made).doing(|| "read the change's result".to_owned())?;
                    if let Some(data) = self.outcome.data.get_mut(&self.data) {
                        data.changed = made.changed;
                    }
                    data::read_all(source.root)?;
                    std::thread::sleep(STILL);
                }
                Step::RestoreOne if self.data.small_file().is_none() => continue,
                _ => {}
            }
            for index in self.order(step) {
                let name = self.tools[index].name;
                if self.out.contains(&name) || (step == Step::CheckedRestore && name != ToolName::Relight) {
                    continue;
                }
                if let Err(failure) = self.take(index, step, &source) {
                    self.fail(index, Some(step), failure.to_string());
                }
            }
        }
        Ok(())
    }

    /// Rotated by step and repetition, and every second repetition the other way round: whatever one tool leaves
    /// behind for the next does not always hit the same one.
    fn order(&self, step: Step) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.tools.len()).collect();
        if order.is_empty() {
            return order;
        }
        let shift = (step as usize + self.repetition as usize) % order.len();
        order.rotate_left(shift);
        if self.repetition % 2 == 1 {
            order.reverse();
        }
        order
    }

    fn fail(&mut self, index: usize, step: Option<Step>, why: String) {
        let tool = self.tools[index].name;
        eprintln!("! {} {}: {why}", self.data.name(), tool.name());
        self.out.insert(tool);
        self.outcome.failures.push(Failed {
            data: self.data,
            step,
            tool,
            why,
        });
    }

    /// One step of one tool, measured and checked.
    fn take(&mut self, index: usize, step: Step, source: &Source<'_>) -> Result<()> {
        let target = self.tools[index].repository.with_file_name("restored");
        let small = self.data.small_file().map(|name| source.root.join(name));
        let task = match step {
            Step::FirstBackup => Task::Backup(source, 1),
            Step::UnchangedBackup => Task::Backup(source, 2),
            Step::ChangedBackup => Task::Backup(source, 3),
            Step::Restore => Task::RestoreAll(source, 3, &target),
            Step::CheckedRestore => Task::CheckedRestore(&target),
            Step::RestoreOne => Task::RestoreOne(small.as_deref().unwrap_or(source.root), 3, &target),
            Step::Verify => Task::Verify,
            Step::Collect => Task::Collect,
        };
        if matches!(step, Step::Restore | Step::CheckedRestore | Step::RestoreOne) {
            fs::create_dir_all(&target).doing(|| format!("create {}", target.display()))?;
        }
        rustix::fs::sync();
        if matches!(
            step,
            Step::Restore | Step::CheckedRestore | Step::RestoreOne | Step::Verify
        ) {
            data::put_out_of_cache(&self.tools[index].repository)?;
        }
        let cost = self.perform(index, &task, step.name())?;
        let written = Instant::now();
        rustix::fs::sync();
        let sync_seconds = written.elapsed().as_secs_f64();
        let tool = &self.tools[index];
        self.outcome.samples.push(Sample {
            data: self.data,
            step,
            tool: tool.name,
            repetition: self.repetition,
            wall_seconds: cost.wall.as_secs_f64(),
            user_seconds: cost.user.as_secs_f64(),
            system_seconds: cost.system.as_secs_f64(),
            peak_rss_bytes: cost.peak_rss,
            repository_bytes: data::count(&tool.repository)?.bytes,
            sync_seconds,
        });
        eprintln!(
            "  {} {}: {:.2} s, {:.2} s of processor",
            tool.name.name(),
            step.name(),
            cost.wall.as_secs_f64(),
            (cost.user + cost.system).as_secs_f64()
        );
        let (action, original) = match (step, source.image, &small) {
            (Step::Restore | Step::CheckedRestore, Some(image), _) => ("check-restored-image", image),
            (Step::Restore | Step::CheckedRestore, None, _) => ("check-restored", source.root),
            (Step::RestoreOne, _, Some(small)) => ("check-restored-file", small.as_path()),
            _ => return Ok(()),
        };
        let checked = in_child(action, &[original.as_os_str(), target.as_os_str()], None).map(drop);
        match self.data {
            DataSet::Tree => self.set_aside(&target)?,
            DataSet::Image | DataSet::Large => remove(&target)?,
        }
        checked
    }

    /// What was restored is in the way of the next restore, but is removed only when all is measured: for half a
    /// minute after many files were deleted, ext4 looks at each of their inodes again whenever a file is made, and the
    /// next tool would pay for that many times what its own work costs.
    fn set_aside(&mut self, target: &Path) -> Result<()> {
        self.aside += 1;
        let aside = target.with_file_name(format!("restored-{}", self.aside));
        fs::rename(target, &aside).doing(|| format!("rename {}", target.display()))
    }

    fn perform(&self, index: usize, task: &Task<'_>, what: &str) -> Result<Cost> {
        let tool = &self.tools[index];
        let file = format!(
            "{}-{}-{}-{}.log",
            self.data.name(),
            self.repetition,
            what.replace([' ', ',', '%'], "-"),
            tool.name.name()
        );
        let log = self.schedule.work.join("logs").join(file);
        remove(&log)?;
        let mut cost = Cost::default();
        for mut command in tool.commands(task) {
            cost = cost.then(measure::run(&mut command, &log)?);
        }
        Ok(cost)
    }
}

/// Runs a heavy part of the benchmark in a process of its own; returns its output.
fn in_child(action: &str, arguments: &[&OsStr], scale: Option<f64>) -> Result<String> {
    let doing = || format!("run relight-bench {action}");
    let mut command = Command::new(std::env::current_exe().doing(doing)?);
    command.arg(action).args(arguments);
    if let Some(scale) = scale {
        command.args(["--scale", &scale.to_string()]);
    }
    let output = command.output().doing(doing)?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Failure::new(said))
    }
}

/// Removes a file or a tree, if it is there.
fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

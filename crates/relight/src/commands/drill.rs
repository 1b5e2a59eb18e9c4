//! `relight drill`: tests a recovery here and now, whether a server runs or not.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;
use relight_model::plan::{PickRule, Settings};
use relight_model::size::ByteSize;
use relight_model::workload::Workload;
use relight_model::{TimeSpan, objective::Verdict};
use relight_repo::Repository;
use relight_server::drills::{Code, DrillRequest, Drilled, drill, sweep};
use relight_server::evidence::detail::{DrillDetail, details};
use relight_server::evidence::{Kind as EvidenceKind, NewEvidence, Outcome};
use relight_server::state::State;
use relight_server::{kinds, open_repository};
use relight_workloads::kind::{Kind, Subject, Work};

use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::progress::Meter;
use crate::server_state::{ConfigOptions, operator};
use crate::{cancel, output, shown, target};

/// Options of `drill`.
#[derive(Debug, Args)]
pub struct Options {
    /// The workload, such as vm/100
    #[arg(value_name = "WORKLOAD")]
    workload: Workload,
    #[command(flatten)]
    config: ConfigOptions,
    /// Which recovery point: latest, random or oldest [default: as the plan says, or latest]
    #[arg(long, value_name = "RULE")]
    pick: Option<PickRule>,
    /// This snapshot: its short id, or WORKLOAD@TIME
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "pick")]
    at: Option<String>,
    /// Also take snapshots in which something is missing
    #[arg(long)]
    incomplete: bool,
    /// Make wrong what was restored, in the end, to see that the probes notice
    #[arg(long)]
    control: bool,
    /// Leave there what was restored
    #[arg(long)]
    keep: bool,
    /// What is looked at, in the words of the plan: 'paths-exist = ["/srv/data/index"]'
    #[arg(long, value_name = "TOML")]
    probe: Option<String>,
    /// Folder to restore in [default: that of the server's state; without a configuration, that of caches]
    #[arg(long, value_name = "DIR")]
    sandbox: Option<PathBuf>,
}

/// Where everything comes from: the plan, or the command line alone.
struct Ground {
    repository: Arc<Repository>,
    name: String,
    drilled: Drilled,
    kind: Option<&'static dyn Kind>,
    sandboxes: PathBuf,
    /// Where evidence is written.
    state: Option<State>,
}

/// Does one.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let mut ground = if options.config.is_named() {
        planned(options)?
    } else {
        alone(global, options)?
    };
    if let Some(words) = &options.probe {
        ground.drilled.subject.probe = probe(words)?;
    }
    if let Some(pick) = options.pick {
        ground.drilled.pick = pick;
    }
    if let Some(folder) = &options.sandbox {
        ground.sandboxes.clone_from(folder);
    }
    let at = match &options.at {
        Some(given) => Some(target::snapshot(&ground.repository, given)?.id),
        None => None,
    };
    let kind = match ground.kind {
        Some(kind) => kind,
        None => kind_of_newest(&ground.repository, &options.workload)?,
    };
    let swept = sweep(&ground.sandboxes).map_err(|failed| Failure::Usage(failed.message))?;
    for folder in swept {
        output::remark(
            global,
            &format!("removed {}, which a killed drill had left", folder.display()),
        );
    }
    let repository = (ground.name.as_str(), &ground.repository);
    let now = Timestamp::now();
    let mut request = DrillRequest::new(0, ground.drilled, repository, kind, &ground.sandboxes, now);
    request.at = at;
    request.incomplete = options.incomplete;
    request.control = options.control;
    request.keep = options.keep;
    let detail = drill(&request, &watched(global));
    if let Some(state) = &ground.state {
        state.add_evidence(&[evidence(&detail)])?;
    }
    output::result(global, &detail, words);
    Ok(exit(&detail))
}

/// By the plan in the server's configuration.
fn planned(options: &Options) -> Result<Ground> {
    let plan = super::plan::load(&options.config)?;
    let config = options.config.load()?;
    let name = &options.workload;
    let unknown = || {
        Failure::Usage(format!(
            "{name} is not in the plan, or has no policy; `relight plan show` tells what is"
        ))
    };
    let entry = plan.workload(name).ok_or_else(unknown)?;
    let (_, policy) = plan.policy_of(entry).ok_or_else(unknown)?;
    let named = &policy.repository.value;
    let found = config
        .repositories
        .iter()
        .find(|repository| repository.name == *named);
    let found =
        found.ok_or_else(|| Failure::Usage(format!("the configuration has no repository {named}")))?;
    Ok(Ground {
        repository: open_repository(found, &config.server)?,
        name: named.clone(),
        drilled: Drilled::of(entry, policy),
        kind: kinds::method(&plan, entry).and_then(kinds::of),
        sandboxes: config.server.state.join("sandbox"),
        state: Some(State::open(&config.server.state)?),
    })
}

/// Of a repository alone.
fn alone(global: &Global, options: &Options) -> Result<Ground> {
    let subject = Subject {
        workload: options.workload.clone(),
        source: Settings::default(),
        probe: Settings::default(),
    };
    Ok(Ground {
        repository: global.open_to_read()?,
        name: global.location()?.to_owned(),
        drilled: Drilled {
            subject,
            pick: PickRule::Latest,
            rto: None,
            host: None,
            stage: None,
        },
        kind: None,
        sandboxes: global.cache()?.join("sandbox"),
        state: None,
    })
}

fn probe(words: &str) -> Result<Settings> {
    let table: toml::Table = words
        .parse()
        .map_err(|error: toml::de::Error| Failure::Usage(format!("--probe: {}", error.message())))?;
    Ok(Settings::new(table))
}

/// By what is in the newest snapshot: who pushes backups tells no method.
fn kind_of_newest(repository: &Repository, workload: &Workload) -> Result<&'static dyn Kind> {
    let (snapshots, _) = repository.snapshots()?;
    let mut of_workload = snapshots
        .iter()
        .filter(|snapshot| snapshot.workload == workload.as_str() && !snapshot.is_log());
    let newest = of_workload.next_back().ok_or_else(|| {
        Failure::Usage(format!(
            "there is no snapshot of {workload}; `relight snapshots` lists what there is"
        ))
    })?;
    kinds::of_snapshot(newest).ok_or_else(|| {
        let short = newest.id.short();
        Failure::Usage(format!(
            "{short} of {workload} holds neither file trees nor disk images: it cannot be drilled"
        ))
    })
}

/// Work that is shown on the terminal.
fn watched(global: &Global) -> Work {
    let work = Work {
        cancelled: cancel::flag(),
        ..Work::quiet()
    };
    let meter = std::sync::Mutex::new(None);
    let (done, total, telling) = (work.done.clone(), work.total.clone(), global.clone());
    Work {
        note: Arc::new(move |what| {
            let label = what.to_owned();
            let total = total.load(std::sync::atomic::Ordering::Relaxed);
            let mut meter = meter.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            // The old line goes away before a new one begins.
            drop(meter.take());
            if !telling.json {
                output::remark(&telling, what);
            }
            if what != "tearing down" {
                *meter = Some(Meter::start(&telling, done.clone(), total, move || label.clone()));
            }
        }),
        ..work
    }
}

fn evidence(detail: &DrillDetail) -> NewEvidence {
    NewEvidence {
        time: Timestamp::now(),
        kind: EvidenceKind::Drill,
        who: Some(operator()),
        what: format!("drill {}", detail.workload),
        outcome: match detail.is_good() {
            true => Outcome::Done,
            false => Outcome::Failed,
        },
        detail: details(detail),
    }
}

/// What was found to be wrong is damage; what kept the drill from being done is a failure.
fn exit(detail: &DrillDetail) -> Exit {
    let is = |codes: &[Code]| {
        codes
            .iter()
            .any(|code| detail.code.as_deref() == Some(code.name()))
    };
    match detail.code {
        Some(_) if is(&[Code::Cancelled]) => Exit::Cancelled,
        Some(_) if is(&[Code::Probe, Code::Damaged, Code::Control, Code::Start]) => Exit::Damage,
        Some(_) => Exit::Failed,
        None if matches!(detail.verdict, Verdict::Missed { .. }) => Exit::Damage,
        None => Exit::Done,
    }
}

fn rounded(span: TimeSpan) -> TimeSpan {
    TimeSpan(std::time::Duration::from_millis(span.0.as_millis() as u64))
}

fn words(detail: &DrillDetail, out: &mut String) {
    let outcome = if detail.is_good() { "passed" } else { "FAILED" };
    out.push_str(&format!("Drill of {}: {outcome}\n", detail.workload));
    if let (Some(snapshot), Some(point)) = (&detail.snapshot, detail.point) {
        let short = snapshot.get(..8).unwrap_or(snapshot);
        let at = shown::local(point);
        out.push_str(&format!(
            "  snapshot {short} of {at} from {}\n",
            detail.repository
        ));
    }
    if let (Some(code), Some(message)) = (&detail.code, &detail.message) {
        out.push_str(&format!("  {code}: {message}\n"));
    }
    for probe in &detail.probes {
        let mark = if probe.passed { "good" } else { "BAD " };
        out.push_str(&format!("  {mark} {}: {}\n", probe.name, probe.seen));
    }
    if let Some(control) = &detail.control {
        let mark = if control.noticed { "good" } else { "BAD " };
        out.push_str(&format!("  {mark} negative control: {}\n", control.spoiled));
    }
    let steps: Vec<String> = detail
        .steps
        .iter()
        .map(|step| format!("{} {}", step.name, rounded(step.took)))
        .collect();
    if !steps.is_empty() {
        out.push_str(&format!("  {}\n", steps.join(", ")));
    }
    if let Some(measured) = detail.measured {
        let size = ByteSize(detail.size);
        out.push_str(&format!(
            "  {size} back and seen to work after {}\n",
            rounded(measured)
        ));
    }
    if let Some(promised) = detail.promised {
        let verdict = match detail.verdict {
            Verdict::Met { margin } => Verdict::Met {
                margin: rounded(margin),
            },
            Verdict::Missed { by } => Verdict::Missed { by: rounded(by) },
            other => other,
        };
        out.push_str(&format!("  RTO {promised}: {verdict}\n"));
    }
    for remark in &detail.remarks {
        out.push_str(&format!("  {remark}\n"));
    }
    if !detail.torn_down {
        out.push_str("  the sandbox is still there\n");
    }
}

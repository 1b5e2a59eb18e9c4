//! Tells people: holds what is wrong against what each route has been told, and sends the difference.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use relight_model::plan::{Plan, Route, RouteEvent};

use super::Monitor;
use super::letter::{self, Letter, Line, News};
use super::problem::{Problem, alone, problems};
use super::send::send;
use crate::evidence::detail::Ended;
use crate::standing::Standing;
use crate::state::Run;

/// A route that could not be reached is tried again after this time.
const AGAIN: Duration = Duration::from_secs(60);
/// So long after it was started the server tells nobody that something is wrong: what was missed while it was down is made up
/// for first. What was told before counts all the same.
const SETTLE: Duration = Duration::from_secs(120);
/// The scheduler decides every minute. After this time without it, there is no sign of life.
const STILL: Duration = Duration::from_secs(300);
/// When reports are sent, in the plan's time zone.
const REPORT: &str = "07:00";

/// How letters went out over a route since the server was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// So many were taken.
    pub good: u64,
    /// So many could not be sent; they are tried again.
    pub failed: u64,
}

/// What is remembered of routes while the server runs.
#[derive(Default)]
pub(super) struct Notifier {
    /// Not before.
    again: BTreeMap<String, Instant>,
    /// When a sign of life was last given.
    alive: BTreeMap<String, Instant>,
    /// When a report was last sent, or would have been.
    reported: Option<Timestamp>,
    /// What went well and was not told yet.
    good: BTreeMap<String, Vec<Line>>,
}

impl Notifier {
    /// Tells everybody what there is to tell.
    pub fn tell(&mut self, monitor: &Monitor, now: Timestamp) -> crate::error::Result<()> {
        let planned = monitor.board.planned();
        let plan = &planned.plan;
        let ended = monitor.take_ended();
        if plan.routes.is_empty() {
            return Ok(());
        }
        let growth = monitor.sizes().growth();
        let shown = monitor.board.live.shown();
        let (found, standings) = {
            let history = monitor.follow()?;
            let mut found = problems(plan, &history, &shown, &growth, now);
            found.extend(alone(&monitor.state, now)?);
            (found, history.standings(plan, now))
        };
        let settled = monitor.since.elapsed() >= monitor.settle;
        let report = self.report(plan, now);
        for route in &plan.routes {
            let name = &route.name.value;
            if route.events.contains(&RouteEvent::Success) {
                let lines = successes(plan, route, &ended);
                self.good.entry(name.clone()).or_default().extend(lines);
            }
            if self.again.get(name).is_some_and(|again| *again > Instant::now()) {
                continue;
            }
            let told = if route.events.contains(&RouteEvent::Alive) {
                self.sign_of_life(monitor, route, now)
            } else if settled {
                self.tell_route(monitor, route, &found, now)?
            } else {
                true
            };
            let reported = !(report && route.events.contains(&RouteEvent::Report))
                || monitor.send(route, vec![summary(&standings, &found, now)], now);
            if !(told && reported) {
                self.again.insert(name.clone(), Instant::now() + AGAIN);
            }
        }
        Ok(())
    }

    /// False: it could not be told.
    fn tell_route(
        &mut self,
        monitor: &Monitor,
        route: &Route,
        found: &[Problem],
        now: Timestamp,
    ) -> crate::error::Result<bool> {
        let name = &route.name.value;
        let memory = monitor.state.told(name)?;
        let (mut lines, next) = letter::decide(route, found, &memory, now);
        let good = self.good.remove(name).unwrap_or_default();
        lines.extend(good.iter().cloned());
        if !lines.is_empty() && !monitor.send(route, lines, now) {
            self.good.insert(name.clone(), good);
            return Ok(false);
        }
        if next != memory {
            monitor.state.set_told(name, &next)?;
        }
        Ok(true)
    }

    /// For whoever notices when it is not given any more. Not given while the scheduler stands still.
    fn sign_of_life(&mut self, monitor: &Monitor, route: &Route, now: Timestamp) -> bool {
        let name = &route.name.value;
        let lately = |at: &Instant| at.elapsed() < route.repeat.0;
        if self.alive.get(name).is_some_and(lately) {
            return true;
        }
        if monitor.board.live.stands_still(STILL) {
            tracing::error!("the scheduler stands still: {name} is given no sign of life");
            return true;
        }
        let line = Line {
            news: News::Told,
            event: RouteEvent::Alive,
            subject: monitor.host.clone(),
            policy: None,
            text: "the server is alive, and looks".into(),
            since: monitor.started,
        };
        let sent = monitor.send(route, vec![line], now);
        if sent {
            self.alive.insert(name.clone(), Instant::now());
        }
        sent
    }

    /// Whether it is time for reports.
    fn report(&mut self, plan: &Plan, now: Timestamp) -> bool {
        let Ok(event) = REPORT.parse::<relight_model::calendar::Event>() else {
            return false;
        };
        let last = self.reported.replace(now).unwrap_or(now);
        event
            .next_after(last, &plan.time_zone)
            .is_some_and(|next| next <= now)
    }
}

/// What went well, for a route.
fn successes(plan: &Plan, route: &Route, ended: &[Run]) -> Vec<Line> {
    let good = ended.iter().filter(|run| run.outcome == Some(Ended::Good));
    let line = |run: &Run| {
        let entry = run.job.workload().and_then(|name| plan.workload(name));
        let policy = entry
            .and_then(|entry| plan.policy_of(entry))
            .map(|(name, _)| name);
        letter::is_for(route, RouteEvent::Success, policy).then(|| Line {
            news: News::Told,
            event: RouteEvent::Success,
            subject: run.job.to_string(),
            policy: policy.map(str::to_owned),
            text: format!("run {} ended well", run.number),
            since: run.started,
        })
    };
    good.filter_map(line).collect()
}

/// The report of a day.
fn summary(standings: &[Standing], found: &[Problem], now: Timestamp) -> Line {
    let protected = standings.iter().filter(|one| one.policy.is_some());
    let good = protected.clone().filter(|one| one.is_good()).count();
    let all = protected.count();
    let mut text = format!("{good} of {all} protected workloads are backed up and proven as promised");
    let unprotected = standings
        .iter()
        .filter(|one| one.policy.is_none() && one.excluded.is_none())
        .count();
    text.push_str(&format!(
        ", {unprotected} are unprotected, {} problems",
        found.len()
    ));
    Line {
        news: News::Told,
        event: RouteEvent::Report,
        subject: "report".into(),
        policy: None,
        text,
        since: now,
    }
}

impl Monitor {
    /// Sends lines over a route. False: that did not work.
    fn send(&self, route: &Route, lines: Vec<Line>, now: Timestamp) -> bool {
        let name = &route.name.value;
        let letter = Letter::new(&self.host, name, now, lines);
        let sent = send(&route.to.value, &letter, self.mail.as_ref());
        if let Err(error) = &sent {
            tracing::error!(
                "the route {name} could not be told \"{}\": {error}",
                letter.summary
            );
        }
        let mut counts = self
            .sent
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = counts.entry(name.clone()).or_default();
        match sent {
            Ok(()) => count.good += 1,
            Err(_) => count.failed += 1,
        }
        sent.is_ok()
    }
}

/// How long problems wait after a start.
pub(super) fn settle() -> Duration {
    SETTLE
}
